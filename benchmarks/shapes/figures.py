"""The figures of the page: means over seeds with 95 % bands, colours that colour-blind readers can tell apart."""

from __future__ import annotations

from pathlib import Path as File
from typing import Any

import matplotlib as mpl
import numpy as np
from benchmarks.shapes import critics, ensembles, overoptimisation, penalty, preferences, variance
from benchmarks.shapes.measures import Floats, band, on_grid, over_seeds
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Results = list[dict[str, Any]]
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, INK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#333333"
COLOURS = (RED, ORANGE, GREEN, BLUE, PURPLE, SKY, INK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
DISTANCE = "d = \u221aKL to the reference (\u221anats)"
GOLD = "gold reward (SD under the reference)"


def _canvas(columns: int, width: float = 4.9, height: float = 3.9) -> tuple[Figure, list[Axes]]:
    mpl.rcParams.update({"font.family": "sans-serif", "font.size": 11, "svg.fonttype": "none", "axes.edgecolor": INK})
    mpl.rcParams.update({"svg.hashsalt": "accord", "legend.fontsize": 9.5, "legend.frameon": False})
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: File) -> None:
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    # Matplotlib ends lines of path data with a blank.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n", encoding="utf-8")


def _banded(axis: Axes, x: Floats, curves: list[Floats], label: str, slot: int) -> None:
    """Draw a mean with its band where every seed has a value."""
    whole = np.all(np.isfinite(np.stack(curves)), axis=0)
    mean, low, high = band([curve[whole] for curve in curves])
    colour = COLOURS[slot]
    axis.plot(x[whole], mean, color=colour, linestyle=DASHES[slot], linewidth=1.8, label=label)
    axis.fill_between(x[whole], low, high, color=colour, alpha=0.14, linewidth=0)


def _rl(cells: Results, grid: Floats) -> list[Floats]:
    return [on_grid(cell["kl"], cell["gold"], grid) for cell in cells]


def draw_overoptimisation(results: Results, path: File) -> None:
    """Best-of-n and policy gradient, by labels and by width."""
    labels = overoptimisation.SETTINGS["labels"]
    width, fixed = overoptimisation.SETTINGS["width"], overoptimisation.SETTINGS["labels_of_widths"]
    widths = sorted([*overoptimisation.SETTINGS["widths"], width])
    grid = np.linspace(0, 6, 61)
    figure, axes = _canvas(3)
    for slot, count in enumerate(labels):
        cells = [result[f"{count}/{width}"] for result in results]
        x = np.sqrt(cells[0]["bon"]["kl"])
        _banded(axes[0], x, [np.array(cell["bon"]["gold"]) for cell in cells], f"{count:,}", slot)
        _banded(axes[1], grid, _rl([c["rl"] for c in cells], grid), f"{count:,}", slot)
    for slot, w in enumerate(widths):
        cells = [result[f"{fixed}/{w}"]["rl"] for result in results]
        _banded(axes[2], grid, _rl(cells, grid), str(w), slot)
    axes[0].set_title("Best-of-n, by labels", loc="left")
    axes[1].set_title("Policy gradient, by labels", loc="left")
    axes[2].set_title(f"Policy gradient, by width ({fixed:,} labels)", loc="left")
    low, high = min(axis.get_ylim()[0] for axis in axes) - 1.0, max(axis.get_ylim()[1] for axis in axes)
    for axis, title in zip(axes, ("comparisons", "comparisons", "units of the proxy"), strict=True):
        axis.set(xlabel=DISTANCE, ylabel=GOLD, ylim=(low, high))
        axis.legend(title=title, loc="lower right" if axis is axes[0] else "lower left")
    _save(figure, path)


def draw_penalty(results: Results, path: File) -> None:
    """Gold over KL and over steps, by coefficient."""
    figure, axes = _canvas(2)
    grid = np.linspace(0, 5.2, 53)
    for slot, name in enumerate(results[0]):
        cells = [result[name] for result in results]
        _banded(axes[0], grid, _rl(cells, grid), name, slot)
        steps = np.arange(len(cells[0]["gold"])) * 4.0
        _banded(axes[1], steps, [np.array(cell["gold"]) for cell in cells], name, slot)
    axes[0].set(xlabel=DISTANCE, ylabel=GOLD, title="At the same KL: one frontier")
    axes[1].set(xlabel="updates", ylabel=GOLD, title="Over updates: another stopping point")
    for axis in axes:
        axis.set_title(axis.get_title(), loc="left")
        axis.set_title("")
        axis.legend(title="kl_coef", loc="lower center" if axis is axes[0] else "lower left")
    axes[1].set_ylim(bottom=axes[1].get_ylim()[0] - 1.0)
    _save(figure, path)


def draw_ensembles(results: Results, path: File) -> None:
    """Gold over updates for each combination, in both variants."""
    figure, axes = _canvas(2)
    names = ["single", "mean", "WCO", f"UWO {ensembles.MAIN}"]
    for axis, (variant, title) in zip(axes, ensembles.VARIANTS.items(), strict=True):
        for slot, name in enumerate(names):
            curves: list[Floats] = []
            for result in results:
                keys = [k for k in result[variant] if k == name or (name == "single" and k.startswith("single"))]
                curves.append(np.mean([result[variant][k]["gold"] for k in keys], axis=0))
            shown = name.replace("UWO ", "UWO, \u03bb = ")
            _banded(axis, np.arange(len(curves[0])) * 10.0, curves, shown, slot)
        axis.set_title(f"{title[0].upper()}{title[1:]}", loc="left")
        axis.set(xlabel="updates", ylabel=GOLD)
        axis.legend(loc="lower left")
    low, high = min(axis.get_ylim()[0] for axis in axes), max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(low, high)
    _save(figure, path)


def draw_preferences(results: Results, path: File) -> None:
    """Trained points of every method with intervals, over d."""
    figure, axes = _canvas(1, width=7.4, height=4.6)
    axis = axes[0]
    methods = (("DPO", "DPO, by \u03b2", "o", RED), ("PG", "policy gradient on the proxy, by kl_coef", "s", BLUE))
    methods += (("PG on gold", "policy gradient on gold itself", "^", INK),)
    for method, label, mark, colour in methods:
        x = [np.mean([r[method][k]["kl"][-1] for r in results]) ** 0.5 for k in results[0][method]]
        found = [over_seeds([np.mean(r[method][k]["gold"][-2:]) for r in results]) for k in results[0][method]]
        error = [[f.value - f.low for f in found], [f.high - f.value for f in found]]
        y = [f.value for f in found]
        axis.errorbar(
            x, y, yerr=error, color=colour, marker=mark, markersize=5, linewidth=1.4, capsize=2.5, label=label
        )
        labelled = float("inf")
        for at, height, key in zip(x, y, results[0][method], strict=True):
            # Of points that lie on top of each other only the first is labelled.
            if method != "PG on gold" and abs(at - labelled) > 0.3:
                offset = (4, -14) if method == "DPO" else (-7, 12)
                axis.annotate(key, (at, height), offset, textcoords="offset points", fontsize=9, color=colour)
                labelled = at
    x = np.sqrt(results[0]["best-of-n"]["kl"])
    mean, low, high = band([np.array(r["best-of-n"]["gold"]) for r in results])
    axis.plot(x, mean, color=GREEN, linestyle="--", linewidth=1.8, label="best-of-n by the proxy")
    axis.fill_between(x, low, high, color=GREEN, alpha=0.14, linewidth=0)
    axis.set(xlabel=DISTANCE, ylabel=GOLD)
    axis.legend(loc="upper left")
    _save(figure, path)


def draw_variance(results: Results, path: File) -> None:
    """Variance over k at a fixed number of replies and of prompts."""
    figure, axes = _canvas(2)
    ks = variance.SETTINGS["ks"]
    titles = (f"{variance.SETTINGS['total']} replies in all", f"{variance.SETTINGS['prompts']} prompts, k replies each")
    for axis, setting, title in zip(axes, ("total", "prompts"), titles, strict=True):
        lines = {"RLOO": [f"RLOO k={k}" for k in ks]}
        if setting == "prompts":
            lines["no baseline"] = [f"none, {k} a prompt" for k in ks]
        for slot, (label, keys) in enumerate(lines.items()):
            found = [over_seeds([r[setting][key][0] for r in results]) for key in keys]
            error = [[f.value - f.low for f in found], [f.high - f.value for f in found]]
            colour = (BLUE, RED)[slot]
            mark = ("o", "s")[slot]
            axis.errorbar(ks, [f.value for f in found], yerr=error, color=colour, marker=mark, capsize=2.5, label=label)
        if setting == "total":
            flat = {"none": ("no baseline", RED, "--"), "batch": ("mean of the rest of the batch", ORANGE, "-.")}
            flat["exact"] = ("the prompt's exact mean", INK, ":")
            for key, (label, colour, dash) in flat.items():
                value = over_seeds([r[setting][key][0] for r in results])
                axis.axhline(value.value, color=colour, linestyle=dash, linewidth=1.6, label=label)
                axis.axhspan(value.low, value.high, color=colour, alpha=0.1, linewidth=0)
        axis.set_xscale("log", base=2)
        axis.set_xticks(ks, [str(k) for k in ks])
        axis.set_ylim(bottom=0)
        axis.set_title(title, loc="left")
        axis.set(xlabel="k, replies a prompt", ylabel="trace of the gradient's covariance")
        axis.legend(loc="best")
    _save(figure, path)


def draw_critics(results: Results, path: File) -> None:
    """Gold after each marked number of updates over lambda."""
    figure, axes = _canvas(1, width=6.4, height=4.2)
    axis = axes[0]
    lambdas, marks = critics.SETTINGS["lambdas"], critics.SETTINGS["marks"]
    for slot, (i, updates) in enumerate(enumerate(marks)):
        found = [over_seeds([r[f"GAE {lam:g}"][i][1] for r in results]) for lam in lambdas]
        error = [[f.value - f.low for f in found], [f.high - f.value for f in found]]
        axis.errorbar(
            lambdas,
            [f.value for f in found],
            yerr=error,
            color=COLOURS[slot],
            marker="os^"[slot % 3],
            capsize=2.5,
            label=f"{updates} updates",
        )
        axis.axhline(
            over_seeds([r["RLOO"][i][1] for r in results]).value, color=COLOURS[slot], linestyle=":", linewidth=1.4
        )
    axis.plot([], [], color=INK, linestyle=":", label="RLOO, no critic")
    axis.set(xlabel="\u03bb of generalised advantage estimation", ylabel=GOLD)
    axis.legend(loc="best")
    _save(figure, path)


DRAW = {
    overoptimisation.NAME: draw_overoptimisation,
    penalty.NAME: draw_penalty,
    ensembles.NAME: draw_ensembles,
    preferences.NAME: draw_preferences,
    variance.NAME: draw_variance,
    critics.NAME: draw_critics,
}
