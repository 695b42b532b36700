"""Losses: identities, symmetries and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from accord.functional.kl import k1, k2, k3
from accord.functional.losses import (
    aggregate,
    entropy_from_logits,
    explained_variance,
    nll,
    ppo_clip,
    ppo_clipped,
    token_logp,
    value_clip,
)
from accord.functional.reward_losses import accuracy_ties_half, bradley_terry, norm_gain_bias

LIGHT = settings(max_examples=40, deadline=None)
FLOATS = st.floats(-4, 4, allow_subnormal=False)
PAIRS = st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS), min_size=1, max_size=5)


def columns(rows: list[tuple[float, ...]]) -> list[Tensor]:
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)]


@LIGHT
@given(PAIRS)
def test_k2_and_k3_are_never_negative_and_zero_at_equality(rows):
    logp, ref, *_ = columns(rows)
    assert (k2(logp, ref) >= 0).all()
    assert (k3(logp, ref) >= -1e-15).all()
    for estimator in (k1, k2, k3):
        assert not estimator(logp, logp).any()
    assert k1(logp, ref).equal(logp - ref)


@LIGHT
@given(PAIRS, st.sampled_from([None, 3.0]))
def test_at_ratio_one_ppo_is_reinforce(rows, dual):
    logp, adv, *_ = columns(rows)
    leaf = logp.clone().requires_grad_()
    loss, ratio = ppo_clip(leaf, logp, adv, low=0.2, high=0.2, dual=dual)
    grad = torch.autograd.grad(loss.sum(), leaf)[0]
    assert ratio.equal(torch.ones_like(ratio))
    assert grad.equal(-adv)
    assert not ppo_clipped(ratio, adv, low=0.2, high=0.2).any()


@pytest.mark.parametrize(
    "ratio, adv, loss, slope",
    [
        (1.5, 1.0, -1.25, 0.0),  # clipped above at 1 + high
        (0.5, 1.0, -0.5, -0.5),
        (0.5, -1.0, 0.9, 0.0),  # clipped below at 1 - low
        (1.5, -1.0, 1.5, 1.5),
        (1.15, 1.0, -1.15, -1.15),  # inside 1 + high, outside 1 + low
        (0.85, -1.0, 0.9, 0.0),  # outside 1 - low, inside 1 - high
        (5.0, -1.0, 3.0, 0.0),  # the dual clip bounds it
    ],
)
def test_clip_bounds_act_on_their_own_side(ratio, adv, loss, slope):
    logp = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([adv], dtype=torch.float64)
    result, found = ppo_clip(logp, torch.zeros_like(logp), advantage, low=0.1, high=0.25, dual=3.0)
    assert result.item() == pytest.approx(loss)
    assert torch.autograd.grad(result.sum(), logp)[0].item() == pytest.approx(slope)
    decided = ppo_clipped(found, advantage, low=0.1, high=0.25).item()
    assert decided == (slope == 0.0 and ratio != 5.0)


def test_huge_log_ratios_do_not_overflow():
    logp = torch.tensor([200.0, -200.0], requires_grad=True)
    loss, _ = ppo_clip(logp, torch.zeros(2), torch.tensor([-1.0, -1.0]), low=0.2, high=0.2)
    assert loss.isfinite().all()
    assert torch.autograd.grad(loss.sum(), logp)[0].isfinite().all()


@LIGHT
@given(PAIRS, st.floats(0.01, 1.0))
def test_value_clip_takes_the_larger_error(rows, clip):
    value, old, ret, _rest = columns(rows)
    loss, clipped = value_clip(value, old, ret, clip=clip)
    bounded = old + (value - old).clamp(-clip, clip)
    want = 0.5 * torch.maximum((value - ret) ** 2, (bounded - ret) ** 2)
    torch.testing.assert_close(loss, want, rtol=1e-9, atol=1e-9)
    assert (loss >= value_clip(value, old, ret, clip=None)[0] - 1e-12).all()
    assert not clipped[(value - old).abs() <= clip].any()


@LIGHT
@given(PAIRS, FLOATS, st.sampled_from([0.0, 0.2]))
def test_bradley_terry_sees_differences_only(rows, shift, smoothing):
    chosen, rejected, margin, _ = columns(rows)
    options = {"margin": margin.abs(), "label_smoothing": smoothing}
    loss = bradley_terry(chosen, rejected, **options)
    moved = bradley_terry(chosen + shift, rejected + shift, **options)
    torch.testing.assert_close(moved, loss, rtol=1e-9, atol=1e-9)
    assert (bradley_terry(chosen, rejected, margin=margin.abs()) >= bradley_terry(chosen, rejected)).all()


def test_the_margin_is_for_whichever_side_is_preferred():
    better, worse, margin = torch.tensor([1.0]), torch.tensor([0.2]), torch.tensor([0.5])
    straight = bradley_terry(better, worse, margin=margin, target=torch.ones(1))
    turned = bradley_terry(worse, better, margin=margin, target=torch.zeros(1))
    assert straight.item() == pytest.approx(turned.item())
    assert straight.item() == pytest.approx(math.log1p(math.exp(-0.3)), abs=1e-6)


def test_bradley_terry_does_not_overflow():
    far = torch.tensor([-1e4], requires_grad=True)
    loss = bradley_terry(far, -far)
    assert loss.isfinite().all()
    assert torch.autograd.grad(loss.sum(), far)[0].isfinite().all()


def test_a_constant_reward_model_is_half_right():
    assert accuracy_ties_half(torch.zeros(4), torch.zeros(4)).mean().item() == 0.5
    assert accuracy_ties_half(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])).tolist() == [1.0, 0.0]


@LIGHT
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.floats(-2, 2), st.floats(0.1, 3))
def test_normalised_scores_have_the_wanted_moments(values, mean, std):
    scores = torch.tensor(values, dtype=torch.float64)
    if float(scores.std()) < 1e-3:
        return
    gain, bias = norm_gain_bias(scores, mean, std)
    result = gain * scores + bias
    assert float(result.mean()) == pytest.approx(mean, abs=1e-8)
    assert float(result.std(correction=0)) == pytest.approx(std, rel=1e-8)


@LIGHT
@given(st.lists(FLOATS, min_size=2, max_size=6), st.floats(0.2, 2.0))
def test_log_probabilities_and_entropy_are_those_of_the_tempered_distribution(logits, temperature):
    x = torch.tensor(logits, dtype=torch.float64)
    p = torch.softmax(x / temperature, 0)
    logp = token_logp(x.expand(len(logits), -1), torch.arange(len(logits)), temperature)
    torch.testing.assert_close(logp.exp(), p, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(entropy_from_logits(x, temperature), -(p * logp).sum(), rtol=1e-9, atol=1e-12)


def test_entropy_ignores_tokens_that_cannot_be_sampled():
    logits = torch.tensor([0.0, -math.inf, 0.0], requires_grad=True)
    entropy = entropy_from_logits(logits)
    assert entropy.item() == pytest.approx(math.log(2))
    assert torch.autograd.grad(entropy, logits)[0].isfinite().all()


def test_explained_variance_of_perfect_and_constant_critics():
    ret, mask = torch.tensor([1.0, 2.0, 4.0, 9.0]), torch.tensor([True, True, True, False])
    assert explained_variance(ret, ret, mask).item() == 1.0
    assert explained_variance(torch.zeros(4), ret, mask).item() == 0.0


def test_constant_aggregation_needs_a_length():
    with pytest.raises(ValueError, match="max_length"):
        aggregate(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), "constant")


DIFFERENTIABLE = {
    "k1": lambda a, b, c, d: k1(a, b),
    "k2": lambda a, b, c, d: k2(a, b),
    "k3": lambda a, b, c, d: k3(a, b),
    "nll": lambda a, b, c, d: nll(a),
    "ppo": lambda a, b, c, d: ppo_clip(a, b, c, low=0.2, high=0.3)[0],
    "ppo, dual": lambda a, b, c, d: ppo_clip(a, b, c, low=0.2, high=0.3, dual=1.5)[0],
    "value": lambda a, b, c, d: value_clip(a, b, c, clip=None)[0],
    "value, clipped": lambda a, b, c, d: value_clip(a, b, c, clip=0.3)[0],
    "bt": lambda a, b, c, d: bradley_terry(a, b),
    "bt, all options": lambda a, b, c, d: bradley_terry(
        a, b, margin=c.abs(), target=d.sigmoid(), label_smoothing=0.1, center=0.3
    ),
    "entropy": lambda a, b, c, d: entropy_from_logits(a, 0.7),
    "token_logp": lambda a, b, c, d: token_logp(a, torch.zeros(2, dtype=torch.long), 0.7),
}


@pytest.mark.parametrize("name", list(DIFFERENTIABLE))
def test_gradients_agree_with_finite_differences(name):
    random = torch.Generator().manual_seed(11)
    inputs = [torch.randn(2, 4, generator=random, dtype=torch.float64).requires_grad_() for _ in range(4)]
    assert gradcheck(DIFFERENTIABLE[name], inputs, eps=1e-6, atol=1e-7)
