"""Hooks: what is shown, logged, measured and guarded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from accord.errors import TrainingError
from accord.tracking import Tracker, read_metrics
from accord.train import hooks
from accord.train.loop import Hook, Learner, StepInfo
from train_models import ListSource, causal, make_learner, random_batch

LEARNER = make_learner(causal())
BATCH = random_batch(1)


def info(
    step: int, *, total: int = 10, learner: Learner | None = None, boundary: bool = True, **metrics: float
) -> StepInfo:
    source = ListSource([BATCH])
    source.at_boundary = boundary
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    return StepInfo(step, total, named, learner or make_learner(causal()), source)


def play(hook: Hook, *infos: StepInfo) -> list[bool]:
    """Let one learner go through the steps."""
    learner = LEARNER
    learner.memory.clear()
    return [bool(hook(StepInfo(i.step, i.total, i.metrics, learner, i.source))) for i in infos]


class Bar:
    def __init__(self) -> None:
        self.calls: list[tuple[int, dict[str, Any]]] = []

    def update(self, n: int = 1, **shown: object) -> None:
        self.calls.append((n, shown))


def test_the_bar_shows_the_metrics_that_are_there() -> None:
    bar = Bar()
    play(hooks.show(bar, "loss", "objective/kl"), info(1, loss=2.0, other=1.0), info(2, loss=1.0, objective__kl=0.5))
    assert bar.calls == [(1, {"loss": 2.0}), (1, {"loss": 1.0, "kl": 0.5})]


def logged(path: Path, every: int, *infos: StepInfo) -> list[dict[str, float]]:
    with Tracker(path) as tracker:
        play(hooks.log(tracker, every), *infos)
    return [{k: v for k, v in row.items() if k != "time_s"} for row in read_metrics(path)]


def test_a_line_stands_for_all_the_steps_it_covers(tmp_path: Path) -> None:
    rows = logged(tmp_path, 3, *(info(step, total=7, loss=float(step)) for step in range(1, 8)))
    assert rows == [{"step": 3, "loss": 2.0}, {"step": 6, "loss": 5.0}, {"step": 7, "loss": 7.0}]


def test_a_metric_that_is_not_there_at_every_step_is_averaged_over_those_it_is(tmp_path: Path) -> None:
    rows = logged(tmp_path, 2, info(1, loss=1.0, kl=4.0), info(2, loss=3.0))
    assert rows == [{"step": 2, "loss": 2.0, "kl": 4.0}]


def test_every_round_has_a_line_at_its_end(tmp_path: Path) -> None:
    steps = [
        info(1, boundary=False, round=0.0, loss=1.0),
        info(2, boundary=True, loss=3.0),
        info(3, boundary=False, round=1.0, loss=5.0),
        info(4, boundary=True, loss=5.0),
        info(5, boundary=True, loss=9.0),
    ]
    assert logged(tmp_path, 100, *steps) == [
        {"step": 2, "round": 0.0, "loss": 2.0},
        {"step": 4, "round": 1.0, "loss": 5.0},
    ]


def test_an_evaluation_is_logged_at_its_step(tmp_path: Path) -> None:
    rows = logged(tmp_path, 100, info(1, boundary=False, loss=1.0), info(2, boundary=False, eval__gold=0.5, loss=2.0))
    assert rows == [{"step": 2, "loss": 1.5, "eval/gold": 0.5}]


def test_evaluations_come_at_their_steps_and_at_the_end() -> None:
    asked = []

    def measure() -> dict[str, float]:
        asked.append(1)
        return {"gold": float(len(asked))}

    steps = [info(step, total=5) for step in range(1, 6)]
    play(hooks.evaluate(measure, 2), *steps)
    assert [s.metrics for s in steps] == [{}, {"eval/gold": 1.0}, {}, {"eval/gold": 2.0}, {"eval/gold": 3.0}]


def kls(*values: float) -> list[StepInfo]:
    return [info(step, kl=value) for step, value in enumerate(values, start=1)]


def test_a_guard_stops_when_a_bound_is_broken() -> None:
    said: list[str] = []
    guard = hooks.Guard({"kl": (-1.0, 5.0), "absent": (0, 1)}, on_alarm=said.append)
    assert play(guard, *kls(5.0, -1.0, 5.1)) == [False, False, True]
    assert guard.alarms == said == ["step 3: kl = 5.1 is outside [-1, 5]"]
    assert play(hooks.Guard({"kl": (-1.0, 5.0)}), *kls(-1.1)) == [True]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_outside_every_bound(bad: float) -> None:
    assert play(hooks.Guard({"kl": (-math.inf, math.inf)}), *kls(bad)) == [True]


def test_a_patient_guard_waits_for_readings_in_a_row() -> None:
    guard = hooks.Guard({"kl": (0.0, 1.0)}, patience=3)
    assert play(guard, *kls(2, 2, 0.5, 2, 2), info(6), *kls(2)) == [False] * 6 + [True]
    assert len(guard.alarms) == 1


def test_two_guards_on_one_metric_count_apart() -> None:
    strict, lax = hooks.Guard({"kl": (0.0, 1.0)}, patience=2), hooks.Guard({"kl": (0.0, 9.0)}, patience=2)
    learner = make_learner(causal())
    for step in (1, 2):
        seen = [guard(info(step, learner=learner, kl=5.0)) for guard in (strict, lax)]
    assert seen == [True, False]


def test_a_guard_may_raise() -> None:
    guard = hooks.Guard({"kl": (0.0, 1.0)}, action="error")
    with pytest.raises(TrainingError, match="step 2: kl = 3 is outside"):
        play(guard, *kls(1, 3))
    assert guard.alarms
