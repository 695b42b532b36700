"""Answers to problems with unit tests, from files and from models, as programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.errors import DataError
from accord.evals.answering import Answerer
from accord.evals.code import Problem, json_rows
from accord.sandbox.replies import program
from accord.types import Message, Prompt

KEYS = ("completion", "solution", "reply", "output", "response", "generation")
"""Where rows of answer files hold the text, the first found; a text or a list of texts."""


ASK = """Complete the Python function below. Reply with the whole function in one Markdown code block.

```python
{code}
```"""
"""What a chat model is asked: the official format is a text to be continued, which chat templates cut off."""


def ask(
    answerer: Answerer,
    problems: Sequence[Problem],
    *,
    samples: int,
    temperature: float,
    max_tokens: int,
    seed: int,
) -> dict[str, list[str]]:
    """Let a model answer every problem.

    Args:
        answerer: who answers; what it has answered before is not asked again.
        problems: what is asked.
        samples: replies a problem.
        temperature: of sampling; Chen et al. (2021, section 3.3) take 0.2 for pass@1 and 0.8 for pass@100.
        max_tokens: most tokens of a reply.
        seed: of sampling.

    Returns:
        Programs by task.
    """
    prompts = [
        Prompt(id=p.task_id, messages=(Message(role="user", content=ASK.format(code=p.prompt.rstrip())),))
        for p in problems
    ]
    replies = answerer.answer(prompts, max_tokens=max_tokens, temperature=temperature, seed=seed, n=samples)
    return {
        problem.task_id: [program(text, problem.prompt, problem.entry_point) for text in texts]
        for problem, texts in zip(problems, replies, strict=True)
    }


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
