"""Do groups of annotators want different things: agreement within the groups and between them.

Two people disagree because they err and because they want different things. To see the second, people of one group are
held against people of two, with whole people permuted over the groups; and since careful and careless groups differ in
that as well, the correlation of two groups is also divided by what the noise within each leaves of it (Spearman 1904):
1 = the same values.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from accord.collect.values import JudgedPair
from accord.rng import generator
from accord.stats.arrays import Floats, cluster_index, percentiles, resamples
from accord.stats.intervals import Interval, bootstrap_mean


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


def group_agreement(pairs: Sequence[JudgedPair], *, seed: int = 0) -> list[GroupAgreement]:
    """Return agreement within each group and with the others, groups in order of name.

    Args:
        pairs: what was said; people without a name or a group are left out.
        seed: of the bootstrap over prompts.
    """
    meetings = _meetings(pairs)
    people: dict[str, set[str]] = defaultdict(set)
    judgements: Counter[str] = Counter()
    for pair in pairs:
        for annotator, group, _, _ in _said(pair):
            people[group].add(annotator)
            judgements[group] += 1
    return [
        GroupAgreement(
            group,
            len(people[group]),
            judgements[group],
            _share([m for m in meetings if m.groups == (group, group)], seed),
            _share([m for m in meetings if m.groups[0] != m.groups[1] and group in m.groups], seed),
        )
        for group in sorted(people)
    ]


def contrast(pairs: Sequence[JudgedPair], *, seed: int = 0, num: int = 2000) -> Contrast:
    """Hold agreement within groups against agreement between them.

    Every meeting of two people on a pair counts once. A difference says that the group matters, by values or by care:
    a careful and a careless group differ too. `likeness` tells the two apart.

    Args:
        pairs: what was said; people without a name or a group are left out.
        seed: of bootstrap and permutations.
        num: of either.
    """
    meetings = _meetings(pairs)
    inside = [m for m in meetings if m.groups[0] == m.groups[1]]
    across = [m for m in meetings if m.groups[0] != m.groups[1]]
    within, between = _share(inside, seed), _share(across, seed)
    if within is None or between is None:
        missing = "two people of one group" if within is None else "people of two groups"
        return Contrast(within, between, None, None, f"no pair was judged by {missing}")
    kind = np.array([m.groups[0] == m.groups[1] for m in meetings])
    same = np.array([float(m.same) for m in meetings])
    prompts = cluster_index([m.prompt for m in meetings], len(meetings))
    size = int(prompts.max()) + 1
    sums = [np.bincount(prompts, weights=w, minlength=size) for w in (same * kind, kind, same * ~kind, ~kind)]
    drawn = [_difference(*(float(weight @ s) for s in sums)) for weight in resamples(size, num, seed, "contrast")]
    kept = [d for d in drawn if d is not None]
    low, high = percentiles(kept, 0.95) if size > 1 else (float("-inf"), float("inf"))
    value = within.value - between.value
    return Contrast(
        within, between, Interval(value, low, high, len(meetings)), _permuted(meetings, value, seed, num), ""
    )


def likeness(pairs: Sequence[JudgedPair], *, seed: int = 0, num: int = 1000) -> list[Likeness]:
    """Return how alike every two groups are.

    A vote is +1, -1 or 0 (tie). With c_gh the mean product of the votes of a person of g and another of h on the same
    pair, `shared` is c_gh / sqrt(c_gg c_hh); it does not matter how careful either group is, nor which reply is first.

    Args:
        pairs: what was said.
        seed: of the bootstrap over prompts.
        num: resamples.
    """
    by_groups: dict[tuple[str, str], list[_Meeting]] = defaultdict(list)
    for meeting in _meetings(pairs):
        by_groups[meeting.groups].append(meeting)
    names = sorted({g for groups in by_groups for g in groups})
    found: list[Likeness] = []
    for a, b in combinations(names, 2):
        parts = [by_groups.get(key, []) for key in ((a, b), (a, a), (b, b))]
        found.append(Likeness(a, b, _share(parts[0], seed), _shared(parts, seed, num)))
    return found


@dataclass(frozen=True)
class _Meeting:
    """Two people who judged the same pair."""

    prompt: str
    people: tuple[str, str]
    groups: tuple[str, str]
    """In order of name."""
    same: bool
    product: float
    """Of the votes as +1, 0, -1."""


def _said(pair: JudgedPair) -> list[tuple[str, str, str, float]]:
    """(person, group, verdict, vote as +1, 0, -1) of each named person of a group, once."""
    found: dict[str, tuple[str, str, str, float]] = {}
    votes = {b.annotator: 2.0 * b.value - 1.0 for b in pair.ballots}
    for p in pair.judgements:
        if not p.annotator or not p.group or p.annotator in found:
            continue
        vote = 0.0 if p.both_bad else votes.get(p.annotator, 0.0)
        verdict = "both bad" if p.both_bad else "tie" if vote == 0 else "first" if vote > 0 else "second"
        found[p.annotator] = (p.annotator, p.group, verdict, vote)
    return list(found.values())


def _meetings(pairs: Iterable[JudgedPair]) -> list[_Meeting]:
    found: list[_Meeting] = []
    for pair in pairs:
        for a, b in combinations(_said(pair), 2):
            one, two = (a, b) if (a[1], a[0]) <= (b[1], b[0]) else (b, a)
            groups = (one[1], two[1])
            found.append(_Meeting(pair.key[0], (one[0], two[0]), groups, one[2] == two[2], one[3] * two[3]))
    return found


def _share(meetings: Sequence[_Meeting], seed: int) -> Interval | None:
    if not meetings:
        return None
    return bootstrap_mean([float(m.same) for m in meetings], [m.prompt for m in meetings], seed=seed)


def _difference(agreed: float, met: float, agreed_across: float, met_across: float) -> float | None:
    return agreed / met - agreed_across / met_across if met and met_across else None


def _permuted(meetings: Sequence[_Meeting], value: float, seed: int, num: int) -> float:
    """P(difference at least as large) when whole people change groups; one that cannot be computed counts against."""
    group_of = {who: g for m in meetings for who, g in zip(m.people, m.groups, strict=True)}
    people = sorted(group_of)
    place = {who: i for i, who in enumerate(people)}
    agreed, met = np.zeros((2, len(people), len(people)))
    for m in meetings:
        i, j = place[m.people[0]], place[m.people[1]]
        agreed[i, j] += m.same
        met[i, j] += 1
    names = sorted(set(group_of.values()))
    groups = np.array([names.index(group_of[who]) for who in people])
    rng = generator(seed, "values", "permutations")
    extreme = 0
    for _ in range(num):
        drawn = rng.permutation(groups)
        kind = drawn[:, None] == drawn[None, :]
        found = _difference(
            float(agreed[kind].sum()), float(met[kind].sum()), float(agreed[~kind].sum()), float(met[~kind].sum())
        )
        extreme += found is None or found >= value - 1e-12
    return (1 + extreme) / (1 + num)


def _shared(parts: Sequence[Sequence[_Meeting]], seed: int, num: int) -> Interval | None:
    """Corrected correlation with its bootstrap interval; None where the noise within a group leaves nothing."""
    if not all(parts):
        return None
    number: dict[str, int] = {}
    for m in (m for part in parts for m in part):
        number.setdefault(m.prompt, len(number))
    sums = np.zeros((3, 2, len(number)))
    for k, part in enumerate(parts):
        for m in part:
            sums[k, :, number[m.prompt]] += (m.product, 1.0)

    def ratio(weight: Floats) -> float:
        total = sums @ weight
        if np.any(total[:, 1] == 0):
            return float("nan")
        across, first, second = total[:, 0] / total[:, 1]
        return float(across / np.sqrt(first * second)) if first > 0 and second > 0 else float("nan")

    value = ratio(np.ones(len(number)))
    if np.isnan(value):
        return None
    drawn = np.array([ratio(weight) for weight in resamples(len(number), num, seed, "shared")])
    low, _ = percentiles(np.where(np.isnan(drawn), -np.inf, drawn), 0.95)
    _, high = percentiles(np.where(np.isnan(drawn), np.inf, drawn), 0.95)
    return Interval(value, low, high, len(parts[0]))
