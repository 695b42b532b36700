"""`accord show`: what a run has made, what it is in the middle of, and the numbers that matter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from accord.artifacts import CHECKPOINTS, Artifact, load_artifact
from accord.config import Rounds
from accord.errors import ArtifactError
from accord.pipeline import INDEX, stage_of
from accord.rounds import name_in
from accord.stages import STAGES
from accord.storage import MANIFEST, io_errors
from accord.terminal import console, seconds_text, size_text, table
from accord.tracking import METRICS, read_metrics
from accord.yamlfile import load_yaml

MAIN = {
    "policy": (
        "eval_gold",
        "eval_proxy",
        "eval_kl",
        "eval_length",
        "eval_loss",
        "eval_perplexity",
        "rounds",
        "pairs",
        "demonstrations",
        "steps",
    ),
    "samples": ("prompts", "replies", "n", "kl", "proxy", "judged", "win_rate", "mean_length", "cut_fraction"),
    "preferences": ("num", "num_annotators", "agreement"),
    "reward_model": ("accuracy", "gold_accuracy", "length_correlation", "pairs", "replies"),
}
"""Numbers shown for each kind of output, the first `_MOST` that exist."""
_MOST = 6


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    directory: str
    """Name inside the run directory."""
    state: str
    """`current`, `older`, `in progress` or `damaged`."""
    kind: str = ""
    """Kind of the output."""
    seconds: float | None = None
    """Time the stage took."""
    memory_mb: float | None = None
    """Peak resident memory."""
    numbers: str = ""
    """Main metrics, or where an unfinished stage stands."""


def print_run(run_dir: Path) -> None:
    """Print the stages of a run, finished and unfinished, and where its report is.

    Raises:
        ArtifactError: there is no such run.
    """
    found = lines(run_dir)
    out = console()
    out.print(f"run {run_dir.resolve().name}: {run_dir}", soft_wrap=True)
    rows = [
        (
            line.directory,
            line.state,
            line.kind or "-",
            "-" if line.seconds is None else seconds_text(line.seconds),
            "-" if line.memory_mb is None else size_text(line.memory_mb * 2**20),
            line.numbers or "-",
        )
        for line in found
    ]
    out.print(table(("stage", "state", "kind", "time", "memory", "numbers"), rows, right=(3, 4)))
    current = [line for line in found if line.state == "current"]
    if current:
        seconds = sum(line.seconds or 0 for line in current)
        out.print(f"current stages took {seconds_text(seconds)} together")
    for line in rounds(run_dir):
        out.print(line, soft_wrap=True)
    report = _report(run_dir, found)
    if report is not None:
        out.print(f"report: {report}", soft_wrap=True)
    if not found:
        out.print("nothing is finished yet")
    elif any(line.state == "in progress" for line in found):
        out.print("run the same command again to continue what is in progress")


def lines(run_dir: Path) -> list[Line]:
    """What lies in a run directory: stages of the newest invocation in their order, older ones, unfinished ones.

    Raises:
        ArtifactError: there is no such run.
    """
    with io_errors("read the run directory", run_dir):
        if not run_dir.is_dir():
            raise ArtifactError("there is no such run", where=str(run_dir), fix="give a directory such as runs/demo")
        directories = sorted(path for path in run_dir.iterdir() if path.is_dir())
    partial = [path for path in directories if path.suffix == ".partial"]
    finished = [path for path in directories if path not in partial and (path / MANIFEST).is_file()]
    index = newest(run_dir)
    known = any((run_dir / name).is_file() for name in ("config.yaml", INDEX))
    if not (finished or partial or known):
        raise ArtifactError(
            "this directory is not a run: it has no finished or unfinished stage",
            where=str(run_dir),
            fix="give a directory such as runs/demo",
        )
    order = list(index.values())
    made = [_finished(path, order) for path in finished]

    def place(pair: tuple[str, Line]) -> tuple[int, int, str]:
        """By the index; without one in the order of a standard run; what is older by time."""
        created, line = pair
        stage = stage_of(line.directory.rpartition("-")[0], STAGES)
        known = order.index(line.directory) if line.directory in order else len(order)
        return (known, len(STAGES) if order or stage is None else list(STAGES).index(stage.name), created)

    made.sort(key=place)
    return [line for _, line in made] + [_unfinished(path) for path in partial]


def rounds(run_dir: Path) -> list[str]:
    """One line a round of what its reward model and its policy are worth; none when the run has no rounds."""
    path = run_dir / "config.yaml"
    settings: Any = load_yaml(path).data.get("rounds") if path.is_file() else None
    if settings is None:
        return []
    plan = Rounds.model_validate_json(json.dumps(settings))
    made, found = newest(run_dir), list[str]()
    for number in range(1, plan.count + 1):
        names = [name for section in plan.stages if (name := name_in(section, number)) in made]
        artifacts = [load_artifact(run_dir / made[name]) for name in names]
        parts = [
            f"{a.stage} {numbers}"
            for a in artifacts
            if a.kind in ("reward_model", "policy") and (numbers := main_numbers(a))
        ]
        found.append(f"round {number}: {'; '.join(parts) if parts else 'to do' if not names else 'begun'}")
    return found


def newest(run_dir: Path) -> dict[str, str]:
    """Section -> artifact directory of the newest invocation; empty when the pipeline wrote no index."""
    path = run_dir / INDEX
    if not path.is_file():
        return {}
    with io_errors("read the run's index", path):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        raw: Any = json.loads(text)
        stages: Any = raw["stages"]
        return {str(section): str(name) for section, name in stages.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{INDEX} is damaged", where=str(path), fix="remove it; the next run writes it again"
        ) from error


def _finished(path: Path, order: list[str]) -> tuple[str, Line]:
    """Time of making, for sorting, and the row of a directory that has a manifest."""
    try:
        artifact = load_artifact(path)
    except ArtifactError as error:
        return "", Line(path.name, "damaged", numbers=error.what)
    manifest = artifact.manifest
    state = "current" if path.name in order or not order else "older"
    numbers = main_numbers(artifact)
    return manifest.created, Line(path.name, state, artifact.kind, manifest.seconds, manifest.peak_memory_mb, numbers)


def _unfinished(path: Path) -> Line:
    """The row of a directory that a stage is working in, or was when it was stopped."""
    steps = [p.name.removeprefix("ckpt-") for p in (path / CHECKPOINTS).glob("ckpt-*") if p.is_dir()]
    saved = max((int(step) for step in steps if step.isdecimal()), default=None)
    parts = ["no checkpoint yet" if saved is None else f"checkpoint at step {saved}"]
    if (path / METRICS).is_file():
        rows = read_metrics(path / METRICS)
        if rows:
            parts.append(f"last logged step {int(rows[-1]['step'])}")
    return Line(path.name, "in progress", numbers=", ".join(parts))


def main_numbers(artifact: Artifact) -> str:
    """The few metrics of an artifact worth a look, as text."""
    metrics = artifact.manifest.metrics
    stage = stage_of(artifact.stage, STAGES)
    kind = stage.kind if stage is not None else artifact.kind
    names = [name for name in MAIN.get(kind, ()) if name in metrics][:_MOST]
    if kind == "results":
        names = sorted((n for n in metrics if n.startswith(("win_rate_", "utility_"))), reverse=True)
    if not names:
        names = [name for name, value in metrics.items() if isinstance(value, int | float)][:_MOST]
    shown = ((name, _number(metrics[name])) for name in names)
    return ", ".join(f"{name} {text}" for name, text in shown if text)


def _number(value: Any) -> str:
    if isinstance(value, dict):
        estimate = cast(Mapping[str, Any], value)
        if not {"value", "low", "high"} <= estimate.keys():
            return ""
        return f"{_number(estimate['value'])} [{_number(estimate['low'])}, {_number(estimate['high'])}]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.3f}"


def _report(run_dir: Path, found: list[Line]) -> Path | None:
    """The newest report: of the current invocation, else the one `accord report` wrote."""
    made = [run_dir / line.directory / "report.html" for line in found if line.kind == "report"]
    written = [path for path in [*made, run_dir / "report.html"] if path.is_file()]
    return written[0] if written else None
