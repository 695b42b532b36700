"""Runs one stage of a run in forked processes that can be killed at a chosen moment of its work.

Importing torch and transformers takes seconds, a stage of a tiny run tenths of one. So one process imports everything
once, runs no tensor operation itself, and forks a child for every attempt; the child runs `run_pipeline` and reports
each thing it is about to do (an optimiser step, a flush or a rename of a checkpoint or artifact) through a pipe.
The parent kills it with SIGKILL a while after the report it was told to wait for, and says how far the child came.

Started as a program it reads requests, one JSON object a line, from stdin and answers on stdout.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOREVER = 600.0
"""Seconds a child that should be dead stays quiet; the test's own limit comes before."""


@dataclass(frozen=True)
class Moment:
    """When to kill a child: `delay` seconds after its report number `report` among those that start with `of`."""

    report: int
    of: str = ""
    delay: float = 0.0
    freeze: bool = False
    """The child stops at that report, so that it dies exactly there."""


@dataclass(frozen=True)
class Attempt:
    """What became of one child."""

    signal: int
    """Signal it died from; 0 = it ended by itself."""
    code: int
    """Exit code when it ended by itself."""
    reports: list[tuple[float, str]]
    """Seconds since the stage began, and what the child was about to do."""


class Zygote:
    """The process that has everything imported; a context manager."""

    def __init__(self, log: Path) -> None:
        """Start it; what children print goes to `log`."""
        self.log = log
        command = [sys.executable, __file__, str(log)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def run(self, config: Path, runs: Path, section: str, kill: Moment | None = None) -> Attempt:
        """Run one section of `config`, and what it needs, in a fork; kill it at `kill`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        request = {"config": str(config), "runs": str(runs), "section": section, "kill": asdict(kill) if kill else None}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the zygote died: {self.log.read_text()[-2000:]}"
        found = json.loads(answer)
        return Attempt(found["signal"], found["code"], [(at, what) for at, what in found["reports"]])


def serve(log: Path) -> None:
    """Answer requests until stdin ends."""
    from accord.stages import STAGES

    for stage in STAGES.values():
        stage.load()
    # What stages import only when they need it.
    for name in ("tensorboard.summary", "accord.lab", "transformers.models.llama.modeling_llama", "scipy.optimize"):
        importlib.import_module(name)
    gc.freeze()  # a collection in a child would copy every page it looks at
    for line in sys.stdin:
        request = json.loads(line)
        kill = Moment(**request["kill"]) if request["kill"] else None
        attempt = watch(lambda report, request=request: child(request, report), kill, log)
        sys.stdout.write(json.dumps(asdict(attempt)) + "\n")
        sys.stdout.flush()


def watch(work: Callable[[Callable[[str], None]], None], kill: Moment | None, log: Path) -> Attempt:
    """Fork, let the child do `work`, kill it at `kill`, and collect its reports."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        code = 1
        try:
            _redirect(log)
            work(_reporter(writer, kill))
            code = 0
        finally:
            # Whatever happened: a forked child must not run on into the parent's loop.
            if code:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    reports: list[tuple[float, str]] = []
    counted = 0
    with os.fdopen(reader, encoding="utf-8") as lines:
        for line in lines:
            at, what = line.rstrip("\n").split(" ", 1)
            reports.append((float(at), what))
            if kill is None or not what.startswith(kill.of):
                continue
            counted += 1
            if counted == kill.report + 1:
                time.sleep(kill.delay)
                os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    dead = os.WIFSIGNALED(status)
    return Attempt(os.WTERMSIG(status) if dead else 0, 0 if dead else os.WEXITSTATUS(status), reports)


def _redirect(log: Path) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for target in (1, 2):
        os.dup2(handle, target)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _reporter(writer: int, kill: Moment | None) -> Callable[[str], None]:
    started, count = time.monotonic(), 0

    def report(what: str) -> None:
        nonlocal count
        os.write(writer, f"{time.monotonic() - started:.6f} {what}\n".encode())
        if kill is not None and what.startswith(kill.of):
            if kill.freeze and count == kill.report:
                time.sleep(FOREVER)
            count += 1

    return report


def child(request: Mapping[str, Any], report: Callable[[str], None]) -> None:
    """Run the pipeline with everything of interest reported just before it happens."""
    import random

    import numpy
    import torch

    from accord import cli, pipeline
    from accord.stages import STAGES
    from accord.tracking import Tracker
    from accord.train import hooks, loop

    # Nothing may hang on these; forks of one process would share them, processes of their own do not.
    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(os.getpid())
    inside: list[str] = []

    def spy(owner: Any, name: str, what: str, *, opens: bool = False) -> None:
        original = getattr(owner, name)

        def spied(*args: Any, **kwargs: Any) -> Any:
            report("/".join([*inside, what]))
            if not opens:
                return original(*args, **kwargs)
            inside.append(what)
            try:
                return original(*args, **kwargs)
            finally:
                inside.pop()

        setattr(owner, name, spied)

    spy(loop, "update", "step")
    spy(Tracker, "log", "log")
    spy(Tracker, "rewind", "rewind", opens=True)
    spy(hooks, "write_checkpoint", "checkpoint", opens=True)
    spy(hooks, "save_state", "save")
    spy(pipeline, "commit", "commit", opens=True)
    # What a killed process has written is safe with the kernel; flushing guards against power cuts and takes time.
    os.fsync = lambda handle: None
    for owner, name in ((os, "fsync"), (os, "replace"), (os, "mkdir"), (shutil, "rmtree")):
        spy(owner, name, name)
    config = cli.load(Path(request["config"]), [f"run.dir={request['runs']}"])
    report("begin")
    pipeline.run_pipeline(config, STAGES, only=request["section"], say=lambda line: print(line, flush=True))


def moments(reports: Sequence[tuple[float, str]]) -> list[float]:
    """Seconds from each report to the next one; 0 after the last."""
    times = [at for at, _ in reports]
    return [max(0.0, after - at) for at, after in zip(times, [*times[1:], times[-1]], strict=True)]


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
