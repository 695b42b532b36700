"""The mutation check: seed one fault at a time into a copy of the source and see whether a test fails.

    python tests/mutants/run.py                 all mutants, two at a time
    python tests/mutants/run.py -k gae --jobs 1 those with "gae" in file or fault

The heavy libraries are imported once; every mutant is a forked process that imports its own copy of `accord` and runs
pytest on the tests the catalogue names. Exit code 0 = the unchanged code passes and every mutant is killed.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from mutants.catalogue import MUTANTS  # noqa: E402
from mutants.mutant import SOURCE, Mutant, StaleError, mutated  # noqa: E402

CONTROL = Mutant("", "control: nothing is changed", "", "", tuple(sorted({t for m in MUTANTS for t in m.tests})))
WRONG_COPY = 90
"""Exit code of a run that tested other code than the copy."""


@dataclass
class Slot:
    """One copy of the source, and the run in it."""

    home: Path
    mutant: Mutant | None = None
    unchanged: bytes = b""
    modified: int = 0
    pid: int = 0
    started: float = 0.0

    @property
    def source(self) -> Path:
        """The copy."""
        return self.home / "src"

    @property
    def output(self) -> Path:
        """What pytest printed."""
        return self.home / "output"

    def start(self, mutant: Mutant) -> None:
        """Change the copy and fork."""
        if mutant.file:
            path = self.source / "accord" / mutant.file
            self.unchanged, self.modified = path.read_bytes(), path.stat().st_mtime_ns
            path.write_text(mutated(mutant, self.source), encoding="utf-8")
        self.mutant, self.started = mutant, time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            code = 3
            try:
                code = run_tests(self, mutant)
            except BaseException:  # this process must end here, whatever happened
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)

    def finish(self) -> None:
        """Change the copy back; the old time of the file goes with it, so that its bytecode fits again."""
        assert self.mutant is not None
        if self.mutant.file:
            path = self.source / "accord" / self.mutant.file
            path.write_bytes(self.unchanged)
            os.utime(path, ns=(self.modified, self.modified))
        self.mutant = None


def run_tests(slot: Slot, mutant: Mutant) -> int:
    """Run the mutant's tests against the slot's copy; called in the forked process."""
    out = os.open(slot.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.setsid()
    sys.dont_write_bytecode = True
    os.environ.update(
        PYTHONPATH=str(slot.source),
        PYTHONDONTWRITEBYTECODE="1",
        HYPOTHESIS_STORAGE_DIRECTORY=str(slot.home / "hypothesis"),
    )
    sys.path.insert(0, str(slot.source))
    os.chdir(TESTS.parent)
    import pytest
    from hypothesis import Phase, settings

    # A counterexample is enough, it need not be a small one.
    settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate])
    settings.load_profile("mutants")
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0", "--tb=short"]
    # transformers imports hypothesis before pytest can rewrite it.
    options += ["-W", "ignore:Module already imported"]
    if mutant is not CONTROL:
        options.append("-x")
    code = int(pytest.main([*options, *(str(TESTS / test) for test in mutant.tests)]))
    sys.stdout.flush()
    used = sys.modules.get("accord")
    if used is None or not str(used.__file__).startswith(str(slot.source)):
        return WRONG_COPY
    return code


def verdicts(chosen: list[Mutant], jobs: int, limit: float) -> Iterator[tuple[Mutant, str, float, str]]:
    """Run the mutants and yield (mutant, verdict, seconds, output) as they end.

    Verdicts: survived, killed, late (killed by the time limit), broken (pytest could not run the tests).
    """
    waiting = list(chosen)
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        slots = []
        for number in range(jobs):
            slot = Slot(Path(directory) / str(number))
            shutil.copytree(SOURCE, slot.source, ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(slot.source, quiet=2)
            slots.append(slot)
        while waiting or any(slot.mutant for slot in slots):
            for slot in slots:
                if slot.mutant is None and waiting:
                    slot.start(waiting.pop(0))
                if slot.mutant is None:
                    continue
                took = time.monotonic() - slot.started
                done, status = os.waitpid(slot.pid, os.WNOHANG)
                late = not done and took > (limit * 10 if slot.mutant is CONTROL else limit)
                if late:
                    os.killpg(slot.pid, signal.SIGKILL)
                    os.waitpid(slot.pid, 0)
                if done or late:
                    code = os.waitstatus_to_exitcode(status)
                    verdict = "late" if late else {0: "survived", 1: "killed"}.get(code, "broken")
                    mutant = slot.mutant
                    slot.finish()
                    yield mutant, verdict, took, slot.output.read_text(errors="replace")
            time.sleep(0.02)


def main() -> int:
    """Run the check and print one line a mutant."""
    parser = argparse.ArgumentParser(description="Seed faults one at a time; every one must make a test fail.")
    parser.add_argument("-k", default="", metavar="TEXT", help="only mutants with TEXT in file or fault")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--limit", type=float, default=120, help="seconds a mutant may take; then it counts as killed")
    parser.add_argument("--no-control", action="store_true", help="do not run the tests on the unchanged code first")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if options.k in m.file or options.k in m.fault]
    for mutant in chosen:
        try:
            mutated(mutant)
        except StaleError as error:
            print(f"the catalogue is stale: {error}", file=sys.stderr)
            return 1
    preload()
    began = time.monotonic()
    bad: list[str] = []
    counts: dict[str, int] = {}
    for mutant, verdict, took, output in verdicts(
        chosen if options.no_control else [CONTROL, *chosen], options.jobs, options.limit
    ):
        if mutant is CONTROL:
            verdict = {"survived": "passed"}.get(verdict, "FAILED")
        else:
            counts[verdict] = counts.get(verdict, 0) + 1
        print(f"{verdict:<9}{took:6.1f} s  {mutant.file}: {mutant.fault}", flush=True)
        if verdict in ("FAILED", "survived", "broken"):
            bad.append(f"{verdict}: {mutant.file}: {mutant.fault}")
        if verdict in ("FAILED", "broken"):
            print(output[-3000:], flush=True)
    print(f"{len(chosen)} mutants in {time.monotonic() - began:.0f} s: {counts}")
    if bad:
        print("a test is missing, or the catalogue is wrong:", *bad, sep="\n  ")
    return 1 if bad else 0


def preload() -> None:
    """Import what takes seconds once, before forking; nothing of accord, and nothing that pytest rewrites."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
    import peft
    import safetensors.torch
    import scipy.stats
    import torch
    import transformers

    torch.set_num_threads(1)
    assert all((peft, safetensors, scipy, transformers))


if __name__ == "__main__":
    sys.exit(main())
