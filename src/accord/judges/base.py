"""What a judge is: something that compares two replies, or rates one, and says when it could not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from accord.types import Prompt


@dataclass(frozen=True)
class Comparison:
    """What a judge said of two replies a and b to one prompt."""

    p: float | None
    """Probability that a is the better one, orders averaged (0.5 = tie); None = no order gave a readable verdict."""
    by_order: tuple[float | None, float | None] = (None, None)
    """Probability that *a* is better with a shown first, and with b shown first; None = unreadable or not asked."""
    error: str = ""
    """Why something is None."""

    @property
    def consistent(self) -> bool | None:
        """Whether both orders name the same winner; None where one of them is missing."""
        first, second = self.by_order
        return (
            None
            if first is None or second is None
            else (first > 0.5) == (second > 0.5) and ((first < 0.5) == (second < 0.5))
        )


@dataclass(frozen=True)
class Rating:
    """What a judge said of one reply."""

    value: float | None
    """On the judge's own scale, more = better; None = unreadable."""
    error: str = ""
    """Why it is None."""


class Judge(Protocol):
    """Compares and rates; batched, in the order of what it is given. Conformance: tests/fakes.py."""

    @property
    def name(self) -> str:
        """For tables: model or kind."""
        ...

    @property
    def prompt_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of everything that decides what is asked (templates, model, sampling)."""
        ...

    def compare(self, items: Sequence[tuple[Prompt, str, str]]) -> list[Comparison]:
        """Compare replies a and b to each prompt."""
        ...

    def rate(self, items: Sequence[tuple[Prompt, str]]) -> list[Rating]:
        """Rate one reply to each prompt."""
        ...
