"""Means and shares with their confidence intervals; a tie counts one half.

An interval is 95% unless said. Repeated observations of one thing (several replies to a prompt, several judgements
of an item) are resampled together, as clusters.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from accord.rng import generator
from accord.stats.arrays import Clusters, Floats, by_cluster, percentiles, resampled_together, vector


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    """The estimate."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    n: int
    """Number of observations."""


@dataclass(frozen=True)
class Estimate:
    """A number for a report: where it is not defined it is None, with the reason, and never nan or a made-up value."""

    value: float | None
    """The estimate."""
    low: float | None
    """Lower end of its interval; None where there is none."""
    high: float | None
    """Upper end."""
    n: int
    """Number of units it rests on."""
    reason: str = ""
    """Why something is None."""

    @classmethod
    def undefined(cls, reason: str, n: int = 0) -> Estimate:
        """Nothing, and why."""
        return cls(None, None, None, n, reason)

    @classmethod
    def of(cls, interval: Interval | None, reason: str = "") -> Estimate:
        """The interval, its infinite ends and nan as None."""
        if interval is None or not np.isfinite(interval.value):
            return cls.undefined(reason or "not defined", interval.n if interval else 0)
        known = bool(np.isfinite(interval.low) and np.isfinite(interval.high))
        why = "" if known else "a single prompt has no interval"
        low, high = (interval.low, interval.high) if known else (None, None)
        return cls(interval.value, low, high, interval.n, why)


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Return a proportion with the score interval of Wilson (1927).

    Args:
        successes: may be fractional (ties count half).
        n: trials, independent of each other.
        level: confidence.

    Returns:
        The interval, inside [0, 1]; with no trials the estimate is nan and the interval [0, 1].

    Raises:
        ValueError: if `successes` is outside [0, n].
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0, 0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    # At p = 0 and p = 1 the ends are exactly 0 and 1; rounding must not put the estimate outside.
    return Interval(p, min(max(centre - half, 0.0), p), max(min(centre + half, 1.0), p), n)


def bootstrap_mean(
    values: ArrayLike,
    clusters: Clusters = None,
    *,
    seed: int = 0,
    num: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return a mean with the percentile interval of a cluster bootstrap (Efron and Tibshirani 1993, ch. 13).

    Args:
        values: one number an observation.
        clusters: cluster of each observation; whole clusters are drawn. None = every observation on its own.
        seed: of the resampling; the same seed gives the same interval.
        num: resamples.
        level: confidence.

    Returns:
        The interval; `n` counts observations. With a single cluster nothing is known and the ends are
        infinite.

    Raises:
        ValueError: if there are no values, or `clusters` has another length.
    """
    return bootstrap_means([(values, clusters)], seed=seed, num=num, level=level)[0]


def bootstrap_means(
    samples: Sequence[tuple[ArrayLike, Clusters]], *, seed: int = 0, num: int = 2000, level: float = 0.95
) -> list[Interval]:
    """Return `bootstrap_mean` of several samples; those with equally many clusters are resampled by the same draws.

    These are the draws that each would get by itself: they depend on the seed and the number of clusters alone.

    Args:
        samples: (values, clusters) as for `bootstrap_mean`.
        seed: of the resampling.
        num: resamples.
        level: confidence.

    Raises:
        ValueError: as `bootstrap_mean`.
    """
    found: list[Interval] = []
    alike: dict[int, list[tuple[int, tuple[Floats, Floats]]]] = {}
    for place, (values, clusters) in enumerate(samples):
        x = vector(values)
        if x.size == 0:
            raise ValueError("the mean of no values is not defined")
        sums, counts = by_cluster(x, clusters)
        found.append(Interval(float(x.mean()), float("-inf"), float("inf"), int(x.size)))
        if sums.size > 1:
            alike.setdefault(sums.size, []).append((place, (sums, counts)))
    for members in alike.values():
        drawn = resampled_together([ratio for _, ratio in members], num, generator(seed, "bootstrap"))
        for (place, _), means in zip(members, drawn, strict=True):
            low, high = percentiles(means, level)
            found[place] = replace(found[place], low=low, high=high)
    return found


def win_rate(
    outcomes: ArrayLike, clusters: Sequence[Hashable] | None = None, *, seed: int = 0, num: int = 2000
) -> Interval:
    """Return the share of wins, ties counting half.

    Args:
        outcomes: 1 = win, 0.5 = tie, 0 = loss.
        clusters: e.g. the prompt of each comparison; None = independent comparisons.
        seed: of the bootstrap.
        num: resamples of the bootstrap.

    Returns:
        A Wilson interval without clusters (conservative when there are ties), else a cluster bootstrap.

    Raises:
        ValueError: if an outcome is outside [0, 1], or there are clusters but no outcomes.
    """
    x = vector(outcomes)
    if np.any((x < 0) | (x > 1)):
        raise ValueError("an outcome must be between 0 (loss) and 1 (win)")
    if clusters is None:
        return wilson(float(x.sum()), int(x.size))
    return bootstrap_mean(x, clusters, seed=seed, num=num)


def paired_bootstrap_diff(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    num: int = 2000,
) -> Interval:
    """Return mean(a) - mean(b) for two systems measured on the same observations.

    Args:
        a: results of the first system.
        b: results of the second, in the same order.
        clusters: cluster of each observation.
        seed: of the bootstrap.
        num: resamples.

    Returns:
        The interval of the difference; narrower than that of two separate means because the pairs stay
        together.

    Raises:
        ValueError: if the lengths differ or there are no values.
    """
    x, y = vector(a), vector(b)
    if x.size != y.size:
        raise ValueError(f"paired results differ in number: {x.size} and {y.size}")
    return bootstrap_mean(x - y, clusters, seed=seed, num=num)
