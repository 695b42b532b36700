"""What a contender's process says and hears: it waits for its turn, takes the steps it is told to, reports them.

Contenders take turns, so all their processes live at once and only one computes. A process writes one JSON object a
line to what was its standard output (everything else it prints goes to standard error) and reads one a line:

    {"gate": "ready", ...memory}       <-  it has loaded everything and waits
    {"go": 3}                          ->  take three steps
    {"steps": [{"seconds": ...}, ...]} <-  done, waiting again
    {"stop": true}                     ->  say the peak of memory and end

This file and `rule.py` import nothing of Accord, so that a peer can run in an environment that lacks it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MIB = 2**20


def status_bytes(field: str) -> int:
    """A size of /proc/self/status in bytes; 0 where there is none (not Linux)."""
    path = Path("/proc/self/status")
    if not path.is_file():
        return 0
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


class Worker:
    """This process as a contender: its channel, its clock, its memory."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Take standard output for messages; what libraries print goes to standard error from now on."""
        self.job = job
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.left = 0
        self.begun = 0.0
        self.baseline = 0
        self.done: list[dict[str, Any]] = []
        self.phases: dict[str, float] = {}
        if job["threads"]:
            import torch

            torch.set_num_threads(job["threads"])

    def say(self, **message: Any) -> None:
        """Send one message."""
        self.out.write(json.dumps(message) + "\n")
        self.out.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for a message; the end of the channel or `stop` ends the process."""
        line = sys.stdin.readline()
        heard = json.loads(line) if line.strip() else {"stop": True}
        if heard.get("stop"):
            self.say(peak=self.memory())
            self.out.close()
            os._exit(0)  # in the middle of a training loop, and nothing has to be saved
        return heard

    def memory(self) -> dict[str, float]:
        """Highest resident memory of the process, and above what it held when it was ready, MiB; of a GPU beside it."""
        peak = status_bytes("VmHWM")
        found = {"peak_mib": peak / MIB, "growth_mib": (peak - self.baseline) / MIB}
        if self.job.get("device") == "cuda":
            import torch

            found["gpu_mib"] = torch.cuda.max_memory_allocated() / MIB
        return found

    def wait(self, gate: str, **more: Any) -> dict[str, Any]:
        """Say that a point is reached and wait for the turn."""
        self.baseline = status_bytes("VmRSS")
        self.say(gate=gate, resident_mib=self.baseline / MIB, **more)
        return self.hear()

    def start(self, **more: Any) -> None:
        """Everything is loaded: wait for the first turn."""
        self.left = int(self.wait("ready", **more)["go"])
        self._begin()

    def lap(self, **numbers: Any) -> None:
        """A step is done. When it was the last of the turn, report the turn and wait for the next."""
        self._synchronise()
        seconds = time.perf_counter() - self.begun
        self.done.append({"seconds": seconds, "phases": dict(self.phases), **numbers})
        self.left -= 1
        if self.left <= 0:
            self.say(steps=self.done)
            self.done = []
            self.left = int(self.hear()["go"])
        self._begin()

    def _begin(self) -> None:
        self.phases.clear()
        self._synchronise()
        self.begun = time.perf_counter()

    def _synchronise(self) -> None:
        if self.job.get("device") == "cuda":
            import torch

            torch.cuda.synchronize()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Credit the time of the block to a phase of the step (meaningful where calls do not return early: CPU)."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - begun

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time credited to a phase."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        return timed


def job_of(arguments: list[str]) -> dict[str, Any]:
    """The job a process was started with: the one argument is JSON."""
    return json.loads(arguments[1])


def scripted(prompt: list[int], number: int, length: int, vocab: int, stop: int) -> list[int]:
    """Reply tokens that are a pure function of the prompt: the same rollouts for contenders whose samplers differ.

    Every third reply is cut at `length`, the others end with the stop token somewhere before.
    """
    state = (sum(prompt) * 2654435761 + number * 97 + 1) % 2**32
    size = length if number % 3 == 0 else length // 2 + (state >> 8) % max(1, length // 2)
    ids: list[int] = []
    for _ in range(size):
        state = (state * 1664525 + 1013904223) % 2**32
        token = 16 + (state >> 10) % (vocab - 16)
        ids.append(token if token != stop else 16)
    if number % 3:
        ids[-1] = stop
    return ids
