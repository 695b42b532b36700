"""The command `accord eval code`: problems with unit tests, attempted answers, pass@k."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from accord.errors import ConfigError

AllowUnsafe = Annotated[
    bool, typer.Option("--allow-unsafe-code", help="run code although this machine cannot shut it in safely")
]


def code(  # noqa: PLR0913  (options of a command)
    data: Annotated[Path, typer.Option(help="problems in the format of HumanEval, .jsonl or .jsonl.gz")],
    answers: Annotated[Path | None, typer.Option(help="JSON lines with task_id and completion (or reply)")] = None,
    canonical: Annotated[bool, typer.Option("--canonical", help="test the solutions in the data instead")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="leave out problems without an answer")] = False,
    k: Annotated[list[int] | None, typer.Option("-k", min=1, help="of pass@k; repeat it for several")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds on the clock for one answer")] = 10.0,
    workers: Annotated[int | None, typer.Option(min=1, help="answers tested at a time; default: processors")] = None,
    out: Annotated[Path | None, typer.Option(help="write every attempt and the numbers here, as JSON")] = None,
    seed: Annotated[int, typer.Option(help="of the bootstrap")] = 0,
    allow_unsafe: AllowUnsafe = False,
) -> None:
    """Test code that models wrote, in the sandbox, and print pass@k with intervals."""
    from accord.evals.code import attempt_all, fingerprint, measure, read_problems
    from accord.evals.code_answers import canonical as solutions
    from accord.evals.code_answers import read_answers
    from accord.evals.measured import markdown
    from accord.sandbox import NAMES, Limits, probe
    from accord.storage import io_errors, write_atomic

    if (answers is None) != canonical:
        raise ConfigError("say what is tested", fix="give either --answers FILE or --canonical")
    problems = read_problems(data)
    programs = solutions(problems) if answers is None else read_answers(answers, problems, partial=partial)
    level = probe()
    typer.echo(f"sandbox level {int(level)}: {NAMES[level]}", err=True)
    limits = Limits(seconds=timeout, cpu_seconds=timeout)
    attempts = attempt_all(problems, programs, limits=limits, workers=workers, allow_unsafe=allow_unsafe)
    fewest = min(len(texts) for texts in programs.values())
    ks = sorted(set(k)) if k else [k for k in (1, 10, 100) if k <= fewest]
    rows = measure(attempts, ks, level=level, data=fingerprint(problems), seed=seed)
    typer.echo(markdown(rows), nl=False)
    typer.echo(f"{sum(a.passed for a in attempts)} of {len(attempts)} attempts at {len(programs)} problems passed")
    if len(programs) < len(problems):
        typer.echo(f"{len(problems) - len(programs)} problems have no answer and are in no number")
    for attempt in attempts:
        if attempt.suspicious:
            typer.echo(f"suspicious: {attempt.task_id} attempt {attempt.index}: {'; '.join(attempt.suspicious)}")
    if out is not None:
        made = {"numbers": [row.row() for row in rows], "attempts": [asdict(attempt) for attempt in attempts]}
        with io_errors("write the results", out):
            write_atomic(out, (json.dumps(made, indent=1) + "\n").encode())
        typer.echo(f"written: {out}")
