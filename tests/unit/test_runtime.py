"""Process-wide settings: freed memory is kept, waiting threads do not spin."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from accord.stages.runtime import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def touch(times):
    for _ in range(times):
        torch.ones(2_000_000)
touch(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch(20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_blocks_are_used_again_without_the_kernel() -> None:
    assert faults("keep") < 1000  # 20 x 8 MB are 39,000 pages when each block is mapped anew


def test_waiting_threads_do_not_spin_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from accord import cli

    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(cli, "app", lambda **_: None)
    cli.main()
    assert os.environ.pop("GOMP_SPINCOUNT") == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    cli.main()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
