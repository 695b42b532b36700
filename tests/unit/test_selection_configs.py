"""Settings of best-of-n, expert iteration and online DPO that contradict each other, and what scores replies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from accord import lab
from accord.errors import ConfigError
from accord.stages.configs import BestOfNConfig, ExpertConfig, OnlineDPOConfig
from accord.stages.scorers import load_scorer
from accord.types import Completion, Prompt, Rollout


@pytest.mark.parametrize(
    ("config", "settings", "said"),
    [
        (ExpertConfig, {"num_generations": 4, "num_keep": 5}, "more than the 4 replies"),
        (ExpertConfig, {"num_generations": 4, "num_keep": 4}, "every reply would be kept"),
        (ExpertConfig, {"start_from": "initial", "lr_scheduler_type": "cosine"}, "trains anew every round"),
        (ExpertConfig, {"num_mini_batches": 65}, "some would be empty"),
        (ExpertConfig, {"reward_model": None}, "nothing scores the replies"),
        (ExpertConfig, {"reward_weights": (1.0, 2.0)}, "2 numbers for 1 rewards"),
        (ExpertConfig, {"reward_model": "lab:gold", "reward_combine": "worst"}, "that is an ensemble"),
        (OnlineDPOConfig, {"num_generations": 1}, "greater than or equal to 2"),
        (OnlineDPOConfig, {"soft_labels": True, "loss_type": "ipo"}, "for loss_type: sigmoid"),
        (BestOfNConfig, {"temperature": 0.0}, "same reply n times"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(config: Any, settings: dict[str, Any], said: str) -> None:
    config(prompts="p")
    with pytest.raises(ValidationError, match=said):
        config(prompts="p", **settings)


def words(prompts: list[str], completions: list[str]) -> list[float]:
    """Number of words."""
    return [float(len(c.split())) for c in completions]


def letters(prompts: list[str], completions: list[str]) -> list[float | None]:
    """Number of letters; none of an empty reply."""
    return [float(len(c)) if c else None for c in completions]


def scorer(prompts: list[Prompt], **settings: Any) -> Any:
    context: Any = SimpleNamespace(work=SimpleNamespace(stage="expert"), inputs={})
    return load_scorer(ExpertConfig(prompts="p", **settings), context, None, prompts)


def rollouts(prompts: list[Prompt], *texts: str) -> list[Rollout]:
    return [
        Rollout(prompt=p, prompt_ids=(1,), completion=Completion(token_ids=(2,), finish="stop", text=t), group="0")
        for p, t in zip(prompts, texts, strict=True)
    ]


PROMPTS = lab.prompts(0, 2, split="eval")
HERE = __name__


def test_the_truth_of_the_lab_and_functions_score_replies() -> None:
    found = scorer(PROMPTS, reward_model="lab:gold")
    replies = [lab.best_reply(p) for p in PROMPTS]
    values = [s.value for s in found.reward(rollouts(PROMPTS, *replies))]
    assert values == [lab.score(p, r).utility for p, r in zip(PROMPTS, replies, strict=True)]
    assert found.scale == 1.0
    one = scorer(PROMPTS, reward_model=None, reward_funcs=(f"{HERE}:words",))
    assert [s.value for s in one.reward(rollouts(PROMPTS, "a b", "c"))] == [2.0, 1.0]


def test_a_weighted_sum_has_no_scale_and_no_value_where_a_part_has_none() -> None:
    names = (f"{HERE}:words", f"{HERE}:letters")
    found = scorer(PROMPTS, reward_model=None, reward_funcs=names, reward_weights=(2.0, 0.5))
    assert [s.value for s in found.reward(rollouts(PROMPTS, "ab c", ""))] == [6.0, None]
    assert found.scale is None


def test_what_cannot_score_is_an_error() -> None:
    stranger = Prompt.model_validate({"id": "x", "messages": [{"role": "user", "content": "?"}]})
    with pytest.raises(ConfigError, match="lab prompts only"):
        scorer([stranger], reward_model="lab:gold")
    with pytest.raises(ConfigError, match="two rewards are named"):
        scorer(PROMPTS, reward_model=None, reward_funcs=(f"{HERE}:words", f"{HERE}:words"))
    with pytest.raises(ConfigError, match="cannot import"):
        scorer(PROMPTS, reward_model=None, reward_funcs=("no.such:thing",))
