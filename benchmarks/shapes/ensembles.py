"""Ensembles of proxies against noisy labels at the end of policy gradient (Coste et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from benchmarks.shapes.measures import over_seeds, table, text
from benchmarks.shapes.optimise import Path, Score, policy_gradient
from benchmarks.shapes.rewardmodels import Proxy, compare, train_proxy
from benchmarks.shapes.world import make_world
from torch import Tensor

from accord.functional.ensembles import mean_score, uncertainty_weighted, worst_case

NAME = "ensembles"
SETTINGS: dict[str, Any] = {
    "labels": 1000,
    "flips": 0.25,
    "width": 64,
    "members": 5,
    "singles": 2,
    "penalties": [0.1, 0.5, 1.0],
    "steps": 300,
}
MAIN = 0.5
"""The lambda of UWO that the ordering is judged by, set before the runs; the others are shown."""
VARIANTS = {"seeds": "members differ in seed only", "data": "members differ in seed and data"}


def run(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train both ensembles of one seed and follow members and combinations."""
    world = make_world(seed)
    found: dict[str, Any] = {}
    for variant in VARIANTS:
        members = [
            train_proxy(
                world,
                compare(world, settings["labels"], "noisy", 0 if variant == "seeds" else i, flips=settings["flips"]),
                settings["width"],
                variant,
                i,
            )
            for i in range(settings["members"])
        ]
        scores: dict[str, Score] = {f"single {i}": members[i] for i in range(settings["singles"])}
        scores["mean"] = lambda x, m=members: mean_score(_all(m, x))
        scores["WCO"] = lambda x, m=members: worst_case(_all(m, x))
        for penalty in settings["penalties"]:
            scores[f"UWO {penalty}"] = lambda x, m=members, p=penalty: uncertainty_weighted(_all(m, x), p)
        found[variant] = {
            name: vars(policy_gradient(world, score, variant, name, steps=settings["steps"]))
            for name, score in scores.items()
        }
    return found


def _all(members: Sequence[Proxy], feature_BF: Tensor) -> Tensor:
    return torch.stack([member(feature_BF) for member in members], dim=1)


def ends(result: dict[str, Any]) -> dict[str, float]:
    """Gold at the end of each combination in one variant of one seed; single = mean of the members followed alone."""
    last = {name: Path(**path).end() for name, path in result.items()}
    alone = [last.pop(name) for name in list(last) if name.startswith("single")]
    return {"single": float(np.mean(alone)), **last}


def report(results: list[dict[str, Any]]) -> list[str]:
    """Tables of the page."""
    lines: list[str] = []
    for variant, title in VARIANTS.items():
        by_seed = [ends(result[variant]) for result in results]
        peaks = {name: [_peak(result[variant], name) for result in results] for name in by_seed[0]}
        body = [
            [
                name,
                text(over_seeds([e[name] for e in by_seed])),
                text(over_seeds(peaks[name])),
                text(over_seeds([_end_kl(result[variant], name) for result in results]), 1),
            ]
            for name in by_seed[0]
        ]
        head = ("score", "gold at the end", "gold at its peak", "KL at the end")
        lines += [f"{title[0].upper()}{title[1:]}:", "", *table(head, body)]
        uwo = f"UWO {MAIN}"
        steps = [(uwo, "WCO"), ("WCO", "mean"), ("mean", "single"), (uwo, "mean")]
        said = [
            f"{a} - {b} {text(over_seeds([e[a] - e[b] for e in by_seed]))} "
            f"({sum(e[a] >= e[b] for e in by_seed)} of {len(by_seed)} seeds)"
            for a, b in steps
        ]
        whole = sum(e[uwo] >= e["WCO"] > e["mean"] > e["single"] for e in by_seed)
        lines += [f"Within a seed: {'; '.join(said)}. The whole order holds in {whole} of {len(by_seed)} seeds.", ""]
    return lines


def _of(result: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [path for key, path in result.items() if key == name or (name == "single" and key.startswith(name))]


def _peak(result: dict[str, Any], name: str) -> float:
    return float(np.mean([max(path["gold"]) for path in _of(result, name)]))


def _end_kl(result: dict[str, Any], name: str) -> float:
    return float(np.mean([path["kl"][-1] for path in _of(result, name)]))
