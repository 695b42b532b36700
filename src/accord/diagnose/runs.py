"""The diagnosis of a run from its files alone, whatever state it is in: finished, running or killed.

Stages that were watched left `diagnosis.json`. Of others (older runs, offline algorithms) the metric log is read:
length, KL, entropy, replies that were cut, and proxy against gold; signals that need the replies are not there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accord.diagnose import record
from accord.diagnose.hackability import Hackability, hackability, read_drawn
from accord.diagnose.judged import over_optimisation
from accord.diagnose.lights import LIGHTS, Light, read_lights, worst
from accord.diagnose.rules import Reading, Thresholds, rules_of
from accord.errors import ArtifactError
from accord.stats.overoptimisation import Curve
from accord.storage import MANIFEST
from accord.tracking import METRICS, read_metrics

_LOGGED = {
    "length": "completions/mean_length",
    "cut": "completions/clipped_ratio",
    "entropy": "objective/rollout_entropy",
    "kl": "objective/kl",
}
"""Signals that a metric log holds without the replies."""


@dataclass(frozen=True)
class LightNow:
    """One light, with what it is about."""

    rule: str
    light: Light
    says: str
    progress: float
    """Share of the way to its limit; 1 = at it."""
    now: Mapping[str, float]
    """Newest reading of each signal of the rule."""
    sft: Mapping[str, float]
    limits: Mapping[str, tuple[str, float]]
    """How each signal is compared, and its limit."""


@dataclass(frozen=True)
class PathPoint:
    """One measurement on held-out prompts."""

    step: int
    kl: float
    proxy: float
    gold: float
    error: float
    """Standard error of gold; 0 = not known."""


@dataclass(frozen=True)
class StageDiagnosis:
    """What is known of one stage that optimised a policy."""

    stage: str
    directory: Path
    finished: bool
    step: int
    light: Light
    lights: tuple[LightNow, ...]
    alarms: tuple[Mapping[str, Any], ...]
    path: tuple[PathPoint, ...]
    curve: Curve | None
    """Of gold over the root of KL."""
    recorded: bool
    """Whether the stage was watched; otherwise this is from its metric log."""
    rolled_back_to: int | None = None


@dataclass(frozen=True)
class RunDiagnosis:
    """What is known of a run."""

    directory: Path
    stages: tuple[StageDiagnosis, ...]
    reward_models: Mapping[str, Hackability] = field(default_factory=dict[str, Hackability])
    """Best-of-n stage -> what it says of the reward model."""

    @property
    def light(self) -> Light:
        """The worst light of the run's stages."""
        return LIGHTS[max((LIGHTS.index(s.light) for s in self.stages), default=0)]


def diagnose_run(directory: Path) -> RunDiagnosis:
    """Read the diagnosis of a run, or of one stage of it.

    Args:
        directory: `runs/<name>`, or the directory of a stage in it.

    Raises:
        ArtifactError: there is no such directory, nothing in it was optimised, or a file is damaged.
    """
    if not directory.is_dir():
        raise ArtifactError("there is no such directory", where=str(directory), fix="give runs/<name>")
    places = [directory] if (directory / METRICS).is_file() or (directory / "scores.jsonl").is_file() else []
    stages: list[StageDiagnosis] = []
    rewards: dict[str, Hackability] = {}
    for place in places or _newest(directory):
        found = diagnose_stage(place)
        if found is not None:
            stages.append(found)
        if (place / "scores.jsonl").is_file() and (place / "samples.jsonl").is_file():
            drawn = read_drawn(place)
            if drawn:
                rewards[_name(place)] = hackability(drawn)
    if not stages and not rewards:
        raise ArtifactError(
            "no stage of it has optimised a policy or drawn best-of-n, so there is nothing to diagnose",
            where=str(directory),
            fix="run a stage such as ppo, grpo or best_of_n first",
        )
    return RunDiagnosis(directory, tuple(stages), rewards)


def diagnose_stage(directory: Path) -> StageDiagnosis | None:
    """Read the diagnosis of a stage; None when it did not optimise a policy.

    Raises:
        ArtifactError: a file is damaged.
    """
    state = record.read_state(directory)
    if state is not None:
        return _recorded(directory, state)
    if not (directory / METRICS).is_file():
        return None
    rows = read_metrics(directory)
    if not any("objective/kl" in row or "eval/kl" in row for row in rows):
        return None
    return _from_log(directory, rows)


def as_json(found: RunDiagnosis) -> dict[str, Any]:
    """The diagnosis as plain data, for programs."""
    from accord.diagnose.hackability import as_json as reward_as_json

    def stage(s: StageDiagnosis) -> dict[str, Any]:
        peak = None if s.curve is None else s.curve.peak
        return {
            "stage": s.stage,
            "directory": str(s.directory),
            "finished": s.finished,
            "step": s.step,
            "light": s.light,
            "recorded": s.recorded,
            "rolled_back_to": s.rolled_back_to,
            "lights": {
                one.rule: {"light": one.light, "progress": one.progress, "now": dict(one.now), "sft": dict(one.sft)}
                for one in s.lights
            },
            "alarms": [dict(alarm) for alarm in s.alarms],
            "path": [[p.step, p.kl, p.proxy, p.gold] for p in s.path],
            "peak_kl": None if peak is None or not math.isfinite(peak.kl) else peak.kl,
        }

    rewards = {name: reward_as_json(one) for name, one in found.reward_models.items()}
    made = {"run": str(found.directory), "light": found.light, "stages": [stage(s) for s in found.stages]}
    return json.loads(json.dumps(made | {"reward_models": rewards}, default=str))


def _newest(directory: Path) -> list[Path]:
    """The newest directory of every section, in the order in which they were made."""
    found: dict[str, Path] = {}
    for path in sorted((p for p in directory.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime):
        if (path / METRICS).is_file() or (path / "scores.jsonl").is_file():
            found[_name(path)] = path
    return sorted(found.values(), key=lambda p: p.stat().st_mtime)


def _name(directory: Path) -> str:
    return directory.name.removesuffix(".partial").rpartition("-")[0] or directory.name


def _recorded(directory: Path, state: Mapping[str, Any]) -> StageDiagnosis:
    try:
        rules: Mapping[str, Any] = state["rules"]
        lights = tuple(_light(name, own, rules, state) for name, own in state["lights"].items())
        path = tuple(PathPoint(int(p[0]), *(float(v) for v in p[1:5])) for p in state["path"])
        step, light = int(state["step"]), LIGHTS[LIGHTS.index(state["light"])]
        back = int(state["kept"]) if state["rolled_back"] else None
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ArtifactError(
            f"the diagnosis has not the form that Accord writes: {error!r}",
            where=str(directory / record.STATE),
            fix="remove the file; the metric log is read instead",
        ) from error
    alarms = tuple(record.read_alarms(directory))
    finished = (directory / MANIFEST).is_file()
    return StageDiagnosis(
        _name(directory), directory, finished, step, light, _sorted(lights), alarms, path, _fit(path), True, back
    )


def _light(name: str, own: Mapping[str, Any], rules: Mapping[str, Any], state: Mapping[str, Any]) -> LightNow:
    rule: Mapping[str, Any] = rules.get(name, {"says": "", "limits": {}})
    limits = {str(s): (str(v[0]), float(v[1])) for s, v in rule["limits"].items()}
    now = {s: float(state["readings"][s][0]) for s in limits if s in state["readings"]}
    sft = {s: float(state["sft"][s][0]) for s in limits if s in state["sft"]}
    light = LIGHTS[LIGHTS.index(own["light"])]
    return LightNow(name, light, str(rule["says"]), float(own["progress"]), now, sft, limits)


def _from_log(directory: Path, rows: Sequence[Mapping[str, float]]) -> StageDiagnosis:
    """Lights of the signals that a metric log holds, with the default thresholds and a patience of two."""
    rules = [r for r in rules_of(Thresholds()) if all(c.signal in _LOGGED for c in r.conditions)]
    state: dict[str, Any] = {}
    first: dict[str, Reading] = {}
    newest: dict[str, Reading] = {}
    for row in rows:
        found = {
            name: Reading(row[metric], 0.0)
            for name, metric in _LOGGED.items()
            if metric in row and math.isfinite(row[metric])
        }
        for name, reading in found.items():
            first.setdefault(name, reading)
        newest |= found
        read_lights(rules, found, first, first, state, 2)
    lights = tuple(
        LightNow(
            r.name,
            state[r.name]["light"],
            r.says,
            state[r.name]["progress"],
            {c.signal: newest[c.signal].value for c in r.conditions},
            {c.signal: first[c.signal].value for c in r.conditions},
            {c.signal: (c.scale, c.red) for c in r.conditions},
        )
        for r in rules
        if r.name in state
    )
    path = tuple(
        PathPoint(int(row["step"]), row["eval/kl"], row.get("eval/proxy", math.nan), row["eval/gold"], 0.0)
        for row in rows
        if "eval/gold" in row and "eval/kl" in row
    )
    finished = (directory / MANIFEST).is_file()
    step = int(rows[-1]["step"])
    return StageDiagnosis(
        _name(directory), directory, finished, step, worst(state), _sorted(lights), (), path, _fit(path), False
    )


def _sorted(lights: Sequence[LightNow]) -> tuple[LightNow, ...]:
    """Red first, then by how far each is on its way."""
    return tuple(sorted(lights, key=lambda one: (-LIGHTS.index(one.light), -one.progress)))


def _fit(path: Sequence[PathPoint]) -> Curve | None:
    fitted = over_optimisation([(p.kl, p.gold) for p in path])
    return None if fitted is None else fitted[0]
