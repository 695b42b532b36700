"""Credit assignment: from one score a rollout to an advantage a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from accord.batch import Batch
from accord.errors import TrainingError
from accord.functional.advantages import gae, token_rewards, whiten


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
        if (
            batch.score_B is None
            or batch.old_logp_BT is None
            or batch.ref_logp_BT is None
            or batch.old_value_BT is None
        ):
            raise TrainingError("GAE needs score_B, old_logp_BT, ref_logp_BT and old_value_BT in the batch")
        mask_BT = batch.response_mask_BT
        reward_BT = token_rewards(batch.score_B, batch.old_logp_BT, batch.ref_logp_BT, mask_BT, kl_coef)
        if self.whiten_rewards:
            reward_BT = whiten(reward_BT, mask_BT, shift_mean=False)
        advantage_BT, return_BT = gae(reward_BT, batch.old_value_BT, mask_BT, self.gamma, self.lam)
        if self.whiten_advantages:
            advantage_BT = whiten(advantage_BT, mask_BT)
        return batch.replace(token_reward_BT=reward_BT, advantage_BT=advantage_BT, return_BT=return_BT)
