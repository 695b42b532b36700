"""Agreement of a panel of annotators with intervals over prompts: raw, Fleiss, Krippendorff, Cohen.

The orientation trap: chance-corrected coefficients of a comparison depend on which reply is called the first. If the
first is always the new model, which usually wins, an agreement of 0.74 has kappa 0.13; the same votes with the names
drawn at random have 0.48 = 2 * 0.74 - 1. `Panel.symmetric` counts every unit in both orientations, which gives the
latter and depends on no names; report it beside the coefficient of the names as they are.

Everything is a function of sums over units, so that a bootstrap draws prompts and never single votes: votes on one
prompt, and pairs of replies to it, are not independent.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal, cast

import numpy as np
from scipy.sparse import csr_array

from accord.rng import generator
from accord.stats.agreement import Scale, Vote
from accord.stats.arrays import Floats, cluster_index, percentiles
from accord.stats.em import Integers, mirror
from accord.stats.intervals import Estimate

Weights = Literal["linear", "quadratic"] | None
_NOTHING = "no item was judged by two annotators"
_ONE_LABEL = "everybody gave the same label: chance alone explains it"


@dataclass(frozen=True)
class Panel:
    """Votes on units that two or more annotators judged."""

    labels: tuple[Hashable, ...]
    values: Floats
    """(labels) what they are worth on an ordered scale; their positions if they are no numbers."""
    counts: Floats
    """(units, labels) votes."""
    cluster: Integers
    """(units) which prompt."""
    units: int
    """Number of units that were judged twice or more; a panel with mirror images has twice as many rows."""
    names: tuple[tuple[Hashable, Hashable], ...]
    """Pairs of annotators with common units."""
    meetings: Integers
    """(meetings, 4) two annotators on a unit: pair, label of the first, label of the second, unit."""
    repeats: int
    """Votes left out because the annotator had judged that unit before."""
    lone: int
    """Units with one vote, which say nothing about agreement."""

    def symmetric(self, swap: Mapping[Hashable, Hashable]) -> Panel:
        """The panel with every unit a second time, its two replies having changed places."""
        image = mirror(self.labels, swap)
        turned = self.meetings.copy()
        turned[:, 1], turned[:, 2] = image[turned[:, 1]], image[turned[:, 2]]
        turned[:, 3] += len(self.counts)
        return replace(
            self,
            counts=np.concatenate([self.counts, self.counts[:, image]]),
            cluster=np.concatenate([self.cluster, self.cluster]),
            meetings=np.concatenate([self.meetings, turned]),
        )


def panel(
    votes: Iterable[Vote],
    *,
    labels: Sequence[Hashable] | None = None,
    clusters: Mapping[Hashable, Hashable] | None = None,
) -> Panel:
    """Return the votes that say something about agreement.

    Args:
        votes: (item, annotator, label). Of several votes of one annotator on an item the first counts.
        labels: all labels in order; None = those that occur, sorted.
        clusters: item -> prompt; None = every item on its own.

    Raises:
        ValueError: if a label is not among `labels`.
    """
    given: defaultdict[Hashable, dict[Hashable, Hashable]] = defaultdict(dict)
    repeats = 0
    for item, who, label in votes:
        repeats += who in given[item]
        given[item].setdefault(who, label)
    seen = {label for said in given.values() for label in said.values()}
    order = tuple(labels) if labels is not None else tuple(sorted(cast(Any, seen)))
    if seen - set(order):
        raise ValueError(f"labels {sorted(map(str, seen - set(order)))} are not among {order}")
    place = {label: i for i, label in enumerate(order)}
    pairable = {item: said for item, said in given.items() if len(said) > 1}
    counts = np.zeros((len(pairable), len(order)))
    pairs: dict[tuple[Hashable, Hashable], int] = {}
    meetings: list[tuple[int, int, int, int]] = []
    rank = {who: i for i, who in enumerate(dict.fromkeys(who for said in given.values() for who in said))}
    for unit, said in enumerate(pairable.values()):
        for label in said.values():
            counts[unit, place[label]] += 1
        for a, b in combinations(sorted(said, key=rank.__getitem__), 2):
            meetings.append((pairs.setdefault((a, b), len(pairs)), place[said[a]], place[said[b]], unit))
    numbers = all(isinstance(label, int | float) for label in order)
    return Panel(
        labels=order,
        values=np.array(order if numbers else range(len(order)), dtype=np.float64),
        counts=counts,
        cluster=cluster_index([clusters[item] if clusters else item for item in pairable], len(pairable)),
        units=len(pairable),
        names=tuple(pairs),
        meetings=np.array(meetings, dtype=np.int64).reshape(-1, 4),
        repeats=repeats,
        lone=len(given) - len(pairable),
    )


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    seed: int = 0
    num: int = 1000
    """Resamples."""
    level: float = 0.95
    """Confidence."""


def raw(given: Panel, how: Bootstrap | None = None) -> Estimate:
    """Return the mean over units of the share of agreeing pairs."""
    if not given.units:
        return Estimate.undefined(_NOTHING)
    columns = np.stack([_agreed(given), np.ones(len(given.counts))], axis=1)
    return _estimate(given, columns, lambda sums: sums[:, 0] / sums[:, 1], how)


def fleiss(given: Panel, how: Bootstrap | None = None) -> Estimate:
    """Return Fleiss' kappa (1971); units may have different numbers of annotators."""
    if not given.units:
        return Estimate.undefined(_NOTHING)
    columns = np.concatenate([_agreed(given)[:, None], np.ones((len(given.counts), 1)), given.counts], axis=1)

    def kappa(sums: Floats) -> Floats:
        chance = ((sums[:, 2:] / sums[:, 2:].sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
        return _one_minus(1 - sums[:, 0] / sums[:, 1], 1 - chance)

    return _estimate(given, columns, kappa, how)


def alpha(given: Panel, scale: Scale = "nominal", how: Bootstrap | None = None) -> Estimate:
    """Return Krippendorff's alpha (2011); ordered scales use the labels' values."""
    if not given.units:
        return Estimate.undefined(_NOTHING)
    size = len(given.labels)
    order = np.argsort(given.values, kind="stable")
    counts, values = given.counts[:, order], given.values[order]
    pairs = counts[:, :, None] * counts[:, None, :] - np.eye(size) * counts[:, :, None]
    columns = (pairs / (counts.sum(axis=1) - 1)[:, None, None]).reshape(len(counts), size * size)

    def coefficient(sums: Floats) -> Floats:
        coincidences = sums.reshape(-1, size, size)
        total = coincidences.sum(axis=2)
        distance = _distances(total, values, scale)
        observed = (coincidences * distance).sum(axis=(1, 2))
        expected = (total[:, :, None] * total[:, None, :] * distance).sum(axis=(1, 2)) / (total.sum(axis=1) - 1)
        return _one_minus(observed, expected)

    return _estimate(given, columns, coefficient, how)


def cohen(given: Panel, weights: Weights = None, how: Bootstrap | None = None) -> Estimate:
    """Return Cohen's kappa over all pairs of annotators: 1 - (observed) / (expected disagreement), each summed.

    For two annotators it is Cohen's (1960; weighted 1968). For more it is the mean of the pairs' kappas, each weighed
    by the disagreement expected of it: a pair with few common units, or with one label only, weighs little or nothing.

    Args:
        given: the panel.
        weights: None = every disagreement is the same; linear or quadratic in the difference of the labels' values.
        how: of the interval.
    """
    if not given.units:
        return Estimate.undefined(_NOTHING)
    size, num = len(given.labels), len(given.names)
    cost = _costs(given.values, weights)
    pair, a, b, unit = given.meetings.T
    shape = (len(given.counts), num * size * size)
    columns = csr_array((np.ones(len(pair)), (unit, (pair * size + a) * size + b)), shape=shape)

    def kappa(sums: Floats) -> Floats:
        tables = sums.reshape(-1, num, size, size)
        observed = (tables * cost).sum(axis=(1, 2, 3))
        total = np.maximum(tables.sum(axis=(2, 3)), 1e-300)
        first, second = tables.sum(axis=3), tables.sum(axis=2)
        expected = (np.einsum("bpi,ij,bpj->bp", first, cost, second) / total).sum(axis=1)
        return _one_minus(observed, expected)

    return _estimate(given, columns, kappa, how)


@dataclass(frozen=True)
class Couple:
    """Two annotators."""

    first: Hashable
    second: Hashable
    shared: int
    """Units both judged."""
    agreed: float
    """Share of them with the same label."""
    kappa: float | None
    """Cohen's; None where one label explains everything."""


def couples(given: Panel) -> list[Couple]:
    """Return agreement of every two annotators, those with most common units first.

    Args:
        given: the panel; with mirror images kappa is symmetric and a unit still counts once.
    """
    size = len(given.labels)
    tables = np.zeros((len(given.names), size, size))
    np.add.at(tables, (given.meetings[:, 0], given.meetings[:, 1], given.meetings[:, 2]), 1.0)
    doubled = len(given.counts) // max(given.units, 1)
    cost = _costs(given.values, None)
    found: list[Couple] = []
    for (first, second), table in zip(given.names, tables, strict=True):
        n = float(table.sum())
        chance = float((cost * np.outer(table.sum(axis=1), table.sum(axis=0))).sum()) / n
        kappa = 1 - float((cost * table).sum()) / chance if chance > 0 else None
        found.append(Couple(first, second, round(n / doubled), float(np.trace(table)) / n, kappa))
    return sorted(found, key=lambda c: (-c.shared, str(c.first), str(c.second)))


def _agreed(given: Panel) -> Floats:
    """(units) share of agreeing pairs."""
    n = given.counts.sum(axis=1)
    return ((given.counts**2).sum(axis=1) - n) / (n * (n - 1))


def _costs(values: Floats, weights: Weights) -> Floats:
    gap = np.abs(np.subtract.outer(values, values))
    return {None: (gap > 0).astype(np.float64), "linear": gap, "quadratic": gap**2}[weights]


def _one_minus(observed: Floats, expected: Floats) -> Floats:
    """1 - observed / expected; nan where nothing is expected."""
    positive = expected > 1e-12
    return np.where(positive, 1 - observed / np.where(positive, expected, 1.0), np.nan)


def _distances(total: Floats, values: Floats, scale: Scale) -> Floats:
    """(resamples, labels, labels) squared distance of every two labels."""
    if scale == "nominal":
        return np.broadcast_to(1.0 - np.eye(len(values)), (len(total), len(values), len(values)))
    if scale == "ordinal":
        place = np.cumsum(total, axis=1) - total / 2
        return (place[:, :, None] - place[:, None, :]) ** 2
    gap = np.subtract.outer(values, values)
    if scale == "ratio":
        size = np.add.outer(values, values)
        gap = gap / np.where(size > 0, size, 1.0)
    return np.broadcast_to(gap**2, (len(total), len(values), len(values)))


def _estimate(given: Panel, columns: Any, statistic: Callable[[Floats], Floats], how: Bootstrap | None) -> Estimate:
    """Value and interval of a function of sums over units.

    A resample that happens to hold one label only has no coefficient; it counts as 1 at the upper end and as -1 at
    the lower, so that the interval can only become wider by it.
    """
    how = how or Bootstrap()
    value = float(statistic(np.asarray(columns.sum(axis=0), dtype=np.float64).reshape(1, -1))[0])
    if np.isnan(value):
        return Estimate.undefined(_ONE_LABEL, given.units)
    size = int(given.cluster.max()) + 1
    if size == 1:
        return Estimate(value, None, None, given.units, "a single prompt has no interval")
    rows = len(given.cluster)
    by_cluster = csr_array((np.ones(rows), (given.cluster, np.arange(rows))), shape=(size, rows)) @ columns
    rng = generator(how.seed, "bootstrap", "panel")
    found: list[Floats] = []
    step = max(1, 4_000_000 // (size + int(columns.shape[1])))  # bounds the memory
    for start in range(0, how.num, step):
        picks = rng.integers(0, size, size=(min(step, how.num - start), size))
        weight = np.stack([np.bincount(pick, minlength=size) for pick in picks]).astype(np.float64)
        found.append(statistic(np.asarray(weight @ by_cluster, dtype=np.float64)))
    drawn = np.concatenate(found)
    low, _ = percentiles(np.where(np.isnan(drawn), -1.0, drawn), how.level)
    _, high = percentiles(np.where(np.isnan(drawn), 1.0, drawn), how.level)
    return Estimate(value, low, high, given.units)
