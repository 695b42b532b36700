"""Reward-model losses and normalisation against golden values."""

from __future__ import annotations

import pytest
import torch
from golden_file import both_dtypes, check, entry, number_after
from torch import Tensor

from accord.functional.reward_losses import accuracy_ties_half, bradley_terry, norm_gain_bias


def pairs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    f = entry("rm/fixture")
    chosen, rejected, margin = (torch.tensor(f[name], dtype=dtype) for name in ("chosen", "rejected", "margin"))
    return chosen, rejected, margin


@both_dtypes
@pytest.mark.parametrize("name", ["rm/bt", "rm/bt_margin", "rm/bt_center0.01", "rm/bt_smooth0.1", "rm/bt_soft_target"])
def test_bradley_terry(name, dtype):
    chosen, rejected, margin = pairs(dtype)
    want = entry(name)
    loss = bradley_terry(
        chosen,
        rejected,
        margin=margin if name.endswith("margin") else None,
        target=torch.tensor(want["target"], dtype=dtype) if "target" in want else None,
        label_smoothing=number_after(name, "smooth") if "smooth" in name else 0.0,
        center=number_after(name, "center") if "center" in name else 0.0,
    )
    check(loss.mean(), want["value"], dtype)


@both_dtypes
def test_accuracy(dtype):
    chosen, rejected, _ = pairs(dtype)
    want = entry("rm/accuracy_ties_half")
    hits = accuracy_ties_half(chosen, rejected)
    check(hits.mean(), want["value"], dtype)
    check((hits == 1).to(dtype).mean(), want["strict"], dtype)


@both_dtypes
def test_normalisation(dtype):
    want = entry("rm/norm_gain_bias")
    sample = torch.tensor(want["sample"], dtype=dtype)
    gain, bias = norm_gain_bias(sample)
    check(torch.stack([gain, bias]), want["value"], dtype)
    check(gain * sample + bias, want["normalised"], dtype)
