"""Lambda of generalised advantage estimation with a learned critic, against RLOO (Ahmadian et al. 2024)."""

from __future__ import annotations

from typing import Any

import torch
from benchmarks.shapes.measures import over_seeds, table, text
from benchmarks.shapes.world import LENGTH, VOCABULARY, World, divergence, make_world, reply_logp, sample, stream
from torch import Tensor, nn

from accord.functional.advantages import gae, rloo, token_rewards, whiten
from accord.functional.losses import value_clip
from accord.functional.policy_losses import reinforce

NAME = "critics"
SETTINGS: dict[str, Any] = {
    "lambdas": [0.0, 0.5, 0.8, 0.95, 1.0],
    "steps": 120,
    "marks": [30, 60, 120],
    "batch": 128,
    "width": 64,
    "critic_steps": 2,
}
POLICY_RATE, CRITIC_RATE = 0.03, 3e-3


def prefixes(ids_BL: Tensor) -> Tensor:
    """State before each token, [B, L, L * V + L]: the tokens so far, one-hot by position, and the position."""
    one_hot = torch.nn.functional.one_hot(ids_BL, VOCABULARY).to(torch.float32).flatten(1)
    seen_LK = torch.arange(LENGTH)[:, None] > torch.arange(LENGTH).repeat_interleave(VOCABULARY)[None, :]
    places = torch.eye(LENGTH).expand(ids_BL.shape[0], -1, -1)
    return torch.cat([one_hot[:, None, :] * seen_LK, places], dim=2)


def learn(world: World, lam: float | None, settings: dict[str, Any]) -> list[tuple[float, float]]:
    """Follow the gold reward by policy gradient, and return (KL, gold) at the marked steps.

    Args:
        world: reference and gold reward.
        lam: lambda of GAE with a critic learned on the way; None = RLOO over the batch, no critic.
        settings: sizes.
    """
    g = stream(world.seed, "critic", str(lam))
    batch = settings["batch"]
    logits_LV = world.ref_LV.clone().requires_grad_()
    critic = nn.Sequential(
        nn.Linear(LENGTH * VOCABULARY + LENGTH, settings["width"]), nn.Tanh(), nn.Linear(settings["width"], 1)
    )
    with torch.no_grad():
        critic[0].weight.copy_(torch.randn(critic[0].weight.shape, generator=g) * 0.1)
        for parameter in (critic[0].bias, critic[2].weight, critic[2].bias):
            parameter.zero_()
    policy_adam = torch.optim.Adam([logits_LV], lr=POLICY_RATE)
    critic_adam = torch.optim.Adam(critic.parameters(), lr=CRITIC_RATE)
    everything = torch.ones(batch, LENGTH, dtype=torch.bool)
    found: list[tuple[float, float]] = []
    for step in range(1, settings["steps"] + 1):
        ids_BL = sample(logits_LV.detach(), batch, g)
        logp_BL = reply_logp(logits_LV, ids_BL)
        score_B = world.gold(world.features(ids_BL))
        if lam is None:
            advantage_BL = rloo(score_B, torch.zeros(batch, dtype=torch.int64))[:, None].expand(-1, LENGTH)
        else:
            state = prefixes(ids_BL)
            with torch.no_grad():
                reward_BL = token_rewards(score_B, logp_BL, logp_BL, everything, 0.0)
                value_BL = critic(state).squeeze(-1)
                advantage_BL, return_BL = gae(reward_BL, value_BL, everything, 1.0, lam)
            for _ in range(settings["critic_steps"]):
                loss_BL, _clipped = value_clip(critic(state).squeeze(-1), value_BL, return_BL, clip=None)
                critic_adam.zero_grad()
                loss_BL.mean().backward()
                critic_adam.step()
        policy_adam.zero_grad()
        (reinforce(logp_BL, whiten(advantage_BL, everything)).sum() / batch).backward()
        policy_adam.step()
        if step in settings["marks"]:
            with torch.no_grad():
                gold = world.gold(world.features(sample(logits_LV, 8192, stream(world.seed, "marks"))))
            found.append((divergence(logits_LV.detach(), world.ref_LV), float(gold.mean())))
    return found


def run(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Run every lambda of one seed, and RLOO."""
    world = make_world(seed)
    found = {f"GAE {lam:g}": learn(world, lam, settings) for lam in settings["lambdas"]}
    return {**found, "RLOO": learn(world, None, settings)}


def report(results: list[dict[str, Any]]) -> list[str]:
    """Tables of the page."""
    marks = SETTINGS["marks"]
    body = [
        [
            name,
            *(text(over_seeds([r[name][i][1] for r in results])) for i in range(len(marks))),
            text(over_seeds([r[name][-1][0] for r in results]), 1),
            text(over_seeds([r[name][-1][1] - r["GAE 1"][-1][1] for r in results])),
        ]
        for name in results[0]
    ]
    head = ("advantages", *(f"gold after {m} updates" for m in marks), "KL at the end", "last gold, minus GAE 1")
    return table(head, body)
