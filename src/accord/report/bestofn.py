"""Best-of-n: what the best of n replies is worth, for every n, to the reward model and to the judge."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from accord.report.formats import MISSING, Estimate, estimate, finite, number
from accord.report.linechart import Figure, Series, line_chart
from accord.report.names import model_name
from accord.report.runfiles import Run, Stage, mapping

FILE = "curve.json"
_X = "KL = log n \u2212 (n \u2212 1)/n, nats"


@dataclass(frozen=True)
class Point:
    """The values at one n."""

    n: int
    kl: float
    proxy: Estimate | None
    judged: Estimate | None


@dataclass(frozen=True)
class BestOfN:
    """The curve of one stage: figures and the rows of its table."""

    name: str
    figures: tuple[Figure, ...]
    rows: tuple[tuple[str, str, str, str], ...]
    """n, KL, proxy, judged"""


def read_best_of_n(run: Run) -> list[BestOfN]:
    """Read `curve.json` of every stage that has one; what is damaged is told in the run's notes."""
    found: list[BestOfN] = []
    for stage in run.stages:
        points = _points(run, stage) if (stage.dir / FILE).is_file() else []
        if points:
            name = model_name(stage.name)
            rows = ((str(p.n), number(p.kl), _told(p.proxy), _told(p.judged)) for p in points)
            found.append(BestOfN(name, tuple(_figures(name, points, run.slots[stage.name])), tuple(rows)))
    return found


def _points(run: Run, stage: Stage) -> list[Point]:
    path = stage.dir / FILE
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, list):
        run.notes.append(f"{path.relative_to(run.dir)}: not a JSON list, left out")
        return []
    rows = [mapping(row) for row in raw]
    points = [
        Point(int(n), kl, estimate(row.get("proxy")), estimate(row.get("judged")))
        for row in rows
        if (n := finite(row.get("n"))) is not None and (kl := finite(row.get("kl"))) is not None
    ]
    if len(points) < len(rows):
        run.notes.append(f"{path.relative_to(run.dir)}: {len(rows) - len(points)} points without n or KL left out")
    return sorted(points, key=lambda p: p.n)


def _figures(name: str, points: list[Point], slot: int) -> list[Figure]:
    figures: list[Figure] = []
    for title, note, values in (
        ("Proxy of the reply that is kept", "mean score by the reward model", [p.proxy for p in points]),
        (
            "What the judge makes of it",
            "mean value of the same replies",
            [p.judged for p in points],
        ),
    ):
        known = [(p, v) for p, v in zip(points, values, strict=True) if v is not None]
        series = Series(
            name,
            [(p.kl, v.value) for p, v in known],
            slot,
            bars=[(p.kl, v.lower, v.upper) for p, v in known if v.interval is not None],
            hints=[f"n = {p.n}" for p, _ in known],
        )
        svg = line_chart([series], title=f"{name}: {title}", x_label=_X, path=True)
        if svg is not None:
            figures.append(Figure(title, note, svg))
    return figures


def _told(value: Estimate | None) -> str:
    if value is None:
        return MISSING
    ends = "" if value.interval is None else f" [{number(value.lower)}, {number(value.upper)}]"
    return number(value.value) + ends
