"""PAR, length penalty, length calibration, and how a round's scores go through them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from accord.engines.base import Sampling
from accord.functional.shaping import length_penalty, loess_out, preference_as_reward, regress_out
from accord.rewards.base import TakesRollouts
from accord.stages.configs import PPOConfig, ReMaxConfig
from accord.train.rounds import RolloutSettings, shaped_scores
from accord.types import Completion, Message, Prompt, Rollout, Score

PROMPT = Prompt(id="p", messages=(Message(role="user", content="Q"),))


def rollouts(scores: list[float], lengths: list[int]) -> list[Rollout]:
    return [
        Rollout(
            prompt=PROMPT,
            prompt_ids=(1,),
            completion=Completion(token_ids=(5,) * n, finish="stop"),
            group="0",
            score=Score(value=s),
        )
        for s, n in zip(scores, lengths, strict=True)
    ]


def settings(**options) -> RolloutSettings:
    return RolloutSettings(Sampling(max_new_tokens=50), 4, 1, 1, 0.0, **options)


def test_par_is_the_chance_of_beating_the_reference_reply() -> None:
    shaped = preference_as_reward(torch.tensor([0.0, 2.0, -1.0]), torch.tensor([[0.0], [0.0], [1.0]]))
    assert shaped.tolist() == pytest.approx([0.5, 0.8807971, 0.1192029])
    two = preference_as_reward(torch.tensor([1.0]), torch.tensor([[0.0, 1.0]]))
    assert two.item() == pytest.approx((0.7310586 + 0.5) / 2)


def test_par_is_bounded_and_steepest_at_the_reference() -> None:
    score = torch.tensor([-50.0, 0.0, 3.0, 50.0], requires_grad=True)
    shaped = preference_as_reward(score, torch.zeros(4, 1))
    assert (shaped >= 0).all() and (shaped <= 1).all()
    shaped.sum().backward()
    assert score.grad is not None and score.grad.tolist() == pytest.approx([0.0, 0.25, 0.0451767, 0.0], abs=1e-6)


def test_only_tokens_beyond_the_free_ones_cost() -> None:
    assert length_penalty(torch.tensor([3, 10, 14]), coef=0.5, free=10).tolist() == [0.0, 0.0, -2.0]


def test_a_line_over_length_is_taken_out_and_the_mean_stays() -> None:
    length = torch.tensor([10, 20, 30, 40])
    score = 2.0 + 0.1 * length + torch.tensor([1.0, -1.0, -1.0, 1.0])
    left = regress_out(score, length)
    assert left.mean().item() == pytest.approx(score.mean().item())
    assert (left - left.mean()).tolist() == pytest.approx([1.0, -1.0, -1.0, 1.0], abs=1e-5)
    assert regress_out(score, torch.tensor([5, 5, 5, 5])).tolist() == score.tolist()


def test_loess_takes_out_a_curve_that_no_line_does() -> None:
    rand = torch.Generator().manual_seed(0)
    length = torch.randint(5, 60, (300,), generator=rand)
    curve = torch.sin(length / 12.0) * 3
    quality = torch.randn(300, generator=rand)
    left = loess_out(curve + quality, length, frac=0.25)
    assert np.corrcoef(left, quality)[0, 1] > 0.95
    assert np.corrcoef(regress_out(curve + quality, length), quality)[0, 1] < 0.8
    assert left.mean().item() == pytest.approx((curve + quality).mean().item(), abs=1e-5)


def test_loess_of_a_line_is_the_line_and_of_one_length_the_mean() -> None:
    length = torch.tensor([4, 8, 15, 16, 23, 42])
    score = 1.0 + 0.5 * length
    assert loess_out(score, length).tolist() == pytest.approx([score.mean().item()] * 6, abs=1e-4)
    same = torch.tensor([1.0, 2.0, 6.0])
    assert loess_out(same, torch.tensor([7, 7, 7])).tolist() == pytest.approx(same.tolist())


def test_par_takes_the_place_of_scores_and_penalties_come_after() -> None:
    two = rollouts([1.0, 3.0], [4, 12])
    score, raw, _ = shaped_scores(two, settings(length_penalty=0.1, length_free=10), lambda r: (1.0,))
    assert raw.tolist() == [1.0, 3.0]
    assert score.tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-2.0)) - 0.2])


def test_length_is_calibrated_over_a_whole_round_only() -> None:
    some = rollouts([1.0, 2.0, 3.0, 4.0], [10, 20, 30, 40])
    calibrated = settings(length_calibration="regression")
    assert shaped_scores(some, calibrated, whole_round=True)[0].tolist() == pytest.approx([2.5] * 4)
    assert shaped_scores(some, calibrated)[0].tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length_free": 5}, "length_free does nothing"),
        ({"par_references": 2}, "par_references is for"),
        ({"reward_shaping": "par", "score_saturation": 0.0}, "choose one"),
        ({"diagnosis": {"action": "raise_kl"}, "kl_coef": 0.0}, "kl_coef is 0"),
        ({"judge_model": "other"}, "judge_model needs eval_prompts"),
    ],
)
def test_settings_that_do_nothing_are_refused(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PPOConfig.model_validate({"prompts": "p", **options})


def test_remax_has_no_round_to_calibrate_its_baselines_on() -> None:
    with pytest.raises(ValueError, match="ReMax"):
        ReMaxConfig.model_validate({"prompts": "p", "length_calibration": "loess"})


def test_rewards_of_rollouts_are_told_from_functions_of_text() -> None:
    from accord.lab import planted

    assert all(isinstance(hack, TakesRollouts) for hack in (planted.gold, planted.blunt, *planted.HACKS.values()))
    assert not isinstance(lambda prompts, completions: [0.0], TakesRollouts)
