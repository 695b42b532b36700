"""Every two people who judged the same pair of replies, as arrays: 44,000 judgements meet 150,000 times."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accord.collect.values import JudgedPair
from accord.stats.arrays import Floats

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_BOTH_BAD = 2.0
"""Verdicts are numbers: the sign of the vote, or this."""


@dataclass(frozen=True)
class Meetings:
    """One entry a meeting in each array, in the order of the pairs."""

    people: tuple[str, ...]
    """In order of name."""
    groups: tuple[str, ...]
    """In order of name."""
    judgements: Ints
    """Of each group."""
    members: Ints
    """People of each group."""
    prompt: Ints
    """Number of the prompt."""
    who: Ints
    """[M, 2], places in `people`: by the order of their groups, in one group by name."""
    group: Ints
    """[M, 2], places in `groups`, ascending."""
    same: Bools
    """Whether they said the same."""
    product: Floats
    """Of their votes as +1 (the first reply), 0, -1."""

    def between(self, a: int, b: int) -> Bools:
        """Which are of group `a` with group `b`, a <= b."""
        return (self.group[:, 0] == a) & (self.group[:, 1] == b)

    @property
    def inside(self) -> Bools:
        """Which are of two people of one group."""
        return self.group[:, 0] == self.group[:, 1]


def meetings_of(pairs: Sequence[JudgedPair]) -> Meetings:
    """Let every two people meet on every pair that both judged.

    Args:
        pairs: what was said; people without a name or a group are left out, and of a person's judgements of a pair the
            first one counts.
    """
    prompts: dict[str, int] = {}
    said: list[tuple[str, str, float, float]] = []
    firsts: list[Ints] = []
    seconds: list[Ints] = []
    numbers: list[int] = []
    for pair in pairs:
        here = _said(pair)
        if len(here) > 1:
            first, second = np.triu_indices(len(here), k=1)
            firsts.append(first + len(said))
            seconds.append(second + len(said))
            numbers += [prompts.setdefault(pair.key[0], len(prompts))] * first.size
        said += here
    people, groups = sorted({s[0] for s in said}), sorted({s[1] for s in said})
    place, rank = ({name: i for i, name in enumerate(names)} for names in (people, groups))
    who = np.array([place[s[0]] for s in said], dtype=np.int64)
    group = np.array([rank[s[1]] for s in said], dtype=np.int64)
    verdict, vote = np.array([s[2:] for s in said], dtype=np.float64).reshape(-1, 2).T
    none = np.zeros(0, dtype=np.int64)
    one, two = (np.concatenate(part) if part else none for part in (firsts, seconds))
    ordered = group * len(people) + who
    swapped = ordered[one] > ordered[two]
    one, two = np.where(swapped, two, one), np.where(swapped, one, two)
    members = {(s[1], s[0]) for s in said}
    return Meetings(
        people=tuple(people),
        groups=tuple(groups),
        judgements=np.bincount(group, minlength=len(groups)),
        members=np.bincount(np.array([rank[g] for g, _ in members], dtype=np.int64), minlength=len(groups)),
        prompt=np.array(numbers, dtype=np.int64),
        who=np.stack([who[one], who[two]], axis=1),
        group=np.stack([group[one], group[two]], axis=1),
        same=verdict[one] == verdict[two],
        product=vote[one] * vote[two],
    )


def _said(pair: JudgedPair) -> list[tuple[str, str, float, float]]:
    """(person, group, verdict, vote as +1, 0, -1) of each named person of a group, once."""
    found: dict[str, tuple[str, str, float, float]] = {}
    votes = {b.annotator: 2.0 * b.value - 1.0 for b in pair.ballots}
    for p in pair.judgements:
        if not p.annotator or not p.group or p.annotator in found:
            continue
        vote = 0.0 if p.both_bad else votes.get(p.annotator, 0.0)
        verdict = _BOTH_BAD if p.both_bad else (vote > 0) - (vote < 0)
        found[p.annotator] = (p.annotator, p.group, verdict, vote)
    return list(found.values())
