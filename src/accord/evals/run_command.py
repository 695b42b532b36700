"""`accord eval suite`: a model answers a suite, a judge judges, the numbers are written; and `accord eval judge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from accord.errors import ConfigError

if TYPE_CHECKING:
    from accord.evals.answering import Answerer
    from accord.evals.judging import JudgeChoice
    from accord.judges.agreement import Agreement
    from accord.judges.base import Judge

Data = Annotated[Path, typer.Option(help="the suite's original file or folder", show_default=False)]
Out = Annotated[Path, typer.Option(help="directory of the results", show_default=False)]
JudgeSpec = Annotated[
    str | None,
    typer.Option(
        help="an OpenAI-compatible address, a reward model (directory or hub id), `lab:gold`, or `people`",
        show_default=False,
    ),
]
JudgeModel = Annotated[str, typer.Option(help="name of the model at the judge's address", show_default=False)]
KeyVariable = Annotated[
    str | None,
    typer.Option(
        help="environment variable of the judge's API key; else ACCORD_JUDGE_API_KEY, if set", show_default=False
    ),
]
How = Annotated[
    Literal["auto", "logprobs", "verdict"],
    typer.Option(help="auto: log-probabilities of one letter where the server tells them; or verdict"),
]
Template = Annotated[
    Literal["pairwise", "arena"], typer.Option(help="wording of verdicts: pairwise (A, B, tie) or arena (five levels)")
]
MtBenchPrompts = Annotated[
    Path | None,
    typer.Option(help="mt-bench: the original judge_prompts.jsonl, so that the judge is asked in its words"),
]
Samples = Annotated[int, typer.Option(min=1, help="verdicts an order, averaged")]
Labels = Annotated[
    Path | None,
    typer.Option(help="labelled pairs (any preference format) that the judge is measured on first", show_default=False),
]
Weak = Annotated[
    Literal["refuse", "warn"], typer.Option(help="a judge that may be no better than a coin: refuse or warn")
]
MaxCalls = Annotated[int | None, typer.Option(min=1, help="most calls to a judge in this command", show_default=False)]
Concurrency = Annotated[int, typer.Option(min=1, help="calls in flight")]
Timeout = Annotated[float, typer.Option(min=1, help="seconds for one call")]
Database = Annotated[str | None, typer.Option(help="people: SQLite file or address of a database", show_default=False)]
Project = Annotated[str, typer.Option(help="people: project in it")]
Overlap = Annotated[int, typer.Option(min=1, help="people: answers a pair")]


def suite(  # noqa: PLR0913  (one option each)
    name: Annotated[str, typer.Argument(help="`accord eval list` names them", show_default=False)],
    data: Data,
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(help="who answers: a directory or hub id, an address, or a file of answers", show_default=False),
    ] = None,
    model_name: Annotated[str, typer.Option(help="name of the model at its address", show_default=False)] = "",
    baseline: Annotated[
        str | None, typer.Option(help="whom it is compared with, as --model", show_default=False)
    ] = None,
    baseline_name: Annotated[str, typer.Option(help="name of the model at its address", show_default=False)] = "",
    judge: JudgeSpec = None,
    judge_model: JudgeModel = "",
    judge_key: KeyVariable = None,
    judge_how: How = "auto",
    judge_template: Template = "pairwise",
    judge_samples: Samples = 1,
    judge_prompts: MtBenchPrompts = None,
    judge_labels: Labels = None,
    weak_judge: Weak = "refuse",
    max_calls: MaxCalls = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 120.0,
    database: Database = None,
    project: Project = "evaluation",
    overlap: Overlap = 1,
    max_tokens: Annotated[int, typer.Option(min=1, help="most tokens of a reply")] = 1024,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="of the replies; default: as the suite says, else 0", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="of the sampling")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="only so many prompts or pairs", show_default=False)] = None,
) -> None:
    """Run a suite: answer, judge, count, write. Run it again after an interruption: nothing is asked twice."""
    from contextlib import ExitStack, closing
    from dataclasses import replace

    from accord.evals.answering import answerer_of
    from accord.evals.judging import open_judge
    from accord.evals.running import CACHE, Participants, Settings, run_suite
    from accord.evals.suites import SUITES
    from accord.judges.client import Limits

    chosen = SUITES.get(name)
    if chosen is None:
        raise ConfigError(f"there is no suite '{name}'", fix=f"choose one of {', '.join(SUITES)}")
    limits = Limits(timeout_s=timeout, concurrency=concurrency)
    cache = out / CACHE
    settings = Settings(max_tokens, temperature, seed, limit)
    with ExitStack() as opened:

        def answers(spec: str | None, named: str) -> Answerer | None:
            if spec is None:
                return None
            return opened.enter_context(closing(answerer_of(spec, model=named, cache=cache, limits=limits)))

        who = Participants(answers(model, model_name), answers(baseline, baseline_name))
        if judge is not None:
            choice = _choice(
                judge,
                model=judge_model,
                key=judge_key,
                how=judge_how,
                template=judge_template,
                samples=judge_samples,
                limits=Limits(timeout_s=timeout, concurrency=concurrency, max_calls=max_calls),
                people=(database, project, overlap),
            )
            ready = opened.enter_context(open_judge(choice, cache=cache))
            accuracy = None if judge_labels is None else _measured(ready, judge_labels, weak_judge)
            if judge_prompts is not None:
                ready = _in_the_words_of_mt_bench(ready, name, judge_prompts)
            who = replace(who, judge=ready, accuracy=accuracy)
        report = run_suite(chosen, data, out, who, settings=settings, say=typer.echo)
    typer.echo(report.text())
    typer.echo(f"results: {out / 'results.md'}")


def judge(  # noqa: PLR0913  (one option each)
    judge: Annotated[str, typer.Option(help="as for `accord eval suite`", show_default=False)],
    labels: Annotated[Path, typer.Option(help="labelled pairs in any preference format", show_default=False)],
    out: Out,
    judge_model: JudgeModel = "",
    judge_key: KeyVariable = None,
    judge_how: How = "auto",
    judge_template: Template = "pairwise",
    judge_samples: Samples = 1,
    max_calls: MaxCalls = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 120.0,
) -> None:
    """Measure a judge on labelled pairs: agreement, position bias, inconsistency, unreadable verdicts.

    The exit code is 2 when it may be no better than a coin.
    """
    import json
    from dataclasses import asdict

    from accord.evals.judging import open_judge
    from accord.evals.measured import Measured, markdown
    from accord.evals.running import CACHE
    from accord.judges.agreement import require_agreement
    from accord.judges.client import Limits
    from accord.storage import io_errors, write_atomic

    choice = _choice(
        judge,
        model=judge_model,
        key=judge_key,
        how=judge_how,
        template=judge_template,
        samples=judge_samples,
        limits=Limits(timeout_s=timeout, concurrency=concurrency, max_calls=max_calls),
        people=(None, "", 1),
    )
    with io_errors("write the results", out):
        out.mkdir(parents=True, exist_ok=True)
    with open_judge(choice, cache=out / CACHE) as opened:
        found = _agreement(opened, labels)
    row = Measured(
        "agreement with labels",
        found.value,
        found.low,
        found.high,
        found.n,
        "pairs",
        judge=found.judge,
        judge_accuracy=found.row(),
        prompt_hash=found.prompt_hash,
    ).beside(found.conduct)
    with io_errors("write the results", out):
        write_atomic(out / "judge.json", json.dumps(asdict(found), indent=1).encode())
        write_atomic(out / "judge.md", markdown([row]).encode())
    typer.echo(markdown([row]))
    require_agreement(found)


def _in_the_words_of_mt_bench(judge: Judge, suite_name: str, prompts: Path) -> Judge:
    """The same model, asked with the original templates."""
    from accord.evals.suites.mt_bench import read_judge_prompts
    from accord.evals.suites.mt_bench_judge import MtBenchJudge
    from accord.judges.llm import LLMJudge

    if suite_name != "mt-bench" or not isinstance(judge, LLMJudge):
        raise ConfigError(
            "--judge-prompts is for the suite mt-bench and a judge behind an address",
            fix="leave it out, or use `accord eval suite mt-bench --judge ADDRESS`",
        )
    return MtBenchJudge(judge.client, read_judge_prompts(prompts))


def _choice(
    spec: str,
    *,
    model: str,
    key: str | None,
    how: Literal["auto", "logprobs", "verdict"],
    template: Literal["pairwise", "arena"],
    samples: int,
    limits: Any,
    people: tuple[str | None, str, int],
) -> JudgeChoice:
    from accord.evals.judging import JudgeChoice
    from accord.judges.llm import Style
    from accord.judges.people import Place

    database, project, overlap = people
    place = None if database is None else Place(database, project, overlap)
    return JudgeChoice(
        spec,
        model=model,
        key_variable=key,
        style=Style(how, template, samples),
        limits=limits,
        place=place,
    )


def _measured(judge: Judge, labels: Path, weak: Literal["refuse", "warn"]) -> Agreement:
    from accord.judges.agreement import require_agreement

    found = _agreement(judge, labels)
    typer.echo(
        f"judge {judge.name} agrees with {found.on} in {found.value:.3f} of {found.n} pairs "
        f"(95 % {found.low:.3f} to {found.high:.3f})"
    )
    require_agreement(found, weak)
    return found


def _agreement(judge: Judge, labels: Path) -> Agreement:
    from accord.data import read
    from accord.judges.agreement import agreement, labelled_pairs
    from accord.types import Preference

    dataset = read(str(labels), Preference)
    for line in dataset.describe():
        typer.echo(f"  {line}")
    pairs = labelled_pairs(list(dataset.records))
    left = len(dataset.records) - len(pairs)
    if left:
        typer.echo(f"  {left} rows prefer no single reply and are left out")
    return agreement(judge, pairs, on=labels.name)
