"""Advantages: identities of GAE, whitening and group baselines on random inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from accord.functional.advantages import (
    dr_grpo,
    gae,
    grpo,
    last_position,
    rloo,
    token_rewards,
    whiten,
)

LIGHT = settings(max_examples=40, deadline=None)
FLOATS = st.floats(-3, 3, allow_subnormal=False)


@st.composite
def episodes(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and a mask with at least one counted token a row; gaps are allowed."""
    rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    count = rows * width
    rewards, values = (
        torch.tensor(draw(st.lists(FLOATS, min_size=count, max_size=count)), dtype=torch.float64) for _ in range(2)
    )
    flags = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count))).reshape(rows, width)
    flags[:, draw(st.integers(0, width - 1))] = True
    return rewards.reshape(rows, width), values.reshape(rows, width), flags


def counted(row: int, *tensors: Tensor, mask: Tensor) -> list[list[float]]:
    return [x[row][mask[row]].tolist() for x in tensors]


@LIGHT
@given(episodes(), st.floats(0.1, 1.0))
def test_lambda_one_is_monte_carlo_minus_value(episode, gamma):
    rewards, values, mask = episode
    advantages, returns = gae(rewards, values, mask, gamma, 1.0)
    for row in range(len(rewards)):
        r, v, a, ret = counted(row, rewards, values, advantages, returns, mask=mask)
        for t in range(len(r)):
            discounted = sum(gamma**k * x for k, x in enumerate(r[t:]))
            assert a[t] == pytest.approx(discounted - v[t], abs=1e-9)
            assert ret[t] == pytest.approx(discounted, abs=1e-9)


@LIGHT
@given(episodes(), st.floats(0.1, 1.0))
def test_lambda_zero_is_the_one_step_error(episode, gamma):
    rewards, values, mask = episode
    advantages, _ = gae(rewards, values, mask, gamma, 0.0)
    for row in range(len(rewards)):
        r, v, a = counted(row, rewards, values, advantages, mask=mask)
        following = [*v[1:], 0.0]
        for t in range(len(r)):
            assert a[t] == pytest.approx(r[t] + gamma * following[t] - v[t], abs=1e-9)


@LIGHT
@given(episodes(), st.floats(0.1, 1.0), st.floats(0.0, 1.0))
def test_a_gap_in_the_mask_is_as_if_it_were_not_there(episode, gamma, lam):
    rewards, values, mask = episode
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for row in range(len(rewards)):
        kept = mask[row]
        ones = torch.ones(1, int(kept.sum()), dtype=torch.bool)
        dense = gae(rewards[row][None, kept], values[row][None, kept], ones, gamma, lam)
        assert advantages[row][kept].equal(dense[0][0])
        assert returns[row][kept].equal(dense[1][0])
    assert not advantages[~mask].any()
    assert not returns[~mask].any()


@LIGHT
@given(episodes(), st.booleans(), st.booleans())
def test_whitened_values_have_the_wanted_moments_under_the_mask(episode, shift, unbiased):
    x, _, mask = episode
    kept = x[mask]
    if kept.numel() < 2 or float(kept.var()) < 1e-3:
        return
    result = whiten(x, mask, shift_mean=shift, unbiased=unbiased)[mask]
    assert float(result.mean()) == pytest.approx(0.0 if shift else float(kept.mean()), abs=1e-9)
    assert float(result.var(correction=int(unbiased))) == pytest.approx(1.0, abs=1e-4)


@LIGHT
@given(episodes(), st.floats(0.0, 1.0))
def test_the_score_is_on_the_last_counted_token(episode, kl_coef):
    logp, ref_logp, mask = episode
    score = torch.arange(10.0, 10.0 + len(logp), dtype=torch.float64)
    rewards = token_rewards(score, logp, ref_logp, mask, kl_coef)
    for row in range(len(logp)):
        last = int(mask[row].nonzero().max())
        assert last_position(mask)[row].nonzero().tolist() == [[last]]
        for t in range(logp.shape[1]):
            want = -kl_coef * float(logp[row, t] - ref_logp[row, t]) if mask[row, t] else 0.0
            want += float(score[row]) if t == last else 0.0
            assert float(rewards[row, t]) == pytest.approx(want, abs=1e-12)


def test_a_row_without_response_gets_no_reward():
    mask = torch.tensor([[False, False], [False, True]])
    rewards = token_rewards(torch.tensor([5.0, 6.0]), torch.zeros(2, 2), torch.zeros(2, 2), mask, 0.1)
    assert rewards.tolist() == [[0.0, 0.0], [0.0, 6.0]]


@st.composite
def scored_groups(draw: st.DrawFn) -> tuple[list[list[float]], Tensor, Tensor]:
    groups = draw(st.lists(st.lists(FLOATS, min_size=1, max_size=5), min_size=1, max_size=4))
    ids = draw(st.permutations(range(10)))
    flat = torch.tensor([x for group in groups for x in group], dtype=torch.float64)
    return groups, flat, torch.tensor([ids[i] for i, group in enumerate(groups) for _ in group])


@LIGHT
@given(scored_groups())
def test_group_baselines_are_what_their_names_say(example):
    groups, scores, ids = example
    leave_one_out, centred = rloo(scores, ids).tolist(), dr_grpo(scores, ids).tolist()
    row = 0
    for group in groups:
        n = len(group)
        for score in group:
            others = (sum(group) - score) / (n - 1) if n > 1 else score
            assert leave_one_out[row] == pytest.approx(score - others, abs=1e-9)
            factor = n / (n - 1) if n > 1 else 0.0
            assert leave_one_out[row] == pytest.approx(factor * centred[row], abs=1e-12)
            row += 1


@LIGHT
@given(scored_groups())
def test_grpo_divides_by_the_standard_deviation_of_the_group(example):
    groups, scores, ids = example
    for unbiased in (True, False):
        result = grpo(scores, ids, unbiased=unbiased, eps=1e-4)
        for number, group in enumerate(groups):
            start = sum(len(g) for g in groups[:number])
            mine = result[start : start + len(group)]
            values = torch.tensor(group, dtype=torch.float64)
            if len(group) == 1:
                assert not mine.any()
                continue
            want = (values - values.mean()) / (values.std(correction=int(unbiased)) + 1e-4)
            torch.testing.assert_close(mine, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("score", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("function", [rloo, dr_grpo, grpo, lambda s, g: grpo(s, g, eps=0.0 + 1e-9)])
def test_equal_scores_have_no_advantage_in_float32(score, function):
    scores = torch.tensor([0.2] * 3 + [score] * 8 + [0.9, 0.1] + [score] * 7, dtype=torch.float32)
    ids = torch.tensor([0] * 3 + [1] * 8 + [2] * 2 + [3] * 7)
    advantages = function(scores, ids)
    assert not advantages[ids != 2].any()
    assert advantages[ids == 2].abs().min() > 0.1
