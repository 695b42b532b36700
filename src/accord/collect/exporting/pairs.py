"""Pairs with a better and a worse reply, out of verdicts of every kind.

A ranking of K replies becomes a pair for every two it orders, each with weight 1 / C(K, 2), so that a prompt with many
replies does not outvote the others (Ouyang et al. 2022, 2203.02155, section 3.5).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accord.data import ordered_pairs
from accord.types import Preference


@dataclass(frozen=True)
class Pairs:
    """Pairs, and what has no place among them."""

    pairs: tuple[Preference, ...]
    """Two candidates each, the better one first; `meta.weight`, and `meta.ranking` for pairs of one ranking."""
    ties: int
    """Verdicts left out because no reply is better."""
    both_bad: int
    """Verdicts left out because both are bad."""


def ordered(preferences: Iterable[Preference]) -> Pairs:
    """Return the pairs that verdicts order.

    Args:
        preferences: judgements or combined labels; their order is kept.
    """
    found: list[Preference] = []
    ties = both_bad = 0
    for p in preferences:
        orders = ordered_pairs(p)
        ties += not orders and not p.both_bad
        both_bad += p.both_bad
        found += [_pair(p, better, worse, single=len(orders) == 1) for better, worse in orders]
    return Pairs(tuple(found), ties, both_bad)


def _pair(p: Preference, better: int, worse: int, *, single: bool) -> Preference:
    number = len(p.candidates)
    meta = {**p.meta, "weight": 2 / (number * (number - 1))}
    if number > 2:
        meta["ranking"] = p.id
    shown = None
    if p.order_shown is not None:
        shown = (0, 1) if p.order_shown.index(better) < p.order_shown.index(worse) else (1, 0)
    return Preference(
        id=p.id if single else f"{p.id}/{better}-{worse}",
        prompt=p.prompt,
        candidates=(p.candidates[better], p.candidates[worse]),
        choice=0,
        soft=None if p.soft is None else p.soft if better == 0 else 1 - p.soft,
        strength=p.strength if number == 2 else None,
        annotator=p.annotator,
        group=p.group,
        source=p.source,
        order_shown=shown,
        seconds=p.seconds,
        meta=meta,
    )


def ranks(p: Preference) -> list[int] | None:
    """Return the rank of every candidate, 0 the best, equal for ties; None when the verdict ranks nothing.

    Both bad is no ranking: the replies may still differ.
    """
    number = len(p.candidates)
    if p.both_bad:
        return None
    if p.ranking is not None:
        place = {index: level for level, group in enumerate(p.ranking) for index in group}
        return [place[index] for index in range(number)]
    if p.tie or p.soft == 0.5:
        return [0] * number
    best = p.choice if p.choice is not None else int((p.soft or 0.0) < 0.5)
    return [int(index != best) for index in range(number)]
