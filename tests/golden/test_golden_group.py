"""Group baselines against golden values."""

from __future__ import annotations

import pytest
import torch
from golden_file import both_dtypes, check, entry
from policy_fixture import fixture, rewards
from torch import Tensor

from accord.functional.advantages import (
    dr_grpo,
    equal_groups,
    grpo,
    grpo_batch,
    opo,
    remax,
    returns_to_go,
    rloo,
    whiten,
)


def groups(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    rewards = entry("group/fixture")["rewards"]
    # Ids are neither ordered nor dense, as they would be after filtering.
    ids = [7 * (len(rewards) - i) for i, row in enumerate(rewards) for _ in row]
    return torch.tensor([r for row in rewards for r in row], dtype=dtype), torch.tensor(ids)


def flat(name: str) -> list[float]:
    return [value for row in entry(name)["value"] for value in row]


@both_dtypes
@pytest.mark.parametrize("function, name", [(rloo, "group/rloo"), (dr_grpo, "group/dr_grpo")])
def test_baselines(function, name, dtype):
    check(function(*groups(dtype)), flat(name), dtype)


@both_dtypes
@pytest.mark.parametrize("ddof", [1, 0])
def test_grpo(ddof, dtype):
    check(grpo(*groups(dtype), unbiased=bool(ddof), eps=1e-4), flat(f"group/grpo_std{ddof}_eps1e-4"), dtype)


@both_dtypes
def test_batch_scaling(dtype):
    check(grpo_batch(*groups(dtype)), flat("group/batch_std"), dtype)


@both_dtypes
def test_greedy_baseline(dtype):
    scores, _ = groups(dtype)
    given = entry("group/remax")["greedy_baseline"]
    sizes = [len(row) for row in entry("group/fixture")["rewards"]]
    greedy = torch.tensor([g for g, size in zip(given, sizes, strict=True) for _ in range(size)], dtype=dtype)
    check(remax(scores, greedy), flat("group/remax"), dtype)


@both_dtypes
def test_length_weighted_baseline(dtype):
    scores, ids = groups(dtype)
    lengths = torch.tensor([n for row in entry("group/opo")["lengths"] for n in row]).long()
    check(opo(scores, lengths, ids), flat("group/opo"), dtype)


@both_dtypes
def test_reinforce_plus_plus(dtype):
    # Token rewards with the KL penalty, summed from each token on, whitened over all tokens of the batch (Bessel).
    f = fixture(dtype)
    found = whiten(returns_to_go(rewards(f), f.mask), f.mask, unbiased=True)
    check(found, entry("group/reinforce_pp_g1")["value"], dtype)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 1e-3, 123.456])
@pytest.mark.parametrize("function", [rloo, grpo, grpo_batch, dr_grpo])
def test_a_group_of_equal_scores_has_advantage_zero_exactly(function, value):
    # In float32 the mean of equal numbers is not that number, and a deviation of rounding errors is no deviation.
    scores = torch.tensor([value] * 8 + [0.2, 0.9, 0.4, 0.4], dtype=torch.float32)
    ids = torch.tensor([3] * 8 + [1] * 4)
    options = {"eps": 1e-9} if function in (grpo, grpo_batch) else {}
    found = function(scores, ids, **options)
    assert not found[:8].any() and found[8:].any()
    assert equal_groups(scores, ids).tolist() == [True] * 8 + [False] * 4
    assert not opo(scores, torch.arange(1, 13), ids)[:8].any()
