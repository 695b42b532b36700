"""One process at a time works on a run directory."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from accord.errors import ArtifactError
from accord.storage import io_errors

LOCK = ".lock"


@contextmanager
def lock_run(run_dir: Path) -> Generator[None, None, None]:
    """Hold the run directory for this process; it is created when missing, and released even by kill -9.

    Raises:
        ArtifactError: when another process (its id is named) works on the run, or the disk refuses.
    """
    with io_errors("open the run directory", run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(run_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with io_errors("lock the run directory", run_dir):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "an unknown process"
                raise ArtifactError(
                    f"the run is in use by {holder}",
                    where=str(run_dir),
                    fix="wait until it has finished, stop it, or choose another run.name",
                ) from error
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
