"""Several judgements of one pair of replies as one label, by the rule a config names.

| aggregate | label |
|---|---|
| none | every judgement stays |
| majority | the side with more votes; equal votes by `tie_policy` |
| soft | the mean vote |
| dawid_skene | what Dawid and Skene's model believes (one-coin where the data are too few, said in `notes`) |
| annotator_bt | Bradley-Terry with a skill and a side bias for everybody: sigmoid of the replies' difference |
| weighted, group_mixture, worst_group | see `accord.collect.values` |

Judgements of rankings, and pairs that nobody ordered, are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from accord.collect.exporting.options import Combine
from accord.collect.values import JudgedPair, PairKey, aggregate, judged_pairs, labelled, majority
from accord.data import soft_labels
from accord.stats.combine import combine as believe
from accord.types import Preference

FIRST, SECOND, TIE = "first", "second", "tie"
_SWAP: dict[Hashable, Hashable] = {FIRST: SECOND, SECOND: FIRST}


@dataclass(frozen=True)
class Combined:
    """Labels and what a reader has to know about them."""

    labels: tuple[Preference, ...]
    judgements: int
    """How many judgements they were made of."""
    undecided: tuple[str, ...] = ()
    """majority: ids of the first judgement of each pair left out because votes were equal."""
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked, in sentences."""


def combine(preferences: Iterable[Preference], how: Combine, *, gold: Mapping[PairKey, str] | None = None) -> Combined:
    """Merge judgements by the rule `how` names.

    Args:
        preferences: judgements in any order.
        how: the rule.
        gold: pair -> text of the reply known to be better; teaches the estimators what annotators are worth.
    """
    given = list(preferences)
    if how.aggregate == "none":
        return Combined(tuple(given), len(given))
    if how.aggregate == "soft":
        return Combined(tuple(soft_labels(given)), len(given))
    if how.aggregate == "majority":
        return _majority(given, how)
    if how.aggregate in ("dawid_skene", "annotator_bt"):
        return _estimated(given, how, gold or {})
    rule = how.aggregate
    made = aggregate(given, rule, weights=how.weights, population=how.population, seed=how.seed)
    return Combined(tuple(made), len(given))


def _majority(given: list[Preference], how: Combine) -> Combined:
    policy = "drop" if how.tie_policy == "adjudicate" else how.tie_policy
    made = aggregate(given, "majority", ties=policy, seed=how.seed)
    equal: list[str] = []
    if policy == "drop":
        pairs, _ = judged_pairs(given)
        equal = [p.first.id for p in pairs if p.ballots and majority([b.value for b in p.ballots]) == 0.5]
    notes = [f"{len(equal)} pairs with equal votes are left out"] if equal else []
    if equal and how.tie_policy == "adjudicate":
        notes = [f"{len(equal)} pairs with equal votes wait for an adjudicator and are left out"]
    return Combined(tuple(made), len(given), tuple(equal), tuple(notes))


def _estimated(given: list[Preference], how: Combine, gold: Mapping[PairKey, str]) -> Combined:
    pairs, others = judged_pairs(given)
    voted = [pair for pair in pairs if pair.ballots]
    unordered = [p for pair in pairs if not pair.ballots for p in pair.judgements]
    if not voted:
        return Combined((*unordered, *others), len(given))
    if how.aggregate == "dawid_skene":
        beliefs, method, notes = _dawid_skene(voted, gold)
    else:
        beliefs, method, notes = _annotator_bt(voted)
    labels = [labelled(pair, p, method) for pair, p in zip(voted, beliefs, strict=True)]
    return Combined((*labels, *unordered, *others), len(given), notes=notes)


def _dawid_skene(pairs: Sequence[JudgedPair], gold: Mapping[PairKey, str]) -> tuple[list[float], str, tuple[str, ...]]:
    votes: list[tuple[int, str, str]] = []
    for number, pair in enumerate(pairs):
        for place, ballot in enumerate(pair.ballots):
            said = TIE if ballot.value == 0.5 else FIRST if ballot.value > 0.5 else SECOND
            # People without a name are different people.
            votes.append((number, ballot.annotator or f"unnamed {number}/{place}", said))
    names = (FIRST, SECOND, TIE) if any(said == TIE for _, _, said in votes) else (FIRST, SECOND)
    known: dict[Hashable, Hashable] = {
        number: FIRST if gold[pair.key] == pair.first.candidates[0].text else SECOND
        for number, pair in enumerate(pairs)
        if pair.key in gold
    }
    found = believe(votes, "dawid_skene", labels=names, gold=known, swap=_SWAP)
    place = {item: row for row, item in enumerate(found.items)}
    worth = [1.0, 0.0, 0.5][: len(names)]
    beliefs = [
        min(max(float(sum(w * p for w, p in zip(worth, found.posterior[place[n]], strict=True))), 0.0), 1.0)
        for n in range(len(pairs))
    ]
    return beliefs, found.method, (found.note,) if found.note else ()


def _annotator_bt(pairs: Sequence[JudgedPair]) -> tuple[list[float], str, tuple[str, ...]]:
    raise NotImplementedError(f"{len(pairs)} pairs")
