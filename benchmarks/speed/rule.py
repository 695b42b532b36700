"""The reward of the on-policy contenders: a rule that costs nothing, so that only the trainers are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def vowels(prompts: Sequence[Any], completions: Sequence[str], **_: Any) -> list[float]:  # noqa: ARG001
    """Share of vowels among the characters of each reply; TRL's signature, which Accord takes too."""
    return [sum(c in "aeiou" for c in text) / max(1, len(text)) for text in completions]
