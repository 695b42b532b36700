"""Write the report of a run: one HTML file that needs nothing else, with every text from the run escaped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from accord.errors import ArtifactError
from accord.memory import no_collection
from accord.report.attacks import read_attacks
from accord.report.bestofn import read_best_of_n
from accord.report.groups import read_groups
from accord.report.hacking import read_hacking, read_reward_checks
from accord.report.labels import read_labels
from accord.report.measured import HEADS, ability_table, measured_rows
from accord.report.outcome import read_outcome
from accord.report.paths import kl_figures, path_rows, read_eval_paths
from accord.report.provenance import read_provenance
from accord.report.rendering import rendered
from accord.report.results import flat, frontier, gain_table, model_table, parts_chart, win_rate_charts
from accord.report.rewardmodel import read_reward
from accord.report.rounds import read_rounds
from accord.report.runfiles import read_run
from accord.report.samples import columns, read_samples
from accord.report.training import grouped, multiples, read_curves
from accord.report.verdict import judge_run


def write_report(run_dir: Path, out: Path) -> Path:
    """Write the report of a run as one self-contained HTML file.

    The page depends on the files in the run directory alone: the same files give the same bytes. Stages that
    have not run are named as missing.

    Args:
        run_dir: `runs/<name>`.
        out: the HTML file to write; its directory is made when absent.

    Returns:
        The file written.

    Raises:
        ArtifactError: there is no such run, a file of it cannot be read, or `out` cannot be written.
    """
    try:
        with no_collection():
            page = render(run_dir)
    except OSError as error:
        raise ArtifactError(
            f"a file of the run cannot be read: {error.strerror}",
            where=str(error.filename or run_dir),
            fix="make it readable, or remove the stage it belongs to and run again",
        ) from error
    partial = out.with_name(out.name + ".partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, out)
    except OSError as error:
        raise ArtifactError(
            f"the report cannot be written: {error.strerror}",
            where=str(out),
            fix="give a path you may write to",
        ) from error
    return out


def render(run_dir: Path) -> str:
    """Return the page as text."""
    run = read_run(run_dir)
    labels, reward, outcome = read_labels(run), read_reward(run), read_outcome(run)
    curves, paths, samples = read_curves(run), read_eval_paths(run), read_samples(run, outcome)
    values: dict[str, Any] = {
        "run": run,
        "labels": labels,
        "groups": read_groups(run),
        "reward": reward,
        "curves": grouped(curves),
        "multiples": multiples(run),
        "kl_figures": kl_figures(paths, run.slots),
        "path_rows": path_rows(paths, run.slots),
        "best_of_n": read_best_of_n(run),
        "hacking": read_hacking(run),
        "reward_checks": read_reward_checks(run),
        "rounds": read_rounds(run),
        "outcome": outcome,
        "samples": samples,
        "columns": columns(samples),
        "attacks": read_attacks(run),
        "made": read_provenance(run),
        "verdict": judge_run(run, labels, reward, curves, paths, outcome),
    }
    if outcome is not None:
        values["win_rates"], values["parts"] = win_rate_charts(outcome), parts_chart(outcome, run.slots)
        values["frontier"], values["model_rows"] = frontier(outcome), model_table(outcome)
        values["gain_parts"], values["gain_rows"] = gain_table(outcome)
        values["extra"] = flat(outcome.extra)
        values["ability_models"], values["ability_rows"] = ability_table(run)
        values["measured_heads"], values["measured_rows"] = HEADS, measured_rows(run)
    return rendered("report.html", values)
