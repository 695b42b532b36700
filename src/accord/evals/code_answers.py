"""From what a model wrote to a program that can be tested: code in fences, a whole function, or its body alone."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.errors import DataError
from accord.evals.code import Problem, compiles, json_rows

KEYS = ("completion", "solution", "reply", "output", "response", "generation")
"""Where rows of answer files hold the text, the first found; a text or a list of texts."""
STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\nassert ", "\n```")
"""Where the body of a function is over, for a model that writes on (the first five: Chen et al. 2021, section 2.1)."""
_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[^\n`]*\n(.*?)(?:^[ \t]*\2[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_CODE_BEGINS = re.compile(r"^(?:from\s|import\s|def\s|async\s+def\s|class\s|@|[A-Za-z_]\w*\s*=[^=])", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
_MOST_TRAILING = 400
"""Lines after the code that are tried as prose."""


def program(reply: str, problem: Problem) -> str:
    """The program that a reply means.

    A fenced block is preferred, the first that defines the function, else the first. Code that defines the function
    follows the imports and helpers of the prompt; other code is taken for the body and follows the whole prompt, cut at
    `STOPS` or indented where it is no Python otherwise. The reply is never changed further: code that does not compile
    is tested as it is, and fails.

    Args:
        reply: of a model; what files of the official format call the completion.
        problem: that it answers.
    """
    defines = re.compile(rf"^(?:async\s+)?def\s+{re.escape(problem.entry_point)}\s*\(", re.MULTILINE)
    blocks = [textwrap.dedent(match[3]) if match[1] else match[3] for match in _FENCE.finditer(reply)]
    whole = [block for block in blocks if defines.search(block)]
    code = whole[0] if whole else blocks[0] if blocks else reply
    if defines.search(code):
        return _after_preamble(code if blocks else _without_prose(code), problem, defines)
    return _completed(code, problem)


def _after_preamble(code: str, problem: Problem, defines: re.Pattern[str]) -> str:
    found = defines.search(problem.prompt)
    preamble = problem.prompt[: found.start()] if found else ""
    if not compiles(preamble):  # a decorator above the function
        preamble = ""
    future = "".join(_FUTURE.findall(preamble + code))
    return future + _FUTURE.sub("", preamble) + "\n" + _FUTURE.sub("", code)


def _without_prose(text: str) -> str:
    """Code without what a model says before and after it."""
    if compiles(text):
        return text
    found = _CODE_BEGINS.search(text)
    lines = text[found.start() if found else 0 :].splitlines(keepends=True)
    for end in range(len(lines), max(0, len(lines) - _MOST_TRAILING), -1):
        code = "".join(lines[:end])
        if compiles(code):
            return code
    return text


def _completed(code: str, problem: Problem) -> str:
    cut = min((at for stop in STOPS if (at := code.find(stop)) > 0), default=len(code))
    indented = textwrap.indent(textwrap.dedent(code), "    ")
    tried = (code, code[:cut], indented, "\n" + code, "\n" + indented)
    programs = [problem.prompt + body for body in tried]
    return next((made for made in programs if compiles(made)), programs[0])


def canonical(problems: Sequence[Problem]) -> dict[str, list[str]]:
    """The solutions that come with the problems, as programs.

    Raises:
        DataError: a problem has none.
    """
    without = [problem.task_id for problem in problems if not problem.canonical_solution]
    if without:
        raise DataError(f"no canonical solution of {', '.join(without[:5])}", fix="give answers with --answers")
    return {problem.task_id: [problem.prompt + problem.canonical_solution] for problem in problems}


def read_answers(path: Path, problems: Sequence[Problem], *, partial: bool = False) -> dict[str, list[str]]:
    """Read answers: JSON lines with `task_id` and the text under one of `KEYS`; several rows a task are attempts.

    Args:
        path: of the file, compressed with gzip or not.
        problems: that are answered.
        partial: accept problems without an answer; they are then left out of every number.

    Returns:
        Programs by task.

    Raises:
        DataError: with file and line, for whatever is wrong, and for problems without an answer.
    """
    known = {problem.task_id: problem for problem in problems}
    answers: dict[str, list[str]] = {}
    for number, row in json_rows(path):
        where = f"{path}, line {number}"
        problem = known.get(str(row.get("task_id")))
        if problem is None:
            raise DataError(f"there is no task {row.get('task_id')!r} among the problems", where=where)
        texts = _texts(row, where)
        answers.setdefault(problem.task_id, []).extend(program(text, problem) for text in texts)
    missing = [task for task in known if task not in answers]
    if not answers or (missing and not partial):
        raise DataError(
            f"{len(missing)} of {len(known)} problems have no answer: {', '.join(missing[:5])}",
            where=str(path),
            fix="answer them, or say --partial to leave them out",
        )
    return answers


def _texts(row: Mapping[str, Any], where: str) -> list[str]:
    key = next((key for key in KEYS if key in row), None)
    if key is None:
        raise DataError("the row has no answer", where=where, fix=f"give it as one of {', '.join(KEYS)}")
    found = row[key] if isinstance(row[key], list) else [row[key]]
    if not found or not all(isinstance(text, str) for text in found):
        raise DataError(f"'{key}' is neither a text nor a list of texts", where=where)
    return found
