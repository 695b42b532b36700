"""Do groups of annotators want different things: agreement within the groups and between them.

Two people disagree because they err and because they want different things. To see the second, people of one group are
held against people of two, with whole people permuted over the groups; and since careful and careless groups differ in
that as well, the correlation of two groups is also divided by what the noise within each leaves of it (Spearman 1904):
1 = the same values.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from accord.collect.meetings import Bools, Meetings, meetings_of
from accord.collect.values import JudgedPair
from accord.rng import generator
from accord.stats.arrays import Floats, cluster_index, percentiles, resamples
from accord.stats.intervals import Interval, bootstrap_means


@dataclass(frozen=True)
class GroupAgreement:
    """How far people agree with their own group and with the others."""

    group: str
    people: int
    judgements: int
    within: Interval | None
    """Two people of the group say the same about a pair; None when no pair was judged by two of them."""
    between: Interval | None
    """One of the group and one of another say the same."""


@dataclass(frozen=True)
class Contrast:
    """Agreement within groups against agreement between them, over all groups."""

    within: Interval | None
    between: Interval | None
    difference: Interval | None
    """Within minus between, the interval by a bootstrap over prompts; 0 = the group tells nothing."""
    p_value: float | None
    """One-sided, whole people permuted over the groups."""
    reason: str
    """Why something is None."""


@dataclass(frozen=True)
class Likeness:
    """How alike two groups are."""

    first: str
    second: str
    agreement: Interval | None
    """One person of each says the same about a pair."""
    shared: Interval | None
    """Correlation of their votes, corrected for the noise within each: 1 = the same values, 0 = unrelated ones."""


def group_agreement(
    pairs: Sequence[JudgedPair], *, seed: int = 0, meetings: Meetings | None = None
) -> list[GroupAgreement]:
    """Return agreement within each group and with the others, groups in order of name.

    Args:
        pairs: what was said; people without a name or a group are left out.
        seed: of the bootstrap over prompts.
        meetings: of these pairs, when they are at hand.
    """
    met = meetings_of(pairs) if meetings is None else meetings
    numbers = range(len(met.groups))
    within = _shares(met, [met.between(g, g) for g in numbers], seed)
    between = _shares(met, [~met.inside & (met.group == g).any(axis=1) for g in numbers], seed)
    return [
        GroupAgreement(name, int(met.members[g]), int(met.judgements[g]), within[g], between[g])
        for g, name in enumerate(met.groups)
    ]


def contrast(
    pairs: Sequence[JudgedPair], *, seed: int = 0, num: int = 2000, meetings: Meetings | None = None
) -> Contrast:
    """Hold agreement within groups against agreement between them.

    Every meeting of two people on a pair counts once. A difference says that the group matters, by values or by care:
    a careful and a careless group differ too. `likeness` tells the two apart.

    Args:
        pairs: what was said; people without a name or a group are left out.
        seed: of bootstrap and permutations.
        num: of either.
        meetings: of these pairs, when they are at hand.
    """
    met = meetings_of(pairs) if meetings is None else meetings
    kind = met.inside
    within, between = _shares(met, [kind, ~kind], seed)
    if within is None or between is None:
        missing = "two people of one group" if within is None else "people of two groups"
        return Contrast(within, between, None, None, f"no pair was judged by {missing}")
    same, count = met.same.astype(np.float64), int(met.same.size)
    prompts = cluster_index(met.prompt, count)
    size = int(prompts.max()) + 1
    sums = [np.bincount(prompts, weights=w, minlength=size) for w in (same * kind, kind, same * ~kind, ~kind)]
    drawn = [_difference(*(float(weight @ s) for s in sums)) for weight in resamples(size, num, seed, "contrast")]
    kept = [d for d in drawn if d is not None]
    low, high = percentiles(kept, 0.95) if size > 1 else (float("-inf"), float("inf"))
    value = within.value - between.value
    return Contrast(within, between, Interval(value, low, high, count), _permuted(met, value, seed, num), "")


def likeness(
    pairs: Sequence[JudgedPair], *, seed: int = 0, num: int = 1000, meetings: Meetings | None = None
) -> list[Likeness]:
    """Return how alike every two groups are.

    A vote is +1, -1 or 0 (tie). With c_gh the mean product of the votes of a person of g and another of h on the same
    pair, `shared` is c_gh / sqrt(c_gg c_hh); it does not matter how careful either group is, nor which reply is first.

    Args:
        pairs: what was said.
        seed: of the bootstrap over prompts.
        num: resamples.
        meetings: of these pairs, when they are at hand.
    """
    met = meetings_of(pairs) if meetings is None else meetings
    # Groups that met nobody are unknown here, as they always were.
    two = list(combinations(sorted({int(g) for g in met.group.ravel()}), 2))
    agreed = _shares(met, [met.between(a, b) for a, b in two], seed)
    return [
        Likeness(met.groups[a], met.groups[b], share, _shared(met, [(a, b), (a, a), (b, b)], seed, num))
        for (a, b), share in zip(two, agreed, strict=True)
    ]


def _shares(met: Meetings, parts: Sequence[Bools], seed: int) -> list[Interval | None]:
    """How often people say the same in each part of the meetings; None for a part that is empty."""
    known = [k for k, part in enumerate(parts) if part.any()]
    samples = [(met.same[parts[k]], met.prompt[parts[k]]) for k in known]
    found = dict(zip(known, bootstrap_means(samples, seed=seed), strict=True))
    return [found.get(k) for k in range(len(parts))]


def _difference(agreed: float, met: float, agreed_across: float, met_across: float) -> float | None:
    return agreed / met - agreed_across / met_across if met and met_across else None


def _permuted(met: Meetings, value: float, seed: int, num: int) -> float:
    """P(difference at least as large) when whole people change groups; one that cannot be computed counts against."""
    present, who = np.unique(met.who, return_inverse=True)
    who = who.reshape(-1, 2)
    size = int(present.size)
    cells = who[:, 0] * size + who[:, 1]
    agreed = np.bincount(cells, weights=met.same, minlength=size * size).reshape(size, size)
    counted = np.bincount(cells, minlength=size * size).reshape(size, size)
    group_of = np.zeros(size, dtype=np.int64)
    group_of[who.ravel()] = met.group.ravel()  # of someone with several the last
    groups = np.unique(group_of, return_inverse=True)[1]
    rng = generator(seed, "values", "permutations")
    extreme = 0
    for _ in range(num):
        drawn = rng.permutation(groups)
        kind = drawn[:, None] == drawn[None, :]
        found = _difference(*(float(table[chosen].sum()) for chosen in (kind, ~kind) for table in (agreed, counted)))
        extreme += found is None or found >= value - 1e-12
    return (1 + extreme) / (1 + num)


def _shared(met: Meetings, groups: Sequence[tuple[int, int]], seed: int, num: int) -> Interval | None:
    """Corrected correlation with its bootstrap interval; None where the noise within a group leaves nothing."""
    parts = [met.between(a, b) for a, b in groups]
    if not all(part.any() for part in parts):
        return None
    prompts = cluster_index(np.concatenate([met.prompt[part] for part in parts]), sum(int(p.sum()) for p in parts))
    size = int(prompts.max()) + 1
    sums = np.zeros((3, 2, size))
    ends = np.cumsum([part.sum() for part in parts])[:-1]
    for k, (part, own) in enumerate(zip(parts, np.split(prompts, ends), strict=True)):
        sums[k, 0] = np.bincount(own, weights=met.product[part], minlength=size)
        sums[k, 1] = np.bincount(own, minlength=size)

    def ratio(weight: Floats) -> float:
        total = sums @ weight
        if np.any(total[:, 1] == 0):
            return float("nan")
        across, first, second = total[:, 0] / total[:, 1]
        return float(across / np.sqrt(first * second)) if first > 0 and second > 0 else float("nan")

    value = ratio(np.ones(size))
    if np.isnan(value):
        return None
    drawn = np.array([ratio(weight) for weight in resamples(size, num, seed, "shared")])
    unknown = np.isnan(drawn)
    if np.mean(unknown) > 0.025:  # any of them may lie beyond either end
        return Interval(value, -np.inf, np.inf, int(parts[0].sum()))
    low, _ = percentiles(np.where(unknown, np.nanmin(drawn), drawn), 0.95)
    _, high = percentiles(np.where(unknown, np.nanmax(drawn), drawn), 0.95)
    return Interval(value, low, high, int(parts[0].sum()))
