"""Group baselines against golden values."""

from __future__ import annotations

import pytest
import torch
from golden_file import both_dtypes, check, entry
from torch import Tensor

from accord.functional.advantages import dr_grpo, grpo, rloo


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
