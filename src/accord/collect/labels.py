"""Soft labels from a model of the annotators: P(first reply is better), given everybody's votes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from accord.collect.values import JudgedPair, judged_pairs, labelled
from accord.stats.combine import Method, combine
from accord.types import Preference

FIRST, SECOND, TIE = "first", "second", "tie"
SWAP: dict[Hashable, Hashable] = {FIRST: SECOND, SECOND: FIRST, TIE: TIE}
"""What a verdict becomes when the replies change places; which one is called the first means nothing."""


def votes_of(pairs: Iterable[JudgedPair]) -> list[tuple[int, str, str]]:
    """(number of the pair, annotator, verdict about its first reply) of every vote, for the estimators in `stats`.

    Args:
        pairs: what was said. People without a name are told apart by pair, since nothing else is known of them.
    """
    found: list[tuple[int, str, str]] = []
    for number, pair in enumerate(pairs):
        for place, ballot in enumerate(pair.ballots):
            verdict = FIRST if ballot.value > 0.5 else SECOND if ballot.value < 0.5 else TIE
            found.append((number, ballot.annotator or f"unnamed {number}/{place}", verdict))
    return found


def estimated_labels(
    preferences: Iterable[Preference],
    method: Method = "dawid_skene",
    *,
    gold: Mapping[Hashable, Hashable] | None = None,
) -> list[Preference]:
    """Merge the judgements of each pair into P(first is better) under a model of who can be trusted.

    A tie counts half: p = P(first) + P(tie) / 2.

    Args:
        preferences: judgements in any order; rankings, and pairs that nobody ordered, are passed on as they are.
        method: `stats.combine.Method`; with few votes a pair Dawid-Skene becomes one-coin, which `meta` says.
        gold: number of a pair (in order of first appearance) -> its true verdict about the first judgement's first
            reply.

    Returns:
        One preference a pair, in order of first appearance.
    """
    pairs, others = judged_pairs(preferences)
    votes = votes_of(pairs)
    if not votes:
        return [p for pair in pairs for p in pair.judgements] + others
    # A label that nobody gave would only take its part of the wrong votes away from the other reply.
    tied = any(verdict == TIE for _, _, verdict in votes)
    believed = combine(votes, method, labels=(FIRST, SECOND, TIE) if tied else (FIRST, SECOND), gold=gold, swap=SWAP)
    place = {item: row for row, item in enumerate(believed.items)}
    note = {"note": believed.note} if believed.note else {}
    found: list[Preference] = []
    for number, pair in enumerate(pairs):
        if number not in place:
            found += pair.judgements
            continue
        first, second = (float(x) for x in believed.posterior[place[number], :2])
        found.append(labelled(pair, min(max((1 + first - second) / 2, 0.0), 1.0), believed.method, extra=note))
    return found + others
