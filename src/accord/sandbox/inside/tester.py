"""Runs a test whose subject is in another process: it sees values, never the subject's objects."""

from __future__ import annotations

import builtins
import os
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from . import values

_SHORT = 500


class CandidateError(Exception):
    """The code under test raised an exception that is not built in."""


class Subject:
    """Stands for the function under test: calls go to its process, values come back."""

    def __init__(self, replies: int, requests: int, give_up: Callable[..., NoReturn]) -> None:
        """Speak through these descriptors; `give_up(status, error, suspicious)` ends the test at once."""
        self._replies = replies
        self._requests = requests
        self._give_up = give_up
        self.calls = 0
        """Answered."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; what it raises is raised here too, if it is built in.

        A subject that is gone, or that answers what no honest one can, ends the test: code that catches exceptions
        must not see it.
        """
        request = {
            "id": os.urandom(8).hex(),
            "args": [values.encode(argument) for argument in args],
            "kwargs": {name: values.encode(value) for name, value in kwargs.items()},
        }
        try:
            values.send(self._requests, request)
            reply = values.receive(self._replies)
        except BrokenPipeError:
            reply = self._last_words()
        except values.BrokenFrameError as error:
            self._give_up("failed", f"the channel carries {error}", "wrote to the channel of the answers")
        if reply is None:
            self._give_up("gone", "it ended before it answered", "")
        if "load" in reply:
            self._give_up("failed", str(reply["load"])[:_SHORT], "")
        if "exit" in reply:
            self._give_up("failed", f"it exits {reply['exit']}", "exits early")
        if reply.get("id") != request["id"]:
            self._give_up("failed", "the channel carries an answer to no call", "wrote to the channel of the answers")
        self.calls += 1
        return self._value(reply, args)

    def _last_words(self) -> dict[str, Any] | None:
        try:
            return values.receive(self._replies)
        except values.BrokenFrameError as error:
            self._give_up("failed", f"the channel carries {error}", "wrote to the channel of the answers")

    def _value(self, reply: dict[str, Any], args: tuple[Any, ...]) -> Any:
        if "foreign" in reply:
            kind = str(reply["foreign"])[:_SHORT]
            self._give_up(
                "failed", f"it returns a {kind}, which is no plain value", f"returns a type of its own: {kind}"
            )
        if "raised" in reply:
            kind = getattr(builtins, str(reply["raised"]), None)
            said = str(reply.get("said"))[:_SHORT]
            if isinstance(kind, type) and issubclass(kind, Exception):
                raise _made(kind, said)
            raise CandidateError(f"{str(reply['raised'])[:_SHORT]}: {said}")
        try:
            value = values.decode(reply["value"])
            after = [values.decode(argument) for argument in reply.get("args", [])]
        except (values.BrokenFrameError, KeyError, RecursionError, TypeError) as error:
            self._give_up("failed", f"the channel carries {error}", "wrote to the channel of the answers")
        for argument, changed in zip(args, after, strict=False):
            _take_over(argument, changed)
        return value


def _made(kind: type[Exception], said: str) -> Exception:
    try:
        return kind(said)
    except TypeError:  # a few want more than a text
        return CandidateError(said)


def _take_over(argument: Any, changed: Any) -> None:
    """Do to a container what the function did to its copy."""
    if type(argument) is not type(changed):
        return
    if isinstance(argument, list):
        argument[:] = changed
    elif isinstance(argument, dict | set):
        argument.clear()
        argument.update(changed)


def judge(program: dict[str, Any], replies: int, requests: int, *, report: int) -> int:
    """Run a test against the subject and report what came of it.

    Args:
        program: `setup` (run first: what the test needs beside the subject), `test`, `entry`, `call` (run last; may be
            empty), `nonce`.
        replies: descriptor of the subject's answers.
        requests: descriptor of calls.
        report: descriptor of the verdict.

    Returns:
        Exit code; nobody goes by it.
    """

    def give_up(status: str, error: str, suspicious: str) -> NoReturn:
        verdict = {"status": status, "error": error, "suspicious": suspicious, "calls": subject.calls}
        values.send(report, {"nonce": program["nonce"], **verdict})
        os._exit(0)

    subject = Subject(replies, requests, give_up)
    module = types.ModuleType("test")
    sys.modules["test"] = module
    names = module.__dict__
    try:
        exec(compile(program["setup"], "setup.py", "exec"), names)
        compile(program["test"], "test.py", "exec")
    except BaseException as error:
        give_up("broken", _where(error), "")
    try:
        names[program["entry"]] = subject
        exec(compile(program["test"], "test.py", "exec"), names)
        names["candidate"] = subject
        exec(compile(program["call"], "call.py", "exec"), names)
    except BaseException as error:  # a test may fail with anything
        give_up("failed", _where(error), "")
    give_up(*(("passed", "", "") if subject.calls else ("broken", f"the test never calls {program['entry']}", "")))


def _where(error: BaseException) -> str:
    import traceback  # slow to import, and only failures need it

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in ("setup.py", "test.py")]
    line = f" ({frames[-1].filename} line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}"[:_SHORT] + line
