"""Numbers of the evaluation with all that is needed to believe them, and base abilities before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.report.formats import MISSING, Cell, Estimate, estimate, finite, number, percent, signed
from accord.report.names import model_name
from accord.report.runfiles import Run, mapping, sequence

HEADS = ("Value", "95 %", "n", "Judge", "Agrees with labels", "Unreadable", "Inconsistent", "First shown wins")


def measured_rows(run: Run) -> list[list[Cell]]:
    """Return a row a number: what, value, interval, n, judge, its agreement with labels, and how it behaved."""
    rows: list[list[Cell]] = []
    for raw in sequence(mapping(run.json("results.json")).get("measured")):
        found = mapping(raw)
        value = estimate(found)
        known = estimate(mapping(found.get("judge_accuracy")))
        on = str(mapping(found.get("judge_accuracy")).get("on") or "")
        rows.append(
            [
                Cell(str(found.get("name") or ""), str(found.get("reason") or "")),
                Cell(MISSING if value is None else number(value.value)),
                Cell(MISSING if value is None else _ends(value)),
                Cell(number(found.get("n"))),
                Cell(str(found.get("judge") or MISSING)),
                Cell("not measured" if known is None else percent(known.value), "" if known is None else f"on {on}"),
                *(Cell(_share(found.get(key))) for key in ("parse_failures", "inconsistent", "first_position")),
            ]
        )
    return rows


def ability_table(run: Run) -> tuple[list[str], list[list[Cell]]]:
    """Return the models, and a row a data set: its name, then every model's number with its change."""
    raw = [mapping(row) for row in sequence(mapping(run.json("results.json")).get("abilities"))]
    models = list(dict.fromkeys(str(name) for row in raw for name in mapping(row.get("models"))))
    rows: list[list[Cell]] = []
    for row in raw:
        kind = str(row.get("kind") or "")
        found = mapping(row.get("models"))
        what = f"{kind}, {row.get('better')} is better" if row.get("better") else kind
        rows.append([Cell(str(row.get("name") or ""), what), *(_ability(found.get(name), kind) for name in models)])
    return [model_name(name) for name in models], rows


def _ability(raw: Any, kind: str) -> Cell:
    found = mapping(raw)
    value = estimate(found)
    if value is None:
        return Cell(MISSING)
    change = estimate(found.get("change"))
    shown = number(value.value) if kind == "perplexity" else percent(value.value)
    if change is None:
        return Cell(shown, str(found.get("reason") or ""))
    told = f"\u00d7\u2009{number(change.value)}" if kind == "perplexity" else signed(change.value)
    return Cell(shown, f"{told} ({_ends(change)})", _tone(found, change, kind))


def _tone(found: Mapping[str, Any], change: Estimate, kind: str) -> str:
    """Bad where the interval says worse, good where it says better."""
    if found.get("worse") is True:
        return "bad"
    if change.interval is None:
        return ""
    better = change.upper < 1 if kind == "perplexity" else change.lower > 0
    return "good" if better else ""


def _ends(value: Estimate) -> str:
    return MISSING if value.interval is None else f"{number(value.interval[0])} to {number(value.interval[1])}"


def _share(raw: Any) -> str:
    value = finite(raw)
    return MISSING if value is None else percent(value, 1)
