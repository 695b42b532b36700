"""Categories of harm: names of our own, with those that MLCommons, garak and public data sets use for them."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from accord.types import Record

OTHER = "other"
"""Category of requests whose source says nothing that the taxonomy knows."""


class Category(Record):
    """One category of harm."""

    name: str
    title: str
    """For tables."""
    mlcommons: tuple[str, ...]
    """Hazard codes of AILuminate 1.0."""
    garak: tuple[str, ...]
    """Codes of garak's intents."""
    words: tuple[str, ...]
    """Pieces of the names that public sets give it, lower case."""


@lru_cache(maxsize=1)
def taxonomy() -> dict[str, Category]:
    """Return all categories by name, in the order of the file `taxonomy.yaml`."""
    text = resources.files("accord.redteam").joinpath("taxonomy.yaml").read_text(encoding="utf-8")
    raw: dict[str, Any] = yaml.safe_load(text)
    return {name: Category(name=name, **fields) for name, fields in raw.items()}


def title_of(category: str) -> str:
    """Name of a category for people; unknown ones as they are."""
    known = taxonomy().get(category)
    return known.title if known else category.replace("_", " ").capitalize()


def categorise(*names: str) -> str:
    """Return the category that a foreign name means: an exact code, or the one with the longest word found in it.

    Args:
        names: what a data set calls the harm, most specific first ("Illegal activities", "cybercrime_intrusion").

    Returns:
        A category's name, or `OTHER`.
    """
    for lower in (name.lower() for name in names):
        best, length = OTHER, 0
        for category in taxonomy().values():
            codes = {category.name, *category.mlcommons, *(code.lower() for code in category.garak)}
            if lower in codes:
                return category.name
            found = max((len(word) for word in category.words if word in lower), default=0)
            if found > length:
                best, length = category.name, found
        if length:
            return best
    return OTHER
