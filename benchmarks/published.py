"""Our numbers beside the published ones: `python -m benchmarks.published ../shared/data docs/results/evaluation.md`.

Replaces what stands between the marks "generated" of the page.
"""

from __future__ import annotations

import csv
import json
import platform
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy
from benchmarks import refusals

from accord import __version__
from accord.evals.suites import SUITES, alpaca_eval, llmbar
from accord.evals.suites.pairs import longer_is_better
from accord.evals.suites.xstest import read_replies, refusal_report

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"


def alpaca(folder: Path) -> list[str]:
    """All models of the leaderboard file."""
    loaded = alpaca_eval.read_judged(folder / "preferences.csv.gz")
    weights = alpaca_eval.read_weights(folder / "glm_weights.csv")
    difficulty = alpaca_eval.read_difficulty(folder / "instruction_difficulty.csv")
    made = alpaca_eval.report(loaded, title="", weights=weights, difficulty=difficulty)
    models = alpaca_eval.by_model(loaded.items)
    constant = {row.name.rsplit(", ", 1)[1]: row for row in made.rows if row.name.startswith("answers that are one")}
    with (folder / "leaderboard.csv").open(encoding="utf-8") as stream:
        published = {row[""]: row for row in csv.DictReader(stream)}
    lines = [
        "| model | n | win rate, % | off | discrete, % | off | controlled, given weights, % | off | off, by row | "
        "fitted here, % [95 %] | most frequent length |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, row in published.items():
        ours = made.details["leaderboard"][model]
        fitted = alpaca_eval.length_control(models[model], difficulty=difficulty).interval
        by_row = ours.get("length_controlled_winrate_by_row", ours["length_controlled_winrate"])
        off = {
            name: abs(value - float(row[column]))
            for name, value, column in (
                ("raw", ours["win_rate"], "win_rate"),
                ("discrete", ours["discrete_win_rate"], "discrete_win_rate"),
                ("lc", ours["length_controlled_winrate"], "length_controlled_winrate"),
                ("row", by_row, "length_controlled_winrate"),
            )
        }
        interval = f"[{100 * fitted.low:.2f}, {100 * fitted.high:.2f}]"
        flag = ", flagged" if ours["constant_answer"] else ""
        lines.append(
            f"| {model} | {ours['n_total']} | {ours['win_rate']:.3f} | {off['raw']:.0e} | "
            f"{ours['discrete_win_rate']:.3f} | {off['discrete']:.0e} | {ours['length_controlled_winrate']:.4f} | "
            f"{off['lc']:.0e} | {off['row']:.0e} | {100 * fitted.value:.2f} {interval} | "
            f"{constant[model].value:.3f}{flag} |"
        )
    return lines


def llmbar_cells(folder: Path) -> list[str]:
    """Both evaluators on both subsets."""
    lines = [
        "| cell | n | accuracy, both orders [95 %] | right in both | inconsistent | first shown wins | kappa, labels | "
        "largest difference to statistics.json |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*.result.json*")):
        cell = path.name.split(".result")[0]
        made = llmbar.judged_report(llmbar.read_judged(path), title="", judge=cell)
        published = json.loads((folder / f"{cell}.statistics.json").read_text(encoding="utf-8"))
        ours = made.details["published_statistics"]
        texts = all(ours[k] == v for k, v in published.items() if isinstance(v, str))
        off = max(abs(ours[k] - v) for k, v in published.items() if not isinstance(v, str))
        row, both = made.rows[0], made.rows[1]
        kappas = ", ".join(f"{k:.3f}" for k in made.details["kappas"].values())
        lines.append(
            f"| {cell} | {row.n} | {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] | {both.value:.3f} | "
            f"{row.inconsistent:.3f} | {row.first_position:.3f} | {kappas} | "
            f"{'texts equal' if texts else 'TEXTS DIFFER'}, kappas {off:.0e} |"
        )
    return lines


def lengths(data: Path) -> list[str]:
    """What "the longer reply wins" would score."""
    lines = ["| pairs | n with a preferred reply | longer one preferred [95 %] |", "|---|---|---|"]
    for suite, name in (
        ("llmbar", "llmbar/Neighbor.json"),
        ("llmbar", "llmbar/Natural.json"),
        ("hhh", "hhh/hhh-dev.jsonl.gz"),
        ("autoj", "autoj/pairwise-dev.jsonl.gz"),
    ):
        chosen = SUITES[suite]
        assert chosen.kind == "pairs"
        row = longer_is_better(chosen.pairs(data / name).items, on=name)
        lines.append(f"| {name} | {row.n} | {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] |")
    return lines


def refusal_classes(folder: Path) -> list[str]:
    """Precision and recall of each class, all replies."""
    lines = ["| model | number | value [95 %] | n |", "|---|---|---|---|"]
    for path in sorted(folder.glob("completions_*.csv*")):
        model = path.name.split(".")[0].removeprefix("completions_")
        for row in refusal_report(read_replies(path), title="").rows:
            if row.name.startswith("detector") and row.value is not None:
                shown = f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
                lines.append(f"| {model} | {row.name.removeprefix('detector: ')} | {shown} | {row.n} |")
    return lines


def main(data: Path, page: Path) -> None:
    """Write the tables into the page."""
    made = (
        f"Measured {date.today()} on {platform.machine()}. accord {__version__}, python {platform.python_version()}, "
    )
    made += f"numpy {numpy.__version__}, scipy {version('scipy')}."
    parts = [
        made,
        "",
        "### AlpacaEval 2",
        "",
        *alpaca(data / "alpaca_eval"),
        "",
        "### LLMBar",
        "",
        *llmbar_cells(data / "llmbar"),
        "",
        "### What length alone would score",
        "",
        *lengths(data),
        "",
        "### Refusal rules against people, by part of the data",
        "",
        *refusals.table(data / "xstest"),
        "",
        "### Refusal rules against people, by class (all replies, prompts given)",
        "",
        *refusal_classes(data / "xstest"),
        "",
    ]
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n\n" + "\n".join(parts) + f"{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
