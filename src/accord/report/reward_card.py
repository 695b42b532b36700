"""The reward model's report card: seven numbers before optimising it, biases, and accuracy by slice and annotator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from accord.report.forest import Row, forest
from accord.report.formats import MINUS, MISSING, estimate, finite, percent_interval
from accord.report.runfiles import mapping, sequence

_TONES = {"pass": "good", "fail": "bad", "unknown": "caution"}
_SHORT = {"good": "fit", "bad": "not fit", "caution": "not known"}
_WORDS = {
    "pass": "fit to optimise against",
    "fail": "not fit to optimise against",
    "unknown": "not known whether it is fit to optimise against",
}


@dataclass(frozen=True)
class SevenRow:
    """One of the seven numbers."""

    name: str
    question: str
    value: str
    interval: str
    """Interval and number of cases."""
    limit: str
    status: str
    tone: str
    reason: str


@dataclass(frozen=True)
class Fact:
    """One line of the table of biases."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class CardReport:
    """The report card as the page shows it."""

    tone: str
    word: str
    seven: tuple[SevenRow, ...]
    facts: tuple[Fact, ...]
    slices: tuple[tuple[str, Markup], ...]
    """(kind, chart), the accuracy by slice."""

    @property
    def short(self) -> str:
        """The verdict in a word or two."""
        return _SHORT[self.tone]


def read_card(raw: Any) -> CardReport | None:
    """Read `card` of eval.json; None when there is none."""
    card = mapping(raw)
    seven = [_seven(mapping(row)) for row in sequence(card.get("seven"))]
    if not seven:
        return None
    verdict = str(card.get("verdict"))
    kinds = [*mapping(card.get("slices")).items()]
    kinds += [("annotator group", card.get("annotator_groups")), ("annotator", card.get("annotators"))]
    charts = [(str(kind).replace("_", " "), _chart(kind, mapping(rows))) for kind, rows in kinds]
    return CardReport(
        tone=_TONES.get(verdict, "caution"),
        word=_WORDS.get(verdict, _WORDS["unknown"]),
        seven=tuple(seven),
        facts=tuple(_facts(card)),
        slices=tuple((kind, chart) for kind, chart in charts if chart is not None),
    )


def _seven(row: Mapping[str, Any]) -> SevenRow:
    status = str(row.get("status"))
    limit = finite(row.get("limit"))
    good = str(row.get("good"))
    shown = MISSING if limit is None else f"within \u00b1{limit:g}" if good == "within" else f"{good} {limit:g}"
    return SevenRow(
        name=str(row.get("name")),
        question=str(row.get("question")),
        value=_plain(row.get("value")),
        interval=_interval(row).removeprefix(_plain(row.get("value"))).strip(" ,"),
        limit=shown,
        status=status,
        tone=_TONES.get(status, "caution"),
        reason=str(row.get("reason") or ""),
    )


def _facts(card: Mapping[str, Any]) -> list[Fact]:
    """Biases in the order in which they are looked for; what was not measured is left out."""
    length, form, ties = (mapping(card.get(k)) for k in ("length", "format", "ties"))
    found = [
        ("Longer reply, labels", _interval(mapping(length.get("labels"))), "share of labels that prefer it"),
        ("Longer reply, model", _interval(mapping(length.get("model"))), "mean probability the model gives it"),
        (
            "Score and length",
            _interval(mapping(length.get("partial"))),
            "correlation of the differences with the label held fixed; 0 = length adds nothing",
        ),
        ("More markup, labels", _interval(mapping(form.get("labels"))), "share of labels that prefer the reply"),
        ("More markup, model", _interval(mapping(form.get("model"))), "mean probability the model gives it"),
        (
            "Reply shown first",
            _interval(mapping(card.get("position"))),
            "share of judgements that prefer it; 0.5 = the order shown does not matter",
        ),
        ("Judged a tie", _plain(ties.get("labelled")), "share of held-out pairs"),
        ("No difference seen", _plain(ties.get("near_zero")), "share with a probability between 45 and 55 %"),
        ("Ties told apart", _plain(ties.get("auc")), "chance that a tie has the smaller difference; 0.5 = not at all"),
        ("Human ceiling", _interval(mapping(card.get("ceiling"))), "one annotator against the mean of the others"),
        (
            "Against single judgements",
            _interval(mapping(card.get("judgement_accuracy"))),
            "the model on the same footing as the ceiling",
        ),
        ("Temperature", _plain(card.get("temperature")), "divides score differences; above 1 = too sure"),
        ("Calibration error with it", _plain(card.get("ece_calibrated")), "fitted on one half, tested on the other"),
    ]
    for name, shift in mapping(card.get("edits")).items():
        found.append((f"Edit: {name}", _interval(mapping(shift)), "mean change of the score, in deviations"))
    return [Fact(*row) for row in found if row[1] != MISSING]


def _interval(raw: Mapping[str, Any]) -> str:
    """`0.72 [0.56, 0.87], n = 43`, as far as it is known."""
    value, low, high, n = (finite(raw.get(k)) for k in ("value", "low", "high", "n"))
    if value is None:
        return MISSING
    shown = _plain(value)
    if low is not None and high is not None:
        shown += f" [{_plain(low)}, {_plain(high)}]"
    return shown if n is None else f"{shown}, n = {int(n)}"


def _plain(raw: Any) -> str:
    value = finite(raw)
    return MISSING if value is None else f"{value:.2f}".replace("-", MINUS)


def _chart(kind: str, raw: Mapping[str, Any]) -> Markup | None:
    rows: list[Row] = []
    for name, value in raw.items():
        found = estimate(value)
        if found is not None:
            note = f"n = {found.n}" if found.n is not None else ""
            rows.append(Row(str(name), found, percent_interval(found, 1), "plain", note))
    if len(rows) < 2:  # one slice is the whole
        return None
    low = min([0.5, *(r.value.lower for r in rows)])
    return forest(rows, title=f"Accuracy by {kind}", low=math.floor(low * 20 - 0.5) / 20)
