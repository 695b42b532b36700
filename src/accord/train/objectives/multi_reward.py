"""Losses of reward models with several outputs: ensembles, attributes, quality and length (ODIN), steps."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.functional.attributes import attribute_bradley_terry, attribute_mse
from accord.functional.disentangle import length_penalty, pearson
from accord.functional.ensembles import disagreement
from accord.functional.masks import masked_sum
from accord.functional.reward_losses import bradley_terry
from accord.functional.steps import step_nll
from accord.train.objectives.denominators import need, pair_accuracy, pair_targets, pair_weights


@dataclass(frozen=True)
class EnsembleBradleyTerry:
    """Bradley-Terry loss of each ensemble member, a mean over members; each may weigh the pairs in its own way."""

    center: float = 0.0
    """Coefficient of (r_w + r_l)^2 (2312.09244)."""

    def denominator(self, batch: Batch) -> Tensor:
        """Sum of pair weights, the members' own ones left out: their mean is 1, and the loss stays comparable."""
        return pair_weights(batch).sum().double()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over pairs of the mean over members; rows 2i are chosen, 2i + 1 rejected."""
        scores_BK = need(out.scores_BK, "scores_BK")
        chosen_PK, rejected_PK = scores_BK[0::2], scores_BK[1::2]
        target_P = pair_targets(batch)
        loss_PK = bradley_terry(
            chosen_PK,
            rejected_PK,
            margin=None if batch.margin_B is None else batch.margin_B[0::2, None],
            target=None if target_P is None else target_P[:, None].to(scores_BK.dtype),
            center=self.center,
        )
        if batch.weight_BK is not None:
            loss_PK = loss_PK * batch.weight_BK[0::2].to(loss_PK.dtype)
        loss = (loss_PK.mean(dim=1) * pair_weights(batch)).sum()
        delta_PK = (chosen_PK - rejected_PK).detach()
        pairs = delta_PK.shape[0]
        return Terms(
            loss,
            {
                "accuracy": pair_accuracy(delta_PK.mean(dim=1), target_P),
                "margin": Mean(delta_PK.mean(dim=1).sum(), pairs),
                "mean_reward": Mean(scores_BK.detach().mean(dim=1).sum(), 2 * pairs),
                "disagreement": Mean(disagreement(delta_PK).sqrt().sum(), pairs),
            },
        )


@dataclass(frozen=True)
class AttributeRegression:
    """Squared error of each known rating, a mean over known ratings (HelpSteer, 2311.09528)."""

    def denominator(self, batch: Batch) -> Tensor:
        """Number of known ratings, weighted by row."""
        known_BK = ~need(batch.target_BK, "target_BK").isnan()
        return (known_BK.sum(dim=1) * _row_weights(batch)).sum().double()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over rows and attributes."""
        target_BK = need(batch.target_BK, "target_BK")
        loss_BK = attribute_mse(need(out.scores_BK, "scores_BK"), target_BK)
        loss = (loss_BK.sum(dim=1) * _row_weights(batch)).sum()
        known_BK = ~target_BK.isnan()
        return Terms(loss, {"squared_error": Mean(loss_BK.detach().sum(), known_BK.sum())})


@dataclass(frozen=True)
class AttributeBradleyTerry:
    """Bradley-Terry loss of each attribute in which a pair is ordered, a mean over known orders."""

    def denominator(self, batch: Batch) -> Tensor:
        """Number of known orders, weighted by pair."""
        known_PK = ~need(batch.target_BK, "target_BK")[0::2].isnan()
        return (known_PK.sum(dim=1) * pair_weights(batch)).sum().double()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over pairs and attributes."""
        scores_BK, target_PK = need(out.scores_BK, "scores_BK"), need(batch.target_BK, "target_BK")[0::2]
        loss_PK = attribute_bradley_terry(scores_BK[0::2], scores_BK[1::2], target_PK)
        loss = (loss_PK.sum(dim=1) * pair_weights(batch)).sum()
        delta_PK = (scores_BK[0::2] - scores_BK[1::2]).detach()
        known_PK = ~target_PK.isnan()
        return Terms(loss, {"accuracy": pair_accuracy(delta_PK[known_PK], target_PK[known_PK])})


@dataclass(frozen=True)
class Odin:
    """Bradley-Terry on quality + length, with length pressed out of the quality head (Chen et al. 2024, 2402.07319).

    The correlations are over all rows of the optimiser step. `prepare` takes their gradient in the scores, and training
    on it row by row is training on the correlations, however the batch is cut.
    """

    center: float = 0.0
    """Coefficient of (r_w + r_l)^2 (2312.09244)."""
    length_weight: float = 1.0
    """lambda_L, weight of the correlation terms."""
    overlap_weight: float = 1.0
    """lambda_O, weight of |cosine| of the two heads."""

    def prepare(self, batch: Batch, forward: Callable[[Batch], Forward], token_budget: int) -> Batch:
        """Add value and gradient of the correlation terms, and the correlations to be logged."""
        scores_BK = _whole_scores(batch, forward, token_budget)
        tokens_B = batch.response_mask_BT.sum(dim=1).double()
        with torch.enable_grad():
            scores_BK.requires_grad_(True)
            penalty = length_penalty(scores_BK[:, 0], scores_BK[:, 1], tokens_B)
            (slope_BK,) = torch.autograd.grad(penalty, scores_BK)
        correlation_K = torch.stack([pearson(column_B, tokens_B) for column_B in scores_BK.detach().T])
        return batch.replace(
            # The loop divides by the sum of the pair weights, and the gradient is that of the whole batch.
            slope_BK=slope_BK * self.denominator(batch),
            penalty_B=penalty.detach().expand(batch.num_rows).clone(),
            target_BK=correlation_K.expand(batch.num_rows, 2).clone(),
        )

    def denominator(self, batch: Batch) -> Tensor:
        """Sum of pair weights."""
        return pair_weights(batch).sum().double()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over pairs; the terms about the whole batch count once a pair weight."""
        scores_BK, overlap = need(out.scores_BK, "scores_BK"), need(out.overlap, "overlap")
        slope_BK, penalty_B = need(batch.slope_BK, "slope_BK"), need(batch.penalty_B, "penalty_B")
        total_B = scores_BK.sum(dim=1)
        target_P, weight_P = pair_targets(batch), pair_weights(batch)
        loss_P = bradley_terry(
            total_B[0::2],
            total_B[1::2],
            margin=None if batch.margin_B is None else batch.margin_B[0::2],
            target=None if target_P is None else target_P.to(total_B.dtype),
            center=self.center,
        )
        whole_P = self.length_weight * penalty_B[0::2].to(loss_P.dtype) + self.overlap_weight * overlap
        # Zero in value, the slope in gradient.
        pull = (slope_BK.to(scores_BK.dtype) * (scores_BK - scores_BK.detach())).sum()
        loss = ((loss_P + whole_P) * weight_P).sum() + self.length_weight * pull
        quality_P = (scores_BK[0::2, 0] - scores_BK[1::2, 0]).detach()
        pairs = loss_P.numel()
        correlation_PK = need(batch.target_BK, "target_BK")[0::2]
        return Terms(
            loss,
            {
                "accuracy": pair_accuracy(quality_P, target_P),
                "margin": Mean(quality_P.sum(), pairs),
                "mean_reward": Mean(scores_BK.detach()[:, 0].sum(), 2 * pairs),
                "length_correlation": Mean(correlation_PK[:, 0].sum(), pairs),
                "length_head_correlation": Mean(correlation_PK[:, 1].sum(), pairs),
                "head_overlap": Mean(overlap.detach() * pairs, pairs),
            },
        )


@dataclass(frozen=True)
class StepNLL:
    """Negative log-likelihood of the label of each step (Lightman et al. 2023, 2305.20050)."""

    def denominator(self, batch: Batch) -> Tensor:
        """Number of steps, weighted by row."""
        return (batch.response_mask_BT.sum(dim=1) * _row_weights(batch)).sum().double()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over steps."""
        mask_BT, target_BT = batch.response_mask_BT, need(batch.target_BT, "target_BT")
        score_BT = need(out.score_BT, "score_BT")
        loss_BT = step_nll(score_BT, target_BT, mask_BT)
        loss = (masked_sum(loss_BT, mask_BT, dim=1) * _row_weights(batch)).sum()
        right_BT = (score_BT > 0) == (target_BT > 0.5)
        return Terms(loss, {"step_accuracy": Mean(masked_sum(right_BT.double(), mask_BT), mask_BT.sum())})


def _row_weights(batch: Batch) -> Tensor:
    """Weight of each row; 1 where the batch carries none."""
    return torch.ones(batch.num_rows, device=batch.ids_BT.device) if batch.weight_B is None else batch.weight_B


def _whole_scores(batch: Batch, forward: Callable[[Batch], Forward], token_budget: int) -> Tensor:
    """Outputs of the whole batch in the order of its rows, float64 [B, K]."""
    numbered = batch.replace(penalty_B=torch.arange(batch.num_rows, dtype=torch.float64, device=batch.ids_BT.device))
    parts: list[Tensor] = []
    rows: list[Tensor] = []
    for micro in numbered.split(token_budget):
        parts.append(need(forward(micro).scores_BK, "scores_BK").detach().double())
        rows.append(need(micro.penalty_B, "penalty_B").long())
    scores_BK = torch.cat(parts)
    return torch.zeros_like(scores_BK).index_copy_(0, torch.cat(rows), scores_BK)
