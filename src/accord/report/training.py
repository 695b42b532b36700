"""Training curves of every stage that logged metrics, and reward against KL with gold beside proxy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from accord.report.formats import listed, model_name, number
from accord.report.linechart import Point, Series, line_chart
from accord.report.runfiles import Metrics, Run, Stage
from accord.report.svg import model_slots, stage_slot

_MAX_OTHER = 12
_SMALL = 2
_PART = "eval/gold_"


@dataclass(frozen=True)
class Figure:
    """A chart with its heading and one line on how to read it."""

    title: str
    note: str
    svg: Markup


@dataclass(frozen=True)
class Curves:
    """The charts of one stage."""

    stage: str
    figures: tuple[Figure, ...]
    other: tuple[Figure, ...]
    """Metrics without a place of their own."""
    broken: str
    """Which values were not finite."""
    left_out: int = 0
    """Metrics beyond those drawn."""


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
class _Chart:
    title: str
    note: str
    lines: Mapping[str, str]
    """Metric -> label."""
    level: float | None = None


_LANGUAGE = (_Chart("Loss", "nats a token", {"loss": "training", "eval/loss": "held out"}),)
_REWARD = (
    _Chart("Loss", "dashed: ln 2, a coin flip", {"loss": "training", "eval/loss": "held out"}, math.log(2)),
    _Chart("Accuracy", "dashed: a coin flip", {"accuracy": "training", "eval/accuracy": "held out"}, 0.5),
)
_PPO = (
    _Chart(
        "Score and reward",
        "reward = score minus the KL penalty",
        {"objective/scores": "score", "objective/rlhf_reward": "reward"},
    ),
    _Chart("KL from the reference", "nats a reply", {"objective/kl": "KL"}),
    _Chart("Entropy", "nats a token; near 0 all answers are alike", {"objective/entropy": "entropy"}),
    _Chart("Length of replies", "tokens", {"completions/mean_length": "length"}),
    _Chart("Clipped share", "tokens whose ratio left the clip range", {"policy/clipfrac_avg": "clipped"}),
    _Chart("Value loss", "how far the critic is off", {"loss/value_avg": "value loss"}),
    _Chart("Policy loss", "its level has no meaning by itself", {"loss/policy_avg": "policy loss"}),
    _Chart("Step size", "KL between new and old policy", {"policy/approxkl_avg": "KL"}),
    _Chart("Probability ratio", "new over old; stays near 1", {"val/ratio": "ratio"}, 1.0),
)
_DPO = (
    _Chart("Loss", "dashed: ln 2, where it starts", {"loss": "loss"}, math.log(2)),
    _Chart("Accuracy", "by implicit reward; dashed: a coin flip", {"rewards/accuracies": "accuracy"}, 0.5),
    _Chart("Margin", "implicit reward, chosen minus rejected", {"rewards/margins": "margin"}, 0.0),
    _Chart(
        "Implicit rewards",
        "beta times the log-ratio to the reference",
        {"rewards/chosen": "chosen", "rewards/rejected": "rejected"},
        0.0,
    ),
    _Chart(
        "Log-probabilities",
        "of whole replies; both may sink, not collapse",
        {"logps/chosen": "chosen", "logps/rejected": "rejected"},
    ),
)
_ALWAYS = (_Chart("Length on held-out prompts", "tokens", {"eval/length": "length"}),)


def read_curves(run: Run) -> list[Curves]:
    """Draw the metric log of every stage that has one."""
    curves = (_stage_curves(stage, run.metrics(stage)) for stage in run.stages)
    return [c for c in curves if c is not None]


def grouped(curves: list[Curves]) -> list[Curves]:
    """Put neighbouring stages with one or two charts under one heading, the stage named in each chart's title."""
    groups: list[list[Curves]] = []
    for c in curves:
        small = len(c.figures) <= _SMALL
        if small and groups and len(groups[-1][-1].figures) <= _SMALL:
            groups[-1].append(c)
        else:
            groups.append([c])
    return [_merged(group) for group in groups]


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


def kl_figures(paths: list[EvalPath]) -> list[Figure]:
    """Draw proxy and gold side by side over the square root of KL (Gao et al. 2022, figure 1)."""
    slots = model_slots(p.stage for p in paths)
    figures: list[Figure] = []
    for which, title, note in (
        ("proxy", "Proxy: what the reward model says", "it was trained to please this number"),
        ("gold", "Gold: what the answers are worth", "never used in training"),
    ):
        series: list[Series] = []
        for p in paths:
            kl = dict(p.kl)
            points = [(math.sqrt(max(k, 0.0)), v) for step, v in getattr(p, which) if (k := kl.get(step)) is not None]
            if points:
                series.append(Series(model_name(p.stage), points, slots[p.stage], "best" if which == "gold" else ""))
        svg = line_chart(series, title=f"{title} over the root of KL", x_label="\u221aKL from the reference", path=True)
        if svg is not None:
            figures.append(Figure(title, note, svg))
    return figures


def _stage_curves(stage: Stage, metrics: Metrics) -> Curves | None:
    if not metrics.series:
        return None
    charts = _charts_for(stage, metrics)
    own = stage_slot(stage.name)
    slots = (own, 0 if own else 1)
    figures: list[Figure] = []
    used: set[str] = {name for chart in charts for name in chart.lines}
    for chart in charts:
        lines = {m: label for m, label in chart.lines.items() if m in metrics}
        series = [Series(label, metrics.get(m), slot) for (m, label), slot in zip(lines.items(), slots, strict=False)]
        svg = line_chart(series, title=f"{model_name(stage.name)}: {chart.title}", level=chart.level)
        if svg is not None:
            figures.append(Figure(chart.title, chart.note, svg))
    parts = [m for m in metrics.series if m.startswith(_PART)]
    used |= {*parts, "eval/gold", "eval/proxy", "eval/kl"}
    series = [Series(m.removeprefix(_PART), metrics.get(m), 1 + i % 7) for i, m in enumerate(parts)]
    svg = line_chart(series, title=f"{model_name(stage.name)}: gold parts on held-out prompts")
    if svg is not None:
        figures.append(Figure("Gold, part by part", "on held-out prompts", svg))
    other: list[Figure] = []
    unplaced = [m for m in metrics.series if m not in used]
    for name in unplaced[:_MAX_OTHER]:
        svg = line_chart([Series(name, metrics.get(name), own)], title=f"{model_name(stage.name)}: {name}")
        if svg is not None:
            other.append(Figure(name, "", svg))
    return Curves(stage.name, tuple(figures), tuple(other), _broken(metrics), max(len(unplaced) - _MAX_OTHER, 0))


def _merged(group: list[Curves]) -> Curves:
    names = [model_name(c.stage) for c in group]
    if len(group) == 1:
        return Curves(names[0], group[0].figures, group[0].other, group[0].broken, group[0].left_out)

    def told(c: Curves, figures: tuple[Figure, ...]) -> list[Figure]:
        return [Figure(f"{model_name(c.stage)}: {f.title}", f.note, f.svg) for f in figures]

    return Curves(
        listed(names),
        tuple(f for c in group for f in told(c, c.figures)),
        tuple(f for c in group for f in told(c, c.other)),
        " ".join(f"{name}: {c.broken}" for name, c in zip(names, group, strict=True) if c.broken),
        sum(c.left_out for c in group),
    )


def _charts_for(stage: Stage, metrics: Metrics) -> tuple[_Chart, ...]:
    """Tell the kind of training by what it logged, so that renamed stages keep their charts."""
    if any(name.startswith("objective/") for name in metrics.series):
        return _PPO + _ALWAYS
    if "rewards/margins" in metrics or "rewards/accuracies" in metrics:
        return _DPO + _ALWAYS
    if stage.name == "reward" or "accuracy" in metrics or (stage.dir / "eval.json").is_file():
        return _REWARD
    return _LANGUAGE


def _broken(metrics: Metrics) -> str:
    said = [f"{name} ({count} of {len(metrics.get(name))})" for name, count in sorted(metrics.broken.items())]
    return f"Not finite: {listed(said)}; marked \u00d7 in the charts." if said else ""
