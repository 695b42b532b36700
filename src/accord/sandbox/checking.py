"""A test of a strange function, decided where the function cannot reach.

The code under test and its test run in two boxes. The test calls the function through a pipe; arguments and returned
values cross as plain values (`inside.values`). So an object whose `__eq__` is always true, a patched `assert`, a frame
and the text of the test are out of the code's reach, and what it prints or how it exits is no verdict. Nothing that the
code under test can do leads to "passed" except returning the right values.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from accord.errors import SandboxError
from accord.sandbox.launching import Ran, launch
from accord.sandbox.levels import Level, level_of, require
from accord.sandbox.limits import Limits
from accord.sandbox.running import end_of

Result = Literal["passed", "failed", "timeout", "killed", "exited", "flooded", "broken"]
_LOOKS_LIKE_A_VERDICT = re.compile(
    r"^\W*(?:all tests? )?(?:pass(?:ed)?|ok|success|true)\W*$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class Verdict:
    """What a test said of a function."""

    passed: bool
    status: Result
    """failed: the test says so; exited, killed, flooded: the code ended before it answered; broken: the test is at
    fault, not the code."""
    error: str
    """The first thing that was wrong; empty when it passed."""
    suspicious: tuple[str, ...]
    """Signs that the code aims at the test and not at the task; reported apart from the verdict."""
    calls: int
    """Answered."""
    stdout: str
    """What the code printed; nobody goes by it."""
    seconds: float
    """On the clock."""
    level: Level
    """Of the boxes."""


def check(
    source: str,
    *,
    entry: str,
    test: str,
    setup: str = "",
    call: str = "",
    limits: Limits | None = None,
    level: Level | None = None,
    allow_unsafe: bool = False,
) -> Verdict:
    """Run a test against a function.

    Args:
        source: defines the function; loaded as a module that is not `__main__`.
        entry: name of the function.
        test: Python that calls it by its name, or as `candidate` in what `call` runs, and raises when it is wrong.
        setup: run before the test in the test's box, where the test needs more than the function.
        call: run last, e.g. "check(candidate)".
        limits: of each of both processes; None = the defaults.
        level: of the boxes; None = the strongest here.
        allow_unsafe: also below `SAFE`.

    Raises:
        SandboxError: there is no box, or none that is safe.
    """
    limits = limits or Limits()
    walls = require(level, allow_unsafe=allow_unsafe)
    nonce = secrets.token_hex(16)
    tester = {"setup": setup, "test": test, "call": call, "entry": entry, "nonce": nonce}
    ran = launch(walls, limits, {"candidate": {"source": source, "entry": entry}, "tester": tester})
    code, said = ran["candidate"], _report(ran["tester"], nonce)
    suspicious = [said["suspicious"]] if said.get("suspicious") else []
    stdout = code.stdout.decode(errors="replace")
    if _LOOKS_LIKE_A_VERDICT.search(stdout):
        suspicious.append("prints what looks like a verdict")
    status, error = _status(code, ran["tester"], said, limits)
    if status == "exited":
        suspicious.append("exits early")
    return Verdict(
        passed=status == "passed",
        status=status,
        error=error,
        suspicious=tuple(suspicious),
        calls=said.get("calls", 0),
        stdout=stdout,
        seconds=code.seconds,
        level=level_of(walls),
    )


def _report(ran: Ran, nonce: str) -> dict[str, Any]:
    """The test's own words; empty when it did not come to say anything."""
    body = ran.report[4:]
    if len(body) < 4 or int.from_bytes(ran.report[:4], "big") != len(body):
        return {}
    said = json.loads(body)
    if said.pop("nonce", None) != nonce:
        raise SandboxError("a verdict came that is not the test's")
    return said


def _status(code: Ran, tester: Ran, said: dict[str, Any], limits: Limits) -> tuple[Result, str]:
    if code.flooded or tester.flooded:
        return "flooded", f"more than {limits.output_bytes} bytes of output"
    if not said:
        if code.ended is None and (tester.ended is None or tester.timed_out):
            return "timeout", f"no verdict in {limits.seconds:g} s"
        return _of_tester(tester, limits)
    if said["status"] != "gone":
        return said["status"], said["error"]
    if code.ended is None:
        return "exited", "it closed the channel"
    ended = end_of(code, limits)
    if ended == "timeout":
        return "timeout", f"more than {limits.cpu_seconds:g} s of processor time"
    return ("killed", "ended by a signal") if ended == "killed" else ("exited", said["error"])


def _of_tester(tester: Ran, limits: Limits) -> tuple[Result, str]:
    ended = end_of(tester, limits)
    if ended == "timeout":
        return "timeout", f"the test had no verdict in {limits.seconds:g} s, {limits.cpu_seconds:g} s of processor time"
    return "failed", "the test ended without a verdict, as when a value is too large for its memory"
