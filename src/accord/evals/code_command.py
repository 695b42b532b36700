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
    model: Annotated[
        str | None, typer.Option(help="who answers: a directory or hub id, or an OpenAI-compatible address")
    ] = None,
    model_name: Annotated[str, typer.Option(help="name of the model at its address")] = "",
    cache: Annotated[Path, typer.Option(help="--model: replies are kept here, so that nothing is asked twice")] = Path(
        "code-answers.db"
    ),
    samples: Annotated[int, typer.Option(min=1, help="--model: replies a problem")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="--model: of sampling; 0 = greedy")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="--model: most tokens of a reply")] = 1024,
    partial: Annotated[bool, typer.Option("--partial", help="leave out problems without an answer")] = False,
    k: Annotated[list[int] | None, typer.Option("-k", min=1, help="of pass@k; repeat it for several")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds on the clock for one answer")] = 10.0,
    workers: Annotated[int | None, typer.Option(min=1, help="answers tested at a time; default: processors")] = None,
    out: Annotated[Path | None, typer.Option(help="write every attempt and the numbers here, as JSON")] = None,
    seed: Annotated[int, typer.Option(help="of sampling and the bootstrap")] = 0,
    allow_unsafe: AllowUnsafe = False,
) -> None:
    """Test code that models wrote, in the sandbox, and print pass@k with intervals."""
    from contextlib import closing

    from accord.evals.answering import answerer_of
    from accord.evals.code import attempt_all, fingerprint, measure, read_problems
    from accord.evals.code_answers import ask, read_answers
    from accord.evals.code_answers import canonical as solutions
    from accord.evals.measured import markdown
    from accord.sandbox import NAMES, Limits, probe, require
    from accord.storage import io_errors, write_atomic

    if sum((answers is not None, canonical, model is not None)) != 1:
        raise ConfigError("say what is tested", fix="give one of --answers FILE, --model MODEL and --canonical")
    if samples > 1 and temperature == 0:
        raise ConfigError(f"{samples} greedy replies are one reply", fix="give --temperature, e.g. 0.8")
    problems = read_problems(data)
    if model is not None:
        require(allow_unsafe=allow_unsafe)  # before anybody is asked
        with closing(answerer_of(model, model=model_name, cache=cache)) as answerer:
            programs = ask(
                answerer, problems, samples=samples, temperature=temperature, max_tokens=max_tokens, seed=seed
            )
    else:
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
