"""HHH: helpful, honest, harmless comparisons labelled by people (Askell et al. 2021; the file of Bai et al. 2022).

A row has the two conversations (`text_correct`, `text_incorrect`) and the same as a question with two options
(`prompt`, `corrects`), which goes to `meta["multiple_choice"]` and `meta["answer"]` of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from accord.data.conversations import parse_transcript
from accord.data.rows import Row, RowError
from accord.evals.suites.base import GoldPair, Loaded, Report
from accord.evals.suites.pairs import agreement, longer_is_better
from accord.evals.suites.rows import load, text, texts
from accord.judges.base import Comparison
from accord.types import Message, Prompt


def _pair(row: Row, where: str) -> GoldPair:
    conversation, better = _split(row, "text_correct")
    _, worse = _split(row, "text_incorrect")
    meta: dict[str, Any] = {"where": where}
    if "prompt" in row and "corrects" in row:
        meta["multiple_choice"] = text(row, "prompt")
        meta["answer"] = texts(row, "corrects")[0].strip(" ()")
    subset = next((str(row[name]) for name in ("subset", "category") if isinstance(row.get(name), str)), "")
    return GoldPair(Prompt(id=where, messages=conversation, meta=meta), better, worse, 1.0, subset, where)


def _split(row: Row, column: str) -> tuple[tuple[Message, ...], str]:
    messages = parse_transcript(text(row, column), f"column '{column}'")
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise RowError(f"column '{column}' must be a conversation that ends with the assistant")
    return messages[:-1], messages[-1].content


class Hhh:
    """The suite for judges and reward models."""

    name = "hhh"
    about = "helpful, honest, harmless comparisons; for judges and reward models"
    kind: Literal["pairs"] = "pairs"

    def pairs(self, path: Path) -> Loaded[GoldPair]:
        """Read the comparisons; the correct reply is a."""
        return load(path, _pair, needs="text_correct and text_incorrect")

    def score(
        self, pairs: Sequence[GoldPair], comparisons: Sequence[Comparison], *, judge: str, prompt_hash: str = ""
    ) -> Report:
        """Return accuracy, by subset where the file has them."""
        rows = agreement(pairs, comparisons, judge=judge, prompt_hash=prompt_hash, on="HHH labels")
        rows.append(longer_is_better(pairs, on="HHH"))
        return Report(f"HHH, {judge}", tuple(rows))
