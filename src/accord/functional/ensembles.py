"""One score out of those of several reward models (ensemble members)."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

Combination = Literal["mean", "worst", "uncertainty", "median", "lower"]


def mean_score(scores_BK: Tensor) -> Tensor:
    """Return the mean over members (Coste et al. 2023, 2310.02743, eq. 3).

    Args:
        scores_BK: scores of K members on one scale.

    Returns:
        score_B.
    """
    return scores_BK.mean(dim=-1)


def worst_case(scores_BK: Tensor) -> Tensor:
    """Return the lowest member, worst-case optimisation (Coste et al. 2023, eq. 4).

    Args:
        scores_BK: scores of K members on one scale.

    Returns:
        score_B.
    """
    return scores_BK.amin(dim=-1)


def disagreement(scores_BK: Tensor) -> Tensor:
    """Return the population variance over members, in squared score units; 0 for a single member."""
    return scores_BK.var(dim=-1, correction=0)


def uncertainty_weighted(scores_BK: Tensor, penalty: float) -> Tensor:
    """Return mean - penalty * variance, uncertainty-weighted optimisation (Coste et al. 2023, eq. 5).

    The variance, not the deviation, and that of the population.

    Args:
        scores_BK: scores of K members on one scale.
        penalty: lambda >= 0, per score unit; the paper uses 0.5 for best-of-n and 0.1 for PPO.

    Returns:
        score_B.
    """
    return mean_score(scores_BK) - penalty * disagreement(scores_BK)


def median_score(scores_BK: Tensor) -> Tensor:
    """Return the median over members; the mean of the middle two when K is even.

    Args:
        scores_BK: scores of K members on one scale.

    Returns:
        score_B.
    """
    sorted_BK = scores_BK.sort(dim=-1).values
    count = scores_BK.shape[-1]
    return (sorted_BK[..., (count - 1) // 2] + sorted_BK[..., count // 2]) / 2


def lower_bound(scores_BK: Tensor, penalty: float) -> Tensor:
    """Return mean - penalty * population standard deviation, in score units throughout.

    Args:
        scores_BK: scores of K members on one scale.
        penalty: number of deviations, >= 0.

    Returns:
        score_B.
    """
    # The derivative of a square root at 0 is infinite, and equal members are not an exception but the usual start.
    variance_B = disagreement(scores_BK)
    spread_B = torch.where(variance_B > 0, variance_B.clamp(min=torch.finfo(variance_B.dtype).tiny).sqrt(), 0.0)
    return mean_score(scores_BK) - penalty * spread_B


def combine(scores_BK: Tensor, how: Combination = "mean", penalty: float = 0.0) -> Tensor:
    """Return the combined score of each row.

    Args:
        scores_BK: scores of K members on one scale.
        how: "mean", "worst", "uncertainty" (mean - penalty * variance), "median" or "lower" (mean - penalty *
            deviation).
        penalty: of "uncertainty" and "lower"; the others take none.

    Returns:
        score_B.
    """
    ways: dict[Combination, Callable[[Tensor], Tensor]] = {
        "mean": mean_score,
        "worst": worst_case,
        "median": median_score,
        "uncertainty": partial(uncertainty_weighted, penalty=penalty),
        "lower": partial(lower_bound, penalty=penalty),
    }
    return ways[how](scores_BK)
