"""Losses of policies on preference pairs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.functional.preference_losses import dpo
from accord.train.objectives.denominators import need, pair_accuracy, pair_targets, pair_weights, sequence_logp


@dataclass(frozen=True)
class DPO:
    """Direct preference optimisation (Rafailov et al. 2023, 2305.18290 eq. 7); label smoothing = cDPO.

    A soft target in the batch is P(first row is better); smoothing is applied on top.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    rpo_alpha: float = 0.0
    """Weight of the negative log-likelihood of the chosen reply, a mean over its tokens (2404.19733 eq. 2). Deviation:
    with a soft target p it is scaled by 2p - 1, because a reply that is barely preferred is not to be imitated."""

    def denominator(self, batch: Batch) -> Tensor:
        """Sum of pair weights."""
        return pair_weights(batch).sum().double()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over pairs."""
        logp_B = sequence_logp(need(out.logp_BT, "logp_BT"), batch)
        ref_B = sequence_logp(need(batch.ref_logp_BT, "ref_logp_BT"), batch)
        chosen, rejected = (logp_B[0::2], ref_B[0::2]), (logp_B[1::2], ref_B[1::2])
        target_P = pair_targets(batch)
        loss_P = dpo(
            chosen[0],
            rejected[0],
            chosen[1],
            rejected[1],
            beta=self.beta,
            label_smoothing=self.label_smoothing,
            target_P=target_P,
        )
        if self.rpo_alpha:
            certainty_P = 1.0 if target_P is None else 2 * target_P - 1
            lengths_P = batch.response_mask_BT[0::2].sum(dim=1).clamp(min=1)
            loss_P = loss_P - self.rpo_alpha * certainty_P * chosen[0] / lengths_P
        loss = (loss_P * pair_weights(batch)).sum()
        pairs = loss_P.numel()
        reward_w = self.beta * (chosen[0] - chosen[1]).detach()
        reward_l = self.beta * (rejected[0] - rejected[1]).detach()
        return Terms(
            loss,
            {
                "rewards/chosen": Mean(reward_w.sum(), pairs),
                "rewards/rejected": Mean(reward_l.sum(), pairs),
                "rewards/accuracies": pair_accuracy(reward_w - reward_l, target_P),
                "rewards/margins": Mean((reward_w - reward_l).sum(), pairs),
                "logps/chosen": Mean(chosen[0].detach().sum(), pairs),
                "logps/rejected": Mean(rejected[0].detach().sum(), pairs),
            },
        )
