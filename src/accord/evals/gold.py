"""The lab's known truth as judge: what every other judge is measured against."""

from __future__ import annotations

from collections.abc import Sequence

from accord import lab
from accord.errors import DataError
from accord.judges.base import Comparison, Rating
from accord.types import Prompt


class GoldJudge:
    """Prefers the reply with the higher gold utility; see `accord.judges.base.Judge`."""

    name = "lab:gold"
    prompt_hash = ""
    """Nothing is asked."""

    def compare(self, items: Sequence[tuple[Prompt, str, str]]) -> list[Comparison]:
        """1, 0.5 or 0 by utility.

        Raises:
            DataError: a prompt is not one of the lab.
        """
        utilities = [_utility(prompt, reply) for prompt, a, b in items for reply in (a, b)]
        pairs = zip(utilities[::2], utilities[1::2], strict=True)
        return [Comparison(0.5 if a == b else float(a > b)) for a, b in pairs]

    def rate(self, items: Sequence[tuple[Prompt, str]]) -> list[Rating]:
        """Utilities.

        Raises:
            DataError: a prompt is not one of the lab.
        """
        return [Rating(_utility(prompt, reply)) for prompt, reply in items]


def _utility(prompt: Prompt, reply: str) -> float:
    if not lab.is_lab(prompt):
        raise DataError(
            "the lab knows the truth about its own prompts only", where=f"prompt {prompt.id}", fix="name another judge"
        )
    return lab.score(prompt, reply).utility
