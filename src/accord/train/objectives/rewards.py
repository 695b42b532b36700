"""Losses of reward models: pairs, pairs that may tie, and rankings of K replies that are scored once each."""

# ruff: noqa: N815  (names carry shape suffixes)
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.errors import TrainingError
from accord.functional.ranking_losses import (
    best_of_k,
    davidson,
    pairs_within,
    plackett_luce,
    rao_kupper,
    three_way_nll,
)
from accord.functional.reward_losses import bradley_terry
from accord.train.objectives.denominators import need, pair_accuracy


@dataclass(frozen=True)
class Comparisons:
    """The pairs of a batch, all those within each group."""

    first_P: Tensor
    """Row of the one reply."""
    second_P: Tensor
    """Row of the other."""
    target_P: Tensor
    """P(the first is better)."""
    tie_P: Tensor
    """True = the two are ranked equal."""
    turned_P: Tensor
    """True = the second is ranked above the first."""
    weight_P: Tensor
    """Weight of the pair, float64."""


def comparisons(batch: Batch, *, mean: Literal["prompt", "pair"] = "prompt", ties: bool = False) -> Comparisons:
    """Return every pair of rows of one group that has something to say.

    Args:
        batch: rows in groups; a group of two without ranks is a pair with the better row first.
        mean: "prompt" gives each pair the weight of its group / the number of its pairs, so that a prompt counts once
            (Ouyang et al. 2022, section 3.5); "pair" gives each the weight of its group.
        ties: keep pairs of equal rank in groups of more than two. Pairs that are a group of their own are always kept:
            their label says tie, while equal ranks in a longer ranking may also say that nothing is known.
    """
    group_B, size_B, rank_B = _groups(batch)
    first_P, second_P, target_P = pairs_within(group_B, rank_B)
    tie_P, turned_P = rank_B[first_P] == rank_B[second_P], rank_B[first_P] > rank_B[second_P]
    if batch.target_B is not None:
        target_P = torch.where((size_B[first_P] == 2) & ~tie_P, batch.target_B[first_P].double(), target_P)
    if not ties:
        kept_P = ~tie_P | (size_B[first_P] == 2)
        first_P, second_P, target_P, tie_P, turned_P = (
            x[kept_P] for x in (first_P, second_P, target_P, tie_P, turned_P)
        )
    weight_P = _weights(batch)[first_P]
    if mean == "prompt":
        weight_P = weight_P / torch.bincount(group_B[first_P], minlength=1)[group_B[first_P]]
    return Comparisons(first_P, second_P, target_P, tie_P, turned_P, weight_P)


@dataclass(frozen=True)
class BradleyTerry:
    """Reward-model loss on pairs (Stiennon et al. 2020; margin: Llama 2, 2307.09288 eq. 2).

    A ranking counts as all its pairs of different rank, each reply scored once (InstructGPT, 2203.02155 eq. 1).
    """

    center: float = 0.0
    """Coefficient of (r_w + r_l)^2 (2312.09244)."""
    label_smoothing: float = 0.0
    """Probability that a label is flipped."""
    mean: Literal["prompt", "pair"] = "prompt"
    """Over what rankings of different lengths are averaged: prompts (mean of their means) or all pairs alike."""

    def denominator(self, batch: Batch) -> Tensor:
        """Sum of pair weights."""
        return comparisons(batch, mean=self.mean).weight_P.sum()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over the pairs within each group."""
        score_B, pairs = need(out.score_B, "score_B"), comparisons(batch, mean=self.mean)
        chosen_P, rejected_P = score_B[pairs.first_P], score_B[pairs.second_P]
        loss_P = bradley_terry(
            chosen_P,
            rejected_P,
            margin=None if batch.margin_B is None else batch.margin_B[pairs.first_P],
            target=pairs.target_P.to(score_B.dtype),
            label_smoothing=self.label_smoothing,
            center=self.center,
        )
        return Terms((loss_P * pairs.weight_P.to(loss_P.dtype)).sum(), _pair_metrics(score_B, pairs))


@dataclass(frozen=True)
class Ties:
    """Likelihood of win, loss and tie with a tie parameter that the model gives (`Forward.log_tie`).

    Rao-Kupper 1967 or Davidson 1970. A pair of equal rank is a tie; a soft label is the expectation over win and loss.
    """

    model: Literal["rao_kupper", "davidson"]
    center: float = 0.0
    """Coefficient of (r_w + r_l)^2 (2312.09244)."""

    def denominator(self, batch: Batch) -> Tensor:
        """Sum of pair weights."""
        return comparisons(batch, ties=True).weight_P.sum()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over the pairs within each group, each prompt counting once."""
        score_B, log_tie = need(out.score_B, "score_B"), need(out.log_tie, "log_tie")
        pairs = comparisons(batch, ties=True)
        first_P, second_P = score_B[pairs.first_P], score_B[pairs.second_P]
        logp_P3 = (rao_kupper if self.model == "rao_kupper" else davidson)(first_P, second_P, log_tie)
        loss_P = three_way_nll(logp_P3, pairs.target_P.to(score_B.dtype), pairs.tie_P)
        if self.center:
            loss_P = loss_P + self.center * (first_P + second_P).square()
        metrics = _pair_metrics(score_B, pairs)
        metrics["tie_parameter"] = Mean(log_tie.detach().exp(), 1)
        metrics["tie_probability"] = Mean(logp_P3[:, 2].detach().exp().sum(), len(loss_P))
        return Terms((loss_P * pairs.weight_P.to(loss_P.dtype)).sum(), metrics)


@dataclass(frozen=True)
class Ranking:
    """Likelihood of a whole ranking (Plackett-Luce) or of the choice of its best reply (softmax)."""

    loss: Literal["plackett_luce", "best_of_k"]
    center: float = 0.0
    """Coefficient of (r_i + r_j)^2, a mean over the pairs of a ranking (2312.09244, for pairs)."""

    def denominator(self, batch: Batch) -> Tensor:
        """Sum of the weights of the rankings."""
        return (_weights(batch) / _groups(batch)[1]).sum()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over rankings."""
        if batch.target_B is not None:
            raise TrainingError(
                f"{self.loss} takes an order of replies, and this batch has soft targets",
                fix="use bradley_terry or all_pairs for soft labels",
            )
        score_B = need(out.score_B, "score_B")
        group_B, _, rank_B = _groups(batch)
        loss_B = (plackett_luce if self.loss == "plackett_luce" else best_of_k)(score_B, group_B, rank_B)
        loss = (loss_B * _weights(batch).to(loss_B.dtype)).sum()
        if self.center:
            pairs = comparisons(batch, ties=True)
            sums_P = (score_B[pairs.first_P] + score_B[pairs.second_P]).square()
            loss = loss + self.center * (sums_P * pairs.weight_P.to(loss_B.dtype)).sum()
        return Terms(loss, _pair_metrics(score_B, comparisons(batch)))


def _groups(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Group 0, 1, ... of each row, rows in that group, and its rank."""
    rows_B = torch.arange(batch.num_rows, device=batch.ids_BT.device)
    group_B = rows_B // 2
    if batch.group_B is not None:
        group_B = torch.unique_consecutive(batch.group_B, return_inverse=True)[1]
    size_B = torch.bincount(group_B)[group_B]
    if batch.rank_B is not None:
        return group_B, size_B, batch.rank_B
    if not bool((size_B == 2).all()):
        raise TrainingError("groups of more or fewer than two rows need ranks, and this batch has none")
    return group_B, size_B, rows_B % 2


def _weights(batch: Batch) -> Tensor:
    """Weight of each row's pair or ranking, float64."""
    if batch.weight_B is None:
        return torch.ones(batch.num_rows, dtype=torch.float64, device=batch.ids_BT.device)
    return batch.weight_B.double()


def _pair_metrics(score_B: Tensor, pairs: Comparisons) -> dict[str, Mean]:
    delta_P = (score_B[pairs.first_P] - score_B[pairs.second_P]).detach()
    target_P = torch.where(pairs.tie_P, 0.5, pairs.target_P)
    # A soft target may doubt which of two is better; only ranks that say so turn a pair round.
    preferred_P = torch.where(pairs.turned_P, -delta_P, delta_P)
    metrics = {
        "accuracy": pair_accuracy(delta_P, target_P),
        "margin": Mean(preferred_P.sum(), delta_P.numel()),
        "mean_reward": Mean(score_B.detach().sum(), score_B.numel()),
    }
    return metrics
