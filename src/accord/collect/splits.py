"""Which pairs of replies split the groups of annotators.

A pair splits the groups when its votes go with the group more than chance allows: an exact permutation test of the
votes of that pair, and a bound on the share of false findings over all pairs. Such tests are discrete: a pair on which
everybody agreed can never be found, so it does not count as a test either (Tarone 1990; Gilbert 2005).
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, lcm

import numpy as np
from numpy.typing import NDArray

from accord.collect.values import JudgedPair
from accord.rng import generator

_EXACT_VOTES = 40
"""With more votes on a pair its permutations are drawn instead of counted."""
_DRAWS = 9999


@dataclass(frozen=True)
class Split:
    """One pair of replies and how the groups see it."""

    pair: JudgedPair
    shares: Mapping[str, float]
    """Group -> share that prefers the first reply."""
    counts: Mapping[str, int]
    """Group -> votes."""
    p_value: float
    least: float
    """Smallest p-value that these numbers of votes could have given."""
    q_value: float
    """Smallest rate of false findings at which this pair is found."""

    @property
    def spread(self) -> float:
        """Largest difference of two groups' shares."""
        return max(self.shares.values()) - min(self.shares.values())

    @property
    def opposed(self) -> bool:
        """Whether two groups prefer different replies, not only one of them more clearly."""
        return min(self.shares.values()) < 0.5 < max(self.shares.values())


@dataclass(frozen=True)
class Splits:
    """All pairs that at least two groups judged, the most divided first."""

    pairs: tuple[Split, ...]
    rate: float
    """Bound on the expected share of false findings."""
    testable: int
    """Pairs whose votes could have shown a split."""

    @property
    def found(self) -> tuple[Split, ...]:
        """Pairs that split the groups."""
        return tuple(s for s in self.pairs if s.q_value <= self.rate)


def splits(pairs: Sequence[JudgedPair], *, rate: float = 0.05) -> Splits:
    """Find the pairs that split the groups.

    Args:
        pairs: what was said; only those judged by two groups or more can be tested.
        rate: bound on the expected share of pairs named here that do not split anybody.

    Returns:
        Pairs by rising q-value, then p-value, then falling spread.
    """
    tested: list[tuple[JudgedPair, dict[str, list[float]], float, float]] = []
    for pair in pairs:
        votes: dict[str, list[float]] = defaultdict(list)
        for ballot in pair.ballots:
            if ballot.group:
                votes[ballot.group].append(ballot.value)
        if len(votes) > 1:
            tested.append((pair, dict(sorted(votes.items())), *split_p_value(list(votes.values()))))
    q_values, testable = discrete_q_values([t[2] for t in tested], [t[3] for t in tested], rate)
    found = [
        Split(pair, {g: sum(v) / len(v) for g, v in votes.items()}, {g: len(v) for g, v in votes.items()}, p, least, q)
        for (pair, votes, p, least), q in zip(tested, q_values, strict=True)
    ]
    return Splits(tuple(sorted(found, key=lambda s: (s.q_value, s.p_value, -s.spread))), rate, testable)


def split_p_value(votes: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return (p-value, smallest possible p-value) of the votes of several groups on one pair.

    The statistic is the sum of squares between groups; the votes are permuted over the people, so no error rate has to
    be known. Up to 40 votes all permutations are counted.

    Args:
        votes: of each group, in [0, 1]; rounded to 0, 1/2 and 1.
    """
    halves = [[round(2 * v) for v in group] for group in votes if len(group)]
    sizes = tuple(sorted(len(g) for g in halves))
    unit = lcm(*sizes) if sizes else 1
    seen = sum(sum(g) ** 2 * (unit // len(g)) for g in halves)
    counts = Counter(v for g in halves for v in g)
    if sum(sizes) > _EXACT_VOTES:
        return _drawn_p_value(sizes, (counts[0], counts[1], counts[2]), seen)
    tail = _tail(sizes, counts[0], counts[1], counts[2])
    return tail[seen], tail[max(tail)]


def discrete_q_values(p_values: Sequence[float], least: Sequence[float], rate: float) -> tuple[list[float], int]:
    """Return q-values of discrete tests and how many of them count (Gilbert 2005, after Tarone 1990).

    Tests that cannot become significant are left out: with K the smallest number for which at most K tests have a
    smallest possible p-value of rate / K or less, Benjamini and Hochberg's procedure is applied to those tests.

    Args:
        p_values: of each test.
        least: smallest p-value that each test could have given; must not depend on the hypothesis.
        rate: bound on the expected share of false findings.
    """
    p, floor = np.asarray(p_values, dtype=np.float64), np.asarray(least, dtype=np.float64)
    k = next((k for k in range(1, p.size + 1) if int((floor <= rate / k).sum()) <= k), p.size)
    chosen = np.flatnonzero(floor <= rate / max(k, 1))
    q = np.ones(p.size)
    if chosen.size:
        order = chosen[np.argsort(p[chosen], kind="stable")]
        raw = p[order] * chosen.size / np.arange(1, chosen.size + 1)
        q[order] = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0)
    return [float(x) for x in q], int(chosen.size)


@lru_cache(maxsize=4096)
def _tail(sizes: tuple[int, ...], zeros: int, ones: int, twos: int) -> dict[int, float]:
    """Statistic -> probability of at least that, over all ways to deal the votes to groups of these sizes."""
    unit = lcm(*sizes) if sizes else 1
    states: dict[tuple[int, int, int], Counter[int]] = {(zeros, ones, twos): Counter({0: 1})}
    for size in sizes:
        following: dict[tuple[int, int, int], Counter[int]] = defaultdict(Counter)
        for (a, b, c), told in states.items():
            for x in range(min(a, size) + 1):
                for y in range(max(0, size - x - c), min(b, size - x) + 1):
                    z = size - x - y
                    ways = comb(a, x) * comb(b, y) * comb(c, z)
                    gain = (y + 2 * z) ** 2 * (unit // size)
                    target = following[a - x, b - y, c - z]
                    for value, number in told.items():
                        target[value + gain] += number * ways
        states = following
    (dealt,) = states.values()
    total, running = sum(dealt.values()), 0
    tail: dict[int, float] = {}
    for value in sorted(dealt, reverse=True):
        running += dealt[value]
        tail[value] = running / total
    return tail


def _drawn_p_value(sizes: tuple[int, ...], counts: tuple[int, int, int], seen: int) -> tuple[float, float]:
    """The same by drawing permutations, for many votes."""
    unit = lcm(*sizes)
    votes = np.repeat(np.array([0, 1, 2]), counts)
    ends = np.cumsum((0, *sizes[:-1]))
    scale: NDArray[np.int64] = np.array([unit // size for size in sizes])
    rng = generator(0, "values", "dealt", *sizes, *counts)
    extreme = 0
    for _ in range(_DRAWS):
        sums = np.add.reduceat(rng.permutation(votes), ends)
        extreme += int((sums**2 * scale).sum()) >= seen
    least = 1.0 if max(counts) == sum(counts) else 1 / (1 + _DRAWS)
    return (1 + extreme) / (1 + _DRAWS), least
