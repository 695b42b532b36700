"""LLMBar: does a judge see which reply follows the instruction, where the other one looks better? (Zeng et al. 2023)

Reads the original `dataset.json` (pairs with labels) and `result.json` (with the raw verdicts of an evaluator in both
orders). `published_statistics` gives what the authors' `statistics.json` holds, with what is odd in it:

- two verdicts that could not be read count as equal;
- `kappa_False`, `kappa_True`, `kappa_average` compare verdicts in which "2" was turned into 0 with labels 1 and 2 (the
  code accepts "0" and "1" only), so even GPT-4 gets 0.27. `kappa_agreement` is not touched by that where all verdicts
  could be read. The report has the kappas of the verdicts themselves beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accord import stats
from accord.data.rows import Row, RowError
from accord.evals.measured import Measured
from accord.evals.suites.base import GoldPair, Loaded, Report
from accord.evals.suites.pairs import agreement, longer_is_better
from accord.evals.suites.rows import field, load, text, whole
from accord.judges.base import Comparison
from accord.types import Message, Prompt

Winner = Literal["1", "2"]
_NEEDS = "input, output_1, output_2, label (1 or 2)"


@dataclass(frozen=True)
class JudgedPair:
    """A pair with an evaluator's verdicts."""

    pair: GoldPair
    """With its label."""
    winners: tuple[Winner | None, Winner | None]
    """The better output by its number, in the given order and swapped; None = unreadable."""

    @property
    def comparison(self) -> Comparison:
        """As probabilities that output 1 is better."""
        p = tuple(None if winner is None else float(winner == "1") for winner in self.winners)
        read = [x for x in p if x is not None]
        return Comparison(sum(read) / len(read) if read else None, (p[0], p[1]))


def _pair(row: Row, where: str) -> GoldPair:
    label = whole(row, "label")
    if label not in (1, 2):
        raise RowError(f"column 'label' is {label}; expected 1 or 2")
    prompt = Prompt(id=where, messages=(Message(role="user", content=text(row, "input")),))
    a, b = text(row, "output_1", empty=True), text(row, "output_2", empty=True)
    subset = row.get("subset")
    return GoldPair(prompt, a, b, float(label == 1), subset if isinstance(subset, str) else "", where)


def read_pairs(path: Path) -> Loaded[GoldPair]:
    """Read labelled pairs.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    return load(path, _pair, needs=_NEEDS)


def read_judged(path: Path) -> Loaded[JudgedPair]:
    """Read pairs with the verdicts of an evaluator (`result.json`); its last step counts.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """

    def one(row: Row, where: str) -> JudgedPair:
        results = field(row, "results")
        last = results[-1] if isinstance(results, list) and results else None
        if not isinstance(last, dict):
            raise RowError("column 'results' must be a list whose last entry holds 'swap = False' and 'swap = True'")
        return JudgedPair(_pair(row, where), (_winner(last, "swap = False"), _winner(last, "swap = True")))

    return load(path, one, needs=f"{_NEEDS}, results")


def _winner(result: Row, order: str) -> Winner | None:
    given = field(result, order)
    winner = given.get("winner") if isinstance(given, dict) else None
    if not isinstance(given, dict) or winner not in ("1", "2", None):
        raise RowError(f"'{order}' must be an object whose 'winner' is \"1\", \"2\" or null")
    return winner


def published_statistics(judged: Sequence[JudgedPair]) -> dict[str, Any]:
    """Return LLMBar's `statistics.json` of these verdicts, digit by digit; see the top of the file for its oddities."""
    n = len(judged)
    labels = ["1" if item.pair.gold == 1.0 else "2" for item in judged]
    given, swapped = ([item.winners[order] for item in judged] for order in (0, 1))
    right = [sum(w == label for w, label in zip(winners, labels, strict=True)) for winners in (given, swapped)]
    both = sum(a == b == label for a, b, label in zip(given, swapped, labels, strict=True))
    equal = sum(a == b for a, b in zip(given, swapped, strict=True))

    def counted(k: int) -> str:
        return f"{k} / {n} = {k / n * 100}%"

    as_coded = [[1 if w == "1" else 0 for w in winners] for winners in (given, swapped)]
    numbers = [int(label) for label in labels]
    kappas = [stats.cohen_kappa(codes, numbers) for codes in as_coded]
    return {
        "correct_False": counted(right[0]),
        "correct_True": counted(right[1]),
        "correct_average": f"{(right[0] + right[1]) / 2 / n * 100}%",
        "correct_both": counted(both),
        "equal": counted(equal),
        "kappa_False": kappas[0],
        "kappa_True": kappas[1],
        "kappa_average": sum(kappas) / 2,
        "kappa_agreement": stats.cohen_kappa(as_coded[0], as_coded[1]),
    }


def judged_report(loaded: Loaded[JudgedPair], *, title: str, judge: str) -> Report:
    """Return the evaluator's agreement with the labels, its kappas, and the published statistics.

    Args:
        loaded: from `read_judged`.
        title: heading.
        judge: name of the evaluator.
    """
    pairs = [item.pair for item in loaded.items]
    made = LlmBar().score(pairs, [i.comparison for i in loaded.items], judge=judge, prompt_hash=loaded.data_hash)
    kappas: dict[str, float] = {}
    for name, order in (("kappa with labels, given order", 0), ("kappa with labels, swapped order", 1)):
        read = [(item.winners[order], "1" if item.pair.gold == 1 else "2") for item in loaded.items]
        both = [(w, label) for w, label in read if w is not None]
        if both:
            kappas[name] = stats.cohen_kappa([w for w, _ in both], [label for _, label in both])
    details = {**made.details, "kappas": kappas, "published_statistics": published_statistics(loaded.items)}
    notes = (*made.notes, "The kappas of statistics.json compare 0/1 with 1/2; `kappas` has those of the verdicts.")
    return Report(title, made.rows, notes, loaded.bad, details)


class LlmBar:
    """The suite for judges and reward models."""

    name = "llmbar"
    about = "pairs in which the reply that follows the instruction need not look better; for judges and reward models"
    kind: Literal["pairs"] = "pairs"

    def pairs(self, path: Path) -> Loaded[GoldPair]:
        """Read labelled pairs."""
        return read_pairs(path)

    def score(
        self, pairs: Sequence[GoldPair], comparisons: Sequence[Comparison], *, judge: str, prompt_hash: str = ""
    ) -> Report:
        """Return accuracy over both orders and in each, right in both, and how often the longer reply is right."""
        rows = agreement(pairs, comparisons, judge=judge, prompt_hash=prompt_hash, on="LLMBar labels")
        rows += each_order(pairs, comparisons, judge=judge, prompt_hash=prompt_hash)
        rows.append(longer_is_better(pairs, on="LLMBar"))
        return Report(f"LLMBar, {judge}", tuple(rows))


def each_order(
    pairs: Sequence[GoldPair], comparisons: Sequence[Comparison], *, judge: str, prompt_hash: str
) -> list[Measured]:
    """Return the accuracy of the verdicts of each order, where verdicts have orders."""
    found: list[Measured] = []
    for order, name in ((0, "accuracy, first reply shown first"), (1, "accuracy, second reply shown first")):
        read = [c.by_order[order] for c in comparisons]
        one = [Comparison(p, (p, None) if order == 0 else (None, p)) for p in read]
        if any(c.p is not None for c in one):
            row = agreement(pairs, one, judge=judge, prompt_hash=prompt_hash, on="labels")[0]
            found.append(_renamed(row, name, sum(c.p is None for c in one) / len(one)))
    return found


def _renamed(row: Measured, name: str, parse_failures: float) -> Measured:
    return Measured(**{**row.row(), "name": name, "parse_failures": parse_failures, "inconsistent": None})
