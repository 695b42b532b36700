"""Losses of reward models on pairs of scores."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.functional.reward_losses import bradley_terry
from accord.train.objectives.denominators import need, pair_accuracy, pair_targets, pair_weights


@dataclass(frozen=True)
class BradleyTerry:
    """Reward-model loss on pairs (Stiennon et al. 2020; margin: Llama 2, 2307.09288 eq. 2)."""

    center: float = 0.0
    """Coefficient of (r_w + r_l)^2 (2312.09244)."""

    def denominator(self, batch: Batch) -> Tensor:
        """Sum of pair weights."""
        return pair_weights(batch).sum().double()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over pairs; rows 2i are chosen, 2i + 1 rejected."""
        score_B = need(out.score_B, "score_B")
        chosen_P, rejected_P = score_B[0::2], score_B[1::2]
        target_P = pair_targets(batch)
        margin_P = None if batch.margin_B is None else batch.margin_B[0::2]
        loss_P = bradley_terry(chosen_P, rejected_P, margin=margin_P, target=target_P, center=self.center)
        loss = (loss_P * pair_weights(batch)).sum()
        pairs = chosen_P.numel()
        delta_P = (chosen_P - rejected_P).detach()
        return Terms(
            loss,
            {
                "accuracy": pair_accuracy(delta_P, target_P),
                "margin": Mean(delta_P.sum(), pairs),
                "mean_reward": Mean(score_B.detach().sum(), 2 * pairs),
            },
        )
