"""DPO's beta against policy gradient on a reward model of the same pairs, gold over KL (Rafailov et al. 2023)."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.shapes.measures import Floats, cell, over_seeds, table, text
from benchmarks.shapes.optimise import Path, best_of_n, policy_gradient, train_dpo
from benchmarks.shapes.rewardmodels import compare, train_proxy
from benchmarks.shapes.world import make_world

NAME = "preferences"
SETTINGS: dict[str, Any] = {
    "labels": 1000,
    "width": 64,
    "betas": [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0],
    "coefficients": [0.02, 0.05, 0.1, 0.2, 0.4, 0.8],
    "gold_coefficients": [0.05, 0.2, 0.8],
    "steps": 300,
    "pool": 65536,
    "largest_n": 13,
}
MATCHED = (1.0, 2.0, 4.0, 8.0, 12.0)
"""Nats at which the frontiers are compared."""


def run(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train every point of the frontiers of one seed."""
    world = make_world(seed)
    pairs = compare(world, settings["labels"], "labels")
    proxy = train_proxy(world, pairs, settings["width"], "preferences")
    steps = settings["steps"]
    found = {
        "DPO": {str(b): vars(train_dpo(world, pairs, b, steps=steps, every=20)) for b in settings["betas"]},
        "PG": {
            str(b): vars(policy_gradient(world, proxy, "pg", str(b), steps=steps, every=20, kl_coef=b))
            for b in settings["coefficients"]
        },
        "PG on gold": {
            str(b): vars(policy_gradient(world, world.gold, "gold", str(b), steps=steps, every=20, kl_coef=b))
            for b in settings["gold_coefficients"]
        },
    }
    counts = [2**i for i in range(settings["largest_n"] + 1)]
    return {**found, "best-of-n": vars(best_of_n(world, proxy, counts, settings["pool"]))}


def frontier(result: dict[str, Any], method: str) -> tuple[Floats, Floats]:
    """KL and gold of the trained points of one method and seed, by KL."""
    if method == "best-of-n":
        return np.array(result[method]["kl"]), np.array(result[method]["gold"])
    points = sorted((p["kl"][-1], Path(**p).end(2)) for p in result[method].values())
    return np.array([kl for kl, _ in points]), np.array([gold for _, gold in points])


def gold_at(result: dict[str, Any], method: str, kl: float) -> float:
    """Gold of a frontier at `kl`, on a line in sqrt(KL) between trained points; nan outside them."""
    x, y = frontier(result, method)
    return float(np.interp(kl**0.5, np.sqrt(x), y, left=np.nan, right=np.nan))


def report(results: list[dict[str, Any]]) -> list[str]:
    """Tables of the page."""
    lines: list[str] = []
    for method, name in (("DPO", "beta"), ("PG", "kl_coef")):
        body = [
            [
                key,
                text(over_seeds([r[method][key]["kl"][-1] for r in results]), 1),
                text(over_seeds([Path(**r[method][key]).end(2) for r in results])),
                text(over_seeds([max(r[method][key]["gold"]) for r in results])),
            ]
            for key in results[0][method]
        ]
        title = "DPO" if method == "DPO" else "Policy gradient on the learned reward model"
        lines += [f"{title}:", "", *table((name, "KL at the end", "gold at the end", "gold at its peak"), body)]
    methods = ("DPO", "PG", "best-of-n", "PG on gold")
    body = [
        [f"{kl:g}", *(cell([gold_at(r, m, kl) for r in results]) for m in methods)]
        + [cell([gold_at(r, "DPO", kl) - gold_at(r, "PG", kl) for r in results])]
        for kl in MATCHED
    ]
    head = ("KL", *methods, "DPO - PG")
    return [*lines, "Gold of the frontiers at the same KL (n where not all seeds reach it):", "", *table(head, body)]
