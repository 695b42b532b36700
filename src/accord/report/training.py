"""Training curves of every stage that logged metrics; of many policies small multiples first, the rest folded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from markupsafe import Markup

from accord.report.formats import listed
from accord.report.linechart import KEPT, Figure, Series, line_chart, small_chart
from accord.report.names import MANY, model_name
from accord.report.runfiles import Metrics, Run, Stage

_MAX_OTHER = 12
_FOLDED_POINTS = 60
"""Raw points a line in the charts of many policies, which are folded away."""
_SMALL = 2
_PART = "eval/gold_"


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
    folded: bool = False
    """Whether it is one of many policies, shown on demand."""


@dataclass(frozen=True)
class _Chart:
    title: str
    note: str
    lines: Mapping[str, str]
    """Metric -> label."""
    level: float | None = None


_LN2 = math.log(2)
_LOSS = _Chart("Loss", "nats a token", {"loss": "training", "eval/loss": "held out"})
_ORDERED = (
    _Chart("Loss", "dashed: ln 2, a coin flip", {"loss": "training", "eval/loss": "held out"}, _LN2),
    _Chart("Accuracy", "dashed: a coin flip", {"accuracy": "training", "eval/accuracy": "held out"}, 0.5),
)
_ONLINE = (
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
_PAIRS = (
    _Chart("Accuracy", "by implicit reward; dashed: a coin flip", {"rewards/accuracies": "accuracy"}, 0.5),
    _Chart("Margin", "implicit reward, chosen minus rejected", {"rewards/margins": "margin"}, 0.0),
    _Chart(
        "Implicit rewards",
        "of preferred and other replies",
        {"rewards/chosen": "chosen", "rewards/rejected": "rejected"},
        0.0,
    ),
    _Chart(
        "Log-probabilities",
        "of whole replies; both may sink, not collapse",
        {"logps/chosen": "chosen", "logps/rejected": "rejected"},
    ),
)
_SHARED = (
    ("eval/gold", "Gold on held-out prompts", "all on one scale; dashed: where the first one began"),
    ("eval/proxy", "Proxy on held-out prompts", "all on one scale; dashed: where the first one began"),
    ("objective/scores", "Score of the policy's own replies", "of those not measured on held-out prompts; one scale"),
    ("rewards/accuracies", "Accuracy by implicit reward", "of those not measured on held-out prompts; one scale"),
    ("loss", "Loss", "of what has none of these; losses of different algorithms cannot be compared"),
)
"""What small charts show: of each policy the first that it logged."""
_ALWAYS = (_Chart("Length on held-out prompts", "tokens", {"eval/length": "length"}),)


def read_curves(run: Run) -> list[Curves]:
    """Draw the metric log of every stage that has one."""
    folded = set(_compared(run))
    found = (
        _stage_curves(stage, run.metrics(stage), run.slots[stage.name], stage.name in folded) for stage in run.stages
    )
    return [c for c in found if c is not None]


def multiples(run: Run) -> list[Figure]:
    """Draw, of many policies, one small chart each, those that logged the same on one scale."""
    logs = {name: run.metrics(stage) for name in _compared(run) if (stage := run.stage(name)) is not None}
    figures: list[Figure] = []
    for metric, title, note in _SHARED:
        drawn = {name: log.get(metric) for name, log in logs.items() if metric in log}
        values = [v for points in drawn.values() for _, v in points if v is not None]
        if not values:
            continue
        first = values[0] if metric.startswith("eval/") else None
        over = (min(values), max(values))
        charts = [
            small_chart(Series(model_name(name), points, 1), over, f"{title}: {model_name(name)}", first)
            for name, points in drawn.items()
        ]
        figures.append(Figure(title, note, Markup('<div class="multiples">{}</div>').format(Markup("").join(charts))))
        logs = {name: log for name, log in logs.items() if name not in drawn}
    return figures


def _compared(run: Run) -> list[str]:
    """The policies that learnt from preferences or rewards, when they are too many to draw each at full size."""
    found = [s.name for s in run.of_kind("policy") if _charts_for(s, run.metrics(s)) != (_LOSS,)]
    return found if len(found) > MANY else []


def _evaluated(metrics: Metrics) -> bool:
    return any(name in metrics for name in ("eval/gold", "eval/proxy", "eval/kl"))


def grouped(curves: list[Curves]) -> list[Curves]:
    """Put neighbouring stages with one or two charts under one heading, the stage named in each chart's title."""
    groups: list[list[Curves]] = []
    for c in curves:
        small = len(c.figures) <= _SMALL and not c.folded
        if small and groups and len(groups[-1][-1].figures) <= _SMALL and not groups[-1][-1].folded:
            groups[-1].append(c)
        else:
            groups.append([c])
    return [_merged(group) for group in groups]


def _stage_curves(stage: Stage, metrics: Metrics, own: int, folded: bool) -> Curves | None:
    if not metrics.series:
        return None
    charts = _charts_for(stage, metrics)
    kept = _FOLDED_POINTS if folded else KEPT
    slots = (own, 0 if own else 1)
    figures: list[Figure] = []
    used: set[str] = {name for chart in charts for name in chart.lines}
    for chart in charts:
        lines = {m: label for m, label in chart.lines.items() if m in metrics}
        series = [Series(label, metrics.get(m), slot) for (m, label), slot in zip(lines.items(), slots, strict=False)]
        svg = line_chart(series, title=f"{model_name(stage.name)}: {chart.title}", level=chart.level, kept=kept)
        if svg is not None:
            figures.append(Figure(chart.title, chart.note, svg))
    parts = [m for m in metrics.series if m.startswith(_PART)]
    used |= {*parts, "eval/gold", "eval/proxy", "eval/kl"}
    series = [Series(m.removeprefix(_PART), metrics.get(m), 1 + i % 7) for i, m in enumerate(parts)]
    svg = line_chart(series, title=f"{model_name(stage.name)}: gold parts on held-out prompts", kept=kept)
    if svg is not None:
        figures.append(Figure("Gold, part by part", "on held-out prompts", svg))
    other: list[Figure] = []
    unplaced = [m for m in metrics.series if m not in used]
    most = 0 if folded else _MAX_OTHER
    for name in unplaced[:most]:
        svg = line_chart([Series(name, metrics.get(name), own)], title=f"{model_name(stage.name)}: {name}")
        if svg is not None:
            other.append(Figure(name, "", svg))
    return Curves(stage.name, tuple(figures), tuple(other), _broken(metrics), max(len(unplaced) - most, 0), folded)


def _merged(group: list[Curves]) -> Curves:
    names = [model_name(c.stage) for c in group]
    if len(group) == 1:
        return replace(group[0], stage=names[0])

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
    """Tell the kind of training by what it logged, so that every algorithm has its charts, whatever its name."""
    charts: tuple[_Chart, ...] = ()
    if any(name.startswith("objective/") for name in metrics.series):
        charts += _ONLINE
    if any(name.startswith(("rewards/margins", "rewards/accuracies", "logps/")) for name in metrics.series):
        charts += (_loss_of_pairs(metrics), *_PAIRS)
    if charts or _evaluated(metrics):
        return (charts or (_loss_of_pairs(metrics),)) + _ALWAYS
    return _ORDERED if stage.makes == "reward_model" or "accuracy" in metrics else (_LOSS,)


def _loss_of_pairs(metrics: Metrics) -> _Chart:
    """The loss with a mark at ln 2 where it began there: not every loss does."""
    values = [v for name in ("eval/loss", "loss") for _, v in metrics.get(name)[:1] if v is not None]
    began = any(abs(v - _LN2) < 0.05 for v in values[:1])
    lines = {"loss": "training", "eval/loss": "held out"}
    if began:
        return _Chart("Loss", "dashed: ln 2, where it starts", lines, _LN2)
    return _Chart("Loss", "losses of different algorithms cannot be compared", lines)


def _broken(metrics: Metrics) -> str:
    said = [f"{name} ({count} of {len(metrics.get(name))})" for name, count in sorted(metrics.broken.items())]
    return f"Not finite: {listed(said)}; marked \u00d7 in the charts." if said else ""
