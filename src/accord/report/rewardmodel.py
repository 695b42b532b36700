"""The reward model: how often it orders held-out pairs rightly, beside baselines, and whether it knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from accord.report.dotcharts import Bin, reliability
from accord.report.forest import Row, forest
from accord.report.formats import MISSING, Estimate, estimate, finite, number, percent_interval
from accord.report.names import model_name, told
from accord.report.results import flat
from accord.report.reward_card import CardReport, read_card
from accord.report.runfiles import Run, Stage, mapping, sequence

_FACTS = 60
_BASELINES = {
    "longer": "the longer reply wins",
    "bag_of_words": "bag of words",
    "longer_gold": "the longer reply, gold",
}


@dataclass(frozen=True)
class RewardReport:
    """The section on the reward model."""

    accuracy: Estimate | None
    gold: Estimate | None
    best_baseline: tuple[str, Estimate] | None
    chart: Markup | None
    slices: Markup | None
    diagram: Markup | None
    ece: str
    brier: str
    card: CardReport | None = None
    stage: str = ""
    """Which of several reward models the section is about."""
    others: tuple[OtherModel, ...] = ()
    """All reward models of the run, when there are several."""


@dataclass(frozen=True)
class OtherModel:
    """One of several reward models."""

    name: str
    told: str
    accuracy: str
    gold: str
    verdict: str
    tone: str
    facts: tuple[tuple[str, str], ...]
    """What it was measured by, beyond what is shown in full."""


def read_reward(run: Run) -> RewardReport | None:
    """Read the measurements of the reward models; None when there are none.

    The section is about one of them: the last with a report card, else the last with an accuracy, else the last.
    """
    found = [(stage, raw) for stage in _models(run) if (raw := run.json("eval.json", stage)) is not None]
    if not found:
        return None
    shown, raw = max(
        enumerate(found),
        key=lambda item: (bool(item[1][1].get("card")), estimate(item[1][1].get("accuracy")) is not None, item[0]),
    )[1]
    accuracy, gold = estimate(raw.get("accuracy")), estimate(raw.get("gold_accuracy"))
    baselines = _estimates(raw.get("baselines"))
    slices = _estimates(raw.get("slices"))
    rows = [Row("reward model, labels", accuracy, "", "good")] if accuracy else []
    rows += [Row("reward model, gold", gold, "", "good")] if gold else []
    rows += [Row(_BASELINES.get(name, name), e, "") for name, e in baselines.items()]
    bins = [b for b in map(_bin, sequence(raw.get("reliability"))) if b is not None]
    return RewardReport(
        accuracy=accuracy,
        gold=gold,
        best_baseline=max(baselines.items(), key=lambda item: item[1].value, default=None),
        chart=_shares(rows, "Pairs ordered rightly, with 95 % intervals"),
        slices=_shares([Row(name, e, "") for name, e in slices.items()], "Accuracy by slice"),
        diagram=reliability(bins, title="Reliability of the reward model's probabilities"),
        ece=number(raw.get("ece")),
        brier=number(raw.get("brier")),
        card=read_card(raw.get("card")),
        stage=model_name(shown.name) if len(found) > 1 else "",
        others=tuple(_other(stage, raw, full=stage is shown) for stage, raw in found) if len(found) > 1 else (),
    )


def _models(run: Run) -> list[Stage]:
    """The reward models, or whatever else measured pairs."""
    measured = [s for s in run.stages if (s.dir / "eval.json").is_file()]
    return [s for s in measured if s.makes == "reward_model"] or measured


def _other(stage: Stage, raw: Mapping[str, Any], *, full: bool) -> OtherModel:
    card = read_card(raw.get("card"))
    known = raw if full or card is not None else {}
    return OtherModel(
        name=model_name(stage.name),
        told=told(stage.name, stage.kind),
        accuracy=_share(raw.get("accuracy"), stage.metrics.get("accuracy")),
        gold=_share(raw.get("gold_accuracy"), stage.metrics.get("gold_accuracy")),
        verdict="" if card is None else card.short,
        tone="" if card is None else card.tone,
        facts=() if known else tuple(flat(raw)[:_FACTS]),
    )


def _share(*values: Any) -> str:
    """The first that is known."""
    return next((percent_interval(e, 1) for value in values if (e := estimate(value)) is not None), MISSING)


def _estimates(raw: Any, prefix: str = "") -> dict[str, Estimate]:
    """Read named estimates, nested ones under joined names."""
    found: dict[str, Estimate] = {}
    for name, value in mapping(raw).items():
        one = estimate(value)
        if one is not None:
            found[f"{prefix}{name}"] = one
        elif isinstance(value, Mapping) and "value" not in value:
            found.update(_estimates(value, f"{prefix}{name}: "))
    return found


def _bin(raw: Any) -> Bin | None:
    row = mapping(raw)
    p, freq, n = finite(row.get("p")), finite(row.get("freq")), finite(row.get("n"))
    if p is None or freq is None or n is None or not (0 <= p <= 1 and 0 <= freq <= 1):
        return None
    return Bin(p, freq, int(n))


def _shares(rows: list[Row], title: str) -> Markup | None:
    if not rows:
        return None
    shown = [
        Row(
            r.label,
            r.value,
            percent_interval(r.value, 1),
            r.tone,
            f"n = {r.value.n}" if r.value.n is not None else "",
        )
        for r in rows
    ]
    low = min([0.5, *(r.value.lower for r in rows)])
    return forest(shown, title=title, low=math.floor(low * 20 - 0.5) / 20)
