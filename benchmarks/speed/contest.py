"""Contenders take turns on the same steps: start their processes, compare losses first, alternate the order, collect.

The order of a round is turned round in the next one (A B B A ...), so that a machine that gets slower or faster favours
nobody. Ratios are made step by step, between times of the same batch.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Log = Callable[[str], None]
START_SECONDS, TURN_SECONDS = 300.0, 600.0


@dataclass(frozen=True)
class Contender:
    """Who competes: a module of this package, run in a process of its own."""

    name: str
    module: str
    precision: str = "float32"
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """Settings of the contender beside the common ones."""
    environment: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Plan:
    """How long a contest goes on."""

    rounds: int
    """Measured rounds, after the one that compares losses and warms up."""
    block: int = 1
    """Steps of a contender in a round."""
    check: int = 2
    """Steps whose losses are compared; they are not timed."""
    warm: int = 0
    """Further steps that are not timed: on-policy checks have scripted rollouts, the first sampled one warms up."""

    @property
    def steps(self) -> int:
        """Steps of each contender."""
        return self.check + self.warm + self.rounds * self.block


class FailedError(Exception):
    """A contender ended or said that it cannot go on."""


class Process:
    """A contender's process."""

    def __init__(self, contender: Contender, job: dict[str, Any], python: str) -> None:
        """Start it; what it prints goes to a file beside its job."""
        self.contender = contender
        self.errors = Path(job["directory"]) / f"{job['item']}-{contender.name.replace(' ', '-')}.log"
        own = {**job, "precision": contender.precision, "settings": {**job.get("settings", {}), **contender.settings}}
        environment = {**os.environ, **contender.environment}
        if job["threads"]:
            environment |= {"OMP_NUM_THREADS": str(job["threads"]), "MKL_NUM_THREADS": str(job["threads"])}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")])
        with self.errors.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [python, "-m", f"benchmarks.speed.{contender.module}", json.dumps(own)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        self.heard: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.put(json.loads(line))
        self.heard.put(None)

    def expect(self, seconds: float) -> dict[str, Any]:
        """The next message.

        Raises:
            FailedError: the process ended, reported an error, or said nothing in time.
        """
        try:
            message = self.heard.get(timeout=seconds)
        except queue.Empty:
            raise FailedError(f"nothing heard for {seconds:.0f} s") from None
        if message is None:
            lines = self.errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise FailedError(f"ended: {lines[-1] if lines else 'nothing printed'}")
        if "error" in message:
            raise FailedError(str(message["error"]))
        return message

    def ask(self, seconds: float = TURN_SECONDS, **message: Any) -> dict[str, Any]:
        """Send a message and return the answer.

        Raises:
            FailedError: see `expect`.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; `expect` says why
        return self.expect(seconds)

    def end(self) -> None:
        """Let nothing behind."""
        self.process.kill()
        self.process.wait()
        self.listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                assert pipe is not None
                pipe.close()


def contest(
    contenders: Sequence[Contender], job: dict[str, Any], plan: Plan, log: Log, pythons: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run one comparison.

    Args:
        contenders: the first is Accord's; it writes the steps that the others train on.
        job: what all are told: item, directory, sizes, threads, device.
        plan: how many steps.
        log: prints a line with the elapsed time.
        pythons: interpreter of a module, where it is not this one.

    Returns:
        By contender: seconds of each timed step, losses, phases, memory, or an error.
    """
    job = {**job, "steps": plan.steps}
    if plan.warm:
        job["scripted"] = plan.check
    ring = Ring(contenders, job, log, pythons or {})
    try:
        ring.launch(contenders[:1], write_steps=True)
        if ring.running:
            ring.launch(contenders[1:])
        log(f"  ready: {', '.join(ring.running)}")
        for number, count in enumerate([plan.check + plan.warm] + [plan.block] * plan.rounds):
            ring.round(count, backwards=number % 2 == 1)
            log(f"  round {number} of {plan.rounds}, s a step: {ring.last(count)}")
        for name in list(ring.running):
            ring.attempt(name, lambda process, result: result.update(process.ask(stop=True)["peak"]))
    finally:
        for process in ring.running.values():
            process.end()
    return {"contenders": {name: digest(found, plan) for name, found in ring.results.items()}, "plan": vars(plan)}


class Ring:
    """The contenders that are still running, and what they have said."""

    def __init__(self, contenders: Sequence[Contender], job: dict[str, Any], log: Log, pythons: dict[str, str]) -> None:
        """Start nothing yet."""
        self.job, self.log, self.pythons = job, log, pythons
        self.running: dict[str, Process] = {}
        self.results: dict[str, dict[str, Any]] = {
            c.name: {"precision": c.precision, "error": "not started", "steps": []} for c in contenders
        }

    def attempt(self, name: str, action: Callable[[Process, dict[str, Any]], None]) -> None:
        """Do something with a contender; one that fails is left out from then on, and its error is kept."""
        try:
            action(self.running[name], self.results[name])
        except FailedError as error:
            self.log(f"  {name}: {error}")
            self.results[name]["error"] = str(error)
            self.running.pop(name).end()

    def launch(self, chosen: Sequence[Contender], **more: Any) -> None:
        """Start processes side by side and wait until all are ready; passes of a reference are made one by one."""
        waiting: list[str] = []

        def first(process: Process, result: dict[str, Any]) -> None:
            message = process.expect(START_SECONDS)
            if message["gate"] == "reference":
                result["reference_rows"] = message["rows"]
                waiting.append(process.contender.name)
            else:
                _ready(result, message)

        for one in chosen:
            self.results[one.name].pop("error")
            self.running[one.name] = Process(one, {**self.job, **more}, self.pythons.get(one.module, sys.executable))
        for one in chosen:
            self.attempt(one.name, first)
        for name in waiting:
            self.attempt(name, _reference)

    def round(self, count: int, *, backwards: bool) -> None:
        """Let each take `count` steps, one after the other."""

        def turn(process: Process, result: dict[str, Any]) -> None:
            result["steps"] += process.ask(go=count)["steps"]

        for name in list(self.running)[:: -1 if backwards else 1]:
            self.attempt(name, turn)

    def last(self, count: int) -> str:
        """Mean seconds of the last steps of each."""
        means = {n: statistics.fmean(s["seconds"] for s in self.results[n]["steps"][-count:]) for n in self.running}
        return ", ".join(f"{name} {mean:.2f}" for name, mean in means.items())


def _ready(result: dict[str, Any], message: dict[str, Any]) -> None:
    result["resident_mib"] = message["resident_mib"]
    result["settings"] = message.get("settings")


def _reference(process: Process, result: dict[str, Any]) -> None:
    """Time the pass of the reference over the rows of all steps: once to warm up, then twice."""
    times = [process.ask(go=1)["steps"][0]["seconds"] for _ in range(3)]
    result["reference_seconds"] = times[1:]
    _ready(result, process.ask(next=True))


def digest(found: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """What is kept of a contender: timed steps apart from those that were compared."""
    steps = found.pop("steps")
    skipped = plan.check + plan.warm
    timed, checked = steps[skipped:], steps[: plan.check]
    result = {key: value for key, value in found.items() if value is not None}
    result["checked"] = [{"loss": s.get("loss"), "grad_norm": s.get("grad_norm")} for s in checked]
    result["seconds"] = [s["seconds"] for s in timed]
    for name in ("tokens", "generated", "rates", "parts"):
        if timed and name in timed[0]:
            result[name] = [s[name] for s in timed]
    phases = sorted({name for s in timed for name in s.get("phases", {})})
    if phases:
        result["phases"] = {n: statistics.median(s["phases"].get(n, 0.0) for s in timed) for n in phases}
    if "reference_seconds" in result and result.get("reference_rows") and timed:
        share = statistics.median(result["reference_seconds"]) / plan.steps
        result["reference_a_step"] = share
        result["seconds"] = [s + share for s in result["seconds"]]
    return result
