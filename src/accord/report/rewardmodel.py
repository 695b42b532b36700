"""The reward model: how often it orders held-out pairs rightly, beside baselines, and whether it knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from accord.report.dotcharts import Bin, reliability
from accord.report.forest import Row, forest
from accord.report.formats import Estimate, estimate, finite, number, percent_interval
from accord.report.reward_card import CardReport, read_card
from accord.report.runfiles import Run, mapping, sequence

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


def read_reward(run: Run) -> RewardReport | None:
    """Read `eval.json` of the reward stage; None when there is none."""
    raw = run.json("eval.json", prefer="reward")
    if raw is None:
        return None
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
    )


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
