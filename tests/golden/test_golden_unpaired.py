"""Losses on single replies against golden values."""

from __future__ import annotations

import pytest
import torch
from golden_file import both_dtypes, check, entry
from torch import Tensor

from accord.functional.unpaired_losses import UNPAIRED_LOSSES, kl_estimate


def replies(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Log-ratios of all chosen replies and then all rejected ones, and their labels."""
    f = entry("pref/fixture")
    sides = [
        torch.tensor(f[f"policy_{side}"], dtype=dtype) - torch.tensor(f[f"ref_{side}"], dtype=dtype)
        for side in ("chosen", "rejected")
    ]
    target_B = torch.cat([torch.ones_like(sides[0]), torch.zeros_like(sides[1])])
    return torch.cat(sides), target_B


def mismatched(dtype: torch.dtype) -> Tensor:
    f = entry("pref/fixture")
    return torch.tensor(f["kl_policy"], dtype=dtype) - torch.tensor(f["kl_ref"], dtype=dtype)


@both_dtypes
def test_the_kl_estimate(dtype):
    log_ratio_B = mismatched(dtype)
    ones_B = torch.ones_like(log_ratio_B)
    check(kl_estimate(log_ratio_B, ones_B), entry("pref/kto_kl")["value"], dtype)
    assert kl_estimate(-log_ratio_B.abs(), ones_B) == 0
    assert not kl_estimate(log_ratio_B.requires_grad_(), ones_B).requires_grad


@both_dtypes
@pytest.mark.parametrize("name", ["pref/kto", "pref/kto_lu1.33", "pref/apo_zero_unpaired"])
def test_unpaired_loss(name, dtype):
    want = entry(name)
    log_ratio_B, target_B = replies(dtype)
    kl_B = mismatched(dtype)
    anchor_B = kl_estimate(kl_B, torch.ones_like(kl_B)).expand_as(log_ratio_B)
    loss_B = UNPAIRED_LOSSES["kto" if "kto" in name else "apo_zero_unpaired"].function(
        log_ratio_B,
        target_B,
        anchor_B,
        beta=want["beta"],
        desirable_weight=want.get("lambda_d", 1.0),
        undesirable_weight=want.get("lambda_u", 1.0),
    )
    check(loss_B.mean(), want["value"], dtype)
    if "per_seq" in want:
        check(loss_B, want["per_seq"], dtype)
