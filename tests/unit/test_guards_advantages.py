"""Advantages where rounding or an edge decides: equal scores, small spreads, whole groups."""

from __future__ import annotations

import math

import pytest
import torch

from accord.functional.advantages import dr_grpo, equal_groups, grpo, grpo_batch, opo, rloo
from accord.functional.shaping import log_sigmoid_shaping, soft_overlong

GROUP = torch.tensor([0] * 8 + [1] * 8 + [2] * 8)


@pytest.mark.parametrize("function", [rloo, grpo, grpo_batch, dr_grpo, lambda s, g: opo(s, torch.arange(1, 25), g)])
@pytest.mark.parametrize("score", [0.1, 0.3, 0.7, 1e4 / 3, -1e-7])
def test_equal_scores_have_no_advantage_not_even_a_rounding_error(function, score):
    score_B = torch.full((24,), score)
    score_B[8:16] = torch.linspace(-1, 1, 8)
    advantage_B = function(score_B, GROUP)
    assert bool((advantage_B[:8] == 0).all())
    assert bool((advantage_B[16:] == 0).all())
    assert bool((advantage_B[8:16] != 0).all())


def test_the_deviation_is_not_trusted_where_it_is_noise():
    # Scores that differ in their last digits only: with eps 1e-9 these would be advantages of +-1.
    score_B = torch.tensor([0.5, 0.5 + 1e-7, 0.5 - 1e-7, 0.5], dtype=torch.float64)
    assert float(grpo(score_B, torch.zeros(4, dtype=torch.long)).abs().max()) < 0.01
    assert float(grpo_batch(score_B, torch.zeros(4, dtype=torch.long)).abs().max()) < 0.01


def test_groups_of_equal_scores_are_told_from_groups_of_similar_ones():
    score_B = torch.tensor([0.2, 0.2, 0.2, 0.2 + 1e-6, 5.0])
    group_B = torch.tensor([3, 3, 9, 9, 4])
    assert equal_groups(score_B, group_B).tolist() == [True, True, False, False, True]


def test_the_overlong_penalty_falls_over_the_last_tokens():
    lengths = torch.tensor([1, 60, 70, 80, 100, 130])
    assert soft_overlong(lengths, max_length=100, cache=40).tolist() == pytest.approx([0, 0, -0.25, -0.5, -1, -1])


def test_shaped_scores_saturate_above_the_reference():
    found = log_sigmoid_shaping(torch.tensor([-8.0, 2.0, 12.0], dtype=torch.float64), 2.0)
    wanted = [-math.log1p(math.exp(10)), -math.log(2), -math.log1p(math.exp(-10))]
    assert found.tolist() == pytest.approx(wanted)
