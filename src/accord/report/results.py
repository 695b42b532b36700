"""The evaluation as charts and tables: win rates, utility by part, gains with intervals, further measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from accord.report.dotcharts import dot_plot
from accord.report.forest import Row, forest
from accord.report.formats import (
    MISSING,
    Cell,
    Estimate,
    estimate,
    finite,
    number,
    percent_interval,
    signed,
)
from accord.report.names import distinct, model_name
from accord.report.outcome import TOTAL, Comparison, Outcome
from accord.report.scatter import Dot, scatter

_LISTED = 20
_DRAWN = 60
_NAMED = 4


def win_rate_charts(outcome: Outcome) -> list[tuple[str, Markup]]:
    """Draw every win rate with its interval, and lengths beside: those against the reference, then the others.

    Best first; beyond `_DRAWN` in one chart the heading says how many are left to results.json.
    """
    against = [c for m in outcome.models if (c := outcome.against_reference(m)) is not None]
    pairs = {frozenset((c.a, c.b)) for c in against}
    others = [c for c in outcome.comparisons if frozenset((c.a, c.b)) not in pairs]
    start = model_name(outcome.reference or "")
    charts: list[tuple[str, Markup]] = []
    for heading, found in ((f"Win rates against {start}", against), ("Win rates of other pairs", others)):
        found = sorted(found, key=lambda c: -c.rate.value)
        more = f" (the first {_DRAWN} of {len(found)})" if len(found) > _DRAWN else ""
        if found:
            charts.append((heading + more, _win_rates(found[:_DRAWN], heading, other=found[0] in others)))
    return charts


def _win_rates(found: list[Comparison], title: str, *, other: bool) -> Markup:
    rows = [
        Row(
            model_name(c.a) + (f" against {model_name(c.b)}" if other else ""),
            c.rate,
            percent_interval(c.rate),
            c.tone,
            c.length_note,
        )
        for c in found
    ]
    low = min([0.3] + [math.floor(c.rate.lower * 10) / 10 for c in found])
    high = max([0.7] + [math.ceil(c.rate.upper * 10) / 10 for c in found])
    return forest(rows, title=f"{title}, with 95 % intervals", low=low, high=high, ends=("worse", "better"))


def parts_chart(outcome: Outcome, slots: Mapping[str, int]) -> Markup | None:
    """Draw utility and its parts, a dot a model; of many models those of `Outcome.shown`."""
    parts = list(dict.fromkeys(p for by_part in outcome.parts.values() for p in by_part))
    values = {
        m: {**({TOTAL: outcome.utility[m]} if m in outcome.utility else {}), **outcome.parts.get(m, {})}
        for m in outcome.shown
    }
    values = {m: by_part for m, by_part in values.items() if by_part}
    groups = [TOTAL, *(p for p in parts if p != TOTAL)]
    groups = [g for g in groups if any(g in by_part for by_part in values.values())]
    colours = distinct(list(values), slots)
    return dot_plot(groups, values, colours, title="Utility by part and model", names=outcome.names)


def frontier(outcome: Outcome) -> Markup | None:
    """Draw utility over the root of KL, a dot a trained model, when there are many models."""
    worth = {
        m: (kl, outcome.utility[m].value)
        for m in outcome.trained
        if (kl := outcome.kls[m]) is not None and m in outcome.utility
    }
    if not outcome.many or not worth:
        return None
    ranked = sorted(worth, key=lambda m: -worth[m][1])
    named = {*ranked[:_NAMED], *ranked[-_NAMED:]}
    dots = [Dot(model_name(m), math.sqrt(max(kl, 0.0)), value, m in named) for m, (kl, value) in worth.items()]
    return scatter(dots, title="Utility over the root of KL", x_label="\u221aKL from the reference", alone=True)


def model_table(outcome: Outcome) -> list[list[Cell]]:
    """Return a row a model: name, utility, gain over the reference, mean length, KL; many models best first."""
    return [
        [
            Cell(model_name(m)),
            _cell(outcome.utility.get(m)),
            _gain_cell(outcome.gains.get(m, {}).get(TOTAL)),
            Cell(number(outcome.lengths[m])),
            Cell(number(outcome.kls[m])),
        ]
        for m in (outcome.ranked if outcome.many else outcome.models)
    ]


def gain_table(outcome: Outcome) -> tuple[list[str], list[list[Cell]]]:
    """Return heads and rows of the paired differences from the reference: the name of the model, then its parts."""
    models = [m for m in (outcome.ranked if outcome.many else outcome.models) if m in outcome.trained]
    models = [m for m in models if outcome.gains.get(m)]
    parts = list(dict.fromkeys(p for m in models for p in outcome.gains[m]))
    rows = [[Cell(model_name(m)), *(_gain_cell(outcome.gains[m].get(part)) for part in parts)] for m in models]
    return parts, rows


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
