"""Answers to problems with unit tests, from files, as programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.errors import DataError
from accord.evals.code import Problem, json_rows
from accord.sandbox.replies import program

KEYS = ("completion", "solution", "reply", "output", "response", "generation")
"""Where rows of answer files hold the text, the first found; a text or a list of texts."""


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
        answers.setdefault(problem.task_id, []).extend(
            program(text, problem.prompt, problem.entry_point) for text in texts
        )
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
