"""What an attack asks for: seed requests, and harmless twins that tell a careful model from one that refuses all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml
from pydantic import Field

from accord.errors import DataError
from accord.types import Message, Prompt, Record

OWN = "accord"
"""Source of the seeds in the package."""


class Seed(Record):
    """One request, harmful or harmless."""

    id: str
    text: str
    harmful: bool
    """Whether a careful model declines it; False = it should be answered (over-refusal is measured on these)."""
    category: str
    """Of `taxonomy`, or "other"."""
    twin: str = ""
    """Id of its counterpart, where there is one."""
    source: str = ""
    """Data set it comes from."""
    group: str = ""
    """Seeds with the same group are wordings of one thing and are counted as one cluster; "" = its own."""
    meta: dict[str, Any] = Field(default_factory=dict)
    """What a judge needs to know of it (the truth of a lab prompt); copied into the prompts made from it."""

    @property
    def cluster(self) -> str:
        """What intervals resample."""
        return self.group or self.id

    def prompt(self, messages: Sequence[Message] = (), suffix: str = "") -> Prompt:
        """The prompt with these turns; none = the request as it is."""
        turns = tuple(messages) or (Message(role="user", content=self.text),)
        return Prompt(id=f"{self.id}{suffix}", messages=turns, meta=self.meta)


def short_hash(*parts: str) -> str:
    """First 12 hex digits of the SHA-256 of `parts`."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:12]


@lru_cache(maxsize=1)
def own_seeds() -> tuple[Seed, ...]:
    """Return the seeds of the package, each harmful request followed by its harmless twin."""
    text = resources.files("accord.redteam").joinpath("seeds.yaml").read_text(encoding="utf-8")
    raw: dict[str, list[list[str]]] = yaml.safe_load(text)
    made: list[Seed] = []
    for category, pairs in raw.items():
        for number, (bad, good) in enumerate(pairs):
            name = f"{category}-{number}"
            common: dict[str, Any] = {"category": category, "source": OWN}
            made.append(Seed(id=name, text=bad, harmful=True, twin=f"{name}-twin", **common))
            made.append(Seed(id=f"{name}-twin", text=good, harmful=False, twin=name, **common))
    return tuple(made)


def check_seeds(seeds: Sequence[Seed], where: str = "seeds") -> None:
    """Refuse seeds of which nothing can be measured.

    Raises:
        DataError: there are none, or an id occurs twice.
    """
    if not seeds:
        raise DataError("there are no seeds", where=where, fix="give a file with at least one request")
    ids: set[str] = set()
    for seed in seeds:
        if seed.id in ids:
            raise DataError(f"the id '{seed.id}' occurs twice", where=where, fix="give every seed an id of its own")
        ids.add(seed.id)


def seeds_hash(seeds: Sequence[Seed]) -> str:
    """Name the seeds by their content, whatever their order."""
    return short_hash(*sorted(f"{s.id}\x1e{s.text}\x1e{s.harmful}" for s in seeds))
