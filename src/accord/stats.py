"""Statistics with their uncertainty: intervals, calibration, agreement. No torch.

Conventions: a tie counts one half; an interval is 95% unless said; repeated observations of one thing
(several replies to a prompt, several judgements of an item) are resampled together, as clusters.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, xlogy

from accord.rng import generator

Floats = NDArray[np.float64]
Vote = tuple[Hashable, Hashable, Hashable]
"""(item, annotator, label)."""


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
class Bin:
    """One bin of a reliability diagram."""

    p: float
    """Mean predicted probability."""
    freq: float
    """Mean label, what a calibrated model would have predicted."""
    n: int
    """Number of predictions."""


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
    clusters: Sequence[Hashable] | None = None,
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
    x = _vector(values)
    if x.size == 0:
        raise ValueError("the mean of no values is not defined")
    sums, counts = _by_cluster(x, clusters)
    k = sums.size
    mean = float(x.mean())
    if k == 1:
        return Interval(mean, float("-inf"), float("inf"), int(x.size))
    rng = generator(seed, "bootstrap")
    means: list[Floats] = []
    rows = max(1, 1_000_000 // k)  # bounds the memory of the index matrix
    for start in range(0, num, rows):
        picks = rng.integers(0, k, size=(min(rows, num - start), k))
        means.append(sums[picks].sum(axis=1) / counts[picks].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.5 - level / 2, 0.5 + level / 2])
    return Interval(mean, float(low), float(high), int(x.size))


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
    x = _vector(outcomes)
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
    x, y = _vector(a), _vector(b)
    if x.size != y.size:
        raise ValueError(f"paired results differ in number: {x.size} and {y.size}")
    return bootstrap_mean(x - y, clusters, seed=seed, num=num)


def accuracy_ties_half(delta: ArrayLike) -> float:
    """Return the share of positive score differences (chosen minus rejected); an exact tie counts half."""
    x = _vector(delta)
    return float(np.mean((x > 0) + 0.5 * (x == 0)))


def reliability(prob: ArrayLike, label: ArrayLike, bins: int = 10, *, confidence: bool = False) -> list[Bin]:
    """Return the reliability diagram over equally wide bins of [0, 1].

    Args:
        prob: predicted probability of the first outcome.
        label: 1 = the first outcome happened, 0 = the other; soft labels are allowed.
        bins: number of bins; each holds its lower edge, the last one also 1.
        confidence: use max(p, 1 - p) and whether the likelier outcome happened. The direct form shows a
            model that is too sure of one side; in this one such errors can cancel.

    Returns:
        The bins that are not empty, in order.
    """
    p, y = _vector(prob), _vector(label)
    if confidence:
        p, y = np.maximum(p, 1 - p), np.where(p >= 0.5, y, 1 - y)
    index = np.minimum((p * bins).astype(int), bins - 1)
    found: list[Bin] = []
    for i in range(bins):
        here = index == i
        if here.any():
            found.append(Bin(float(p[here].mean()), float(y[here].mean()), int(here.sum())))
    return found


def ece(prob: ArrayLike, label: ArrayLike, bins: int = 10, *, confidence: bool = False) -> float:
    """Return the expected calibration error (Guo et al. 2017, eq. 3), mean |p - frequency|.

    Args:
        prob: predicted probability of the first outcome.
        label: 1 = the first outcome happened, 0 = the other.
        bins: equally wide bins of [0, 1].
        confidence: bin max(p, 1 - p) instead of p.

    Returns:
        A number in [0, 1]; 0 = calibrated.
    """
    found = reliability(prob, label, bins, confidence=confidence)
    return sum(b.n * abs(b.p - b.freq) for b in found) / sum(b.n for b in found)


def brier(prob: ArrayLike, label: ArrayLike) -> float:
    """Return the mean squared error of predicted probabilities (Brier 1950, two-class form, in [0, 1])."""
    return float(np.mean((_vector(prob) - _vector(label)) ** 2))


def nll(prob: ArrayLike, label: ArrayLike) -> float:
    """Return the mean negative log-likelihood (nats) of labels under predicted probabilities; may be inf."""
    p, y = _vector(prob), _vector(label)
    return float(-np.mean(xlogy(y, p) + xlogy(1 - y, 1 - p)))


def temperature_mle(logit: ArrayLike, label: ArrayLike) -> float:
    """Return the T that minimises the NLL of sigmoid(logit / T) (Guo et al. 2017, section 4.2).

    Args:
        logit: e.g. score differences of a reward model.
        label: 1 = the first outcome happened, 0 = the other; soft labels are allowed.

    Returns:
        T: above 1 = the model was too sure. 0.0 if the labels are separated perfectly (no finite optimum),
            inf if
        the logits say nothing or the opposite.
    """
    z, y = _vector(logit), _vector(label)

    def slope(inverse: float) -> float:
        return float(np.mean((expit(inverse * z) - y) * z))

    if slope(0.0) >= 0:
        return float("inf")
    if float(np.mean(((z > 0) - y) * z)) == 0.0:  # the slope's limit as T goes to 0: never negative
        return 0.0
    high = 1.0
    while slope(high) <= 0:
        high *= 2
    inverse = cast(Any, brentq)(slope, 0.0, high, xtol=1e-15, rtol=1e-14)
    return 1.0 / float(inverse)


def raw_agreement(votes: Iterable[Vote], *, seed: int = 0, num: int = 2000) -> Interval | None:
    """Return how often two annotators of the same item agree.

    Args:
        votes: (item, annotator, label). Two votes of one annotator on one item are not a pair.
        seed: of the bootstrap over items.
        num: resamples.

    Returns:
        Share of agreeing pairs, `n` = number of pairs; None if no item was judged by two annotators.
    """
    agreed: list[float] = []
    items: list[Hashable] = []
    for item, given in _by_item(votes).items():
        for (who, label), (other, other_label) in combinations(given, 2):
            if who != other:
                agreed.append(float(label == other_label))
                items.append(item)
    return bootstrap_mean(agreed, items, seed=seed, num=num) if agreed else None


def krippendorff_alpha_nominal(votes: Iterable[Vote]) -> float:
    """Return alpha for unordered labels, 1 - observed / expected disagreement (Krippendorff 2011).

    Args:
        votes: (item, annotator, label); items with a single vote do not count.

    Returns:
        1 = perfect, 0 = as by chance, below 0 = worse; nan without an item judged twice or without two
        labels.
    """
    totals: Counter[Hashable] = Counter()
    disagreement = 0.0
    for given in _by_item(votes).values():
        if len(given) < 2:
            continue
        counts = Counter(label for _, label in given)
        totals.update(counts)
        disagreement += (len(given) ** 2 - sum(c * c for c in counts.values())) / (len(given) - 1)
    n = sum(totals.values())
    expected = (n * n - sum(c * c for c in totals.values())) / (n - 1) if n > 1 else 0.0
    return 1.0 - disagreement / expected if expected else float("nan")


def _vector(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _by_cluster(x: Floats, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sum and number of the observations of each cluster, clusters in order of first appearance."""
    if clusters is None:
        return x, np.ones_like(x)
    if len(clusters) != x.size:
        raise ValueError(f"{x.size} values but {len(clusters)} clusters")
    number: dict[Hashable, int] = {}
    index = np.array([number.setdefault(cluster, len(number)) for cluster in clusters])
    sums = np.bincount(index, weights=x).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _by_item(votes: Iterable[Vote]) -> dict[Hashable, list[tuple[Hashable, Hashable]]]:
    given: defaultdict[Hashable, list[tuple[Hashable, Hashable]]] = defaultdict(list)
    for item, annotator, label in votes:
        given[item].append((annotator, label))
    return given
