"""The command line. Heavy imports happen inside the commands that need them; `accord --help` stays instant."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from accord import __version__, redteam_command
from accord.collect import agree_command
from accord.collect import command as collecting
from accord.diagnose import command as diagnose_command
from accord.errors import AccordError, ConfigError
from accord.evals import command as evaluating
from accord.evals import sandbox_command
from accord.serve import command as serve_command

if TYPE_CHECKING:
    from accord.config import RunConfig


class _Commands(TyperGroup):
    """Answers Ctrl-C here, before typer does it without a word."""

    def invoke(self, ctx: typer.Context) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return super().invoke(ctx)  # pyright: ignore[reportArgumentType]
        except KeyboardInterrupt as error:
            typer.echo("interrupted: run the same command again to continue", err=True)
            raise typer.Exit(130) from error


app = typer.Typer(
    name="accord",
    cls=_Commands,
    help="Reinforcement learning from human feedback, whole: base model, SFT, preferences, reward model, PPO, DPO, "
    "honest evaluation. Start with `accord demo` or `accord init DIR`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigPath = Annotated[Path, typer.Argument(help="the run's YAML file", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.key=value, e.g. ppo.kl_coef=0.1", show_default=False)
]


def _say(line: str) -> None:
    typer.echo(line)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"accord {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Options of every command."""
    del version


def load(path: Path, overrides: Sequence[str] | None) -> RunConfig:
    """Read a run's config; sections may be `<stage>` or `<stage>_<anything>`.

    Raises:
        ConfigError: whatever is wrong with it, with file and line.
    """
    from accord.config import load_run_config
    from accord.rounds import sections_of
    from accord.stages import STAGES

    for text in overrides or ():
        if "=" not in text:
            raise ConfigError(f"'{text}' is not an override", fix="write section.key=value, e.g. ppo.kl_coef=0.1")
    return load_run_config(path, list(overrides or ()), sections_of(STAGES))


def _run(config: RunConfig, only: str | None = None) -> None:
    from accord.config import dump
    from accord.pipeline import run_pipeline
    from accord.stages import STAGES
    from accord.storage import io_errors, write_atomic

    run_dir = Path(config.run.dir) / config.run.name
    with io_errors("write the run directory", run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        write_atomic(run_dir / "config.yaml", dump(config).encode())
    made = run_pipeline(config, STAGES, only=only, say=_say)
    report = made.get("report")
    if report is not None:
        _say(f"report: {report.path('report.html')}")


@app.command()
def run(config: ConfigPath, overrides: Overrides = None) -> None:
    """Run every stage of a config that is not done yet; run it again after an interruption."""
    _run(load(config, overrides))


@app.command()
def demo(
    overrides: Overrides = None,
    directory: Annotated[str, typer.Option("--dir", help="where runs are kept")] = "runs",
    seed: Annotated[int, typer.Option(help="seed of the run")] = 0,
) -> None:
    """Run the whole loop on the embedded lab: raw text to an aligned, measured model in minutes, no download."""
    with resources.as_file(resources.files("accord.starter") / "demo.yaml") as path:
        config = load(path, [f"run.dir={directory}", f"run.seed={seed}", *(overrides or ())])
        _run(config)


def _stage_command(name: str, summary: str) -> Callable[..., None]:
    def command(
        config: Annotated[Path, typer.Option("--config", "-c", help="the run's YAML file", show_default=False)],
        overrides: Annotated[
            list[str] | None,
            typer.Argument(help="key=value of this stage, or section.key=value", show_default=False),
        ] = None,
        section: Annotated[str | None, typer.Option(help="section to run, for a second one of this stage")] = None,
    ) -> None:
        wanted = section or name
        dotted = [o if "." in o.split("=", 1)[0] else f"{wanted}.{o}" for o in overrides or ()]
        loaded = load(config, dotted)
        if wanted not in loaded.sections:
            raise ConfigError(
                f"the config has no section '{wanted}'",
                where=str(config),
                fix=f"add '{wanted}:'; it has {', '.join(loaded.sections)}",
            )
        _run(loaded, only=wanted)

    command.__doc__ = f"{summary}\n\nRuns what it needs first. `accord options {name}` lists every key."
    return command


for _name, _command, _summary in (
    ("split", "split", "Cut a data set into training and test rows that share no prompts."),
    ("pretrain", "pretrain", "Train a tokenizer and a base model on raw text."),
    ("sft", "sft", "Fine-tune on demonstrations."),
    ("sample", "sample", "Draw candidate replies to be compared."),
    ("reward", "reward", "Train a reward model on preferences."),
    ("ensemble", "ensemble", "Train an ensemble of reward models on preferences."),
    ("attributes", "attributes", "Train a reward model with one output an attribute on rated replies."),
    ("odin", "odin", "Train a reward model that is kept apart from length (ODIN)."),
    ("warm", "warm", "Average the weights of several reward models (WARM)."),
    ("process", "process", "Train a process reward model on labels of steps."),
    ("ppo", "ppo", "Optimise the policy against the reward model with PPO."),
    ("reinforce", "reinforce", "Optimise the policy with REINFORCE."),
    ("reinforce_pp", "reinforce-pp", "Optimise the policy with REINFORCE++."),
    ("remax", "remax", "Optimise the policy with ReMax, against the greedy reply."),
    ("rloo", "rloo", "Optimise the policy with RLOO, against the other replies to the prompt."),
    ("opo", "opo", "Optimise the policy with OPO, against the length-weighted mean of the replies."),
    ("grpo", "grpo", "Optimise the policy with GRPO."),
    ("dr_grpo", "dr-grpo", "Optimise the policy with Dr.GRPO."),
    ("dapo", "dapo", "Optimise the policy with DAPO."),
    ("gspo", "gspo", "Optimise the policy with GSPO."),
    ("cispo", "cispo", "Optimise the policy with CISPO."),
    ("sapo", "sapo", "Optimise the policy with SAPO."),
    ("dpo", "dpo", "Optimise the policy on preferences directly with DPO or another loss on pairs."),
    ("ipo", "ipo", "Optimise the policy on preferences with IPO."),
    ("simpo", "simpo", "Optimise the policy on preferences with SimPO, without a reference."),
    ("cpo", "cpo", "Optimise the policy on preferences with CPO, without a reference."),
    ("orpo", "orpo", "Optimise the policy on preferences with ORPO, without a reference."),
    ("kto", "kto", "Optimise the policy on replies marked good or bad with KTO."),
    ("best_of_n", "best-of-n", "Draw n replies a prompt and keep the best."),
    ("expert", "expert", "Train the policy on its own best replies: rejection sampling, RAFT, expert iteration."),
    ("online_dpo", "online-dpo", "Train the policy with DPO on pairs of its own replies."),
    ("attacker", "attacker", "Train a red-team attacker with PPO against a policy."),
):
    app.command(_command)(_stage_command(_name, _summary))

# `accord collect --config run.yaml` is a stage like the others; its other commands run the labelling site.
collecting.app.command(collecting.STAGE, hidden=True)(
    _stage_command("collect", "Collect preferences, from people or simulated annotators.")
)
app.add_typer(collecting.app, name="collect")
evaluating.app.command(collecting.STAGE, hidden=True)(
    _stage_command("evaluate", "Judge the answers of several models to held-out prompts.")
)
app.add_typer(evaluating.app, name="eval")
redteam_command.app.command(collecting.STAGE, hidden=True)(
    _stage_command("redteam", "Attack a policy and make preferences of what gets through.")
)
app.add_typer(redteam_command.app, name="redteam")
app.command()(agree_command.agree)
app.command()(agree_command.power)
app.command()(diagnose_command.diagnose)
app.command()(sandbox_command.sandbox)
app.command()(serve_command.serve)
evaluating.app.command("lm-eval")(serve_command.lm_eval)
evaluating.app.command("inspect")(serve_command.inspect)


@app.command("options")
def stage_options(
    stage: Annotated[str, typer.Argument(help="a stage; or `run`, `rounds` for the settings of the whole run")],
) -> None:
    """List every key of a stage's config with type, default and meaning."""
    from accord.config import Rounds, RunSettings, describe
    from accord.stages import STAGES

    stage = {"eval": "evaluate"}.get(stage, stage.replace("-", "_"))
    configs = {"run": RunSettings, "rounds": Rounds, **{name: known.config for name, known in STAGES.items()}}
    if stage not in configs:
        raise ConfigError(f"there is no stage '{stage}'", fix=f"choose one of {', '.join(configs)}")
    for row in describe(configs[stage]):
        default = f"default {row.default}" if row.default != "" else "required"
        typer.echo(f"{row.name}  ({row.type}; {default})\n    {row.description}")


@app.command()
def explain(metric: Annotated[str, typer.Argument(help="a name from metrics.jsonl, e.g. objective/kl")]) -> None:
    """Say what a logged number is, its unit, and what it looks like when all is well."""
    from accord.metrics import entries, nearest

    found = entries(metric)
    if not found:
        raise ConfigError(f"nothing logs '{metric}'", fix=f"try {', '.join(nearest(metric))}; all: docs/metrics.md")
    for section, entry in found:
        typer.echo(f"{metric}  ({section.title}; {entry.unit})\n    {entry.meaning}\n    healthy: {entry.healthy}")


@app.command()
def show(run_dir: Annotated[Path, typer.Argument(help="runs/<name>")]) -> None:
    """Print what a run has made: stages, time, memory, main numbers."""
    from accord.overview import print_run

    print_run(run_dir)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="runs/<name>")],
    out: Annotated[Path | None, typer.Option(help="file to write; default <run>/report.html")] = None,
) -> None:
    """Write the run's HTML report, whatever state the run is in."""
    from accord.report import write_report

    typer.echo(write_report(run_dir, out or run_dir / "report.html"))


@app.command()
def plan(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print the resolved config, the batch arithmetic and the memory of each phase; run nothing."""
    from accord.planning import print_plan

    print_plan(load(config, overrides))


@app.command()
def doctor() -> None:
    """Check this machine and installation."""
    from accord.doctor import check

    if not check():
        raise typer.Exit(1)


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="created when missing")]) -> None:
    """Write a commented config and sample data that run as they are."""
    from accord.starter.write import write_starter

    for path in write_starter(directory):
        typer.echo(path)


def main() -> None:
    """Entry point: errors become one clear message and an exit code."""
    # Threads of libgomp burn the processor while they wait for each other. Beside any other busy process that makes
    # two threads several times slower than they have to be. This many turns cost nothing on an idle machine (1,000 cost
    # a fifth) and halve the damage on a busy one. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # An interpreter that ends looks for garbage once more, among a million objects of torch for more than a second.
    atexit.register(gc.freeze)
    try:
        app(prog_name="accord")
    except AccordError as error:
        typer.echo(f"{'waiting' if error.exit_code == 75 else 'error'}: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
