"""Credit assignment: from one score a rollout to an advantage a token.

The KL penalty of all of them is the same, -kl_coef x k1: in the reward of each token where advantages are made of
returns-to-go, and summed into the sequence reward *before* the baseline where a reply is compared with its group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from accord.batch import Batch
from accord.errors import TrainingError
from accord.functional.advantages import (
    dr_grpo,
    gae,
    grpo,
    grpo_batch,
    opo,
    remax,
    returns_to_go,
    rloo,
    token_rewards,
    whiten,
)
from accord.functional.masks import keep, masked_mean, masked_sum


class Credit(Protocol):
    """Fills `advantage_BT` (and `return_BT` where there is a critic) of a scored batch."""

    def __call__(self, batch: Batch, *, kl_coef: float) -> Batch:
        """Return the batch with advantages."""
        ...


@dataclass(frozen=True)
class GAECredit:
    """Generalised advantage estimation (1506.02438) over score minus KL penalty (Ziegler et al. 2019, 1909.08593)."""

    gamma: float = 1.0
    lam: float = 0.95
    whiten_rewards: bool = False
    whiten_advantages: bool = True

    def __call__(self, batch: Batch, *, kl_coef: float) -> Batch:
        """Return the batch with `token_reward_BT`, `advantage_BT` and `return_BT`.

        Rewards are whitened without moving their mean; returns are taken before advantages are whitened; whitening
        runs over the response tokens of the whole rollout, never of a micro-batch.

        Args:
            batch: carries `score_B`, `old_logp_BT`, `ref_logp_BT` and `old_value_BT`.
            kl_coef: beta of the per-token penalty -beta * (log pi_old - log pi_ref).

        Raises:
            TrainingError: one of these fields is missing.
        """
        value_BT = _need(batch.old_value_BT, "old_value_BT")
        reward_BT, mask_BT = _token_rewards(batch, kl_coef), batch.response_mask_BT
        if self.whiten_rewards:
            reward_BT = whiten(reward_BT, mask_BT, shift_mean=False)
        advantage_BT, return_BT = gae(reward_BT, value_BT, mask_BT, self.gamma, self.lam)
        if self.whiten_advantages:
            advantage_BT = whiten(advantage_BT, mask_BT)
        return batch.replace(token_reward_BT=reward_BT, advantage_BT=advantage_BT, return_BT=return_BT)


@dataclass(frozen=True)
class ReinforceCredit:
    """Return-to-go minus a constant (Williams 1992).

    The batch mean holds the row's own return too: over a batch of n independent replies the expected gradient is
    (n - 1) / n times the true one, its direction right (tests/unit/test_functional_enumeration.py).
    """

    baseline: Literal["none", "batch_mean"] = "batch_mean"
    """batch_mean: mean over the round of the replies' whole rewards, KL penalty included."""
    gamma: float = 1.0

    def __call__(self, batch: Batch, *, kl_coef: float) -> Batch:
        """Return the batch with `token_reward_BT` and `advantage_BT`.

        Args:
            batch: carries `score_B`, `old_logp_BT`, `ref_logp_BT`.
            kl_coef: beta of the per-token penalty.

        Raises:
            TrainingError: one of these fields is missing.
        """
        reward_BT, mask_BT = _token_rewards(batch, kl_coef), batch.response_mask_BT
        advantage_BT = returns_to_go(reward_BT, mask_BT, self.gamma)
        if self.baseline == "batch_mean":
            rows_B = mask_BT.any(dim=1)
            advantage_BT = keep(advantage_BT - masked_mean(masked_sum(reward_BT, mask_BT, dim=1), rows_B), mask_BT)
        return batch.replace(token_reward_BT=reward_BT, advantage_BT=advantage_BT)


@dataclass(frozen=True)
class ReinforcePlusPlusCredit:
    """REINFORCE++ (Hu 2025, 2501.03262): return-to-go with the KL in each token's reward, whitened over the round."""

    gamma: float = 1.0

    def __call__(self, batch: Batch, *, kl_coef: float) -> Batch:
        """Return the batch with `token_reward_BT` and `advantage_BT`; Bessel's variance, as verl.

        Args:
            batch: carries `score_B`, `old_logp_BT`, `ref_logp_BT`.
            kl_coef: beta of the per-token penalty.

        Raises:
            TrainingError: one of these fields is missing.
        """
        reward_BT, mask_BT = _token_rewards(batch, kl_coef), batch.response_mask_BT
        advantage_BT = whiten(returns_to_go(reward_BT, mask_BT, self.gamma), mask_BT, unbiased=True)
        return batch.replace(token_reward_BT=reward_BT, advantage_BT=advantage_BT)


@dataclass(frozen=True)
class RLOOCredit:
    """Reward minus the mean of the *other* replies to the prompt (Ahmadian et al. 2024, 2402.14740, eq. 8)."""

    def __call__(self, batch: Batch, *, kl_coef: float) -> Batch:
        """Return the batch with `advantage_BT`, the same on every token of a reply.

        Args:
            batch: carries `score_B`, `group_B`, `old_logp_BT`, `ref_logp_BT`.
            kl_coef: beta of the penalty on the KL of the reply, part of the reward before the baseline.

        Raises:
            TrainingError: one of these fields is missing.
        """
        return _spread(batch, rloo(_sequence_reward(batch, kl_coef), _need(batch.group_B, "group_B")))


@dataclass(frozen=True)
class GRPOCredit:
    """Reward minus the group's mean, over a standard deviation (Shao et al. 2024, 2402.03300, section 4.1.2)."""

    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Of the group (GRPO), of the whole round, or no division (Dr.GRPO, Liu et al. 2025, 2503.20783)."""

    def __call__(self, batch: Batch, *, kl_coef: float) -> Batch:
        """Return the batch with `advantage_BT`, the same on every token of a reply.

        Args:
            batch: carries `score_B`, `group_B`, `old_logp_BT`, `ref_logp_BT`.
            kl_coef: beta of a penalty on the KL of the reply in the reward; GRPO's own KL is in the loss.

        Raises:
            TrainingError: one of these fields is missing.
        """
        scale = {"group": grpo, "batch": grpo_batch, "none": dr_grpo}[self.scale_rewards]
        return _spread(batch, scale(_sequence_reward(batch, kl_coef), _need(batch.group_B, "group_B")))


@dataclass(frozen=True)
class ReMaxCredit:
    """Reward minus the score of the greedy reply to the same prompt (Li et al. 2023, 2310.10505, eq. 5).

    The baseline has no KL penalty in it: it depends on the prompt alone, so the gradient stays unbiased.
    """

    def __call__(self, batch: Batch, *, kl_coef: float) -> Batch:
        """Return the batch with `token_reward_BT` and `advantage_BT` = return-to-go - greedy score.

        Args:
            batch: carries `score_B`, `baseline_B`, `old_logp_BT`, `ref_logp_BT`.
            kl_coef: beta of the per-token penalty.

        Raises:
            TrainingError: one of these fields is missing.
        """
        reward_BT, mask_BT = _token_rewards(batch, kl_coef), batch.response_mask_BT
        baseline_B1 = _need(batch.baseline_B, "baseline_B")[:, None]
        advantage_BT = keep(remax(returns_to_go(reward_BT, mask_BT), baseline_B1), mask_BT)
        return batch.replace(token_reward_BT=reward_BT, advantage_BT=advantage_BT)


@dataclass(frozen=True)
class OPOCredit:
    """Reward minus the length-weighted mean of the group's (Hao et al. 2025, 2505.23585, eq. 8)."""

    def __call__(self, batch: Batch, *, kl_coef: float) -> Batch:
        """Return the batch with `advantage_BT`, the same on every token of a reply.

        Args:
            batch: carries `score_B`, `group_B`, `old_logp_BT`, `ref_logp_BT`.
            kl_coef: beta of the penalty on the KL of the reply, part of the reward before the baseline.

        Raises:
            TrainingError: one of these fields is missing.
        """
        lengths_B = batch.response_mask_BT.sum(dim=1).clamp(min=1)
        return _spread(batch, opo(_sequence_reward(batch, kl_coef), lengths_B, _need(batch.group_B, "group_B")))


def _token_rewards(batch: Batch, kl_coef: float) -> Tensor:
    """Penalty at each token, the score at the last; without a penalty no reference is needed."""
    old_logp_BT = _need(batch.old_logp_BT, "old_logp_BT")
    unpenalised = kl_coef == 0 and batch.ref_logp_BT is None
    return token_rewards(
        _need(batch.score_B, "score_B"),
        old_logp_BT,
        old_logp_BT if unpenalised else _need(batch.ref_logp_BT, "ref_logp_BT"),
        batch.response_mask_BT,
        kl_coef,
    )


def _sequence_reward(batch: Batch, kl_coef: float) -> Tensor:
    """Score minus kl_coef x the summed k1 of each reply."""
    return masked_sum(_token_rewards(batch, kl_coef), batch.response_mask_BT, dim=1)


def _spread(batch: Batch, advantage_B: Tensor) -> Batch:
    advantage_BT = keep(advantage_B[:, None].expand(batch.response_mask_BT.shape), batch.response_mask_BT)
    return batch.replace(advantage_BT=advantage_BT)


def _need(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise TrainingError(f"the advantages need '{name}' and the source does not give it")
    return value
