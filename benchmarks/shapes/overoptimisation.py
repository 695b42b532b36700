"""Gold against distance for best-of-n and policy gradient, over labels and width of the proxy (Gao et al. 2022)."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.shapes.measures import cell, on_grid, over_seeds, table, text
from benchmarks.shapes.optimise import Path, best_of_n, policy_gradient
from benchmarks.shapes.rewardmodels import accuracy, compare, train_proxy
from benchmarks.shapes.world import make_world

from accord.stats import Curve, Form, fit_curve

NAME = "overoptimisation"
SETTINGS: dict[str, Any] = {
    "labels": [30, 100, 300, 1000, 10000],
    "width": 64,
    "widths": [2, 8, 256],
    "labels_of_widths": 1000,
    "steps": 300,
    "pool": 65536,
    "largest_n": 13,
}


def run(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train the proxies of one seed and follow each by policy gradient and by best-of-n."""
    world = make_world(seed)
    cells = [(n, settings["width"]) for n in settings["labels"]]
    cells += [(settings["labels_of_widths"], w) for w in settings["widths"]]
    counts = [2**i for i in range(settings["largest_n"] + 1)]
    found: dict[str, Any] = {}
    for labels, width in cells:
        proxy = train_proxy(world, compare(world, labels, "labels"), width, labels, width)
        rl = policy_gradient(world, proxy, labels, width, steps=settings["steps"])
        bon = best_of_n(world, proxy, counts, settings["pool"])
        found[f"{labels}/{width}"] = {"accuracy": accuracy(world, proxy), "rl": vars(rl), "bon": vars(bon)}
    return found


NEAR = 16.0
"""Nats of the shorter fit: half of what a policy has to spend before it has a single reply left."""


def fits(found: dict[str, Any], bon: Form = "best_of_n", rl: Form = "rl") -> tuple[Curve, Curve, Curve]:
    """Fit one seed's curves: best-of-n, and policy gradient on an even grid of d to its end and to `NEAR`."""
    best = fit_curve(bon, np.sqrt(found["bon"]["kl"]), found["bon"]["gold"])
    grid = np.linspace(0.0, max(found["rl"]["kl"]) ** 0.5, 41)[1:]
    gold = on_grid(found["rl"]["kl"], found["rl"]["gold"], grid) - found["rl"]["gold"][0]
    near = grid <= NEAR**0.5
    return best, fit_curve(rl, grid, gold), fit_curve(rl, grid[near], gold[near])


def columns(cells: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Numbers of each seed for one row of the table."""
    both = [fits(cell) for cell in cells]
    other = [fits(cell, bon="rl", rl="best_of_n") for cell in cells]
    paths = [Path(**cell["rl"]) for cell in cells]
    best = [int(np.argmax(path.gold)) for path in paths]
    return {
        "accuracy": [cell["accuracy"] for cell in cells],
        "bon_alpha": [bon.alpha for bon, _, _ in both],
        "bon_beta": [bon.beta for bon, _, _ in both],
        "bon_r2": [bon.r2 for bon, _, _ in both],
        "rl_alpha": [rl.alpha for _, rl, _ in both],
        "rl_beta": [rl.beta for _, rl, _ in both],
        "rl_r2": [rl.r2 for _, rl, _ in both],
        "near_alpha": [near.alpha for _, _, near in both],
        "near_beta": [near.beta for _, _, near in both],
        "near_r2": [near.r2 for _, _, near in both],
        "bon_other": [bon.r2 for bon, _, _ in other],
        "rl_other": [rl.r2 for _, rl, _ in other],
        "near_other": [near.r2 for _, _, near in other],
        "peak": [path.gold[i] for path, i in zip(paths, best, strict=True)],
        "peak_kl": [path.kl[i] for path, i in zip(paths, best, strict=True)],
        "end": [path.end() for path in paths],
        "fell": [path.gold[i] - path.end() for path, i in zip(paths, best, strict=True)],
        "bon_end": [cell["bon"]["gold"][-1] for cell in cells],
        "proxy_end": [path.proxy[-1] for path in paths],
        "end_kl": [path.kl[-1] for path in paths],
    }


def spent(cells: list[dict[str, Any]], at: int) -> dict[str, list[float]]:
    """Divergence of policy gradient where its proxy, or its gold, reaches that of the `at`-th best-of-n point."""
    ratios: dict[str, list[float]] = {"proxy": [], "gold": []}
    for one in cells:
        for name, found in ratios.items():
            wanted, reached = one["bon"][name][at], one["rl"][name]
            step = next((i for i, value in enumerate(reached) if value >= wanted), None)
            found.append(float("nan") if step is None else one["rl"]["kl"][step] / one["bon"]["kl"][at])
    return ratios


def _mean(values: list[float]) -> float:
    """Mean of those that are defined."""
    there = [value for value in values if np.isfinite(value)]
    return float(np.mean(there)) if there else float("nan")


def _label(name: str) -> str:
    labels, width = name.split("/")
    return f"{int(labels):,} labels, width {width}"


def report(results: list[dict[str, Any]]) -> list[str]:
    """Tables of the page."""
    names = list(results[0])
    rows = {name: columns([result[name] for result in results]) for name in names}

    def cells(name: str, *keys: str) -> list[str]:
        return [text(over_seeds(rows[name][key])) for key in keys]

    lines: list[str] = []
    forms = (
        ("bon", "Best-of-n, d (alpha - beta d)"),
        ("rl", "Policy gradient, d (alpha - beta log d), to the end"),
        ("near", f"Policy gradient, d (alpha - beta log d), to KL {NEAR:g}"),
    )
    for key, title in forms:
        body = [
            [
                _label(name),
                *cells(name, f"{key}_alpha", f"{key}_beta"),
                f"{np.median(rows[name][f'{key}_r2']):.3f} (lowest {min(rows[name][f'{key}_r2']):.3f})",
                f"{np.median(rows[name][f'{key}_other']):.3f}",
                f"{sum(beta > 0 for beta in rows[name][f'{key}_beta'])} of {len(results)}",
            ]
            for name in names
        ]
        lines += [
            f"{title}:",
            "",
            *table(("proxy", "alpha", "beta", "R^2, median", "other form's R^2", "beta > 0"), body),
        ]
    lines += ["Gold along the way, in standard deviations of gold under the reference.", ""]
    head = (
        "proxy",
        "pair accuracy",
        "RL peak",
        "KL at the peak",
        "RL end",
        "RL fall",
        "seeds that fell",
        "BoN at the largest n",
    )
    body = []
    for name in names:
        fell = f"{sum(f > 0.1 for f in rows[name]['fell'])} of {len(results)}"
        accurate, peak, at, end, fall, bon = cells(name, "accuracy", "peak", "peak_kl", "end", "fell", "bon_end")
        body.append([_label(name), accurate, peak, at, end, fall, fell, bon])
    n = 6  # the divergence of best-of-64 is 3.2 nats, before anything falls
    kept = [spent([result[name] for name in names], n) for result in results]
    ratio = {key: cell([_mean(k[key]) for k in kept]) for key in ("proxy", "gold")}
    gaps = [_first_minus_last(rows, names, i) for i in range(len(results))]
    gap = {key: text(over_seeds([g[key] for g in gaps])) for key in gaps[0]}
    lines += [
        *table(head, body),
        '"Fell" is by more than 0.1.',
        "",
        f"KL of policy gradient over KL of best-of-{2**n} where both have the same proxy score: {ratio['proxy']}; "
        f"where both have the same gold score (as far as policy gradient gets there): {ratio['gold']}.",
        "",
        "Fewest against most labels, within a seed: "
        f"BoN beta {gap['bon_beta']}, RL beta {gap['rl_beta']} "
        f"(to KL {NEAR:g}: {gap['near_beta']}), end of RL {gap['end']}.",
        "",
    ]
    return lines


def _first_minus_last(rows: dict[str, dict[str, list[float]]], names: list[str], seed: int) -> dict[str, float]:
    """Fewest labels minus most labels, of one seed."""
    width = names[0].split("/")[1]
    same = [name for name in names if name.split("/")[1] == width]
    few, many = (f(same, key=lambda n: int(n.split("/")[0])) for f in (min, max))
    return {key: rows[few][key][seed] - rows[many][key][seed] for key in ("bon_beta", "rl_beta", "near_beta", "end")}
