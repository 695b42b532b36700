"""Variance of the policy gradient: no baseline, batch mean, leave-one-out over k replies (Ahmadian et al. 2024)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from benchmarks.shapes.measures import over_seeds, table, text
from benchmarks.shapes.world import FEATURES, LENGTH, VOCABULARY, World, make_world, sample, stream
from torch import Tensor

from accord.functional.advantages import rloo

NAME = "variance"
SETTINGS: dict[str, Any] = {"ks": [2, 4, 8, 16], "total": 128, "prompts": 16, "repeats": 400}
OFFSET, TASTE = 1.0, 0.5
"""Standard deviation over prompts of the reward's level, and of each prompt's own linear part."""


def score_function(ref_LV: Tensor, ids_BL: Tensor) -> Tensor:
    """Gradient of each reply's log-probability with respect to the logits, [B, L * V]."""
    one_hot = torch.nn.functional.one_hot(ids_BL, VOCABULARY).to(ref_LV.dtype)
    return (one_hot - ref_LV.softmax(dim=-1)).flatten(1)


def rewards(world: World, ids_BL: Tensor, prompt_B: Tensor, names: tuple[str, int]) -> tuple[Tensor, Tensor]:
    """Reward of replies to prompts, and each prompt's offset: gold, a level and a taste of the prompt's own."""
    g = stream(world.seed, "prompts", *names)
    prompts = int(prompt_B.max()) + 1
    level_P = OFFSET * torch.randn(prompts, generator=g)
    taste_PF = TASTE * torch.randn(prompts, FEATURES, generator=g) / FEATURES**0.5
    feature_BF = world.features(ids_BL)
    taste_B = (feature_BF * taste_PF[prompt_B]).sum(dim=1)
    return world.gold(feature_BF) + level_P[prompt_B] + taste_B, level_P[prompt_B]


def spread(world: World, baseline: str, k: int, prompts: int, repeats: int) -> tuple[float, float]:
    """Return (trace of the covariance of the gradient estimate, squared length of its mean).

    Args:
        world: its reference is the policy whose gradient is estimated.
        baseline: "none", "batch" (mean of the other replies of the batch), "group" (RLOO), or "exact" (the prompt's
            expected reward, what a perfect critic would say).
        k: replies a prompt.
        prompts: prompts a batch.
        repeats: independent batches.
    """
    g = stream(world.seed, "variance", baseline, k, prompts)
    size = prompts * k
    estimates: list[Tensor] = []
    for chunk in range(0, repeats, 100):
        here = min(100, repeats - chunk)
        ids_BL = sample(world.ref_LV, here * size, g)
        prompt_B = torch.arange(here * prompts).repeat_interleave(k)
        reward_B, level_B = rewards(world, ids_BL, prompt_B, (f"{baseline}/{k}/{prompts}", chunk))
        if baseline == "group":
            reward_B = rloo(reward_B, prompt_B)
        elif baseline == "batch":
            reward_B = rloo(reward_B, torch.arange(here).repeat_interleave(size))
        elif baseline == "exact":
            reward_B = reward_B - level_B
        weighted = score_function(world.ref_LV, ids_BL) * reward_B[:, None]
        estimates.append(weighted.view(here, size, LENGTH * VOCABULARY).mean(dim=1))
    estimate_RG = torch.cat(estimates)
    trace = float(estimate_RG.var(dim=0, correction=1).sum())
    return trace, float(estimate_RG.mean(dim=0).square().sum()) - trace / repeats


def run(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure every estimator of one seed."""
    world = make_world(seed)
    total, prompts, repeats = settings["total"], settings["prompts"], settings["repeats"]
    found: dict[str, Any] = {"total": {}, "prompts": {}}
    for baseline in ("none", "batch", "exact"):
        found["total"][baseline] = spread(world, baseline, 1, total, repeats)
    for k in settings["ks"]:
        found["total"][f"RLOO k={k}"] = spread(world, "group", k, total // k, repeats)
        found["prompts"][f"RLOO k={k}"] = spread(world, "group", k, prompts, repeats)
        found["prompts"][f"none, {k} a prompt"] = spread(world, "none", k, prompts, repeats)
    return found


NAMES = {
    "none": "REINFORCE, no baseline",
    "batch": "REINFORCE, mean of the rest of the batch",
    "exact": "REINFORCE, the prompt's exact mean",
}


def report(results: list[dict[str, Any]]) -> list[str]:
    """Tables of the page."""
    lines: list[str] = []
    for setting, title in (("total", "The same number of replies in all"), ("prompts", "The same number of prompts")):
        names = list(results[0][setting])
        first = "RLOO k=2"
        body = [
            [
                NAMES.get(name, name),
                text(over_seeds([r[setting][name][0] for r in results]), 3),
                text(over_seeds([r[setting][name][0] / r[setting][name][1] for r in results])),
                text(over_seeds([r[setting][name][0] / r[setting][first][0] for r in results]), 3),
            ]
            for name in names
        ]
        head = ("estimator", "trace of the covariance", "over squared gradient", f"over that of {first}")
        lines += [f"{title}:", "", *table(head, body)]
    ordered = [n for n in results[0]["total"] if n.startswith("RLOO")]
    for setting in ("total", "prompts"):
        falls = sum(all(r[setting][a][0] > r[setting][b][0] for a, b in pairwise(ordered)) for r in results)
        lines.append(f"Same {setting}: the variance falls at every doubling of k in {falls} of {len(results)} seeds.")
        lines.append("")
    return lines
