"""Ratios of sums with intervals: accuracy where observations weigh differently, precision, corrected rates."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from accord.rng import generator
from accord.stats.arrays import by_cluster, percentiles, resampled_ratios, vector
from accord.stats.intervals import Interval


def bootstrap_ratio(
    numerator: ArrayLike,
    denominator: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    num: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return sum(numerator) / sum(denominator) with the percentile interval of a cluster bootstrap.

    Args:
        numerator: one number an observation, e.g. weighted wins.
        denominator: likewise, at least 0, e.g. weights.
        clusters: cluster of each observation; whole clusters are drawn. None = every observation on its own.
        seed: of the resampling.
        num: resamples; one whose denominator is 0 is left out.
        level: confidence.

    Returns:
        The interval; `n` counts observations. With a single cluster the ends are infinite.

    Raises:
        ValueError: if the lengths differ, a denominator is negative, or they sum to 0.
    """
    top, bottom = vector(numerator), vector(denominator)
    if top.size != bottom.size:
        raise ValueError(f"{top.size} numerators but {bottom.size} denominators")
    if np.any(bottom < 0) or bottom.sum() <= 0:
        raise ValueError("denominators must be at least 0 and not all 0")
    tops, _ = by_cluster(top, clusters)
    bottoms, _ = by_cluster(bottom, clusters)
    value, k = float(top.sum() / bottom.sum()), tops.size
    if k == 1:
        return Interval(value, float("-inf"), float("inf"), int(top.size))
    ratios = resampled_ratios(tops, bottoms, num, generator(seed, "bootstrap", "ratio"))
    return Interval(value, *percentiles(ratios, level), int(top.size))


def weighted_share(outcomes: ArrayLike, weights: ArrayLike, strata: Sequence[Hashable]) -> Interval:
    """Return a weighted mean of the shares of strata, with a normal 95 % interval from their Wilson-centred variances.

    Args:
        outcomes: in [0, 1], one an observation.
        weights: weight of the stratum of each observation (the same for all of a stratum), in any unit.
        strata: stratum of each observation.

    Raises:
        ValueError: if the lengths differ, there are none, or the weights of one stratum differ.
    """
    y, w = vector(outcomes), vector(weights)
    if not y.size or not y.size == w.size == len(strata):
        raise ValueError("outcomes, weights and strata must be of the same observations, at least one")
    total, mean, variance = 0.0, 0.0, 0.0
    names = list(dict.fromkeys(strata))
    place = np.array([names.index(s) for s in strata])
    for i in range(len(names)):
        chosen = place == i
        if np.ptp(w[chosen]) > 0:
            raise ValueError(f"stratum {names[i]!r} has several weights")
        n, weight = int(chosen.sum()), float(w[chosen][0])
        share = float(y[chosen].mean())
        centred = (share * n + 2) / (n + 4)  # Agresti and Coull 1998: no variance of 0 at shares of 0 and 1
        mean += weight * share
        variance += weight**2 * centred * (1 - centred) / (n + 4)
        total += weight
    half = 1.959963984540054 * float(np.sqrt(variance)) / total
    value = mean / total
    return Interval(value, max(0.0, value - half), min(1.0, value + half), int(y.size))
