"""Progress of long steps: a bar with rate and remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO, Any, Protocol

PLAIN_EVERY_S = 5.0
"""Seconds between two plain lines, at least."""


class Progress(Protocol):
    """What a long step reports to."""

    def update(self, n: int = 1, **info: object) -> None:
        """Add `n` finished items; `info` (numbers or text) is shown beside the count."""
        ...


@contextmanager
def track(
    label: str,
    total: int | None,
    *,
    done: int = 0,
    quiet: bool = False,
    stream: IO[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Progress, None, None]:
    """Show the progress of the block.

    A terminal gets a live bar (uncoloured when NO_COLOR is set); a pipe, a file or a dumb terminal gets one
    plain line at most every 5 seconds and one at the end, which says so if the block failed.

    Args:
        label: what is being done, e.g. ``"sft"``.
        total: number of items, None when unknown.
        done: items finished by an earlier attempt; they count as done but not towards the rate.
        quiet: show nothing.
        stream: where to write, standard error by default.
        clock: monotonic seconds.

    Returns:
        The object to call `.update(n, **info)` on, as the value of the `with` statement.
    """
    output: IO[str] | None = stream or sys.stderr
    view: _Plain | _Bar | _Silent
    if quiet or output is None:
        view = _Silent()
    elif output.isatty() and os.environ.get("TERM") != "dumb":
        view = _Bar(label, total, done, output)
    else:
        view = _Plain(label, total, done, output, clock)
    failed = True
    try:
        yield view
        failed = False
    finally:
        view.finish(failed=failed)


class _Silent:
    def update(self, n: int = 1, **info: object) -> None:
        del n, info

    def finish(self, *, failed: bool) -> None:
        del failed


class _Plain:
    def __init__(self, label: str, total: int | None, done: int, stream: IO[str], clock: Callable[[], float]) -> None:
        self._label, self._total, self._stream, self._clock = label, total, stream, clock
        self._done = self._first = done
        self._info: dict[str, object] = {}
        self._started = self._printed = clock()

    def update(self, n: int = 1, **info: object) -> None:
        self._done += n
        self._info.update(info)
        now = self._clock()
        if now - self._printed >= PLAIN_EVERY_S:
            self._printed = now
            self._print(now, "")

    def finish(self, *, failed: bool) -> None:
        self._print(self._clock(), " stopped" if failed else " done")

    def _print(self, now: float, state: str) -> None:
        seconds = now - self._started
        rate = (self._done - self._first) / seconds if seconds > 0 else 0.0
        parts = [f"{self._label}:{state} {self._done}"]
        if self._total is not None:
            parts[0] += f"/{self._total}"
            if self._total > 0:
                parts.append(f"{100 * self._done // self._total}%")
        parts.append(f"{format_rate(rate)}")
        if state:
            parts.append(f"in {format_seconds(seconds)}")
        elif self._total is not None and rate > 0:
            parts.append(f"eta {format_seconds((self._total - self._done) / rate)}")
        parts.extend(_info_texts(self._info))
        print("  ".join(parts), file=self._stream, flush=True)


class _Bar:
    def __init__(self, label: str, total: int | None, done: int, stream: IO[str]) -> None:
        from rich import progress as bars  # only a terminal pays for the import
        from rich.console import Console

        class Rate(bars.ProgressColumn):
            def render(self, task: bars.Task) -> Any:
                return format_rate(task.speed or 0.0)

        self._bar = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=24),
            bars.MofNCompleteColumn(),
            Rate(),
            bars.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            bars.TextColumn("{task.fields[info]}", markup=False),
            console=Console(file=stream, highlight=False),
        )
        self._info: dict[str, object] = {}
        self._task = self._bar.add_task(label, total=total, completed=done, info="")
        self._bar.start()

    def update(self, n: int = 1, **info: object) -> None:
        self._info.update(info)
        self._bar.update(self._task, advance=n, info="  ".join(_info_texts(self._info)))

    def finish(self, *, failed: bool) -> None:
        if failed:
            self._info["state"] = "stopped"
            self.update(0)
        self._bar.stop()


def _info_texts(info: dict[str, object]) -> list[str]:
    return [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in info.items()]


def format_rate(per_second: float) -> str:
    """Write a rate with three digits, per second, or per minute when slower than one in two seconds."""
    return f"{per_second:.3g}/s" if per_second >= 0.5 or per_second == 0 else f"{60 * per_second:.3g}/min"


def format_seconds(seconds: float) -> str:
    """Write a duration as m:ss or h:mm:ss."""
    minutes, second = divmod(round(max(seconds, 0.0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
