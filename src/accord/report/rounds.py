"""Rounds: what the reward model and the policy of each round are worth, proxy beside gold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from accord.config import Rounds
from accord.errors import ConfigError
from accord.report.formats import estimate, number, percent_interval
from accord.report.linechart import Figure, Series, line_chart
from accord.report.names import distinct, kind_of, model_name
from accord.report.runfiles import Run, Stage
from accord.rounds import name_in
from accord.yamlfile import load_yaml

_OF_POLICY = (("eval_proxy", "Proxy"), ("eval_gold", "Gold"), ("eval_kl", "KL"), ("eval_length", "Length"))
_OF_REWARD = (("accuracy", "Accuracy"), ("gold_accuracy", "Accuracy, gold"))


@dataclass(frozen=True)
class RoundsReport:
    """The section on rounds."""

    count: int
    sections: tuple[str, ...]
    figures: tuple[Figure, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read_rounds(run: Run) -> RoundsReport | None:
    """Read the `rounds` section of the run's config and what the stages of each round reported; None without rounds."""
    path = run.dir / "config.yaml"
    if not path.is_file():
        return None
    try:
        settings: Any = load_yaml(path).data.get("rounds")
        plan = None if settings is None else Rounds.model_validate_json(json.dumps(settings))
    except (ConfigError, ValueError):
        run.notes.append("config.yaml: not a config that can be read, so rounds are not shown")
        return None
    if plan is None:
        return None
    policies = [s for s in plan.stages if kind_of(s) == "policy"]
    rewards = [s for s in plan.stages if kind_of(s) == "reward_model"]
    numbers = range(1, plan.count + 1)
    wanted = [(s, key, head) for s in rewards for key, head in _OF_REWARD]
    wanted += [(s, key, head) for s in policies for key, head in _OF_POLICY]
    columns = [
        (f"{model_name(section)}: {head}", [_shown(run.stage(name_in(section, k)), key) for k in numbers])
        for section, key, head in wanted
    ]
    columns = [(head, cells) for head, cells in columns if any(cells)]
    rows = [(f"round {k}", *(cells[k - 1] or _state(run, plan, k) for _, cells in columns)) for k in numbers]
    return RoundsReport(
        count=plan.count,
        sections=plan.stages,
        figures=tuple(_figures(policies, numbers, run)),
        heads=("", *(head for head, _ in columns)),
        rows=tuple(rows),
    )


def _figures(policies: list[str], numbers: range, run: Run) -> list[Figure]:
    colours = distinct(policies, run.slots)
    figures: list[Figure] = []
    for key, title, note in (
        ("eval_proxy", "Proxy, round by round", "each by the reward model of its own round"),
        ("eval_gold", "Gold, round by round", "the same judge in all rounds, never used in training"),
    ):
        series = [
            Series(model_name(s), points, colours[s])
            for s in policies
            if (points := [(float(k), v) for k in numbers if (v := _value(run.stage(name_in(s, k)), key)) is not None])
        ]
        svg = line_chart(series, title=title, x_label="round", path=True)
        if svg is not None:
            figures.append(Figure(title, note, svg))
    return figures


def _value(stage: Stage | None, key: str) -> float | None:
    found = None if stage is None else estimate(stage.metrics.get(key))
    return None if found is None else found.value


def _shown(stage: Stage | None, key: str) -> str:
    found = None if stage is None else estimate(stage.metrics.get(key))
    if found is None:
        return ""
    return percent_interval(found, 1) if key in dict(_OF_REWARD) else number(found.value)


def _state(run: Run, plan: Rounds, number_: int) -> str:
    """What stands where a round has no number."""
    return "\u2014" if any(run.stage(name_in(s, number_)) for s in plan.stages) else "to do"
