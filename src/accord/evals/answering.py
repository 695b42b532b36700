"""Who answers the prompts of an evaluation: a model on disk, a model behind a URL, or a file of earlier answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from accord.types import Prompt


class Answerer(Protocol):
    """Turns prompts into replies; batched, in the order of the prompts."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    @property
    def identity(self) -> str:
        """First 12 hex digits of a SHA-256 of what answers: files of the model, address and model name, or file."""
        ...

    def answer(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[str]]:
        """Return n replies a prompt.

        Args:
            prompts: conversations up to the reply.
            max_tokens: most tokens of a reply.
            temperature: 0 = greedy.
            seed: of the sampling; the same seed gives the same replies where the answerer can promise that.
            n: replies a prompt.
        """
        ...
