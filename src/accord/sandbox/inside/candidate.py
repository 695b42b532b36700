"""Runs strange code: as a program, or as a function that answers calls from another process."""

from __future__ import annotations

import binascii
import os
import sys
import types
from typing import Any

from . import values

NAME = "candidate"
"""Module the code under test is in. Not `__main__`, so that what stands under that condition does not run."""
_SHORT = 500


def run_program(program: dict[str, Any]) -> int:
    """Run a program as `python file` would, except that threads and handlers of atexit do not outlive its last line.

    Args:
        program: `source`, `files` (name to base64).

    Returns:
        Its exit code.
    """
    for name, content in program["files"].items():
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "wb") as file:
            file.write(binascii.a2b_base64(content))
    module = _module("__main__")
    try:
        exec(compile(program["source"], "candidate.py", "exec"), module.__dict__)
    except SystemExit as error:
        return _exit_code(error)
    except BaseException as error:  # whatever it is, it is the program's
        _print(error)
        return 1
    return 0


def serve(program: dict[str, Any], requests: int, replies: int) -> int:
    """Load code, then call one function of it whenever a request comes.

    Args:
        program: `source`, `entry`: name of the function.
        requests: descriptor of calls `{"id", "args", "kwargs"}`.
        replies: descriptor of answers: `{"id", ...}` with one of `value` (and `args` where they were changed),
            `raised`, `foreign`, `exit`; or `{"load": ...}` alone where the code cannot be loaded.
    """
    module = _module(NAME)
    try:
        exec(compile(program["source"], "candidate.py", "exec"), module.__dict__)
        function = module.__dict__[program["entry"]]
    except SystemExit:
        values.send(replies, {"exit": "while it was loaded"})
        return 0
    except KeyError:
        values.send(replies, {"load": f"it defines no {program['entry']}"})
        return 1
    except BaseException as error:
        values.send(replies, {"load": _described(error)})
        return 1
    while (request := values.receive(requests)) is not None:
        answer = _answer(function, request)
        sys.stdout.flush()  # what it printed is there before its answer is
        try:
            values.send(replies, {"id": request["id"], **answer})
        except values.ForeignTypeError as error:
            values.send(replies, {"id": request["id"], "raised": "OverflowError", "said": f"its value is {error}"})
    return 0


def _answer(function: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        arguments = [values.decode(argument) for argument in request["args"]]
        keywords = {name: values.decode(value) for name, value in request["kwargs"].items()}
        returned = function(*arguments, **keywords)
    except SystemExit:
        return {"exit": "in a call"}
    except BaseException as error:
        return {"raised": type(error).__name__, "said": _described(error).partition(": ")[2]}
    try:
        answer: dict[str, Any] = {"value": values.encode(returned)}
    except values.ForeignTypeError as error:
        return {"foreign": str(error)[:_SHORT]}
    except (RecursionError, RuntimeError, MemoryError) as error:
        return {"raised": type(error).__name__, "said": "while its value was written"}
    # A test may look at what became of a list that it passed.
    try:
        after = [values.encode(argument) for argument in arguments]
    except (values.ForeignTypeError, RecursionError, RuntimeError, MemoryError):
        return answer
    if after != request["args"]:
        answer["args"] = after
    return answer


def _module(name: str) -> types.ModuleType:
    """A module that the rest of Python can find, as dataclasses and pickle want."""
    made = types.ModuleType(name)
    sys.modules[name] = made
    return made


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    os.write(2, f"{error.code}\n".encode(errors="replace"))
    return 1


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:_SHORT]
    except BaseException:  # its own __str__ may do anything
        return type(error).__name__


def _print(error: BaseException) -> None:
    import traceback  # slow to import, and only failures need it

    try:
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:
        text = f"{type(error).__name__}\n"
    os.write(2, text.encode(errors="replace")[-(1 << 16) :])
