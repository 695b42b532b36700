"""Losses on pairs and on single replies: identities, finite differences, numerical range."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from accord.errors import ConfigError
from accord.functional.divergences import DIVERGENCES, alpha, forward_kl, reverse_kl
from accord.functional.pair_logps import PairLogps, expected, ld_weights, with_noise
from accord.functional.preference_losses import (
    PAIR_LOSSES,
    dpo,
    hinge,
    implicit_reward,
    ipo,
    robust,
    squared_hinge,
)
from accord.functional.reward_losses import bradley_terry
from accord.functional.unpaired_losses import UNPAIRED_LOSSES, kl_estimate, reward_shift
from accord.stages.configs import offline as configs
from accord.train.objectives import Pairwise

LIGHT = settings(max_examples=40, deadline=None)
FLOATS = st.floats(-4, 4, allow_subnormal=False)
PAIRS = st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS), min_size=1, max_size=5)
DEFAULTS = {name: getattr(Pairwise(label_smoothing=0.1), name) for name in Pairwise.__dataclass_fields__}
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    name: partial(how.function, **{option: DEFAULTS[option] for option in how.options})
    for name, how in PAIR_LOSSES.items()
    if how.function is not None
}
"""Every loss with its default options."""


def carrier(*logps: Tensor, lengths: tuple[float, float] = (1.0, 1.0)) -> PairLogps:
    ones_P = torch.ones_like(logps[0])
    return PairLogps(*logps, ones_P * lengths[0], ones_P * lengths[1])


def columns(rows: list[tuple[float, ...]]) -> list[Tensor]:
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)]


@LIGHT
@given(PAIRS, st.floats(0.01, 2.0), st.floats(0.0, 0.4))
def test_dpo_at_the_reference_is_ln_two(rows, beta, smoothing):
    chosen, rejected, *_ = columns(rows)
    pairs = carrier(chosen, rejected, chosen, rejected)
    loss = expected(partial(dpo, beta=beta), pairs, with_noise(None, smoothing))
    torch.testing.assert_close(loss, torch.full_like(loss, math.log(2)), rtol=0, atol=1e-12)


@LIGHT
@given(PAIRS, st.floats(0.01, 2.0), st.sampled_from([dpo, hinge, ipo]))
def test_swapping_the_pair_flips_the_sign_of_the_gradient(rows, beta, loss_of):
    logps = columns(rows)

    # At the reference the slope must depend on the order alone.
    def gradient(turn: bool) -> tuple[Tensor, Tensor]:
        leaves = [logps[0].clone().requires_grad_(), logps[1].clone().requires_grad_()]
        pairs = carrier(*leaves, *logps[:2])
        return torch.autograd.grad(loss_of(pairs.swapped() if turn else pairs, beta=beta).sum(), leaves)

    straight, swapped = gradient(False), gradient(True)
    for side, sign in ((0, -1), (1, 1)):
        assert (straight[side] * sign > 0).all()
        torch.testing.assert_close(straight[side], -swapped[side], rtol=1e-9, atol=1e-12)


@LIGHT
@given(PAIRS, st.floats(0.01, 2.0), st.floats(0.0, 1.0))
def test_dpo_is_bradley_terry_on_implicit_rewards(rows, beta, target):
    chosen, rejected, ref_chosen, ref_rejected = columns(rows)
    targets = torch.full_like(chosen, target)
    pairs = carrier(chosen, rejected, ref_chosen, ref_rejected)
    loss = expected(partial(dpo, beta=beta), pairs, targets)
    rewards = (
        implicit_reward(chosen, ref_chosen, beta=beta),
        implicit_reward(rejected, ref_rejected, beta=beta),
    )
    torch.testing.assert_close(loss, bradley_terry(*rewards, target=targets), rtol=1e-9, atol=1e-12)
    flipped = expected(partial(dpo, beta=beta), pairs.swapped(), 1 - targets)
    torch.testing.assert_close(loss, flipped, rtol=1e-9, atol=1e-12)


@LIGHT
@given(PAIRS, st.floats(0.01, 0.4))
def test_robust_dpo_is_unbiased_under_flips_of_that_rate(rows, rate):
    """Labels flipped with probability e, the corrected loss on average is DPO on clean labels."""
    pairs = carrier(*columns(rows))
    noisy = expected(partial(robust, beta=0.7, label_smoothing=rate), pairs, 1 - rate)
    torch.testing.assert_close(noisy, dpo(pairs, beta=0.7), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_agree_with_finite_differences(name, turn):
    random = torch.Generator().manual_seed(3)
    # Below 0, as means per token are, so that odds exist.
    logps = [-0.1 - torch.rand(5, generator=random, dtype=torch.float64) for _ in range(4)]
    leaves = [x.requires_grad_() for x in logps[:2]]
    lengths = [torch.randint(1, 9, (5,), generator=random).double() for _ in range(2)]

    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        pairs = PairLogps(chosen, rejected, *logps[2:], *lengths)
        return FUNCTIONS[name](pairs.swapped() if turn else pairs).sum()

    assert gradcheck(loss, leaves, eps=1e-6, atol=1e-7)
    grads = torch.autograd.grad(loss(*leaves), leaves, allow_unused=True)
    assert any(g is not None and bool((g != 0).any()) for g in grads)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_of_f_divergences_agree_with_finite_differences(name):
    random = torch.Generator().manual_seed(4)
    logps = [torch.randn(5, generator=random, dtype=torch.float64) for _ in range(4)]
    options = {"coefficient": 0.3} if name == "alpha_divergence" else {}
    divergence = partial(DIVERGENCES[name], **options)

    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        return dpo(carrier(chosen, rejected, *logps[2:]).under(divergence), beta=0.6)

    assert gradcheck(loss, [x.requires_grad_() for x in logps[:2]], eps=1e-6, atol=1e-7)


def test_the_alpha_divergence_lies_between_the_two_kls():
    log_ratio = torch.linspace(-2, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(alpha(log_ratio, coefficient=1 - 1e-6), reverse_kl(log_ratio), rtol=0, atol=1e-5)
    torch.testing.assert_close(alpha(log_ratio, coefficient=0.0), forward_kl(log_ratio) + 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*FUNCTIONS, *(f"sigmoid, {name}" for name in DIVERGENCES)])
def test_preference_losses_do_not_overflow(name, dtype):
    far = [0.0, -1e4, -1.0]
    grid = [torch.tensor(x, dtype=dtype) for x in torch.cartesian_prod(*[torch.tensor(far)] * 4).T.tolist()]
    leaves = [x.requires_grad_() for x in grid[:2]]
    pairs = carrier(*leaves, *grid[2:])
    loss, _, divergence = name.partition(", ")
    if divergence:
        options = {"coefficient": 0.5} if divergence == "alpha_divergence" else {}
        pairs = pairs.under(partial(DIVERGENCES[divergence], **options))
    loss_P = FUNCTIONS[loss](pairs)
    assert loss_P.isfinite().all()
    for grad in torch.autograd.grad(loss_P.sum(), leaves, allow_unused=True):
        assert grad is None or grad.isfinite().all()


def test_ld_weights_count_reply_tokens_only():
    mask_BT = torch.tensor([[False, False, True, True, True], [False, True, True, False, False]])
    weight_BT = ld_weights(mask_BT, torch.tensor([2, 2]), 0.25, torch.float64)
    assert weight_BT[mask_BT].tolist() == [1.0, 1.0, 0.25, 1.0, 1.0]


@pytest.mark.parametrize("loss", UNPAIRED_LOSSES)
def test_a_soft_label_of_a_single_reply_is_the_expectation(loss):
    random = torch.Generator().manual_seed(5)
    ratio_B = 3 * torch.randn(6, generator=random, dtype=torch.float64)
    p_B, anchor_B = torch.rand(6, generator=random, dtype=torch.float64), torch.full_like(ratio_B, 0.3)
    options: dict[str, Any] = {"beta": 0.4, "desirable_weight": 1.2, "undesirable_weight": 0.7}
    function = partial(UNPAIRED_LOSSES[loss].function, **options)
    good_B = function(ratio_B, torch.ones_like(p_B), anchor_B)
    bad_B = function(ratio_B, torch.zeros_like(p_B), anchor_B)
    torch.testing.assert_close(function(ratio_B, p_B, anchor_B), p_B * good_B + (1 - p_B) * bad_B)
    assert gradcheck(lambda r: function(r, p_B, anchor_B), [ratio_B.requires_grad_()], eps=1e-6, atol=1e-7)
    far_B = torch.tensor([1e4, -1e4], requires_grad=True)
    ends_B = function(far_B, torch.tensor([0.5, 0.5]), torch.zeros(2))
    assert ends_B.isfinite().all() and torch.autograd.grad(ends_B.sum(), far_B)[0].isfinite().all()


def test_statistics_of_single_replies_weigh_rows_and_stand_one_label():
    ratio_B, weight_B = torch.tensor([1.0, 4.0, -2.0]), torch.tensor([2.0, 1.0, 1.0])
    assert kl_estimate(ratio_B, weight_B).item() == pytest.approx(1.0)
    assert reward_shift(ratio_B, torch.tensor([1.0, 0.0, 0.0]), weight_B).item() == pytest.approx((1.0 + 1.0) / 2)
    assert reward_shift(ratio_B, torch.ones(3), weight_B).item() == pytest.approx(1.0)


def test_the_settings_know_the_losses_there_are():
    """The configs do not load torch, so they say again what the table says."""
    assert set(get_args(configs.LossType)) == set(PAIR_LOSSES)
    assert {name for name, how in PAIR_LOSSES.items() if how.per_token} == configs.PER_TOKEN
    assert {name for name, how in PAIR_LOSSES.items() if not how.reference} == configs.NO_REFERENCE
    assert {name for name, how in PAIR_LOSSES.items() if how.differences} == configs.DIFFERENCES
    assert {name for name, how in PAIR_LOSSES.items() if "beta" not in how.options} == configs.NO_BETA
    users: dict[str, set[str]] = {}
    for name, how in PAIR_LOSSES.items():
        for option in (*how.options, *([how.nll] if isinstance(how.nll, str) else [])):
            users.setdefault(option, set()).add(name)
    own = {option: set(names) for option, names in configs.OPTION_LOSSES.items()}
    assert own == {option: names for option, names in users.items() if option not in ("beta", "label_smoothing")}
    assert {name: getattr(configs.DPOConfig(), name) for name in own} == {n: getattr(Pairwise(), n) for n in own}


@pytest.mark.parametrize(
    "options", [{"loss_type": ("no such",)}, {"loss_type": ()}, {"loss_weights": (1.0, 2.0)}], ids=str
)
def test_an_objective_of_unknown_losses_is_refused(options):
    with pytest.raises(ConfigError):
        Pairwise(**options)


@LIGHT
@given(PAIRS, st.floats(0.01, 2.0))
def test_the_truncated_quadratic_stops_pushing_where_the_hinge_does(rows, beta):
    chosen, *others = columns(rows)
    pairs = carrier(chosen.requires_grad_(), *others)
    (gradient,) = torch.autograd.grad(squared_hinge(pairs, beta=beta).sum(), chosen)
    torch.testing.assert_close(gradient, -2 * beta * torch.relu(1 - beta * pairs.h_P.detach()))
