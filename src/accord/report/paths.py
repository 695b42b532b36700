"""Reward against KL: how far each policy moved, what the reward model said of it and what gold said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accord.report.formats import MISSING, number
from accord.report.linechart import Figure, Point, Series, line_chart
from accord.report.names import MANY, distinct, model_name
from accord.report.runfiles import Run
from accord.report.scatter import Dot, scatter

_X = "\u221aKL from the reference"
_NAMED = 4
"""Of many policies, the best and the worst so many are named in a figure."""


@dataclass(frozen=True)
class EvalPath:
    """How one training run moved: at each evaluation its KL, proxy score and gold utility."""

    stage: str
    kl: tuple[Point, ...]
    proxy: tuple[Point, ...]
    gold: tuple[Point, ...]

    @property
    def overoptimised(self) -> tuple[str, str] | None:
        """A tone and a sentence about gold at the end against its best and its start; None without gold."""
        gold = [v for _, v in self.gold if v is not None]
        proxy = [v for _, v in self.proxy if v is not None]
        if len(gold) < 3 or len(proxy) < 3:
            return None
        start, best, last = gold[0], max(gold), gold[-1]
        told = f"gold {number(start)} at the start, {number(best)} at best, {number(last)} at the end"
        if last < start and proxy[-1] > proxy[0]:
            return ("bad", f"proxy up, gold down: {told}")
        if best > start and best - last > 0.25 * (best - start) and proxy[-1] > proxy[0]:
            return ("caution", f"part of the gain was lost again: {told}")
        return ("good", told)


@dataclass(frozen=True)
class PathRow:
    """Where one policy ended, as a line of the table."""

    name: str
    slot: int
    kl: str
    proxy: str
    start: str
    best: str
    end: str
    tone: str


def read_eval_paths(run: Run) -> list[EvalPath]:
    """Return the evaluations made during training, for every stage that measured KL and a reward."""
    paths: list[EvalPath] = []
    for stage in run.stages:
        metrics = run.metrics(stage)
        if "eval/kl" in metrics and ("eval/gold" in metrics or "eval/proxy" in metrics):
            paths.append(
                EvalPath(stage.name, metrics.get("eval/kl"), metrics.get("eval/proxy"), metrics.get("eval/gold"))
            )
    return paths


def kl_figures(paths: Sequence[EvalPath], slots: Mapping[str, int]) -> list[Figure]:
    """Draw proxy and gold side by side over the square root of KL (Gao et al. 2022, figure 1).

    Of many policies only the last evaluation is drawn, and the best and the worst are named.

    Args:
        paths: what was measured.
        slots: colour of each stage.
    """
    colours = distinct([p.stage for p in paths], slots)
    figures: list[Figure] = []
    for which, title, note in (
        ("proxy", "Proxy: what the reward model says", "it was trained to please this number"),
        ("gold", "Gold: what the answers are worth", "never used in training"),
    ):
        series: list[Series] = []
        for p in paths:
            kl = dict(p.kl)
            points = [(math.sqrt(max(k, 0.0)), v) for step, v in getattr(p, which) if (k := kl.get(step)) is not None]
            if any(v is not None for _, v in points):
                series.append(Series(model_name(p.stage), points, colours[p.stage], "best" if which == "gold" else ""))
        heading = f"{title} over the root of KL"
        if len(paths) > MANY:
            svg = scatter(_ends(series), title=heading, x_label=_X)
        else:
            svg = line_chart(series, title=heading, x_label=_X, path=True)
        if svg is not None:
            figures.append(Figure(title, note, svg))
    return figures


def path_rows(paths: Sequence[EvalPath], slots: Mapping[str, int]) -> list[PathRow]:
    """Return a line a policy with the last values, the best gold first; none when the figures name every policy."""
    if len(paths) <= MANY:
        return []

    def last(points: Sequence[Point]) -> float | None:
        return next((v for _, v in reversed(points) if v is not None), None)

    def worth(path: EvalPath) -> tuple[bool, float, float]:
        gold, proxy = last(path.gold), last(path.proxy)
        return (gold is not None, gold or 0.0, proxy or 0.0)

    rows: list[PathRow] = []
    for p in sorted(paths, key=worth, reverse=True):
        gold = [v for _, v in p.gold if v is not None]
        over = p.overoptimised
        rows.append(
            PathRow(
                name=model_name(p.stage),
                slot=slots.get(p.stage, 0),
                kl=number(last(p.kl)),
                proxy=number(last(p.proxy)),
                start=number(gold[0]) if gold else MISSING,
                best=number(max(gold)) if gold else MISSING,
                end=number(last(p.gold)),
                tone="" if over is None else over[0],
            )
        )
    return rows


def _ends(series: Sequence[Series]) -> list[Dot]:
    ends = [(s, next((a, b) for a, b in reversed(s.points) if b is not None)) for s in series]
    ranked = sorted(ends, key=lambda e: -e[1][1])
    named = {s.label for s, _ in [*ranked[:_NAMED], *ranked[-_NAMED:]]}
    return [Dot(s.label, x, y, named=s.label in named) for s, (x, y) in ends]
