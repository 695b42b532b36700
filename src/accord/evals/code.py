"""Problems with unit tests in the format of HumanEval, attempted, tested and counted.

Deviation from openai/human-eval (Chen et al. 2021): tests run apart from the attempt (`accord.sandbox.check`). What a
test needs beside the function, it gets from the problem's prompt and not from the attempt, and an attempt that returns
an object of a type of its own fails. Attempts that pass there by taking the test in do not pass here.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accord.errors import ConfigError, DataError
from accord.evals.measured import Measured
from accord.sandbox import Level, Limits, check, require
from accord.sandbox.replies import compiles, runnable
from accord.stats import bootstrap_mean, pass_at_k, wilson
from accord.storage import io_errors

_GZIP = b"\x1f\x8b"
_TEXTS = ("task_id", "prompt", "entry_point", "test")
_HARNESS = "check"
"""Function of a test that takes the attempt's; a test without it is a script of assertions."""


@dataclass(frozen=True)
class Problem:
    """One problem."""

    task_id: str
    prompt: str
    """Code up to the body of the function to be written."""
    entry_point: str
    """Name of that function."""
    test: str
    canonical_solution: str
    """Body of the function; empty where the file has none."""
    setup: str
    """The prompt as code that runs by itself, for what the test needs beside the function."""

    @property
    def call(self) -> str:
        """What runs a test that is a function."""
        names = {node.name for node in ast.parse(self.test).body if isinstance(node, ast.FunctionDef)}
        return f"{_HARNESS}(candidate)" if _HARNESS in names else ""


@dataclass(frozen=True)
class Attempt:
    """What became of one solution."""

    task_id: str
    index: int
    """Among the attempts at this problem, from 0."""
    passed: bool
    status: str
    """See `accord.sandbox.Verdict`."""
    error: str
    suspicious: tuple[str, ...]
    seconds: float


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of a file of JSON lines, compressed with gzip or not.

    Raises:
        DataError: with the line, where one is no JSON object.
    """
    with io_errors("read", path):
        data = path.read_bytes()
        if data.startswith(_GZIP):
            try:
                data = gzip.decompress(data)
            except (EOFError, gzip.BadGzipFile) as error:
                raise DataError(f"the file is damaged: {error}", where=str(path), fix="fetch it again") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError("this is no UTF-8", where=f"{path}, line {line}", fix="save it as UTF-8") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"this is no JSON: {error}", where=where, fix="one object a line") from error
        if not isinstance(row, dict):
            raise DataError("this is no JSON object", where=where, fix="one object a line")
        yield number, row


def read_problems(path: Path) -> list[Problem]:
    """Read a file of problems; keys that are not needed are ignored.

    Raises:
        DataError: with file and line, for whatever is wrong.
    """
    problems: dict[str, Problem] = {}
    for number, row in json_rows(path):
        problem = _problem(row, f"{path}, line {number}")
        if problem.task_id in problems:
            raise DataError(f"the task '{problem.task_id}' is there twice", where=f"{path}, line {number}")
        problems[problem.task_id] = problem
    if not problems:
        raise DataError("the file holds no problems", where=str(path))
    return list(problems.values())


def _problem(row: Mapping[str, Any], where: str) -> Problem:
    for key in _TEXTS:
        if not isinstance(row.get(key), str) or not row[key].strip():
            what = "is missing" if key not in row else "is no text, or empty"
            raise DataError(f"'{key}' {what}", where=where, fix=f"a problem has {', '.join(_TEXTS)}")
    solution = row.get("canonical_solution", "")
    if not isinstance(solution, str):
        raise DataError("'canonical_solution' is no text", where=where)
    entry = row["entry_point"]
    if not entry.isidentifier():
        raise DataError(f"the entry point {entry!r} is no name of a function", where=where)
    if not compiles(row["test"]):
        raise DataError("'test' is no Python", where=where)
    setup = runnable(row["prompt"])
    if setup is None:
        raise DataError("'prompt' is no Python, not even with an empty body", where=where)
    return Problem(row["task_id"], row["prompt"], entry, row["test"], solution, setup)


def attempt_all(
    problems: Sequence[Problem],
    programs: Mapping[str, Sequence[str]],
    *,
    limits: Limits | None = None,
    workers: int | None = None,
    level: Level | None = None,
    allow_unsafe: bool = False,
    progress: Callable[[Attempt], None] | None = None,
) -> list[Attempt]:
    """Test every program, several at a time.

    Args:
        problems: to be solved.
        programs: whole programs by task, see `accord.sandbox.replies.program`.
        limits: of each; None = the defaults of the sandbox.
        workers: programs at a time; None = one for each processor this process may use.
        level: of the boxes; None = the strongest here.
        allow_unsafe: also below the safe level.
        progress: called with each attempt when it is done, in the order of `problems`.

    Raises:
        SandboxError: code cannot be run here, or not safely.
        DataError: the test of a problem is at fault.
    """
    require(level, allow_unsafe=allow_unsafe)
    # Read before there are threads: two that parse at the same time can make CPython 3.11 raise SystemError.
    called = [(p, p.call) for p in problems]
    jobs = [(p, call, index, text) for p, call in called for index, text in enumerate(programs.get(p.task_id, ()))]

    def one(job: tuple[Problem, str, int, str]) -> Attempt:
        problem, call, index, source = job
        verdict = check(
            source,
            entry=problem.entry_point,
            test=problem.test,
            setup=problem.setup,
            call=call,
            limits=limits,
            level=level,
            allow_unsafe=allow_unsafe,
        )
        if verdict.status == "broken":
            raise DataError(
                f"the test cannot be run: {verdict.error}", where=problem.task_id, fix="mend or remove the problem"
            )
        found = (verdict.passed, verdict.status, verdict.error, verdict.suspicious, verdict.seconds)
        return Attempt(problem.task_id, index, *found)

    made: list[Attempt] = []
    with ThreadPoolExecutor(workers or cores()) as pool:
        for attempt in pool.map(one, jobs):
            made.append(attempt)
            if progress is not None:
                progress(attempt)
    return made


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fingerprint(problems: Sequence[Problem]) -> str:
    """First 12 hex digits of a SHA-256 of the problems."""
    parts = [[p.task_id, p.prompt, p.entry_point, p.test] for p in problems]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def measure(
    attempts: Sequence[Attempt], ks: Sequence[int], *, level: Level, data: str, seed: int = 0
) -> list[Measured]:
    """pass@k by the unbiased estimator of Chen et al. 2021, eq. 1, and what went wrong.

    Args:
        attempts: all of them.
        ks: attempts allowed.
        level: of the boxes, for the table.
        data: fingerprint of the problems.
        seed: of the bootstrap over problems, which gives the interval where problems were attempted more than once.
    """
    solved: dict[str, list[bool]] = {}
    for attempt in attempts:
        solved.setdefault(attempt.task_id, []).append(attempt.passed)
    about: dict[str, Any] = {"judge": f"unit tests, sandbox level {int(level)}", "prompt_hash": data}
    rows = [_pass_at(k, list(solved.values()), about, seed) for k in ks]
    for name, count in (
        ("suspicious attempts", sum(bool(a.suspicious) for a in attempts)),
        ("attempts out of time", sum(a.status == "timeout" for a in attempts)),
    ):
        share = wilson(count, len(attempts))
        n = len(attempts)
        rows.append(Measured(name, share.value, share.low, share.high, n, "attempts", "Wilson", **about))
    return rows


def _pass_at(k: int, solved: Sequence[Sequence[bool]], about: dict[str, Any], seed: int) -> Measured:
    if k < 1:
        raise ConfigError(f"pass@{k} is not defined", fix="k is 1 or more")
    fewest = min(len(outcomes) for outcomes in solved)
    name, n = f"pass@{k}", len(solved)
    if fewest < k:
        reason = f"a problem has {fewest} attempts"
        return Measured(name, None, None, None, n, "problems", reason=reason, **about)
    values = np.array([pass_at_k(len(outcomes), sum(outcomes), k) for outcomes in solved])
    if set(values) <= {0.0, 1.0}:  # a proportion; also where a bootstrap would give an interval without width
        found, method = wilson(float(values.sum()), n), "Wilson"
    else:
        found, method = bootstrap_mean(values, seed=seed), "bootstrap over problems"
    return Measured(name, found.value, found.low, found.high, n, "problems", method, **about)
