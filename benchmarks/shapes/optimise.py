"""Ways to follow a score: policy gradient, best-of-n and DPO, each with gold over the exact divergence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from benchmarks.shapes.rewardmodels import Pairs
from benchmarks.shapes.world import LENGTH, World, divergence, reply_logp, sample, stream
from torch import Tensor

from accord.functional.advantages import rloo
from accord.functional.kl import k1
from accord.functional.pair_logps import PairLogps
from accord.functional.policy_losses import reinforce
from accord.functional.preference_losses import dpo
from accord.stats import best_of_n_gold, best_of_n_kl

Score = Callable[[Tensor], Tensor]
"""From features [B, F] to scores [B]."""


@dataclass
class Path:
    """What was measured along an optimisation, in order."""

    kl: list[float]
    """Divergence from the reference, nats."""
    gold: list[float]
    """Mean gold reward, in its standard deviations under the reference."""
    proxy: list[float]
    """Mean of the score that was followed."""

    def end(self, last: int = 3) -> float:
        """Mean gold reward of the last measurements."""
        return float(np.mean(self.gold[-last:]))

    def gold_at(self, kl: float) -> float:
        """Gold where the path first reaches `kl`, between two measurements on a line; nan if it never does."""
        above = next((i for i, value in enumerate(self.kl) if value >= kl), None)
        if above is None:
            return float("nan")
        if above == 0:
            return self.gold[0]
        low, high = self.kl[above - 1], self.kl[above]
        share = (kl - low) / (high - low)
        return self.gold[above - 1] * (1 - share) + self.gold[above] * share


def policy_gradient(
    world: World,
    score: Score,
    *names: str | int,
    steps: int,
    every: int = 10,
    batch: int = 512,
    learning_rate: float = 0.03,
    kl_coef: float = 0.0,
) -> Path:
    """Ascend a score by REINFORCE with the leave-one-out baseline, from the reference, with Adam.

    Args:
        world: reference and gold reward.
        score: what is followed.
        names: of the random stream.
        steps: updates; each draws its own replies.
        every: updates between measurements, each on 4,096 fresh replies.
        batch: replies an update, all to the one prompt.
        learning_rate: of Adam.
        kl_coef: price of a nat; the penalty is part of the reward and of the baseline.
    """
    g, eyes = stream(world.seed, "rl", *names), stream(world.seed, "measure", *names)
    logits_LV = world.ref_LV.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits_LV], lr=learning_rate)
    group_B = torch.zeros(batch, dtype=torch.int64)
    path = Path([], [], [])
    for step in range(steps + 1):
        if step % every == 0:
            _measure(world, logits_LV.detach(), score, eyes, path)
        ids_BL = sample(logits_LV.detach(), batch, g)
        logp_BL = reply_logp(logits_LV, ids_BL)
        with torch.no_grad():
            reward_B = score(world.features(ids_BL))
            if kl_coef:
                reward_B = reward_B - kl_coef * k1(logp_BL, reply_logp(world.ref_LV, ids_BL)).sum(dim=1)
            advantage_B = rloo(reward_B, group_B)
        optimiser.zero_grad()
        (reinforce(logp_BL, advantage_B[:, None].expand_as(logp_BL)).sum() / batch).backward()
        optimiser.step()
    return path


def _measure(world: World, logits_LV: Tensor, score: Score, g: torch.Generator, path: Path) -> None:
    feature_BF = world.features(sample(logits_LV, 4096, g))
    path.kl.append(divergence(logits_LV, world.ref_LV))
    path.gold.append(float(world.gold(feature_BF).mean()))
    path.proxy.append(float(score(feature_BF).mean()))


def best_of_n(world: World, score: Score, counts: Sequence[int], pool: int) -> Path:
    """Measure best-of-n by Nakano's estimator on one pool of replies of the reference.

    Args:
        world: reference and gold reward.
        score: picks the best.
        counts: values of n. The divergence is log n - (n - 1) / n, an upper bound here: replies are discrete.
        pool: replies drawn.
    """
    feature_BF = world.features(sample(world.ref_LV, pool, stream(world.seed, "pool")))
    proxy, gold = score(feature_BF).numpy(), world.gold(feature_BF).numpy()
    return Path(
        [best_of_n_kl(n) for n in counts],
        [best_of_n_gold(proxy, gold, n) - float(gold.mean()) for n in counts],
        [best_of_n_gold(proxy, proxy, n) - float(proxy.mean()) for n in counts],
    )


def train_dpo(world: World, pairs: Pairs, beta: float, *, steps: int, every: int, learning_rate: float = 0.03) -> Path:
    """Fit a policy to comparisons by DPO, all pairs in every update, with Adam.

    Args:
        world: reference and gold reward.
        pairs: labelled comparisons.
        beta: strength of the constraint, per nat.
        steps: updates.
        every: updates between measurements.
        learning_rate: of Adam, as in `policy_gradient`.
    """
    eyes = stream(world.seed, "measure", "dpo", str(beta))
    logits_LV = world.ref_LV.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits_LV], lr=learning_rate)
    reference = [reply_logp(world.ref_LV, ids).sum(dim=1) for ids in (pairs.chosen, pairs.rejected)]
    length_P = torch.full((len(pairs),), LENGTH)
    path = Path([], [], [])
    for step in range(steps + 1):
        if step % every == 0:
            _measure(world, logits_LV.detach(), world.gold, eyes, path)
        policy = [reply_logp(logits_LV, ids).sum(dim=1) for ids in (pairs.chosen, pairs.rejected)]
        optimiser.zero_grad()
        dpo(PairLogps(*policy, *reference, length_P, length_P), beta=beta).mean().backward()
        optimiser.step()
    return path
