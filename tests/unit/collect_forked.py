"""Processes for tests that kill them, forked from one that has everything imported.

Importing takes two seconds of a processor, a fork none. They share nothing with this process but what they are given.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, TextIO

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "uvicorn", "accord.cli", "accord.collect.app.serve", "accord.collect.claims"])


def start(work: Callable[..., Any], *arguments: Any) -> tuple[ForkServerProcess, TextIO]:
    """Call `work(*arguments)`, a function of a module, in a process; returns it and its standard output."""
    reader, writer = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_speaking, args=(writer, work, arguments))
    process.start()
    writer.close()
    return process, os.fdopen(os.dup(reader.fileno()), encoding="utf-8")


def _speaking(writer: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.dup2(writer.fileno(), 1)
    writer.close()
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1)
    work(*arguments)


def command(*arguments: str) -> None:
    """What `accord ARGUMENTS` does."""
    from accord import cli

    sys.argv = ["accord", *arguments]
    cli.main()
