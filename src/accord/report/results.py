"""The evaluation as charts and tables: win rates, utility by part, gains with intervals, further measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from markupsafe import Markup

from accord.report.dotcharts import dot_plot
from accord.report.forest import Row, forest
from accord.report.formats import (
    MISSING,
    Estimate,
    estimate,
    finite,
    model_name,
    number,
    percent_interval,
    signed,
)
from accord.report.outcome import TOTAL, Outcome
from accord.report.svg import model_slots

_LISTED = 20


class Cell(NamedTuple):
    """One cell of a table."""

    shown: str
    interval: str = ""
    tone: str = ""


def win_rate_chart(outcome: Outcome) -> Markup | None:
    """Draw every win rate with its interval, and lengths beside."""
    if not outcome.comparisons:
        return None
    rows = [
        Row(f"{model_name(c.a)} against {model_name(c.b)}", c.rate, percent_interval(c.rate), c.tone, c.length_note)
        for c in outcome.comparisons
    ]
    low = min([0.3] + [math.floor(c.rate.lower * 10) / 10 for c in outcome.comparisons])
    high = max([0.7] + [math.ceil(c.rate.upper * 10) / 10 for c in outcome.comparisons])
    return forest(rows, title="Win rates with 95 % intervals", low=low, high=high, ends=("worse", "better"))


def parts_chart(outcome: Outcome) -> Markup | None:
    """Draw utility and its parts, a dot a model."""
    parts = list(dict.fromkeys(p for by_part in outcome.parts.values() for p in by_part))
    values = {
        m: {**({TOTAL: outcome.utility[m]} if m in outcome.utility else {}), **outcome.parts.get(m, {})}
        for m in outcome.models
    }
    values = {m: by_part for m, by_part in values.items() if by_part}
    groups = [TOTAL, *(p for p in parts if p != TOTAL)]
    groups = [g for g in groups if any(g in by_part for by_part in values.values())]
    slots = model_slots(outcome.models)
    return dot_plot(groups, values, slots, title="Utility by part and model", names=outcome.names)


def model_table(outcome: Outcome) -> list[list[Cell]]:
    """Return a row a model: name, utility, gain over the reference, mean length, KL."""
    return [
        [
            Cell(model_name(m)),
            _cell(outcome.utility.get(m)),
            _gain_cell(outcome.gains.get(m, {}).get(TOTAL)),
            Cell(number(outcome.lengths[m])),
            Cell(number(outcome.kls[m])),
        ]
        for m in outcome.models
    ]


def gain_table(outcome: Outcome) -> tuple[list[str], list[list[Cell]]]:
    """Return model names and, a part a row, the paired differences from the reference."""
    models = [m for m in outcome.trained if outcome.gains.get(m)]
    parts = list(dict.fromkeys(p for m in models for p in outcome.gains[m]))
    rows = [[Cell(part), *(_gain_cell(outcome.gains[m].get(part)) for m in models)] for part in parts]
    return [model_name(m) for m in models], rows


def flat(raw: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested results as (dotted name, text) rows; estimates keep their intervals."""
    if isinstance(raw, Mapping) and "value" in raw:
        cell = _cell(estimate(raw))
        return [(prefix, f"{cell.shown} {cell.interval}".strip())]
    if isinstance(raw, Mapping):
        return [row for key, value in raw.items() for row in flat(value, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(raw, list | tuple) and any(isinstance(v, Mapping) for v in raw):
        return [row for i, value in enumerate(raw) for row in flat(value, f"{prefix}.{i}")]
    if isinstance(raw, list | tuple):
        more = f" and {len(raw) - _LISTED} more" if len(raw) > _LISTED else ""
        return [(prefix, ", ".join(_plain(v) for v in raw[:_LISTED]) + more)]
    return [(prefix, _plain(raw))]


def _plain(value: Any) -> str:
    return number(value) if value is None or finite(value) is not None else str(value)


def _cell(value: Estimate | None) -> Cell:
    if value is None:
        return Cell(MISSING)
    interval = value.interval
    return Cell(number(value.value), "" if interval is None else f"[{number(interval[0])}, {number(interval[1])}]")


def _gain_cell(gain: Estimate | None) -> Cell:
    if gain is None:
        return Cell(MISSING)
    tone = "good" if gain.lower > 0 else "bad" if gain.upper < 0 else "plain"
    if gain.interval is None:
        return Cell(signed(gain.value, 3))
    return Cell(signed(gain.value, 3), f"[{signed(gain.lower, 3)}, {signed(gain.upper, 3)}]", tone)
