"""KL estimators: exact expectations and gradients over a small vocabulary, and the adaptive coefficient."""

from __future__ import annotations

import math

import pytest
import torch
from golden_file import both_dtypes, check, entry, number_after
from torch import Tensor

from accord.functional.kl import adaptive_kl_step, k1, k2, k3
from accord.functional.losses import entropy_from_logits, token_logp

ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}


def distributions(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    given = entry("kl/true_reverse_kl")
    logits = torch.tensor(given["policy_logits"], dtype=dtype, requires_grad=True)
    return logits, logits.log_softmax(0), torch.tensor(given["ref_logits"], dtype=dtype).log_softmax(0)


@both_dtypes
@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_true_kl(direction, dtype):
    logits, logp, ref_logp = distributions(dtype)
    if direction == "reverse":
        value = (logp.exp() * k1(logp, ref_logp)).sum()
    else:
        value = (ref_logp.exp() * k1(ref_logp, logp)).sum()
    want = entry(f"kl/true_{direction}_kl")
    check(value, want["value"], dtype)
    check(torch.autograd.grad(value, logits)[0], want["grad"], dtype)


@both_dtypes
@pytest.mark.parametrize("use", ["loss", "reward", "is"])
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_expected_gradient_of_estimators(name, use, dtype):
    logits, logp, ref_logp = distributions(dtype)
    estimate = ESTIMATORS[name](logp, ref_logp)
    drawn = logp.exp().detach()  # sampling: the gradient does not pass through the probabilities
    if use == "loss":
        value = (drawn * estimate).sum()
    elif use == "reward":
        value = (drawn * estimate.detach() * logp).sum()
    else:
        value = (drawn * (logp - logp.detach()).exp() * estimate).sum()
    want = entry(f"kl/expected_{name}_{use}")
    check(value, want["value"], dtype)
    check(torch.autograd.grad(value, logits)[0], want["grad"], dtype)


def test_which_gradients_are_which_is_as_recorded():
    reverse, forward = entry("kl/true_reverse_kl")["grad"], entry("kl/true_forward_kl")["grad"]
    for name in ESTIMATORS:
        for use in ("loss", "reward", "is"):
            logits, logp, ref_logp = distributions(torch.float64)
            estimate = ESTIMATORS[name](logp, ref_logp)
            drawn = logp.exp().detach()
            factor = {"loss": 1.0, "reward": logp, "is": (logp - logp.detach()).exp()}[use]
            estimate = estimate.detach() if use == "reward" else estimate
            grad = torch.autograd.grad((drawn * factor * estimate).sum(), logits)[0].tolist()
            want = entry(f"kl/expected_{name}_{use}")
            close = [
                all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(grad, other, strict=True))
                for other in (reverse, forward, [0.0] * len(grad))
            ]
            assert close == [
                want["grad_equals_reverse_kl"],
                want["grad_equals_forward_kl"],
                want["grad_is_zero"],
            ]


def test_adaptive_controller():
    name = "kl/adaptive_controller_init.2_target6_horizon10000_n512"
    want = entry(name)
    coefficient = number_after(name, "init")
    target, horizon = number_after(name, "target"), number_after(name, "horizon")
    n = int(number_after(name, "_n"))
    for seen, expected in zip(want["kl_seen"], want["value"], strict=True):
        coefficient = adaptive_kl_step(coefficient, seen, target, horizon, n)
        check(coefficient, expected)


@both_dtypes
def test_entropy_from_logits(dtype):
    want = entry("misc/entropy_from_logits")
    check(entropy_from_logits(torch.tensor(want["logits"], dtype=dtype)), want["value"], dtype)


@both_dtypes
def test_temperature_of_log_probabilities(dtype):
    logits = torch.tensor(entry("misc/entropy_from_logits")["logits"], dtype=dtype)
    found = torch.stack([token_logp(logits, torch.tensor(1), temperature) for temperature in (1.0, 0.7)])
    check(found, entry("misc/logp_temperature")["value"], dtype)
