"""How much strange code may use."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from accord.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Of one process in a box; a box holds one process and its threads."""

    seconds: float = 10.0
    """On the clock, from the moment the box is shut."""
    cpu_seconds: float = 5.0
    """Of processor time; the kernel counts whole seconds, so it is rounded up."""
    memory_bytes: int = 1 << 30
    """Of address space."""
    file_bytes: int = 1 << 20
    """Of one file."""
    disk_bytes: int = 16 << 20
    """Of all files together, where the box has its own root."""
    open_files: int = 64
    """At one time."""
    processes: int = 64
    """Threads, in effect: other processes are refused where there is a filter of calls."""
    output_bytes: int = 1 << 18
    """Of standard output, and as much of standard error; more ends the run."""

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"the limit {name} of the sandbox is {value}", fix="give a positive number")

    def inside(self) -> dict[str, int]:
        """What the box sets, in the kernel's units."""
        return {
            "cpu_seconds": math.ceil(self.cpu_seconds),
            "memory_bytes": int(self.memory_bytes),
            "file_bytes": int(self.file_bytes),
            "disk_bytes": int(self.disk_bytes),
            "open_files": int(self.open_files),
            "processes": int(self.processes),
        }
