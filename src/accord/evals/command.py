"""`accord eval ...`: existing judgements scored, reward models and detectors measured, the list of suites.

The name is older than its commands: `accord eval --config run.yaml` runs the stage `evaluate`, and so does
`accord eval run.yaml`. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from accord.collect.command import StageOrCommand
from accord.collect.command_options import group_of_commands
from accord.errors import ConfigError
from accord.evals import code_command, run_command

if TYPE_CHECKING:
    from accord.evals.suites.base import Report

app = group_of_commands(
    "Evaluate: score files of judgements, measure reward models and refusals, list the suites.\n\n"
    "`accord eval run.yaml` (or --config run.yaml) runs the stage `evaluate` of a run.",
    cls=StageOrCommand,
)
app.command()(code_command.code)
app.command()(run_command.suite)
app.command()(run_command.judge)

File = Annotated[Path, typer.Argument(help="JSON, JSON lines, CSV or Parquet; text may be gzipped", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", help="write the numbers too: .json, or .md for the table")]
JudgeFormat = Annotated[
    Literal["auto", "alpaca", "llmbar", "arena", "mtbench", "gsm8k", "ratings"],
    typer.Option("--format", help="of the judgements; auto goes by the columns"),
]


def show(report: Report, out: Path | None) -> None:
    """Print a report as markdown and write it where it is wanted.

    Raises:
        ConfigError: the file's name ends neither in .json nor in .md.
    """
    from accord import __version__
    from accord.storage import io_errors, write_atomic

    typer.echo(report.text(), nl=False)
    if out is None:
        return
    if out.suffix not in (".json", ".md"):
        raise ConfigError(f"'{out}' ends neither in .json nor in .md", where="--out", fix="e.g. --out result.json")
    whole = {"accord": __version__, **report.row()}
    text = report.text(shown=len(report.bad)) if out.suffix == ".md" else json.dumps(whole, indent=1) + "\n"
    with io_errors("write the result", out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, text.encode())


@app.command("list")
def list_suites() -> None:
    """List suites, and formats of judgements that can be scored."""
    from accord.evals.suites import SUITES
    from accord.evals.suites.judged import FORMATS

    typer.echo("suites:")
    for name, suite in SUITES.items():
        what = "pairs with labels" if suite.kind == "pairs" else f"answers; judged by {suite.needs}"
        typer.echo(f"  {name:<13} {suite.about}  [{what}]")
    typer.echo("judgements that `accord eval judged` reads:")
    for name, (_, what) in FORMATS.items():
        typer.echo(f"  {name:<13} {what}")


@app.command()
def judged(  # noqa: PLR0913  (options, all with defaults)
    file: File,
    format: JudgeFormat = "auto",
    judge: Annotated[str, typer.Option("--judge", help="name of the judge, where the file has none")] = "",
    judge_accuracy: Annotated[
        Path | None, typer.Option("--judge-accuracy", help="JSON of an earlier --out with the judge's accuracy")
    ] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="alpaca: GLM weights by model (CSV)")] = None,
    difficulty: Annotated[Path | None, typer.Option("--difficulty", help="alpaca: difficulty by instruction")] = None,
    baseline: Annotated[str, typer.Option("--baseline", help="arena: name of the baseline")] = "baseline",
    arena_version: Annotated[
        Literal["2.0", "0.1"], typer.Option("--arena-version", help="arena: whose way of reading verdicts")
    ] = "2.0",
    out: Out = None,
) -> None:
    """Score a file of judgements: win rates, ratings, agreement with labels, and how the judge behaved."""
    from accord.evals.suites.judged import Options, read_accuracy, score_file

    options = Options(
        judge=judge,
        judge_accuracy=read_accuracy(judge_accuracy) if judge_accuracy else None,
        weights=weights,
        difficulty=difficulty,
        baseline=baseline,
        arena_version=arena_version,
    )
    show(score_file(file, format, options), out)


@app.command("reward-bench")
def reward_bench(
    file: File,
    reward_model: Annotated[
        str, typer.Option("--reward-model", help="directory of a reward model; empty = scores are in the file")
    ] = "",
    out: Out = None,
) -> None:
    """Measure a reward model on {prompt, chosen, rejected, subset}: RewardBench 1 pairs, RewardBench 2 best of n."""
    from accord.evals.suites.reward_bench import read_items, score_items

    loaded = read_items(file)
    judge = None
    if reward_model:
        from accord.judges.reward import RewardJudge

        judge = RewardJudge(reward_model)
    show(score_items(loaded, judge, title=f"RewardBench, {file.name}"), out)


@app.command()
def refusals(file: File, out: Out = None) -> None:
    """Tell which replies refuse; where people labelled them, measure how often the detector is right."""
    from accord.evals.suites.xstest import read_replies, refusal_report

    show(refusal_report(read_replies(file), title=f"Refusals, {file.name}"), out)


@app.command("length-bias")
def length_bias(
    suite: Annotated[str, typer.Argument(help="a suite of pairs, see `accord eval list`", show_default=False)],
    file: File,
    out: Out = None,
) -> None:
    """Say how often the preferred reply of labelled pairs is the longer one: what length alone would score."""
    from accord.evals.suites import SUITES
    from accord.evals.suites.base import Report
    from accord.evals.suites.pairs import longer_is_better

    known = [name for name, one in SUITES.items() if one.kind == "pairs"]
    chosen = SUITES.get(suite)
    if chosen is None or chosen.kind != "pairs":
        raise ConfigError(f"'{suite}' is no suite of pairs", fix=f"choose one of {', '.join(known)}")
    loaded = chosen.pairs(file)
    row = longer_is_better(loaded.items, on=file.name)
    show(Report(f"Length bias, {file.name}", (row,), bad=loaded.bad), out)
