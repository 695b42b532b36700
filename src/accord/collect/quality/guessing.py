"""Who judges as if guessing, by hidden tests and by what others say of the same pairs.

What others say is a likelihood ratio: a person w with a preference, right with probability s_w where there is a right
reply, speaks for that reply with log odds log(s_w / (1 - s_w)). Two who contradict each other cancel out, somebody who
guesses adds nothing, and an adversary counts the other way round. The s_w come from all such votes together and from
the hidden tests (one-coin model on the two replies; `accord.stats.consensus.one_coin`). Ties and both bad are left
out: in a model with four verdicts a wrong vote would be spread over the other three, and every vote would count for
three times the odds it has.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from scipy.special import expit

from accord.collect.quality.judged import FIRST, SECOND, SWAP, Judged, Judgement
from accord.stats.consensus import one_coin
from accord.stats.sequential import Decision, GoldTest, sequential_evidence

GOOD_ON_GOLD, GOOD_ON_ORDINARY = 0.85, 0.75
"""How often good annotators are right. Hidden tests are clear cases. On ordinary pairs two people agree in 63 to 77 %
of cases, which those do who are right with 0.75 to 0.87 each: q^2 + (1 - q)^2."""
GUESSING = GoldTest(bad=0.5, good=GOOD_ON_ORDINARY, false_block=0.015)
"""Of the 2 % of good people who may be blamed, a quarter is left for what the test takes as given and is estimated or
not so: how often the others are right, and that new people get hidden tests whatever they answered before."""
HORIZON = 60
"""Judgements at which it is decided, hidden tests, repeats, ties and pairs nobody else judged among them."""


def guessing(given: Sequence[Judgement], right: Mapping[tuple[str, int], float]) -> Decision:
    """Return whether somebody judges as if guessing.

    Args:
        given: the person's judgements, in the order they were given.
        right: from `others_say`.

    Returns:
        "fail" = as if guessing, wrong for at most 2 % of those who are right with `GOOD_ON_GOLD` and
        `GOOD_ON_ORDINARY`; "pass" = not; "continue" = these judgements cannot tell.
    """
    beliefs = [belief(j, right) for j in given]
    good = [GOOD_ON_ORDINARY if _told(j) is None else GOOD_ON_GOLD for j in given]
    return sequential_evidence(beliefs, GUESSING, good=good, horizon=HORIZON)


def others_say(data: Judged) -> dict[tuple[str, int], float]:
    """Return for each vote for one of the replies the probability that it is right, by what the other people said.

    Pairs without a vote of somebody else for one of the replies are left out.

    Args:
        data: the judgements.
    """
    skills = _skills(data)
    votes: defaultdict[int, list[tuple[str, str, float]]] = defaultdict(list)
    for pair, who, verdict in data.votes:
        if verdict in SWAP and who in skills:
            votes[pair].append((who, verdict, math.log(skills[who] / (1 - skills[who]))))
    found: dict[tuple[str, int], float] = {}
    for pair, given in votes.items():
        if len(given) < 2:
            continue
        first = sum(weight if verdict == FIRST else -weight for _, verdict, weight in given)
        for who, verdict, weight in given:
            mine = first if verdict == FIRST else -first
            found[who, pair] = float(expit(mine - weight))
    return found


def belief(j: Judgement, right: Mapping[tuple[str, int], float]) -> float:
    """Return the probability that a judgement is right; 1/2 where nobody knows. Hidden tests know.

    A repeat says nothing here. Whoever is right with 0.75 and errs by chance contradicts himself in 38 % of repeats, a
    guesser in half of them: two or three repeats in 60 judgements cannot tell them apart.

    Args:
        j: the judgement.
        right: from `others_say`.
    """
    if j.repeat:
        return 0.5
    told = _told(j)
    return right.get((j.annotator, j.pair), 0.5) if told is None else float(told)


def _skills(data: Judged) -> dict[str, float]:
    """Probability of being right where there is a right reply and a preference, of everybody met by others or tests."""
    told = {(j.pair, j.annotator): right for j in data.judgements if not j.repeat and (right := _told(j)) is not None}
    tests = {pair for pair, _ in told}
    met: defaultdict[int, list[tuple[int, str, str]]] = defaultdict(list)
    for pair, who, verdict in data.votes:
        if verdict in SWAP and pair not in tests:
            met[pair].append((pair, who, verdict))
    votes = [vote for given in met.values() if len(given) > 1 for vote in given]
    # Which reply a hidden test was about does not matter, only whether it was found.
    votes += [(pair, who, FIRST if right else SECOND) for (pair, who), right in told.items()]
    if not votes:
        return {}
    found = one_coin(votes, labels=(FIRST, SECOND), swap=SWAP, gold=dict.fromkeys(tests, FIRST))
    return {str(who): skill for who, skill in found.skills.items()}


def _told(j: Judgement) -> bool | None:
    """Whether a hidden test was answered right; None where there was none."""
    told = j.preference.meta.get("gold_right")
    return told if isinstance(told, bool) else None
