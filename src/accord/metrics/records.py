"""What the glossary says about a number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One number in metrics.jsonl; the texts are Markdown."""

    unit: str
    """"-" where there is none."""
    meaning: str
    """What is computed, over what."""
    healthy: str
    """Values to expect, and what others mean."""


@dataclass(frozen=True)
class Section:
    """Metrics of stages that log the same; a name may mean something else in another section."""

    title: str
    """Which stages."""
    metrics: dict[str, Metric]
    """By name; `<...>` stands for a part that varies."""
    about: str = ""
    """Markdown above the table."""
    note: str = ""
    """Markdown below it."""
