"""Run every experiment for every seed, draw the figures and fill the tables of the page.

    python -m benchmarks.shapes --out docs/results

Results go to `--work`, one JSON file an experiment and seed: a killed run continues where it was, and a run that is
complete only draws again. A file made with other settings is made anew; after a change in code give another `--work`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from benchmarks.shapes import critics, ensembles, overoptimisation, penalty, preferences, variance
from benchmarks.shapes.figures import DRAW

EXPERIMENTS: tuple[ModuleType, ...] = (overoptimisation, penalty, ensembles, preferences, variance, critics)
PAGE = "published-shapes.md"


def result(experiment: ModuleType, seed: int, work: Path) -> dict[str, Any]:
    """Read the result of one experiment and seed, or make it."""
    path = work / f"{experiment.NAME}-{seed}.json"
    settings = json.loads(json.dumps(experiment.SETTINGS))
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["settings"] == settings:
            return found
    start = time.perf_counter()
    values = experiment.run(seed, settings)
    found = {
        "settings": settings,
        "seconds": time.perf_counter() - start,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "values": json.loads(json.dumps(values)),
    }
    part = path.with_suffix(".partial")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.replace(path)
    print(f"{experiment.NAME}, seed {seed}: {found['seconds']:.0f} s", flush=True)
    return found


def fill(page: str, name: str, lines: list[str]) -> str:
    """Replace what stands between the marks of one table.

    Args:
        page: Markdown.
        name: of the experiment, in the marks.
        lines: new content.

    Raises:
        ValueError: if the page does not have both marks once.
    """
    begin, end = f"<!-- generated: begin {name} -->", f"<!-- generated: end {name} -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"the page needs {begin!r} and {end!r} once each")
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n\n" + "\n".join(lines).rstrip() + f"\n\n{end}{after}"


def environment(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Versions, dates, machine and time."""
    dates = sorted(one["date"] for results in found.values() for one in results)
    minutes = {name: sum(one["seconds"] for one in results) / 60 for name, results in found.items()}
    seeds = len(next(iter(found.values())))
    parts = ", ".join(f"{name} {value:.1f}" for name, value in minutes.items())
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return [
        f"{seeds} seeds. Measured {when} on one core of a {os.cpu_count()}-core {platform.machine()} machine without a "
        f"GPU. Accord {version('accord-rlhf')}, torch {torch.__version__.split('+')[0]}, Python "
        f"{platform.python_version()}. {sum(minutes.values()):.0f} minutes in all: {parts}.",
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="directory of the page and the figures")
    parser.add_argument("--work", type=Path, default=Path("runs/published-shapes"), help="directory of the results")
    parser.add_argument("--seeds", type=int, default=8, help="number of seeds, from 0")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds must be at least 2: one seed has no interval")
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {experiment.NAME: [] for experiment in EXPERIMENTS}
    for seed in range(arguments.seeds):
        for experiment in EXPERIMENTS:
            found[experiment.NAME].append(result(experiment, seed, arguments.work))
    page = arguments.out / PAGE
    text = page.read_text(encoding="utf-8")
    for experiment in EXPERIMENTS:
        values = [one["values"] for one in found[experiment.NAME]]
        DRAW[experiment.NAME](values, arguments.out / f"shapes-{experiment.NAME}.svg")
        text = fill(text, experiment.NAME, experiment.report(values))
    page.write_text(fill(text, "environment", environment(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
