"""Losses of policies (and critics) on their own rollouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.functional import kl
from accord.functional.losses import ppo_clip, ppo_clipped, value_clip
from accord.functional.masks import masked_sum
from accord.train.objectives.denominators import need, row_count, token_count

Aggregation = Literal["token-mean", "seq-mean-token-mean", "seq-mean-token-sum"]


@dataclass(frozen=True)
class PPO:
    """Clipped surrogate with clipped value loss (Schulman et al. 2017, 1707.06347 eq. 7 and 9).

    The KL penalty is not here: it is in the token rewards (Ziegler et al. 2019), where its gradient is the
    sequence-level one.
    """

    cliprange: float = 0.2
    cliprange_high: float | None = None
    """Upper bound when it differs (DAPO clip-higher); None = cliprange."""
    cliprange_value: float = 0.2
    vf_coef: float = 0.1
    entropy_coef: float = 0.0
    aggregation: Aggregation = "token-mean"

    def denominator(self, batch: Batch) -> Tensor:
        """Response tokens, or rows for the sequence aggregations."""
        return token_count(batch) if self.aggregation == "token-mean" else row_count(batch)

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Policy plus vf_coef x value minus entropy_coef x entropy, summed."""
        mask_BT = batch.response_mask_BT
        logp_BT = need(out.logp_BT, "logp_BT")
        old_logp_BT = need(batch.old_logp_BT, "old_logp_BT")
        advantage_BT = need(batch.advantage_BT, "advantage_BT")
        high = self.cliprange if self.cliprange_high is None else self.cliprange_high
        policy_BT, ratio_BT = ppo_clip(logp_BT, old_logp_BT, advantage_BT, low=self.cliprange, high=high, mask=mask_BT)
        value_BT, clipped_BT = value_clip(
            need(out.value_BT, "value_BT"),
            need(batch.old_value_BT, "old_value_BT"),
            need(batch.return_BT, "return_BT"),
            clip=self.cliprange_value,
            mask=mask_BT,
        )
        loss_BT = policy_BT + self.vf_coef * value_BT
        if self.entropy_coef:
            loss_BT = loss_BT - self.entropy_coef * need(out.entropy_BT, "entropy_BT")
        loss = masked_sum(self._weigh(loss_BT, mask_BT), mask_BT)
        tokens = token_count(batch)

        def mean(x_BT: Tensor) -> Mean:
            return Mean(masked_sum(x_BT.detach(), mask_BT), tokens)

        metrics = {
            "loss/policy_avg": mean(policy_BT),
            "loss/value_avg": mean(value_BT),
            "policy/approxkl_avg": mean(kl.k3(old_logp_BT, logp_BT.detach())),
            "policy/clipfrac_avg": mean(
                ppo_clipped(ratio_BT, advantage_BT, low=self.cliprange, high=high).to(loss_BT.dtype)
            ),
            "val/clipfrac_avg": mean(clipped_BT.to(loss_BT.dtype)),
            "val/ratio": mean(ratio_BT),
        }
        if out.entropy_BT is not None:
            metrics["objective/entropy"] = mean(out.entropy_BT)
        return Terms(loss, metrics)

    def _weigh(self, loss_BT: Tensor, mask_BT: Tensor) -> Tensor:
        if self.aggregation == "seq-mean-token-mean":
            return loss_BT / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
        return loss_BT
