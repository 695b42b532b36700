"""Several judgements of one pair of replies as one label, by the rule a config names.

| aggregate | label |
|---|---|
| none | every judgement stays |
| majority | the side with more votes; equal votes by `tie_policy` |
| soft | the mean vote |
| dawid_skene | what Dawid and Skene's model believes (one-coin where the data are too few, said in `notes`) |
| one_coin, mace, glad | what a model with one or two numbers a person believes; see `accord.stats.consensus` |
| annotator_bt | what Bradley-Terry with a skill and a side bias for everybody believes of the pair |
| weighted, group_mixture, worst_group | see `accord.collect.values` |

Judgements of rankings, and pairs that nobody ordered, are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from accord.collect.exporting.options import Combine
from accord.collect.labels import FIRST, SECOND, estimated_labels
from accord.collect.values import JudgedPair, PairKey, aggregate, judged_pairs, labelled, majority
from accord.data import soft_labels
from accord.data.aggregate import vote
from accord.stats.annotator_pairs import PairVote, annotator_pairs
from accord.stats.bt_posterior import Settings
from accord.stats.combine import Method
from accord.types import Preference


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
    if how.aggregate == "annotator_bt":
        return _annotator_bt(given, gold or {})
    if how.aggregate in ("dawid_skene", "one_coin", "mace", "glad"):
        return _estimated(given, how.aggregate, gold or {})
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


def _estimated(given: list[Preference], method: Method, gold: Mapping[PairKey, str]) -> Combined:
    pairs, _ = judged_pairs(given)
    known: dict[Hashable, Hashable] = {
        number: FIRST if gold[pair.key] == pair.first.candidates[0].text else SECOND
        for number, pair in enumerate(pairs)
        if pair.key in gold
    }
    made = estimated_labels(given, method, gold=known)
    notes = sorted({str(p.meta["note"]) for p in made if "note" in p.meta and "judgements" in p.meta})
    return Combined(tuple(made), len(given), notes=tuple(notes))


def _annotator_bt(given: list[Preference], gold: Mapping[PairKey, str]) -> Combined:
    """Fit one model to all pairs; who is good at one prompt is taken to be good at the others.

    Differences of strength are integrated out (`accord.stats.annotator_pairs`): a fit of strengths and skills together
    collapses where every pair is judged a few times and stands alone, which is what collected data look like.
    """
    pairs, others = judged_pairs(given)
    voted = [pair for pair in pairs if pair.ballots]
    votes = [row for number, pair in enumerate(voted) for row in _votes(number, pair)]
    rest = [p for pair in pairs if not pair.ballots for p in pair.judgements] + others
    if not votes:
        return Combined(tuple(rest), len(given))
    known = all(p.order_shown is not None for pair in voted for p in pair.judgements)
    found = annotator_pairs(
        votes,
        Settings() if known else Settings(side_sd=0.0),
        gold={n: gold[p.key] == p.first.candidates[0].text for n, p in enumerate(voted) if p.key in gold},
        clusters={number: pair.key[0] for number, pair in enumerate(voted)},
    )
    labels = [labelled(pair, found.soft[number], "annotator_bt") for number, pair in enumerate(voted)]
    note = () if known else ("nobody's side bias is modelled, since the order shown is not known of every judgement",)
    return Combined((*labels, *rest), len(given), notes=note)


def _votes(number: int, pair: JudgedPair) -> Iterator[PairVote]:
    """Votes on a pair, each about the reply that was shown first; the pair's first is that of its first judgement."""
    seen: set[str] = set()
    first = pair.first.candidates[0].text
    for place, p in enumerate(pair.judgements):
        value = vote(p)
        if value is None or p.annotator in seen:
            continue
        if p.annotator:
            seen.add(p.annotator)
        who = p.annotator or f"unnamed {number}/{place}"
        swapped = p.order_shown is not None and p.order_shown[0] == 1
        shown = p.candidates[1 if swapped else 0].text
        won = 1.0 if value > 0.5 else 0.0 if value < 0.5 else 0.5
        yield number, shown == first, who, 1 - won if swapped else won
