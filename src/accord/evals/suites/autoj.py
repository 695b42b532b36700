"""Auto-J's test pairs: human verdicts with ties over 58 scenarios (Li et al. 2023, "Generative judge")."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from accord.data.rows import Row, RowError
from accord.evals.suites.base import GoldPair, Loaded, Report
from accord.evals.suites.pairs import agreement, longer_is_better, share
from accord.evals.suites.rows import load, text, whole
from accord.judges.base import Comparison
from accord.types import Message, Prompt

_GOLD = {0: 1.0, 1: 0.0, 2: 0.5}


def _pair(row: Row, where: str) -> GoldPair:
    label = whole(row, "label")
    if label not in _GOLD:
        raise RowError(f"column 'label' is {label}; expected 0 (response 1), 1 (response 2) or 2 (tie)")
    prompt = Prompt(id=where, messages=(Message(role="user", content=text(row, "prompt")),))
    a, b = text(row, "response 1", empty=True), text(row, "response 2", empty=True)
    scenario = row.get("scenario")
    return GoldPair(prompt, a, b, _GOLD[label], scenario if isinstance(scenario, str) else "", where)


class AutoJ:
    """The suite for judges and reward models."""

    name = "autoj"
    about = "pairs with human verdicts and ties over 58 scenarios; for judges and reward models"
    kind: Literal["pairs"] = "pairs"

    def pairs(self, path: Path) -> Loaded[GoldPair]:
        """Read the pairs."""
        return load(path, _pair, needs="prompt, 'response 1', 'response 2', label (0, 1, 2 = tie)")

    def score(
        self, pairs: Sequence[GoldPair], comparisons: Sequence[Comparison], *, judge: str, prompt_hash: str = ""
    ) -> Report:
        """Return accuracy without ties, how often ties are called ties, and Auto-J's agreement.

        Auto-J's agreement counts all pairs, ties too, and a verdict whose winner changes with the order as wrong.
        """
        rows = agreement(pairs, comparisons, judge=judge, prompt_hash=prompt_hash, on="Auto-J labels")
        if any(None not in c.by_order for c in comparisons):
            strict = [
                float(all(_says(p) == g.gold for p in c.by_order)) for g, c in zip(pairs, comparisons, strict=True)
            ]
            about = {"unit": "pairs", "judge": judge, "prompt_hash": prompt_hash}
            row = share("agreement in both orders, ties included", strict, **about)
            rows.append(row)
        rows.append(longer_is_better(pairs, on="Auto-J"))
        return Report(f"Auto-J, {judge}", tuple(rows))


def _says(p: float | None) -> float | None:
    return None if p is None else (p > 0.5) + 0.5 * (p == 0.5)
