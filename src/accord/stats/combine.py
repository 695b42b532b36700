"""One label an item: majority with a named rule for ties, vote shares, or a model of the annotators by name."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np

from accord.rng import generator
from accord.stats.aggregation import dawid_skene
from accord.stats.agreement import Vote
from accord.stats.consensus import Consensus, glad, mace, one_coin
from accord.stats.em import encode

TiePolicy = Literal["tie", "drop", "adjudicate", "random"]
"""What a majority vote makes of equally many votes: a tie, nothing, a question to an adjudicator, or a seeded draw."""
Method = Literal["shares", "one_coin", "dawid_skene", "mace", "glad"]
"""How votes become probabilities."""

MIN_VOTES = 3
"""Votes an item (median over items judged at least twice) below which a confusion matrix is not identified."""
MIN_ITEMS = 20
"""Items an annotator (median) below which a confusion matrix of nine numbers is noise."""


@dataclass(frozen=True)
class Majority:
    """Result of a vote."""

    label: dict[Hashable, Hashable]
    """Item -> label; dropped items and those to adjudicate are not in it."""
    tied: tuple[Hashable, ...]
    """Items where several labels have most votes, whatever was done with them."""
    policy: TiePolicy
    """What was done with them."""

    @property
    def to_adjudicate(self) -> tuple[Hashable, ...]:
        """Items that wait for a person."""
        return tuple(item for item in self.tied if item not in self.label) if self.policy == "adjudicate" else ()


def majority_vote(
    votes: Iterable[Vote],
    policy: TiePolicy = "adjudicate",
    *,
    tie: Hashable = "tie",
    seed: int = 0,
    decided: Mapping[Hashable, Hashable] | None = None,
) -> Majority:
    """Return the label with most votes; the order of the votes never matters.

    Args:
        votes: (item, annotator, label).
        policy: for items where several labels have most votes. "tie" gives them the label `tie`, "drop" leaves them
            out, "adjudicate" leaves them out and lists them, "random" draws one of the leading labels.
        tie: the label of a tie.
        seed: of the draws. A draw depends on seed, item and leading labels only, not on other items.
        decided: item -> label that an adjudicator or gold has settled; it stands, whatever the votes.

    Raises:
        ValueError: if there is no such policy.
    """
    if policy not in get_args(TiePolicy):
        raise ValueError(f"no tie policy {policy!r}; choose one of {', '.join(get_args(TiePolicy))}")
    counts: defaultdict[Hashable, Counter[Hashable]] = defaultdict(Counter)
    for item, _, label in votes:
        counts[item][label] += 1
    settled = decided or {}
    label_of: dict[Hashable, Hashable] = {}
    tied: list[Hashable] = []
    for item, counter in counts.items():
        if item in settled:
            label_of[item] = settled[item]
            continue
        most = max(counter.values())
        leading = sorted(cast(Any, [label for label, n in counter.items() if n == most]), key=repr)
        if len(leading) == 1:
            label_of[item] = leading[0]
            continue
        tied.append(item)
        if policy == "tie":
            label_of[item] = tie
        elif policy == "random":
            draw = generator(seed, "majority", repr(item)).integers(len(leading))
            label_of[item] = leading[int(draw)]
    return Majority(label_of, tuple(tied), policy)


def vote_shares(
    votes: Iterable[Vote],
    *,
    labels: Sequence[Hashable] | None = None,
    gold: Mapping[Hashable, Hashable] | None = None,
    pseudo: float = 0.5,
) -> Consensus:
    """Return (votes + pseudo) / (all votes + pseudo * labels): Jeffreys' estimate at one half.

    It models no annotator: everybody counts the same. One vote of two labels gives 3/4, not certainty.

    Args:
        votes: (item, annotator, label).
        labels: all labels; None = the sorted labels that occur.
        gold: item -> its true label, which is certain.
        pseudo: imagined votes for each label.

    Raises:
        ValueError: if there are no votes, a label is unknown or `pseudo` is negative.
    """
    if pseudo < 0:
        raise ValueError(f"imagined votes must not be negative, got {pseudo}")
    ballots = encode(votes, labels, gold)
    counts = np.full((len(ballots.items), len(ballots.labels)), pseudo)
    np.add.at(counts, (ballots.item, ballots.label), 1.0)
    posterior = ballots.clamp(counts / counts.sum(axis=1, keepdims=True))
    agreed = ballots.by_annotator(posterior[ballots.item, ballots.label])
    skill = agreed / ballots.by_annotator(np.ones(len(ballots.who)))
    return Consensus("shares", ballots.items, ballots.annotators, ballots.labels, posterior, skill)


def combine(
    votes: Iterable[Vote],
    method: Method = "dawid_skene",
    *,
    labels: Sequence[Hashable] | None = None,
    gold: Mapping[Hashable, Hashable] | None = None,
    swap: Mapping[Hashable, Hashable] | None = None,
    smoothing: float = 1.0,
) -> Consensus:
    """Return what is believed about each item, under the model asked for or the simpler one the data allow.

    Args:
        votes: (item, annotator, label).
        method: see `Method`. With few votes an item or few items an annotator "dawid_skene" becomes "one_coin"; the
            result's `method` and `note` say so.
        labels: all labels; None = the sorted labels that occur.
        gold: item -> its true label.
        swap: see `dawid_skene`.
        smoothing: of the confusion matrices of "dawid_skene".

    Raises:
        ValueError: if there are no votes, a label is unknown or there is no such method.
    """
    given = list(votes)
    if method == "shares":
        return vote_shares(given, labels=labels, gold=gold)
    if method == "one_coin":
        return one_coin(given, labels=labels, gold=gold, swap=swap, spread="shares")
    if method == "mace":
        return mace(given, labels=labels, gold=gold, swap=swap).consensus
    if method == "glad":
        return glad(given, labels=labels, gold=gold).consensus
    if method != "dawid_skene":
        raise ValueError(f"no method {method!r}; choose one of {', '.join(get_args(Method))}")
    too_few = _too_few(given)
    if too_few:
        simple = one_coin(given, labels=labels, gold=gold, swap=swap, spread="shares")
        return replace(simple, note=f"one-coin instead of Dawid-Skene: {too_few}")
    full = dawid_skene(given, labels=labels, gold=gold, swap=swap, smoothing=smoothing, iterations=1000, tolerance=1e-8)
    return Consensus(
        "dawid_skene",
        full.items,
        full.annotators,
        full.labels,
        full.posterior,
        full.skill,
        full.log_likelihood,
        full.objective,
    )


def _too_few(votes: Sequence[Vote]) -> str:
    """Why confusion matrices cannot be learnt from these votes; empty if they can."""
    by_item = Counter(item for item, _, _ in votes)
    several = [n for n in by_item.values() if n > 1]
    if not several:
        return "no item was judged twice"
    votes_an_item = float(np.median(several))
    if votes_an_item < MIN_VOTES:
        return f"{votes_an_item:g} votes an item (median of those judged twice), {MIN_VOTES} are needed"
    shared = {item for item, n in by_item.items() if n > 1}
    items = Counter(who for item, who, _ in votes if item in shared)
    items_an_annotator = float(np.median([items[who] for who in {who for _, who, _ in votes}]))
    if items_an_annotator < MIN_ITEMS:
        return f"{items_an_annotator:g} shared items an annotator (median), {MIN_ITEMS} are needed"
    return ""
