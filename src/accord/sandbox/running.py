"""Strange code as a program: what goes in is text, what comes out is text."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from accord.errors import ConfigError
from accord.sandbox.launching import Ran, launch
from accord.sandbox.levels import Level, level_of, require
from accord.sandbox.limits import Limits

End = Literal["ok", "error", "timeout", "killed", "flooded"]


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    status: End
    """ok: exit code 0; error: another; timeout: of clock or processor; killed: by a signal, as when memory is gone;
    flooded: it wrote more than it may."""
    exit_code: int | None
    signal: str | None
    """Name of the signal that ended it."""
    stdout: str
    stderr: str
    seconds: float
    """On the clock."""
    cpu_seconds: float
    memory_bytes: int
    """The most it held."""
    level: Level
    """Of the box it ran in."""


def run(
    source: str,
    *,
    limits: Limits | None = None,
    files: Mapping[str, bytes | str] | None = None,
    stdin: str = "",
    level: Level | None = None,
    allow_unsafe: bool = False,
) -> Outcome:
    """Run a Python program that nobody trusts. It has the standard library, and may not start processes.

    Args:
        source: the program; `__name__` is "__main__".
        limits: None = the defaults.
        files: put into its working directory first; relative names.
        stdin: its standard input.
        level: of the box; None = the strongest here.
        allow_unsafe: run it although the level is below `SAFE`.

    Raises:
        SandboxError: there is no box, or none that is safe.
        ConfigError: a name in `files` leads out of the directory.
    """
    limits = limits or Limits()
    walls = require(level, allow_unsafe=allow_unsafe)
    packed = {_inside(name): _base64(content) for name, content in (files or {}).items()}
    ran = launch(walls, limits, {"program": {"source": source, "files": packed}}, stdin.encode())["program"]
    status = end_of(ran, limits)
    by = os.WTERMSIG(ran.ended) if ran.ended is not None and os.WIFSIGNALED(ran.ended) else None
    return Outcome(
        status=status,
        exit_code=os.WEXITSTATUS(ran.ended) if ran.ended is not None and os.WIFEXITED(ran.ended) else None,
        signal=None if by is None else signal.Signals(by).name,
        stdout=ran.stdout.decode(errors="replace"),
        stderr=ran.stderr.decode(errors="replace"),
        seconds=ran.seconds,
        cpu_seconds=ran.cpu_seconds,
        memory_bytes=ran.memory_kb * 1024,
        level=level_of(walls),
    )


def end_of(ran: Ran, limits: Limits) -> End:
    """How a process ended."""
    if ran.flooded:
        return "flooded"
    if ran.timed_out or ran.ended is None:
        return "timeout"
    if os.WIFSIGNALED(ran.ended):
        # A process that ignores the signal of its limit is killed a second later, and then only its time says why.
        late = os.WTERMSIG(ran.ended) == signal.SIGXCPU or ran.cpu_seconds >= limits.inside()["cpu_seconds"]
        return "timeout" if late else "killed"
    return "ok" if os.WEXITSTATUS(ran.ended) == 0 else "error"


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ConfigError(f"the file '{name}' lies outside the directory of the program", fix="give a relative name")
    return str(path)


def _base64(content: bytes | str) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode("ascii")
