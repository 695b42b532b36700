"""The figure of the speed page: leads over TRL with their spread, and how time and memory grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from benchmarks.speed.curves import of_curve
from benchmarks.speed.numbers import ratios
from benchmarks.speed.report import FIRST, GOALS, TRAINED, times

matplotlib.use("Agg")
INK, GRID = "#333333", "#DDDDDD"
COLOURS = {"float32": "#0072B2", "bfloat16": "#D55E00"}


def draw(results: dict[str, Any], out: Path) -> None:
    """Write the figure; panels without numbers stay empty."""
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.fonttype": "none", "axes.edgecolor": INK})
    plt.rcParams["svg.hashsalt"] = "accord"
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4))
    leads(left, results["items"])
    points = results["items"].get("curves", {}).get("points", [])
    linear(middle, points)
    vocabulary(right, points)
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
    figure.tight_layout(w_pad=2.5)
    figure.savefig(out, facecolor="white", metadata={"Date": None})
    plt.close(figure)


def leads(axis: Any, items: dict[str, Any]) -> None:
    """Times TRL in float32 takes of Accord's time, median and extremes; a tick is what is wanted."""
    names = [name for name in TRAINED if "contenders" in items.get(name, {})]
    for row, name in enumerate(reversed(names)):
        for number, precision in enumerate(FIRST):
            found = ratios(times(items[name], "trl float32"), times(items[name], FIRST[precision]))
            height = row + (0.15 if precision == "float32" else -0.15)
            if found:
                axis.plot([found.low, found.high], [height, height], color=COLOURS[precision], linewidth=2)
                axis.plot(found.median, height, "o", color=COLOURS[precision], markersize=7)
            if name in GOALS:
                axis.plot(GOALS[name][number], height, "|", color=INK, markersize=12)
    axis.set_yticks(range(len(names)), [name.upper() if len(name) < 5 else name for name in reversed(names)])
    axis.axvline(1, color=INK, linewidth=0.8)
    axis.set_xlim(left=0)
    axis.set_title("speed against TRL in float32 (bar: goal)", loc="left", fontsize=11, color=INK)
    for precision, colour in COLOURS.items():
        axis.plot([], [], "o", color=colour, label=f"Accord {precision}")
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.08), ncol=2)


def linear(axis: Any, points: list[dict[str, Any]]) -> None:
    """Seconds of a step over its tokens."""
    for curve, colour, mark in (("length", "#0072B2", "o"), ("rows", "#009E73", "s"), ("group", "#CC79A7", "^")):
        of = of_curve(points, curve)
        if of:
            label = {"length": "longer rows", "rows": "more rows", "group": "larger groups (GRPO)"}[curve]
            axis.plot([p["tokens"] for p in of], [p["seconds"] for p in of], marker=mark, color=colour, label=label)
    if points:
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.legend(frameon=False)
    axis.set_xlabel("tokens a step")
    axis.set_title("seconds a step", loc="left", fontsize=11, color=INK)


def vocabulary(axis: Any, points: list[dict[str, Any]]) -> None:
    """Peak memory over the vocabulary, beside one copy of the logits."""
    of = of_curve(points, "vocabulary")
    for tokens, colour in zip(sorted({p["tokens"] for p in of}), ("#0072B2", "#D55E00"), strict=False):
        chosen = [p for p in of if p["tokens"] == tokens]
        xs = [p["x"] for p in chosen]
        axis.plot(xs, [p["peak_mib"] for p in chosen], marker="o", color=colour, label=f"step of {tokens:.0f} tokens")
        logits = [0.9 * tokens * p["x"] * 4 / 2**20 for p in chosen]
        axis.plot(xs, logits, color=colour, linestyle=":", label="one copy of its logits")
    if of:
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.legend(frameon=False, fontsize=8)
    axis.set_xlabel("vocabulary")
    axis.set_title("peak memory above the loaded state, MiB", loc="left", fontsize=11, color=INK)
