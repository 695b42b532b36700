"""Objectives: what one forward pass and one batch have to say about the loss.

Each returns a loss SUM and names its denominator; nothing here averages. The formulas are in `functional/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.errors import TrainingError
from accord.functional import kl
from accord.functional.losses import ppo_clip, ppo_clipped, value_clip
from accord.functional.masks import masked_sum
from accord.functional.preference_losses import dpo
from accord.functional.reward_losses import bradley_terry

Aggregation = Literal["token-mean", "seq-mean-token-mean", "seq-mean-token-sum"]


def token_count(batch: Batch) -> Tensor:
    """Number of response tokens, a float scalar."""
    return batch.response_mask_BT.sum().double()


def row_count(batch: Batch) -> Tensor:
    """Number of rows that have response tokens, a float scalar."""
    return batch.response_mask_BT.any(dim=1).sum().double()


def pair_weights(batch: Batch) -> Tensor:
    """Weight of each pair [P]; 1 where the batch carries none."""
    if batch.weight_B is None:
        return torch.ones(batch.num_rows // 2, device=batch.ids_BT.device)
    return batch.weight_B[0::2]


def sequence_logp(logp_BT: Tensor, batch: Batch) -> Tensor:
    """Summed log-probability of each row's response, nats [B]."""
    return masked_sum(logp_BT, batch.response_mask_BT, dim=1)


def _targets(batch: Batch) -> Tensor | None:
    """P(first row is better) of each pair; None where the batch carries none, i.e. all pairs are certain."""
    return None if batch.target_B is None else batch.target_B[0::2]


def _accuracy(delta_P: Tensor, target_P: Tensor | None) -> Mean:
    """Share of the pairs put in the labelled order, equal scores half; pairs labelled a tie are not counted."""
    right_P = (delta_P > 0).double() + 0.5 * (delta_P == 0).double()
    if target_P is None:
        return Mean(right_P.sum(), right_P.numel())
    right_P = torch.where(target_P < 0.5, 1 - right_P, right_P)
    ordered_P = target_P != 0.5
    return Mean(masked_sum(right_P, ordered_P), ordered_P.sum())


def _need(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise TrainingError(f"the objective needs '{name}' and this source or model does not give it")
    return value


@dataclass(frozen=True)
class NLL:
    """Negative log-likelihood of the response tokens: pretraining and supervised fine-tuning."""

    def denominator(self, batch: Batch) -> Tensor:
        """Response tokens of the whole batch."""
        return token_count(batch)

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Sum of -log p over response tokens."""
        logp_BT = _need(out.logp_BT, "logp_BT")
        loss = -masked_sum(logp_BT, batch.response_mask_BT)
        count = token_count(batch)
        return Terms(loss, {"nll": Mean(loss.detach(), count)})


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
        score_B = _need(out.score_B, "score_B")
        chosen_P, rejected_P = score_B[0::2], score_B[1::2]
        target_P = _targets(batch)
        margin_P = None if batch.margin_B is None else batch.margin_B[0::2]
        loss_P = bradley_terry(chosen_P, rejected_P, margin=margin_P, target=target_P, center=self.center)
        loss = (loss_P * pair_weights(batch)).sum()
        pairs = chosen_P.numel()
        delta_P = (chosen_P - rejected_P).detach()
        return Terms(
            loss,
            {
                "accuracy": _accuracy(delta_P, target_P),
                "margin": Mean(delta_P.sum(), pairs),
                "mean_reward": Mean(score_B.detach().sum(), 2 * pairs),
            },
        )


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
        logp_B = sequence_logp(_need(out.logp_BT, "logp_BT"), batch)
        ref_B = sequence_logp(_need(batch.ref_logp_BT, "ref_logp_BT"), batch)
        chosen, rejected = (logp_B[0::2], ref_B[0::2]), (logp_B[1::2], ref_B[1::2])
        target_P = _targets(batch)
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
                "rewards/accuracies": _accuracy(reward_w - reward_l, target_P),
                "rewards/margins": Mean((reward_w - reward_l).sum(), pairs),
                "logps/chosen": Mean(chosen[0].detach().sum(), pairs),
                "logps/rejected": Mean(rejected[0].detach().sum(), pairs),
            },
        )


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
        logp_BT = _need(out.logp_BT, "logp_BT")
        old_logp_BT = _need(batch.old_logp_BT, "old_logp_BT")
        advantage_BT = _need(batch.advantage_BT, "advantage_BT")
        high = self.cliprange if self.cliprange_high is None else self.cliprange_high
        policy_BT, ratio_BT = ppo_clip(logp_BT, old_logp_BT, advantage_BT, low=self.cliprange, high=high, mask=mask_BT)
        value_BT, clipped_BT = value_clip(
            _need(out.value_BT, "value_BT"),
            _need(batch.old_value_BT, "old_value_BT"),
            _need(batch.return_BT, "return_BT"),
            clip=self.cliprange_value,
            mask=mask_BT,
        )
        loss_BT = policy_BT + self.vf_coef * value_BT
        if self.entropy_coef:
            loss_BT = loss_BT - self.entropy_coef * _need(out.entropy_BT, "entropy_BT")
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
