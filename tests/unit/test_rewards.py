"""Rewards: learned models and callables; a failure is an error, never a zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from accord.batch import Batch, Forward
from accord.errors import RewardError
from accord.rewards.learned import LearnedReward
from accord.rewards.rules import CallableReward
from accord.types import Completion, Message, Prompt, Rollout
from train_models import BOS, PAD, STOP, random_batch, scorer


def rollout(text: str = "a reply", ids: Sequence[int] = (5, STOP), question: str = "why", **meta: Any) -> Rollout:
    return Rollout(
        prompt=Prompt(id=text, messages=(Message(role="user", content=question),), meta=meta),
        prompt_ids=(BOS, 4),
        completion=Completion(token_ids=tuple(ids), finish="stop", text=text),
        group=text,
    )


MODEL = scorer()
SEQUENCES = [[1, 5, 9, 2], [1, 7, 7, 8, 9, 10, 2], [1, 2], [1, 11, 12, 13, 14, 15, 16, 17, 18, 2], [1, 5, 9, 3]]


def alone(ids: list[int]) -> float:
    batch = Batch(torch.tensor([ids]), torch.tensor([len(ids)]), torch.zeros(1, len(ids), dtype=torch.bool))
    with torch.no_grad():
        return float(MODEL(batch).score_B)


@pytest.mark.parametrize("budget", [1, 12, 10**6])
def test_scores_are_those_of_each_sequence_alone_in_order(budget: int) -> None:
    got = LearnedReward(MODEL, pad_id=PAD, token_budget=budget).score_ids(SEQUENCES)
    assert got == pytest.approx([alone(ids) for ids in SEQUENCES], abs=1e-5)
    assert len(set(got)) == len(got)


def test_scores_are_normalised() -> None:
    raw = LearnedReward(MODEL, pad_id=PAD).score_ids(SEQUENCES)
    got = LearnedReward(MODEL, pad_id=PAD, mean=0.5, std=2.0).score_ids(SEQUENCES)
    assert got == pytest.approx([(score - 0.5) / 2 for score in raw])
    assert LearnedReward(MODEL, pad_id=PAD).score_ids([]) == []


def test_a_rollout_is_scored_by_its_own_tokens() -> None:
    reward = LearnedReward(MODEL, pad_id=PAD)
    rollouts = [rollout(ids=(5, STOP)), rollout(ids=(6, 7, 8)), rollout(ids=(STOP,))]
    assert [s.value for s in reward(rollouts)] == pytest.approx(
        [alone([BOS, 4, 5, STOP]), alone([BOS, 4, 6, 7, 8]), alone([BOS, 4, STOP])], abs=1e-5
    )


class Broken(nn.Module):
    """Gives nonsense for some rows."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.values = values

    def forward(self, batch: Batch) -> Forward:
        return Forward(score_B=torch.tensor(self.values))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_model_that_gives_nonsense_gives_an_error(bad: float) -> None:
    good, wrong = LearnedReward(Broken(1.0, bad), pad_id=PAD)([rollout(), rollout()])
    assert (good.value, good.error) == (1.0, None)
    assert wrong.value is None and wrong.error is not None and "reward model gave" in wrong.error


def test_gradients_are_off() -> None:
    assert MODEL.head.weight.requires_grad
    LearnedReward(MODEL, pad_id=PAD).score_ids(SEQUENCES)
    assert all(p.grad is None for p in MODEL.parameters())
    assert random_batch(1).score_B is None


def test_a_callable_gets_texts_and_the_columns_it_takes() -> None:
    seen: dict[str, Any] = {}

    def judge(prompts: list[str], completions: list[str], answer: list[str]) -> list[float]:
        seen.update(prompts=prompts, completions=completions, answer=answer)
        return [1.0, 2]

    rollouts = [rollout("a", question="q1", answer="x", split="train"), rollout("b", question="q2", answer="y", tag=1)]
    assert [s.value for s in CallableReward(judge)(rollouts)] == [1.0, 2.0]
    assert seen == {"prompts": ["q1", "q2"], "completions": ["a", "b"], "answer": ["x", "y"]}


def test_a_callable_with_keywords_gets_every_column_all_prompts_share() -> None:
    seen: dict[str, Any] = {}

    def judge(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        seen.update(columns)
        return [0.0] * len(prompts)

    CallableReward(judge)([rollout(answer="x", prompts="no", only=1), rollout(answer="y", prompts="no")])
    assert seen == {"answer": ["x", "y"]}


def test_a_callable_without_a_signature_gets_every_column() -> None:
    reward = CallableReward(dict, name="made in C")  # type: ignore[arg-type]
    assert reward.columns is None and reward.name == "made in C"


def test_a_callable_is_not_asked_about_nothing() -> None:
    def judge(prompts: list[str], completions: list[str]) -> list[float]:
        raise AssertionError

    assert CallableReward(judge)([]) == []


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, "4", [1.0], 10**400])
def test_what_is_not_a_number_is_an_error_and_never_zero(bad: Any) -> None:
    def judge(prompts: list[str], completions: list[str]) -> list[Any]:
        return [0.0, bad, True, torch.tensor(0.5)]

    scores = CallableReward(judge)([rollout() for _ in range(4)])
    assert [s.value for s in scores] == [0.0, None, 1.0, 0.5]
    assert scores[0].error is None
    assert scores[1].error is not None and "'judge' returned" in scores[1].error


def wrong_count(prompts: list[str], completions: list[str]) -> list[float]:
    return [1.0]


def fails(prompts: list[str], completions: list[str]) -> list[float]:
    raise KeyError("missing")


def nothing(prompts: list[str], completions: list[str]) -> None:
    return None


@pytest.mark.parametrize(
    "function, message",
    [
        (wrong_count, "'wrong_count' returned 1 scores for 2 completions"),
        (fails, "'fails' raised KeyError: 'missing'"),
        (nothing, "'nothing' raised TypeError"),
    ],
)
def test_a_callable_that_breaks_its_promise_is_reported_by_name(function: Callable, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        CallableReward(function)([rollout(), rollout()])
