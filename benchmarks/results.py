"""Write the measured tables of a results page: everything between its two `generated` marks.

    python benchmarks/results.py docs/results/demo.md runs/seed0 runs/seed1 runs/seed2

The numbers come from the manifests, `eval.json` and `results.json` of the runs' newest stages; nothing is typed in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"


class Run:
    """The newest artifacts of one run."""

    def __init__(self, path: Path) -> None:
        """Read the index and every manifest it names."""
        index = json.loads((path / "run.json").read_text(encoding="utf-8"))["stages"]
        self.dirs = {stage: path / name for stage, name in index.items()}
        self.manifests = {stage: json.loads((d / "manifest.json").read_text()) for stage, d in self.dirs.items()}
        self.seed = next(iter(self.manifests.values()))["seed"]

    def read(self, stage: str, name: str) -> Any:
        """A JSON file of a stage; None when there is none."""
        path = self.dirs.get(stage, Path()) / name
        return json.loads(path.read_text(encoding="utf-8")) if stage in self.dirs and path.is_file() else None


def share(interval: dict[str, Any] | None) -> str:
    """An interval as text."""
    if not interval or interval["value"] is None:
        return "-"
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}], n {interval['n']}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table."""
    head = list(head)
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows), ""]


def reward_models(runs: list[Run]) -> list[str]:
    """Held-out accuracy of every reward model beside its baselines."""
    rows: list[list[str]] = []
    for run in runs:
        for stage in (s for s in run.dirs if s.startswith("reward")):
            found = run.read(stage, "eval.json")
            if found is None:
                continue
            bases = found["baselines"]
            rows.append(
                [
                    str(run.seed),
                    stage,
                    share(found["accuracy"]),
                    share(found.get("gold_accuracy")),
                    share(found.get("label_gold_agreement")),
                    share(bases["longer"]),
                    share(bases["bag_of_words"]),
                    f"{found['ece']:.3f}",
                ]
            )
    head = (
        "seed",
        "stage",
        "accuracy on labels",
        "on gold order",
        "labels on gold order",
        "longer wins",
        "words",
        "ECE",
    )
    return ["### Reward models on held-out prompts", "", *table(head, rows)] if rows else []


def win_rates(runs: list[Run]) -> list[str]:
    """Win rates with lengths, then utilities and parts."""
    rates: list[list[str]] = []
    parts: list[list[str]] = []
    names: list[str] = []
    for run in runs:
        found = run.read("evaluate", "results.json")
        if found is None:
            continue
        for w in found["win_rates"]:
            lengths = f"{w['length_a']:.1f} / {w['length_b']:.1f}"
            interval = f"{w['win_rate']:.3f} [{w['low']:.3f}, {w['high']:.3f}]"
            rates.append([str(run.seed), f"{w['a']} against {w['b']}", interval, str(w["n"]), lengths])
        for name, m in found["models"].items():
            names = list(m["parts"])
            kl = "-" if m["kl"] is None else f"{m['kl']:.2f}"
            values = [f"{m['parts'][part]:.3f}" for part in names]
            parts.append([str(run.seed), name, f"{m['utility']['value']:.3f}", *values, f"{m['length']:.1f}", kl])
    if not rates:
        return []
    head = ("seed", "models", "win rate [95 %], ties half", "prompts", "tokens a reply")
    text = ["### Win rates", "", *table(head, rates)]
    return [*text, "### Utility", "", *table(("seed", "model", "utility", *names, "tokens", "KL to baseline"), parts)]


def refusals(runs: list[Run]) -> list[str]:
    """Refusals of harmful requests and of harmless look-alikes."""
    rows: list[list[str]] = []
    for run in runs:
        found = (run.read("evaluate", "results.json") or {}).get("extra", {}).get("rates", {})
        for name, groups in found.items():
            if "lookalike" in groups:
                harmful, alike = groups["harmful"], groups["lookalike"]
                cells = (harmful["refused"], harmful["complied"], alike["over_refused"])
                rows.append([str(run.seed), name, *(share(c) for c in cells)])
    head = ("seed", "model", "refuses harmful", "complies with harmful", "refuses look-alikes")
    return ["### Refusals", "", *table(head, rows)] if rows else []


def headroom(runs: list[Run]) -> list[str]:
    """Mean utility of random and of best replies."""
    rows: list[list[str]] = []
    for run in runs:
        found = (run.read("evaluate", "results.json") or {}).get("extra", {}).get("headroom")
        if found:
            rows.append([str(run.seed), f"{found['random']:.3f}", f"{found['best']:.3f}"])
    return ["### Headroom", "", *table(("seed", "random words", "best possible"), rows)] if rows else []


def costs(runs: list[Run]) -> list[str]:
    """Seconds and peak memory of each stage."""
    stages = list(runs[0].manifests)
    rows = [
        [
            str(run.seed),
            *(f"{run.manifests[s]['seconds']:.0f}" if s in run.manifests else "-" for s in stages),
            f"{sum(m['seconds'] for m in run.manifests.values()):.0f}",
            f"{max(m['peak_memory_mb'] for m in run.manifests.values()):.0f}",
        ]
        for run in runs
    ]
    head = ("seed", *(f"{s}, s" for s in stages), "sum, s", "peak, MiB")
    return ["### Time and memory", "", *table(head, rows)]


def environment(runs: list[Run]) -> list[str]:
    """Versions, date and machine."""
    manifests = [m for run in runs for m in run.manifests.values()]
    versions = ", ".join(f"{k} {v}" for k, v in manifests[-1]["versions"].items())
    dates = sorted(m["created"][:10] for m in manifests)
    return [
        f"Measured {dates[0]} to {dates[-1]} on {platform.machine()}, {os.cpu_count()} cores, no GPU. {versions}.",
        "",
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    arguments = parser.parse_args()
    runs = [Run(path) for path in arguments.runs]
    made = [part for make in (environment, reward_models, win_rates, refusals, headroom, costs) for part in make(runs)]
    text = arguments.page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    arguments.page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(made) + f"{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
