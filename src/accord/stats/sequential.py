"""Sequential test of an annotator: block, pass, or keep watching, after every answer whose truth is known.

A fixed threshold either lets guessing through or blocks good people: "8 of 10" passes 5 % of coin-flippers and fails
18 % of annotators who are right 85 % of the time. The test here is Wald's (1945, "Sequential tests of statistical
hypotheses"): the likelihood ratio of a bad against a good annotator, looked at after every answer. By Ville's
inequality the chance that it ever exceeds `1/a` for a good annotator is at most `a`, however long one watches.

Deviations from Wald:
1. Passing does not end the watch. Whoever passed can still be blocked later; the bound above allows for it.
2. The ratio gets half of the allowed error. The other half goes to one decision at `horizon` answers, where those with
   few right answers are blocked. Without it one coin-flipper in thirteen is still undecided after 60 answers; with it
   one in forty.
3. An answer may be right with a probability (other people's votes instead of gold); see `evidence`. How much such an
   answer can say depends on the others and not on the annotator, so the decision at the horizon is made given just
   these answers: its error rates are computed exactly for each person, whatever they were asked.

How the error is divided between ratio and horizon hardly matters: a path that reaches the ratio's bound nearly always
ends above the cut too. Spending next to nothing of it early finds 0.1 points more of those who guess, and adversaries
four answers later.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from accord.stats.arrays import Floats, vector

Decision = Literal["pass", "fail", "continue"]
"""Good enough to work on, to be blocked, or not known yet."""

_UNIT = 1 / 128
"""Nats: evidence is counted in these when the decision at a horizon of uncertain answers is computed. The rounded
evidence is what is decided on, so that nothing is approximate."""
_WATCHED = 20
"""Horizons over which the chance of blocking a good annotator is added up; afterwards it is below 1e-6 a horizon."""


@dataclass(frozen=True)
class GoldTest:
    """What the test has to tell apart, and how often it may be wrong."""

    bad: float = 0.5
    """Share of right answers of an annotator to be blocked: guessing between two. Worse ones are found sooner."""
    good: float = 0.75
    """Share of right answers of an annotator to be kept. Better ones are blocked less often."""
    false_block: float = 0.02
    """Chance of ever blocking an annotator who is right with probability `good`."""
    false_pass: float = 0.05
    """Chance that the ratio passes one who is right with probability `bad`."""
    horizon: int = 60
    """Answers after which nobody is undecided."""

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if not 0 < self.bad < self.good < 1:
            raise ValueError(f"bad and good must be 0 < bad < good < 1, got {self.bad} and {self.good}")
        if not (0 < self.false_block < 1 and 0 < self.false_pass < 1) or self.horizon < 1:
            raise ValueError("error rates must be between 0 and 1 and the horizon at least 1")


@dataclass(frozen=True)
class Operating:
    """What the test does with an annotator of known quality, computed exactly."""

    blocked: float
    """Probability of "fail" within that many answers."""
    passed: float
    """Probability that the latest decision is "pass"."""
    undecided: float
    """The rest."""
    answers_to_block: float
    """Mean number of answers of those who were blocked; nan if nobody can be."""


def sequential_gold(right: int, total: int, test: GoldTest | None = None) -> Decision:
    """Decide about an annotator; ask again after every answer to a gold item.

    Args:
        right: right answers so far.
        total: answers so far.
        test: what to tell apart; None = guessing (1/2) against 3/4, blocking at most 2 % of the latter.

    Returns:
        "fail" = block, "pass" = good enough so far (a later "fail" is possible), "continue" = not known yet.

    Raises:
        ValueError: if there are more right answers than answers, or a negative number.
    """
    if not 0 <= right <= total:
        raise ValueError(f"{right} right answers of {total}")
    test = test or GoldTest()
    if right <= _bound(test, total):
        return "fail"
    ratio = right * math.log(test.bad / test.good) + (total - right) * math.log((1 - test.bad) / (1 - test.good))
    return "pass" if total >= test.horizon or ratio <= math.log(test.false_pass) else "continue"


def evidence(right: ArrayLike, test: GoldTest | None = None, *, good: ArrayLike | None = None) -> float:
    """Return the log-likelihood ratio of a bad against a good annotator; above 0 speaks for bad.

    Where gold is rare, other people's votes on the same items say something too. An answer that agrees with what is
    probably true is weak evidence, and one that is as likely right as wrong is none.

    Args:
        right: for each answer the probability that it is right: 1 or 0 on gold, else what the *other* annotators'
            votes say. With the annotator's own vote in it, a bad one looks better than they are.
        test: see `sequential_gold`.
        good: for each answer how often a good annotator is right, where items differ; None = `test.good`.

    Returns:
        In nats; 0 without answers.

    Raises:
        ValueError: if a probability is outside [0, 1], or `good` has another length.
    """
    test = test or GoldTest()
    return float(_ratio(*_checked(right, test, good), test).sum())


def sequential_evidence(
    right: ArrayLike, test: GoldTest | None = None, *, good: ArrayLike | None = None, horizon: int | None = None
) -> Decision:
    """Decide from answers that are right with some probability, by Wald's two bounds on `evidence`.

    Args:
        right: as for `evidence`, in the order of the answers; 1/2 where nobody knows anything.
        test: see `sequential_gold`; its `horizon` counts gold answers and plays no part here.
        good: as for `evidence`.
        horizon: number of answers at which it is decided: half of `false_block` goes to the ratio and half to one
            decision there, as on gold. None = no such decision, and all of it goes to the ratio.

    Returns:
        See `sequential_gold`. "fail" stays: it is as if the test had been made after every answer. From the horizon on
        "continue" means that the answers said too little: of those who are right with `bad`, more than `false_pass`
        would not be found by them.
    """
    test = test or GoldTest()
    known, skill = _checked(right, test, good)
    path = np.cumsum(_ratio(known, skill, test))
    passed = bool(path.size) and path[-1] <= math.log(test.false_pass)
    if horizon is None or path.size < horizon:
        bound = -math.log(test.false_block if horizon is None else test.false_block / 2)
        return "fail" if np.any(path >= bound) else "pass" if passed else "continue"
    last = _at_horizon(known[:horizon], skill[:horizon], test)
    if last.failed or np.any(path[horizon:] >= last.bound):
        return "fail"
    return "pass" if passed or last.missed <= test.false_pass else "continue"


def operating(skill: float, answers: int, test: GoldTest | None = None) -> Operating:
    """Compute what `sequential_gold` does with an annotator, exactly and without simulation.

    Args:
        skill: probability of a right answer.
        answers: gold items answered.
        test: see `sequential_gold`.

    Returns:
        Probabilities of the decisions after so many answers.
    """
    test = test or GoldTest()
    blocked, alive = _walk(skill, answers, [_bound(test, t) for t in range(answers + 1)])
    passed = sum(float(p) for right, p in enumerate(alive) if p > 0 and sequential_gold(right, answers, test) == "pass")
    total = float(blocked.sum())
    mean = float(blocked @ np.arange(answers + 1)) / total if total > 0 else float("nan")
    return Operating(total, passed, max(0.0, 1.0 - total - passed), mean)


def _checked(right: ArrayLike, test: GoldTest, good: ArrayLike | None) -> tuple[Floats, Floats]:
    """(answers) probability that each is right, and that a good annotator's is."""
    p = vector(right)
    skill = np.full(p.shape, test.good) if good is None else vector(good)
    if np.any((p < 0) | (p > 1)) or np.any((skill <= test.bad) | (skill >= 1)):
        raise ValueError("the probability of a right answer must be between 0 and 1, that of a good one above `bad`")
    if p.shape != skill.shape:
        raise ValueError(f"{p.size} answers but {skill.size} probabilities of a good annotator")
    return p, skill


def _ratio(p: Floats, skill: Floats, test: GoldTest) -> Floats:
    """Log-likelihood ratio of bad against good of an answer that is right with probability p."""
    return np.log(_likely(test.bad, p) / _likely(skill, p))


def _likely(skill: Floats | float, p: Floats) -> Floats:
    """Probability that an annotator of this skill gives an answer that is right with probability p, of two."""
    return skill * p + (1 - skill) * (1 - p)


@dataclass(frozen=True)
class _Last:
    """The decision at the horizon."""

    failed: bool
    """The evidence reached the ratio's bound before, or the cut at the end."""
    bound: float
    """The ratio's bound, nats."""
    missed: float
    """Share of annotators right with `bad` whom the test does not find by just these items."""


def _at_horizon(known: Floats, skill: Floats, test: GoldTest) -> _Last:
    """Decide on these answers, by the distribution of the evidence of annotators who are given just these items.

    What an item can say (the larger of the probabilities that either answer is right) does not depend on the annotator.
    The evidence after each answer of good annotators (row 0) and bad ones (row 1) is walked through on a grid of
    `_UNIT`; who reaches the ratio's bound leaves it. The cut is the smallest that blocks at most `false_block` of good
    ones in all: those who left, those at or above the cut, and those the ratio may block later. The chance of the
    last is that of being missed, if bad, times exp(-bound), since evidence is the ratio of the two densities.
    """
    bound = -math.log(test.false_block / 2)
    top = math.ceil(bound / _UNIT)
    sure = np.maximum(known, 1 - known)
    steps = np.rint(np.array([_ratio(sure, skill, test), _ratio(1 - sure, skill, test)]) / _UNIT).astype(int)
    taken = np.array([_likely(skill, sure), _likely(test.bad, sure)])
    low = int(steps[0].sum())
    size = top - low
    alive: Floats = np.zeros((2, size))
    alive[:, -low] = 1.0
    for (down, up), chance in zip(steps.T, taken.T, strict=True):
        moved: Floats = np.zeros((2, size))
        moved[:, : size + down] = chance[:, None] * alive[:, -down:]
        moved[:, up:] += (1 - chance)[:, None] * alive[:, : max(size - up, 0)]
        alive = moved
    below = np.concatenate([np.zeros((2, 1)), alive.cumsum(axis=1)], axis=1)
    blocked = 1 - below[0] + math.exp(-bound) * below[1]
    cut = int(np.argmax(blocked <= test.false_block + 1e-12))
    path = np.cumsum(np.where(known >= 0.5, steps[0], steps[1]))
    failed = bool(np.any(path >= top) or path[-1] >= low + cut)
    return _Last(failed, bound, float(below[1, cut]))


def _bound(test: GoldTest, total: int) -> int:
    """Right answers of `total` at and below which an annotator is blocked; -1 = none."""
    line = _line(test, total)
    return max(line, _cut(test)) if total >= test.horizon else line


def _line(test: GoldTest, total: int) -> int:
    """The likelihood ratio's bound at half of the allowed error, in right answers."""
    per_wrong = math.log((1 - test.bad) / (1 - test.good))
    per_right = math.log(test.bad / test.good)
    return max(-1, math.floor((total * per_wrong + math.log(test.false_block / 2)) / (per_wrong - per_right) + 1e-9))


@lru_cache(maxsize=32)
def _cut(test: GoldTest) -> int:
    """The largest bound at the horizon that keeps the chance of blocking a good annotator within `false_block`."""
    lines = [_line(test, t) for t in range(_WATCHED * test.horizon + 1)]
    cut = lines[test.horizon]
    while cut < test.horizon:
        bounds = [max(line, cut + 1) if t >= test.horizon else line for t, line in enumerate(lines)]
        if float(_walk(test.good, len(lines) - 1, bounds)[0].sum()) > test.false_block:
            break
        cut += 1
    return cut


def _walk(skill: float, answers: int, bounds: list[int]) -> tuple[Floats, Floats]:
    """(answers + 1) probability of being blocked at each answer, and of each number of right answers if not."""
    alive: Floats = np.zeros(answers + 2)
    alive[0] = 1.0
    blocked: Floats = np.zeros(answers + 1)
    for t in range(1, answers + 1):
        moved = alive * (1 - skill)
        moved[1:] += alive[:-1] * skill
        stop = bounds[t] + 1
        blocked[t] = moved[:stop].sum()
        moved[:stop] = 0.0
        alive = moved
    return blocked, alive
