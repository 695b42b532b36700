"""Hooks of the loop: progress, logging, evaluation, guards, checkpoints.

Order matters and is the caller's: evaluate, then log, then guard, then checkpoint, so that a checkpoint never claims
a step whose metrics are not on disk, nor one at which a guard ended training. What a hook has to remember between
steps lies in `Learner.memory` and so survives a resume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from accord.checkpoints import latest_checkpoint, write_checkpoint
from accord.errors import TrainingError
from accord.models.state import load_state, save_state
from accord.tracking import Tracker
from accord.train.loop import Hook, Learner, Source, StepInfo


class ProgressBar(Protocol):
    """What `progress.track` yields."""

    def update(self, n: int = 1, **info: object) -> None:
        """Advance by n steps and show numbers beside the bar."""
        ...


def show(bar: ProgressBar, *names: str) -> Hook:
    """Advance `bar` by one step and show the metrics `names` beside it."""

    def hook(info: StepInfo) -> None:
        bar.update(1, **{name.split("/")[-1]: info.metrics[name] for name in names if name in info.metrics})

    return hook


def log(tracker: Tracker, every: int) -> Hook:
    """Write metrics every `every` steps, at the end of every round, and at every evaluation.

    Metrics of the steps between two lines are averaged, so a line stands for all the steps it covers.
    """

    def hook(info: StepInfo) -> None:
        pending: dict[str, list[float]] = info.learner.memory.setdefault("log", {})
        for name, value in info.metrics.items():
            total, count = pending.get(name, (0.0, 0))
            pending[name] = [total + value, count + 1]
        evaluated = any(name.startswith("eval/") for name in info.metrics)
        round_ended = info.source.at_boundary and "round" in pending
        if info.step % every == 0 or info.step == info.total or evaluated or round_ended:
            tracker.log(info.step, {name: total / count for name, (total, count) in pending.items()})
            pending.clear()

    return hook


def evaluate(measure: Callable[[], Mapping[str, float]], every: int) -> Hook:
    """Add `eval/<name>` metrics every `every` steps and at the end."""

    def hook(info: StepInfo) -> None:
        if info.step % every == 0 or info.step == info.total:
            for name, value in measure().items():
                info.metrics[f"eval/{name}"] = value

    return hook


@dataclass
class Guard:
    """Stops training when a metric leaves its bounds for `patience` readings in a row."""

    bounds: Mapping[str, tuple[float, float]]
    """Metric -> (lowest, highest) allowed value."""
    action: str = "stop"
    """`stop` ends training early and keeps the weights; `error` raises."""
    patience: int = 1
    """Readings outside the bounds before the alarm."""
    on_alarm: Callable[[str], None] | None = None
    """Told of every alarm."""
    alarms: list[str] = field(default_factory=list[str])
    """What was said, in order."""

    def __call__(self, info: StepInfo) -> bool:
        """Check the metrics that are present.

        Raises:
            TrainingError: a bound is broken and the action is "error".
        """
        stop = False
        streaks: dict[str, int] = info.learner.memory.setdefault("guard", {})
        for name, (low, high) in self.bounds.items():
            value = info.metrics.get(name)
            if value is None:
                continue
            inside = math.isfinite(value) and low <= value <= high
            key = f"{name} in [{low}, {high}]"
            streaks[key] = 0 if inside else streaks.get(key, 0) + 1
            if inside or streaks[key] < self.patience:
                continue
            message = f"step {info.step}: {name} = {value:.4g} is outside [{low:.4g}, {high:.4g}]"
            self.alarms.append(message)
            if self.on_alarm:
                self.on_alarm(message)
            if self.action == "error":
                raise TrainingError(message, fix="lower learning_rate or raise kl_coef")
            stop = True
        return stop


def checkpoint(directory: Path, every: int, keep: int = 2) -> Hook:
    """Save learner and source at boundaries, at least `every` steps apart; not after the last step."""

    def hook(info: StepInfo) -> None:
        memory = info.learner.memory
        since = info.step - memory.get("checkpoint", 0)
        if since < every or not info.source.at_boundary or info.step >= info.total:
            return
        memory["checkpoint"] = info.step
        tensors, meta = info.learner.state()
        state = {"learner": meta, "source": info.source.state()}
        write_checkpoint(directory, info.step, lambda path: save_state(path, tensors, state), keep=keep)

    return hook


def resume(
    directory: Path,
    learner: Learner,
    source: Source,
    tracker: Tracker,
    on_skip: Callable[[str], None] | None = None,
) -> int:
    """Continue from the newest undamaged checkpoint, if there is one.

    Metrics logged after that checkpoint are removed: they will be logged again.

    Args:
        directory: where `checkpoint` writes.
        learner: restored in place.
        source: restored in place; not iterated yet.
        tracker: rewound to the step of the checkpoint.
        on_skip: told of every damaged checkpoint that is passed over.

    Returns:
        The step training continues from; 0 = from the start.
    """
    found, damaged = latest_checkpoint(directory)
    for skipped in damaged:
        if on_skip:
            on_skip(f"checkpoint {skipped.path.name} is damaged and not used: {skipped.reason}")
    if found is None:
        tracker.rewind(-1)
        return 0
    tensors, meta = load_state(found.path)
    state: dict[str, Any] = dict(meta)
    learner.restore(tensors, state["learner"])
    source.restore(state["source"])
    tracker.rewind(learner.step)
    return learner.step
