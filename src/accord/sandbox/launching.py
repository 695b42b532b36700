"""The outer side of a box: starts it, feeds it, hears it out, ends it in time."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accord.errors import SandboxError
from accord.sandbox.inside.confine import Walls
from accord.sandbox.limits import Limits

LAUNCH_SECONDS = (20.0, 20.0, 60.0)
"""For the box to be made, on a machine that does much else: once, and twice more from the start. Seen twice in some ten
thousand launches, beside tests that exhaust processes: a box that was not made, and said nothing."""
PAUSE_SECONDS = 3.0
"""Before each further try: what keeps the kernel from making a box, such as too many processes, may be over by then."""
_LAST_WORDS = 2.0
"""Seconds in which processes that were ended tell so."""
_INSIDE = Path(__file__).parent
_START = "import sys; sys.path.insert(0, sys.argv[1]); from inside.launch import main; main()"
_REPORT_BYTES = 1 << 16


@dataclass
class Ran:
    """What is known of one process after its run."""

    stdout: bytes = b""
    stderr: bytes = b""
    report: bytes = b""
    """What a test reported."""
    ended: int | None = None
    """Wait status; None = it was ended from outside."""
    cpu_seconds: float = 0.0
    memory_kb: int = 0
    """The most it held."""
    left: int = 0
    """Processes that it started and left, where no namespace ends them."""
    seconds: float = 0.0
    """On the clock, from the moment all boxes of the run were shut."""
    timed_out: bool = False
    flooded: bool = False
    """It wrote more than it may."""


@dataclass
class _Role:
    """Pipes and messages of one process."""

    name: str
    program: bytes
    stdin: bytes
    ran: Ran = field(default_factory=Ran)
    status: bytes = b""
    ready: bool = False
    started: int | None = None
    theirs: dict[str, int] = field(default_factory=dict)
    ours: dict[str, int] = field(default_factory=dict)
    work: str | None = None

    def pipe(self, name: str, *, to_them: bool = False) -> None:
        read, write = os.pipe()
        self.theirs[name], self.ours[name] = (read, write) if to_them else (write, read)
        os.set_blocking(self.ours[name], False)

    def hear(self, line: bytes) -> None:
        """Take a message of the status pipe."""
        message = json.loads(line)
        if "failed" in message:
            raise SandboxError(f"the box could not be made: {message['failed']}")
        self.ready = self.ready or "ready" in message
        self.started = message.get("started", self.started)
        if "ended" in message:
            self.ran.ended, self.ran.cpu_seconds = message["ended"], message["cpu"]
            self.ran.memory_kb, self.ran.left = message["memory_kb"], message["left"]


def launch(walls: Walls, limits: Limits, programs: dict[str, dict[str, Any]], stdin: bytes = b"") -> dict[str, Ran]:
    """Run one program, or a candidate and its tester, each in a box of its own.

    Args:
        walls: of the boxes.
        limits: of each process.
        programs: by role, what `inside.candidate` or `inside.tester` takes.
        stdin: for the program or the candidate.

    Raises:
        SandboxError: the box could not be made.
    """
    silent: list[str] = []
    for seconds in LAUNCH_SECONDS:
        roles = [_Role(n, json.dumps(p).encode("ascii"), b"" if n == "tester" else stdin) for n, p in programs.items()]
        try:
            for role in roles:
                _prepare(role, own_directory=not walls.root)
            once = _Launch(walls, limits, roles, seconds)
            ran = once.through()
            silent.append(once.found())
        finally:
            for role in roles:
                for descriptor in (*role.theirs.values(), *role.ours.values()):
                    os.close(descriptor)
                if role.work is not None:
                    shutil.rmtree(role.work, ignore_errors=True)
        if ran is not None:
            return ran
        if len(silent) < len(LAUNCH_SECONDS):
            time.sleep(PAUSE_SECONDS)
    raise SandboxError(f"the box was not made, tried {len(silent)} times: {'; '.join(silent)}")


def _prepare(role: _Role, own_directory: bool) -> None:
    for name in ("program", "stdin"):
        role.pipe(name, to_them=True)
    for name in ("stdout", "stderr", "status", *(["report"] if role.name == "tester" else [])):
        role.pipe(name)
    if own_directory:
        role.work = tempfile.mkdtemp(prefix="accord-box-")


class _Launch:
    """One run from start to end."""

    def __init__(self, walls: Walls, limits: Limits, roles: list[_Role], launch_seconds: float) -> None:
        self.walls, self.limits, self.roles = walls, limits, roles
        self.launch_seconds, self.begun = launch_seconds, time.monotonic()
        self.selector = selectors.DefaultSelector()
        self.since: float | None = None
        """When the last box was shut."""
        self.over = False

    def through(self) -> dict[str, Ran] | None:
        """Run it; None when the boxes were not shut in time, without a word why."""
        plan = {
            "walls": self.walls._asdict(),
            "limits": self.limits.inside(),
            "roles": [{"role": role.name, "work": role.work, **role.theirs} for role in self.roles],
        }
        python = os.path.realpath(sys.executable)
        command = [python, "-I", "-S", "-X", "utf8", "-c", _START, str(_INSIDE), json.dumps(plan)]
        passed = [descriptor for role in self.roles for descriptor in role.theirs.values()]
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                    cwd="/",
                    pass_fds=passed,
                    start_new_session=True,
                )
            except OSError as error:
                raise SandboxError(f"Python could not be started for the box: {error}", where=python) from error
            try:
                self._close_theirs()
                self._converse()
            finally:
                self._end(process)
                self.selector.close()
            if any(not role.ready for role in self.roles):
                errors.seek(0)
                said = errors.read(4096).decode(errors="replace").strip()
                if not said:
                    return None
                raise SandboxError(said)
        return {role.name: role.ran for role in self.roles}

    def found(self) -> str:
        """How far each process came, and for how long it was waited for: all that is known of a silent box."""
        waited = f"in {time.monotonic() - self.begun:.1f} of {self.launch_seconds:.0f} s"
        states = [
            f"{role.name} {'shut' if role.ready else 'not shut'}"
            + (", running" if role.ran.ended is None else f", ended with wait status {role.ran.ended}")
            + (f", said {role.ran.stderr[-500:].decode(errors='replace')!r}" if role.ran.stderr else "")
            for role in self.roles
        ]
        return f"{waited}: {', '.join(states)}"

    def _close_theirs(self) -> None:
        for role in self.roles:
            for descriptor in role.theirs.values():
                os.close(descriptor)
            role.theirs.clear()
            for name, descriptor in role.ours.items():
                writes = name in ("program", "stdin")
                event = selectors.EVENT_WRITE if writes else selectors.EVENT_READ
                self.selector.register(descriptor, event, (role, name))

    def _converse(self) -> None:
        deadline = time.monotonic() + self.launch_seconds
        while self.selector.get_map() and not self.over:
            for key, _ in self.selector.select(max(0.0, deadline - time.monotonic())):
                self._serve(*key.data)
            if self.since is None and all(role.ready for role in self.roles):
                self.since = time.monotonic()
                deadline = self.since + self.limits.seconds
            if time.monotonic() >= deadline:
                break
            if all(role.ran.ended is not None for role in self.roles):
                # What was written before the end is in the pipes; a thread or process left behind must not hold us.
                deadline = min(deadline, time.monotonic() + 0.05)
        self._drain()
        seconds = 0.0 if self.since is None else time.monotonic() - self.since
        for role in self.roles:
            role.ran.seconds = seconds
            role.ran.timed_out = role.ran.ended is None and not self.over

    def _serve(self, role: _Role, name: str) -> None:
        if name in ("program", "stdin"):
            self._write(role, name)
            return
        try:
            data = os.read(role.ours[name], 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self._drop(role, name)
        elif name == "status":
            *lines, role.status = (role.status + data).split(b"\n")
            for line in lines:
                role.hear(line)
        elif name == "report":
            role.ran.report += data
            self.over = self.over or len(role.ran.report) > _REPORT_BYTES
        else:
            self._keep_output(role, name, data)

    def _keep_output(self, role: _Role, name: str, data: bytes) -> None:
        kept = getattr(role.ran, name) + data
        if len(kept) > self.limits.output_bytes:
            role.ran.flooded = self.over = True
        setattr(role.ran, name, kept[: self.limits.output_bytes])

    def _drain(self) -> None:
        """Take what was written before the end and is still in the pipes."""
        for role in self.roles:
            for name in ("stdout", "stderr"):
                while name in role.ours and not role.ran.flooded:
                    try:
                        data = os.read(role.ours[name], 1 << 16)
                    except BlockingIOError:
                        break
                    if not data:
                        break
                    self._keep_output(role, name, data)

    def _write(self, role: _Role, name: str) -> None:
        left: bytes = getattr(role, name)
        try:
            written = os.write(role.ours[name], left) if left else 0
        except BlockingIOError:
            return
        except BrokenPipeError:
            written = len(left)
        setattr(role, name, left[written:])
        if not getattr(role, name):
            self._drop(role, name)

    def _drop(self, role: _Role, name: str) -> None:
        descriptor = role.ours.pop(name)
        self.selector.unregister(descriptor)
        os.close(descriptor)
        if name == "report" and b'"gone"' not in role.ran.report and role.ran.report:
            self.over = True  # the verdict is there, whatever the candidate still does

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End every process of the run."""
        outside = [role for role in self.roles if role.started is not None and role.ran.ended is None]
        for role in outside:
            if role.started is not None:
                # It may have left the group; the guard has not waited for it yet, so the number is still its own.
                with suppress(ProcessLookupError):
                    os.kill(role.started, signal.SIGKILL)
        deadline = time.monotonic() + _LAST_WORDS
        while (
            outside and time.monotonic() < deadline and any(r.ran.ended is None and "status" in r.ours for r in outside)
        ):
            for key, _ in self.selector.select(max(0.0, deadline - time.monotonic())):
                role, name = key.data
                if name == "status":
                    self._serve(role, name)
                else:
                    self._drop(role, name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
