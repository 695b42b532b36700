"""Agreement of annotators: raw agreement, Krippendorff's alpha, Cohen's and Fleiss' kappa.

Alpha and the kappas of a comparison depend on which side is called the first: label by the preferred thing, or give
every item in both orientations, before reading much into a coefficient.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike

from accord.stats.arrays import Floats, percentiles, resamples
from accord.stats.intervals import Interval, bootstrap_mean

Vote = tuple[Hashable, Hashable, Hashable]
"""(item, annotator, label)."""
Scale = Literal["nominal", "ordinal", "interval", "ratio"]
"""What the labels mean: names, an order, differences, or differences relative to their size."""


def raw_agreement(votes: Iterable[Vote], *, seed: int = 0, num: int = 2000) -> Interval | None:
    """Return how often two annotators of the same item agree: the mean over items of the share of agreeing pairs.

    An item counts once, however many judged it: with a mean over pairs an item of ten annotators would weigh as much
    as 45 items of two.

    Args:
        votes: (item, annotator, label). Two votes of one annotator on one item are not a pair.
        seed: of the bootstrap over items.
        num: resamples.

    Returns:
        Mean over the items that two annotators judged, `n` = number of those items; None if there are none. Items
        with one vote never count.
    """
    agreed: list[float] = []
    for given in _by_item(votes).values():
        pairs = [a == b for (who, a), (other, b) in combinations(given, 2) if who != other]
        if pairs:
            agreed.append(sum(pairs) / len(pairs))
    return bootstrap_mean(agreed, seed=seed, num=num) if agreed else None


def krippendorff_alpha(votes: Iterable[Vote], scale: Scale = "nominal") -> float:
    """Return alpha, 1 - observed / expected disagreement (Krippendorff 2011, "Computing alpha-reliability").

    Args:
        votes: (item, annotator, label); missing votes are simply not there, and items with a single vote do
            not count. Except on the nominal scale labels are numbers.
        scale: how far apart two labels are. Ordinal counts the votes between them, interval squares their
            difference, ratio their difference over their sum.

    Returns:
        1 = perfect, 0 = as by chance, below 0 = worse; nan without an item judged twice or without two
        labels.

    Raises:
        ValueError: if a label of an ordered scale is not a number, or a ratio label is negative.
    """
    counts, values = _counts(votes, scale)
    return _alpha(counts, values, np.ones(len(counts)), scale)


def krippendorff_alpha_nominal(votes: Iterable[Vote]) -> float:
    """Return alpha for unordered labels; `krippendorff_alpha` with its usual scale."""
    return krippendorff_alpha(votes, "nominal")


def krippendorff_interval(
    votes: Iterable[Vote], scale: Scale = "nominal", *, seed: int = 0, num: int = 1000, level: float = 0.95
) -> Interval | None:
    """Return alpha with a percentile interval of a bootstrap over items.

    Args:
        votes: as for `krippendorff_alpha`.
        scale: as for `krippendorff_alpha`.
        seed: of the resampling.
        num: resamples.
        level: confidence.

    Returns:
        The interval, `n` = number of items judged at least twice; None where alpha is not defined. A resample
        that happens to hold one label only has no alpha; it counts as 1 at the upper end and as -1 at the lower,
        so that the interval can only become wider by it.
    """
    counts, values = _counts(votes, scale)
    size = len(counts)
    value = _alpha(counts, values, np.ones(size), scale)
    if np.isnan(value):
        return None
    if size == 1:
        return Interval(value, float("-inf"), float("inf"), 1)
    found = np.array([_alpha(counts, values, weight, scale) for weight in resamples(size, num, seed, "alpha")])
    low, _ = percentiles(np.where(np.isnan(found), -1.0, found), level)
    _, high = percentiles(np.where(np.isnan(found), 1.0, found), level)
    return Interval(value, low, high, size)


def cohen_kappa(
    a: Sequence[Hashable],
    b: Sequence[Hashable],
    weights: Literal["linear", "quadratic"] | None = None,
    *,
    labels: Sequence[Hashable] | None = None,
) -> float:
    """Return Cohen's kappa of two annotators, plain (1960) or weighted (1968).

    Args:
        a: labels of the first annotator.
        b: labels of the second, of the same items in the same order.
        weights: None = every disagreement counts the same; linear or quadratic = by the distance of the labels'
            *positions* in `labels`, not of their values (as scikit-learn does).
        labels: all labels in order; None = the sorted labels that occur.

    Returns:
        1 = perfect, 0 = as by chance; nan where chance alone explains everything (one label).

    Raises:
        ValueError: if the lengths differ, there are no items, or a label is not among `labels`.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"kappa needs the same items twice, got {len(a)} and {len(b)} labels")
    order = list(labels) if labels is not None else sorted(cast(Any, {*a, *b}))
    unknown = {*a, *b} - set(order)
    if unknown:
        raise ValueError(f"labels {sorted(map(str, unknown))} are not among {order}")
    place = {label: i for i, label in enumerate(order)}
    table = np.zeros((len(order), len(order)))
    np.add.at(table, ([place[x] for x in a], [place[x] for x in b]), 1.0)
    distance = np.abs(np.subtract.outer(np.arange(len(order)), np.arange(len(order)))).astype(np.float64)
    cost = {None: (distance > 0).astype(np.float64), "linear": distance, "quadratic": distance**2}[weights]
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    chance = float((cost * expected).sum())
    return 1.0 - float((cost * table).sum()) / chance if chance else float("nan")


def fleiss_kappa(counts: ArrayLike) -> float:
    """Return Fleiss' kappa (1971) of many annotators.

    Args:
        counts: items x labels, how many annotators gave that label. Items may have different numbers of votes;
            those with fewer than two say nothing about agreement and do not count.

    Returns:
        1 = perfect, 0 = as by chance; nan without an item judged twice or without two labels.

    Raises:
        ValueError: if `counts` is not a table of non-negative numbers.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or np.any(table < 0):
        raise ValueError("counts must be items x labels, none negative")
    table = table[table.sum(axis=1) >= 2]
    if not len(table):
        return float("nan")
    votes = table.sum(axis=1)
    agreed = float((((table**2).sum(axis=1) - votes) / (votes * (votes - 1))).mean())
    chance = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return (agreed - chance) / (1.0 - chance) if chance < 1.0 else float("nan")


def _counts(votes: Iterable[Vote], scale: Scale) -> tuple[Floats, Floats]:
    """(items judged twice x labels) how often each label was given, and the labels as numbers."""
    given = [Counter(label for _, label in pairs) for pairs in _by_item(votes).values() if len(pairs) > 1]
    seen: dict[Hashable, None] = {}
    for counter in given:
        seen.update(dict.fromkeys(counter))
    if scale == "nominal":
        order = list(seen)
        values = np.arange(len(order), dtype=np.float64)
    else:
        wrong = [label for label in seen if not isinstance(label, int | float)]
        if wrong:
            raise ValueError(f"labels on the {scale} scale must be numbers, got {wrong[0]!r}")
        order = sorted(cast(Any, seen))
        values = np.array(order, dtype=np.float64)
        if scale == "ratio" and np.any(values < 0):
            raise ValueError(f"labels on the ratio scale must not be negative, got {values.min():g}")
    place = {label: i for i, label in enumerate(order)}
    counts = np.zeros((len(given), len(order)))
    for row, counter in enumerate(given):
        for label, number in counter.items():
            counts[row, place[label]] = number
    return counts, values


def _alpha(counts: Floats, values: Floats, weight: Floats, scale: Scale) -> float:
    """Alpha where item u is there weight[u] times."""
    if not len(counts):
        return float("nan")
    share = weight / (counts.sum(axis=1) - 1)
    total = weight @ counts
    n = float(total.sum())
    distance = _distance(total, values, scale)
    # A label differs from itself by 0, so the diagonal of the coincidences never enters.
    observed = float((distance * (counts.T @ (share[:, None] * counts))).sum())
    expected = float(total @ distance @ total) / (n - 1)
    return 1.0 - observed / expected if expected > 0 else float("nan")


def _distance(total: Floats, values: Floats, scale: Scale) -> Floats:
    """Squared distance of every two labels."""
    if scale == "nominal":
        return 1.0 - np.eye(len(values))
    if scale == "ordinal":
        # Ranks: a label sits in the middle of its own votes, so the votes between two labels plus half of each.
        place = np.cumsum(total) - total / 2
        return np.subtract.outer(place, place) ** 2
    difference = np.subtract.outer(values, values)
    if scale == "interval":
        return difference**2
    size = np.add.outer(values, values)
    return (difference / np.where(size > 0, size, 1.0)) ** 2


def _by_item(votes: Iterable[Vote]) -> dict[Hashable, list[tuple[Hashable, Hashable]]]:
    given: defaultdict[Hashable, list[tuple[Hashable, Hashable]]] = defaultdict(list)
    for item, annotator, label in votes:
        given[item].append((annotator, label))
    return given
