"""What live diagnosis costs in the demo: processor time of its parts against that of a round of PPO.

    accord demo --dir runs                     # or any run of the demo that has its reward model
    python benchmarks/diagnosis_cost.py runs/demo --rounds 6

Counted are the signals of every round, lights and files, and the replies to behaviour prompts; the measurement on
held-out prompts itself is not: it is there without diagnosis. Processor time, so that other work beside it counts
little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from accord.cli import load
from accord.pipeline import run_pipeline
from accord.stages import STAGES
from accord.stages.diagnosing import Monitor
from accord.stages.probe import Panel
from accord.train.loop import Learner
from accord.train.rollouts import OnPolicy
from accord.types import Completion

DEMO_ROUNDS, DEMO_MEASUREMENTS = 36, 4
SPENT: dict[str, list[float]] = {}


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with the processor time of each call noted."""

    def call(*args: Any, **options: Any) -> Any:
        before = time.process_time()
        try:
            return function(*args, **options)
        finally:
            SPENT.setdefault(name, []).append(time.process_time() - before)

    return call


def replies(self: Panel) -> list[Completion]:
    """`Panel.completions`, with the processor time of one reply noted."""
    before = time.process_time()
    made = generate(self)
    SPENT.setdefault("a reply", []).append((time.process_time() - before) / len(self.prompts))
    return made


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Processor time of live diagnosis in the demo.")
    parser.add_argument("run", type=Path, help="a run of the demo with its sft and reward stages")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    found = {p.name.rpartition("-")[0]: p for p in options.run.glob("*-*") if (p / "manifest.json").is_file()}
    behaviours: list[int] = []
    begin = Monitor.begin

    def counted(self: Monitor, learner: Learner) -> None:
        behaviours.append(0 if self.panel is None else len(self.panel.prompts))
        begin(self, learner)

    Monitor.begin = counted
    Monitor.read = timed("read", Monitor.read)
    Monitor.act = timed("act", Monitor.act)
    OnPolicy.prepare = timed("a round's rollouts", OnPolicy.prepare)
    Panel.completions = replies
    with tempfile.TemporaryDirectory() as scratch:
        with resources.as_file(resources.files("accord.starter") / "demo.yaml") as path:
            overrides = [
                f"run.dir={scratch}",
                "run.threads=1",
                f"ppo.model_name_or_path={found['sft'] / 'model'}",
                f"ppo.reward_model={found['reward'] / 'model'}",
                f"ppo.num_rounds={options.rounds}",
                "ppo.eval_steps=1000",
            ]
            config = load(path, overrides)
        from accord.stages import training

        training.fit = timed("fit", training.fit)
        run_pipeline(config, STAGES, only="ppo", say=lambda _: None)
    reading = (sum(SPENT["read"]) + sum(SPENT["act"])) / options.rounds
    measured = SPENT["a reply"][-1] * behaviours[0]
    # `fit` holds one measurement at its end, of held-out and behaviour prompts, which is not part of a round.
    rounds = (sum(SPENT["fit"]) - SPENT["a reply"][-1] * (behaviours[0] + 96)) / options.rounds - reading
    extra = measured * (DEMO_MEASUREMENTS + 1) / DEMO_ROUNDS
    print(f"a round of PPO without diagnosis: {rounds:.3f} s of processor time")
    print(f"signals, lights, files: {reading * 1000:.1f} ms a round, {100 * reading / rounds:.2f} %")
    share = 100 * extra / rounds
    print(f"{behaviours[0]} behaviour prompts: {measured:.3f} s a measurement, {share:.2f} % at the demo's pace")
    print(f"together: {100 * (reading + extra) / rounds:.2f} %")


generate = Panel.completions
if __name__ == "__main__":
    main()
