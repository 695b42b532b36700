"""The KL penalty and the frontier of gold over KL (Gao et al. 2022, section 3.6)."""

from __future__ import annotations

from math import isfinite
from typing import Any

from benchmarks.shapes.measures import cell, over_seeds, table, text
from benchmarks.shapes.optimise import Path, policy_gradient
from benchmarks.shapes.rewardmodels import compare, train_proxy
from benchmarks.shapes.world import make_world

NAME = "penalty"
SETTINGS: dict[str, Any] = {"labels": 300, "width": 64, "coefficients": [0.0, 0.05, 0.1, 0.2], "steps": 300}
MATCHED = (2.0, 4.0, 8.0)
"""Nats at which runs are compared."""


def run(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Follow one proxy with each coefficient."""
    world = make_world(seed)
    proxy = train_proxy(world, compare(world, settings["labels"], "labels"), settings["width"], "penalty")
    return {
        str(beta): vars(policy_gradient(world, proxy, str(beta), steps=settings["steps"], every=4, kl_coef=beta))
        for beta in settings["coefficients"]
    }


def report(results: list[dict[str, Any]]) -> list[str]:
    """Tables of the page."""
    paths = [{name: Path(**path) for name, path in result.items()} for result in results]
    names = list(paths[0])
    body = [
        [
            name,
            *(cell([p[name].gold_at(kl) for p in paths]) for kl in MATCHED),
            text(over_seeds([p[name].kl[-1] for p in paths]), 1),
            text(over_seeds([p[name].end() for p in paths])),
        ]
        for name in names
    ]
    head = ("kl_coef", *(f"gold at KL {kl:g}" for kl in MATCHED), "KL at the end", "gold at the end")
    lines = table(head, body)
    body = []
    for name in names[1:]:
        row = [name]
        for kl in MATCHED:
            gap = [p[name].gold_at(kl) - p[names[0]].gold_at(kl) for p in paths]
            there = [abs(g) for g in gap if isfinite(g)]
            row.append(f"{cell(gap, 3)}; largest {max(there):.2f}" if there else "-")
        body.append(row)
    head = ("kl_coef", *(f"gap to 0 at KL {kl:g}" for kl in MATCHED))
    return [*lines, "Gold with the penalty minus gold without, same seed, at the same KL.", "", *table(head, body)]
