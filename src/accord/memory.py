"""Memory of this process: its peak, and the garbage collector held still while records are made."""

from __future__ import annotations

import gc
import re
import resource
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def no_collection() -> Generator[None]:
    """Hold the garbage collector still while many records are made.

    It walks through all objects of the process again and again as their number grows, and finds nothing: records have
    no cycles. That was two fifths of the time to read a large file.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def reset_peak_memory() -> None:
    """Let the peak count from now; only Linux can, elsewhere the peak stays that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Return the highest resident memory since the last reset (or since the start of the process), MiB."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found.group(1)) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024  # bytes on macOS, KiB elsewhere
