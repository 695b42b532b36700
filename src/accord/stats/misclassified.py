"""Shares seen through a test that errs: corrected for its sensitivity and specificity, and for clusters.

Rogan and Gladen (1978): true = (apparent + Sp - 1) / (Se + Sp - 1). Interval: Lang and Reiczigel (2014), "Confidence
limits for prevalence of disease adjusted for estimated sensitivity and specificity", Prev. Vet. Med. 113, which adds
the uncertainty of Se and Sp to that of the share. Clusters enter as an effective sample size (Korn and Graubard 1998).
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from accord.stats.arrays import by_cluster, vector
from accord.stats.intervals import Interval, wilson


@dataclass(frozen=True)
class Confusion:
    """How a test did on things whose truth is known."""

    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int


def rogan_gladen(apparent: float, sensitivity: float, specificity: float) -> float:
    """Return the true share behind an apparent one, cut to [0, 1].

    Args:
        apparent: share of positive tests.
        sensitivity: P(test positive | positive).
        specificity: P(test negative | negative).

    Raises:
        ValueError: the test is no better than chance, Se + Sp <= 1, or a number is outside [0, 1].
    """
    for value in (apparent, sensitivity, specificity):
        if not 0 <= value <= 1:
            raise ValueError(f"{value} is no share")
    youden = sensitivity + specificity - 1
    if youden <= 0:
        raise ValueError(
            f"sensitivity {sensitivity:g} + specificity {specificity:g} is at most 1: no better than chance"
        )
    return min(1.0, max(0.0, (apparent + specificity - 1) / youden))


def effective_size(outcomes: ArrayLike, clusters: Sequence[Hashable] | None = None) -> float:
    """Return how many independent trials the outcomes are worth: p (1 - p) / Var(p), between clusters and trials.

    Args:
        outcomes: 0 or 1.
        clusters: cluster of each; None = independent.

    Returns:
        The number of outcomes without clusters. With clusters, at most that, and at least the number of clusters; the
        number of clusters where all outcomes are alike, since then nothing is known of their correlation.
    """
    x = vector(outcomes)
    if clusters is None or x.size == 0:
        return float(x.size)
    sums, counts = by_cluster(x, clusters)
    groups, p = sums.size, float(x.mean())
    if groups < 2 or p in (0.0, 1.0):
        return float(groups)
    # Linearised variance of a ratio of cluster totals (Cochran 1977, 6.4), with its correction for few clusters.
    spread = float(((sums - p * counts) ** 2).sum()) * groups / (groups - 1) / float(x.size) ** 2
    return float(x.size) if spread <= 0 else min(float(x.size), max(float(groups), p * (1 - p) / spread))


def clustered_wilson(outcomes: ArrayLike, clusters: Sequence[Hashable] | None = None, level: float = 0.95) -> Interval:
    """Return a share with Wilson's interval at the effective sample size.

    Args:
        outcomes: 0 or 1.
        clusters: cluster of each outcome (the prompt of a reply).
        level: confidence.

    Returns:
        The interval; `n` is the number of clusters, or of outcomes without them.
    """
    x = vector(outcomes)
    size = effective_size(x, clusters)
    p = float(x.mean()) if x.size else float("nan")
    found = _wilson(p, size, level)
    groups = x.size if clusters is None else len(set(clusters))
    return Interval(found.value, found.low, found.high, int(groups))


def corrected_share(apparent: float, size: float, test: Confusion, level: float = 0.95) -> Interval:
    """Return the true share with the interval of Lang and Reiczigel (2014).

    Args:
        apparent: share of positive tests.
        size: trials it rests on, or the effective number of them.
        test: how the test did on known truth; both classes must occur.
        level: confidence.

    Returns:
        The Rogan-Gladen estimate, and an interval around the adjusted estimate of the paper; cut to [0, 1]. `n` is
        `size`, rounded down.

    Raises:
        ValueError: a class did not occur, the test is no better than chance, or there are no trials.
    """
    positives, negatives = test.true_positives + test.false_negatives, test.true_negatives + test.false_positives
    if positives == 0 or negatives == 0 or size <= 0:
        raise ValueError("sensitivity and specificity need positives, negatives and trials")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    estimate = rogan_gladen(apparent, test.true_positives / positives, test.true_negatives / negatives)
    n = size + z * z
    p = (size * apparent + z * z / 2) / n
    n_se, n_sp = positives + 2, negatives + 2
    se, sp = (test.true_positives + 1) / n_se, (test.true_negatives + 1) / n_sp
    youden = se + sp - 1
    if youden <= 0:
        raise ValueError("the test is no better than chance")
    share = (p + sp - 1) / youden
    var_se, var_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * z * z * (share * var_se - (1 - share) * var_sp)
    half = z * sqrt(p * (1 - p) / n + share**2 * var_se + (1 - share) ** 2 * var_sp) / youden
    low, high = max(0.0, share + shift - half), min(1.0, share + shift + half)
    return Interval(estimate, min(low, estimate), max(high, estimate), int(size))


def _wilson(p: float, size: float, level: float) -> Interval:
    """Wilson's interval for a number of trials that need not be whole."""
    if size == 0:
        return wilson(0, 0, level)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = (p + z * z / (2 * size)) / (1 + z * z / size)
    half = z * float(np.sqrt(p * (1 - p) / size + z * z / (4 * size * size))) / (1 + z * z / size)
    return Interval(p, min(max(centre - half, 0.0), p), max(min(centre + half, 1.0), p), int(size))
