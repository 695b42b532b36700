"""DPO and its kin against golden values: means, pairs, and gradients by summed log-probs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from golden_file import both_dtypes, check, entry
from torch import Tensor

from accord.functional.losses import nll
from accord.functional.preference_losses import dpo, hinge, ipo

NAMES = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")


def sums(dtype: torch.dtype) -> list[Tensor]:
    f = entry("pref/fixture")
    tokens = [torch.tensor([sum(row) for row in f[f"{name}_tokens"]], dtype=dtype) for name in NAMES]
    for summed, name in zip(tokens, NAMES, strict=True):
        check(summed, f[name], dtype)
    return [tokens[0].requires_grad_(), tokens[1].requires_grad_(), *tokens[2:]]


def means(logps: list[Tensor]) -> list[Tensor]:
    f = entry("pref/fixture")
    chosen, rejected = (torch.tensor(f[f"len_{side}"]).to(logps[0]) for side in ("chosen", "rejected"))
    return [logps[0] / chosen, logps[1] / rejected, logps[2] / chosen, logps[3] / rejected]


def run(name: str, dtype: torch.dtype, loss_of: Callable[[list[Tensor]], Tensor]) -> None:
    logps = sums(dtype)
    loss = loss_of(logps)
    want = entry(name)
    check(loss, want["per_seq"], dtype)
    check(loss.mean(), want["value"], dtype)
    chosen, rejected = torch.autograd.grad(loss.mean(), logps[:2])
    check(chosen, want["grad_chosen"], dtype)
    check(rejected, want["grad_rejected"], dtype)


@both_dtypes
@pytest.mark.parametrize(
    "name", ["pref/dpo_beta0.1", "pref/dpo_beta0.5", "pref/cdpo_eps0.1", "pref/dpo_reference_free_beta0.1"]
)
def test_dpo(name, dtype):
    want = entry(name)
    run(
        name,
        dtype,
        lambda logps: dpo(
            *logps,
            beta=want["beta"],
            label_smoothing=want.get("label_smoothing", 0.0),
            reference_free="reference_free" in name,
        ),
    )


@both_dtypes
def test_soft_target_is_conservative_dpo(dtype):
    want = entry("pref/cdpo_eps0.1")
    smoothing = want["label_smoothing"]
    run(
        "pref/cdpo_eps0.1",
        dtype,
        lambda logps: dpo(*logps, beta=want["beta"], target_P=torch.full_like(logps[0], 1 - smoothing)),
    )


@both_dtypes
@pytest.mark.parametrize("name", ["pref/ipo_sum_tau0.1", "pref/ipo_avg_tau0.1"])
def test_ipo(name, dtype):
    beta = entry(name)["beta"]
    run(name, dtype, lambda logps: ipo(*(means(logps) if "avg" in name else logps), beta=beta))


@both_dtypes
def test_hinge(dtype):
    beta = entry("pref/hinge_beta0.1")["beta"]
    run("pref/hinge_beta0.1", dtype, lambda logps: hinge(*logps, beta=beta))


@both_dtypes
def test_length_normalised_dpo(dtype):
    beta = entry("pref/dpo_norm_beta5")["beta"]
    run("pref/dpo_norm_beta5", dtype, lambda logps: dpo(*means(logps), beta=beta))


@both_dtypes
def test_nll_of_the_chosen_replies(dtype):
    rows = [nll(torch.tensor(row, dtype=dtype)) for row in entry("pref/fixture")["policy_chosen_tokens"]]
    check(torch.cat(rows).mean(), entry("pref/chosen_nll_token_mean")["value"], dtype)
    check(torch.stack([row.mean() for row in rows]).mean(), entry("pref/chosen_nll_seq_mean")["value"], dtype)
