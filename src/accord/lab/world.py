"""The invented world: who and what there is, the facts that are stated, and what nobody ever states.

The world is the same in every run (its own constant seed); the seeds given to the generators only choose what
is said about it. Everything is small enough for a model of a million parameters to learn in a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np

from accord.rng import generator, permutation

WORLD_SEED = 20
Split = Literal["train", "eval", "probe"]
SPLITS: dict[Split, tuple[float, float]] = {"train": (0.0, 0.7), "eval": (0.7, 0.9), "probe": (0.9, 1.0)}

TOWNS = ("Orla", "Vesk", "Tamor", "Belin", "Quill", "Harn", "Sorrel")
PEOPLE = ("Mira", "Tobin", "Anka", "Jory", "Pella", "Rudd", "Sela")
STRANGERS = ("Zeph", "Kollo", "Umber", "Yara", "Fenn", "Gilda", "Marlo", "Thist")
"""Names that occur in stories but of which no fact is ever stated."""
ENTITIES = TOWNS + PEOPLE + STRANGERS

VALUES: dict[str, tuple[str, ...]] = {
    "river": ("Zan", "Kel", "Moss", "Ivar", "Teal", "Rook", "Sable", "Wick"),
    "food": ("bread", "soup", "cheese", "fish", "rice", "beans", "plums", "honey"),
    "flag": ("red", "blue", "green", "white", "black", "yellow", "grey", "brown"),
    "job": ("baker", "miller", "smith", "weaver", "painter", "farmer", "sailor", "teacher"),
    "pet": ("cat", "dog", "goat", "horse", "duck", "mouse", "owl", "fox"),
    "drink": ("tea", "milk", "water", "cider", "coffee", "juice", "beer", "cocoa"),
}
"""The attributes that are stated and the values they can have."""
TOWN_ATTRIBUTES = ("river", "food", "flag")
PERSON_ATTRIBUTES = ("job", "pet", "drink")
SECRETS = ("age", "secret", "song", "wish", "weight")
"""Attributes that are never stated for anybody: questions about them cannot be answered honestly."""

WORDS = ("moon", "stone", "tree", "cloud", "lamp", "door", "wheel", "leaf", "chair", "bell", "coin", "sand")
"""The words that text tasks are about."""
WEATHERS = ("sunny", "rainy", "windy", "foggy", "cold", "warm")
GOODS = ("wool", "rope", "salt", "lamps", "boots", "nails", "coal", "maps", *VALUES["food"], *VALUES["drink"])
NUMBERS = tuple(str(n) for n in range(19))

T = TypeVar("T")


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """Return one of `items`: the draw of ``rng.choice(items)`` without an array, ten times faster."""
    return items[int(rng.integers(len(items)))]


def cumulative(shares: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the distribution function of `shares`, for `pick_weighted`."""
    summed = np.cumsum(np.asarray(shares, dtype=np.float64))
    return summed / summed[-1]


def pick_weighted(rng: np.random.Generator, distribution: np.ndarray) -> int:
    """Return a place drawn from what `cumulative` made: the draw of ``rng.choice(len(shares), p=shares)``."""
    return int(distribution.searchsorted(rng.random(), side="right"))


@lru_cache(maxsize=1)
def facts() -> dict[tuple[str, str], str]:
    """Return the stated facts as {(entity, attribute): value}."""
    rng = generator(WORLD_SEED, "lab/facts")
    table: dict[tuple[str, str], str] = {}
    for entities, attributes in ((TOWNS, TOWN_ATTRIBUTES), (PEOPLE, PERSON_ATTRIBUTES)):
        for attribute in attributes:
            for entity in entities:
                table[entity, attribute] = str(rng.choice(VALUES[attribute]))
    return table


@lru_cache(maxsize=1)
def sums() -> dict[tuple[int, str, int], int]:
    """Return the arithmetic of the world as {(left, "plus" | "minus", right): result}, all results >= 0."""
    table = {(a, "plus", b): a + b for a in range(6) for b in range(6)}
    table.update({(a, "minus", b): a - b for a in range(6) for b in range(a + 1)})
    return table


def share(items: list[T], split: Split, name: str) -> list[T]:
    """Return the part of `items` in `split`: about 70 % train, 20 % eval, 10 % probe, disjoint."""
    order = permutation(len(items), WORLD_SEED, "lab/split", name)
    low, high = (round(bound * len(items)) for bound in SPLITS[split])
    return [items[i] for i in sorted(order[low:high])]
