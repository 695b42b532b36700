"""What an export holds and how it is written."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from accord.collect.rules import Aggregate
from accord.collect.settings import TiePolicy
from accord.types import Record

Kind = Literal["preferences", "pairs", "rankings", "unpaired", "demonstrations", "annotations"]
FileFormat = Literal["jsonl", "parquet", "dataset", "hh"]


class Combine(Record):
    """How several judgements of one pair become one label."""

    aggregate: Aggregate = "none"
    """none: every judgement is a row. soft: the mean vote. See docs/collecting.md for the others."""
    tie_policy: TiePolicy = "tie"
    """majority: what equal votes become."""
    weights: dict[str, float] | None = None
    """weighted: annotator -> weight; who is not named has 1."""
    population: dict[str, float] | None = None
    """group_mixture: group -> share; None = all alike."""
    seed: int = 0
    """Of random ties and of the estimators."""


class ExportOptions(Record):
    """Which labels, in which form, and what the data card says."""

    combine: Combine = Combine()
    slice: Literal["all", "random", "active"] = "all"
    """Only tasks drawn at random, or only those chosen by a policy."""
    purpose: Literal["label", "evaluation", "all"] = "label"
    gold: bool = False
    """Include hidden test items."""
    repeats: bool = False
    """Include swapped repeats, which are no second opinion."""
    edits: bool = True
    """pairs: an edited reply is better than its original."""
    margins: bool = True
    """pairs: strength as `margin`."""
    models: bool = True
    """Say which model wrote which reply."""
    threshold: float = Field(default=4.0, ge=1, le=7)
    """unpaired: ratings above are thumbs up, below thumbs down; equal ones are left out and counted."""
    splits: dict[str, float] = Field(default_factory=lambda: {"train": 1.0})
    """Name -> share of the prompts; a prompt is never in two."""
    seed: int = 0
    """Decides which prompts go where."""
    license: str = "other"
    """SPDX-like id for the card, e.g. cc-by-4.0."""
    title: str = ""
    """Of the card; empty = the project's name."""
    language: tuple[str, ...] = ()
    """Two-letter codes for the card."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        total = sum(self.splits.values())
        if not self.splits or any(share <= 0 for share in self.splits.values()) or abs(total - 1) > 1e-9:
            raise ValueError("splits are positive and sum to 1")
        if any(not name.isidentifier() for name in self.splits):
            raise ValueError("a split's name has letters, digits and _ only")
        return self
