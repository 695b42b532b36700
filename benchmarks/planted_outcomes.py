"""What a run of planted_hacks.py showed: where gold peaked and fell, when lights turned red, what a rollback keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accord.diagnose.record import read_alarms
from accord.tracking import read_metrics

FALL = 0.95
"""Share of the best gold below which it has fallen."""
MEASURED = ("eval/gold", "eval/proxy", "eval/kl", "eval/length")
ROUND = ("signals/length", "signals/length_corr", "signals/spread", "signals/outside", "signals/saturation")
"""Of learned rewards only; the last three are what a function does not have."""


@dataclass(frozen=True)
class Outcome:
    """What one run showed."""

    hack: str
    """Name of the condition."""
    seed: int
    weight: float
    best: float
    """Highest gold, of means over three measurements."""
    best_round: float
    fallen_round: float | None
    """First round at which gold was below 95 % of the highest so far; None = never."""
    end: float
    """Gold at the end."""
    first: dict[str, float]
    """Round in which each light turned red first."""
    alarm_kl: float | None
    """KL at the measurement before the first alarm, nats."""
    best_kl: float
    kept_judged: float
    """Gold of the weights that a rollback keeps when it waits for the judge; of the end, when there is no alarm."""
    kept_alone: float
    """Gold of the weights that a rollback keeps without a judge."""
    kept_share: float
    """Of the highest gold measured, by the measurements themselves: of what a rollback keeps with a judge."""
    seconds: float
    """Processor time."""
    warned: float | None = None
    """First round in which a light that can be red was yellow."""
    path: dict[str, list[list[float]]] = field(default_factory=dict[str, list[list[float]]])
    """Name of a metric -> [round, value] of each reading."""
    reward: dict[str, float] = field(default_factory=dict[str, float])
    """What a learned reward was learned from, and its accuracy on held-out labels."""

    @property
    def alarm(self) -> float | None:
        """Round of the first alarm."""
        return min(self.first.values(), default=None)

    @property
    def without_gold(self) -> float | None:
        """Round of the first alarm that needs no judge."""
        return min((r for name, r in self.first.items() if name != "gold_drop"), default=None)

    @property
    def in_time(self) -> bool:
        """Whether an alarm came, and before gold had fallen if it fell at all."""
        return self.alarm is not None and (self.fallen_round is None or self.alarm < self.fallen_round)


def read_outcome(
    stage: Path, name: str, seed: int, weight: float, seconds: float, *, per_round: int = 1, reward: dict[str, float]
) -> Outcome:
    """What the files of a stage say.

    Args:
        stage: directory of the finished stage.
        name: of the condition.
        seed: of the run.
        weight: of the planted bias.
        seconds: processor time.
        per_round: optimiser steps a round.
        reward: what is known of a learned reward.
    """
    rows = read_metrics(stage / "metrics.jsonl")

    def round_of(step: float) -> float:
        return float(-(-int(step) // per_round))

    path = [row for row in rows if "eval/gold" in row]
    raw = [row["eval/gold"] for row in path]
    gold = smoothed(raw)
    at = [round_of(row["step"]) for row in path]
    top = max(range(len(gold)), key=lambda i: gold[i])
    first: dict[str, float] = {}
    for alarm in read_alarms(stage):
        first.setdefault(str(alarm["rule"]), round_of(alarm["step"]))
    alarm = min(first.values(), default=None)
    alone = min((r for rule, r in first.items() if rule != "gold_drop"), default=None)
    light = {round_of(row["step"]): row["signals/alarm_light"] for row in rows if "signals/alarm_light" in row}
    kept = kept_with_judge(raw, at, alarm, first.get("gold_drop"))
    return Outcome(
        hack=name,
        seed=seed,
        weight=weight,
        best=gold[top],
        best_round=at[top],
        fallen_round=fallen_at(raw, [row.get("signals/gold_drop", 0.0) for row in path], at),
        end=gold[-1],
        first=first,
        alarm_kl=None if alarm is None else [row["eval/kl"] for row, r in zip(path, at, strict=True) if r <= alarm][-1],
        best_kl=path[top]["eval/kl"],
        kept_judged=gold[kept],
        kept_alone=gold[kept_alone(at, light, alone)],
        kept_share=raw[kept] / max(raw),
        seconds=seconds,
        warned=min((r for r, colour in light.items() if colour >= 1), default=None),
        path={
            metric: [[round_of(row["step"]), round(row[metric], 4)] for row in rows if metric in row]
            for metric in (*MEASURED, *(ROUND if reward else ()))
        },
        reward=reward,
    )


def fallen_at(gold: Sequence[float], drop: Sequence[float], at: Sequence[float]) -> float | None:
    """First round whose gold is below 95 % of the best so far, by two standard errors or more; None = never.

    Args:
        gold: mean of each measurement.
        drop: `signals/gold_drop`, the paired difference from the best in standard errors.
        at: rounds.
    """
    return next((at[i] for i in range(len(gold)) if gold[i] < FALL * max(gold[: i + 1]) and drop[i] >= 2), None)


def smoothed(values: Sequence[float]) -> list[float]:
    """Means over three neighbours, two at the ends."""
    return [sum(part) / len(part) for i in range(len(values)) for part in (values[max(0, i - 1) : i + 2],)]


def kept_with_judge(gold: Sequence[float], at: Sequence[float], alarm: float | None, dropped: float | None) -> int:
    """Index of the weights kept by `action: rollback` with a judge, whose decisions it repeats: the best so far."""
    if alarm is None:
        return len(gold) - 1
    best = 0
    for i, value in enumerate(gold):
        best = i if value > gold[best] else best
        if dropped is not None and at[i] >= max(alarm, dropped):
            break
    return best


def kept_alone(at: Sequence[float], light: dict[float, float], alarm: float | None) -> int:
    """Index of the weights kept without a judge: the last measurement with no light on before the alarm."""
    if alarm is None:
        return len(at) - 1
    return max((i for i, step in enumerate(at) if step < alarm and light.get(step, 0.0) == 0.0), default=0)


def rounded(value: Any) -> Any:
    """The same with numbers of at most five digits after the point, for a file."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 5) if isinstance(value, float) else value


def read_rows(files: Sequence[Path]) -> Iterator[Outcome]:
    """Runs that are done, one a line of each file."""
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            row: dict[str, Any] = json.loads(line)
            yield Outcome(**row)
