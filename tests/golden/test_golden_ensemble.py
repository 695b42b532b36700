"""Combinations of ensemble members against golden values."""

from __future__ import annotations

import pytest
import torch
from golden_file import ENTRIES, both_dtypes, check, differs, entry, number_after

from accord.functional.ensembles import combine, mean_score, uncertainty_weighted, worst_case

UWO = sorted(name for name in ENTRIES if name.startswith("rm/ensemble_uwo_lambda"))


def members(dtype: torch.dtype) -> torch.Tensor:
    """Scores [B, K]; the file has one row a member."""
    return torch.tensor(entry("rm/ensemble_mean")["members"], dtype=dtype).T


@both_dtypes
def test_mean_and_worst_case(dtype):
    check(mean_score(members(dtype)), entry("rm/ensemble_mean")["value"], dtype)
    check(worst_case(members(dtype)), entry("rm/ensemble_wco")["value"], dtype)


def test_there_is_an_uncertainty_entry():
    assert UWO


@both_dtypes
@pytest.mark.parametrize("name", UWO)
def test_uncertainty_penalty_takes_the_population_variance(name, dtype):
    penalty = number_after(name, "lambda")
    scores_BK = members(dtype)
    found = uncertainty_weighted(scores_BK, penalty)
    check(found, entry(name)["value"], dtype)
    check(combine(scores_BK, "uncertainty", penalty), entry(name)["value"], dtype)
    assert differs(found, mean_score(scores_BK) - penalty * scores_BK.std(-1, correction=0))
    assert differs(found, mean_score(scores_BK) - penalty * scores_BK.var(-1))
