"""Shapes of rewards: what is done to a score before it is turned into advantages."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def soft_overlong(length_B: Tensor, *, max_length: int, cache: int) -> Tensor:
    """Return DAPO's penalty on long replies (Yu et al. 2025, 2503.14476, eq. 13), to be added to the score.

    0 up to max_length - cache tokens, from there falling linearly to -1 at max_length, and -1 beyond.

    Args:
        length_B: tokens of each reply.
        max_length: most tokens a reply may have.
        cache: width of the slope in tokens, 1 to max_length.

    Returns:
        Penalty of each row, in [-1, 0], in reward units.
    """
    return ((max_length - cache - length_B.to(torch.get_default_dtype())) / cache).clamp(-1.0, 0.0)


def log_sigmoid_shaping(score_B: Tensor, reference: float) -> Tensor:
    """Return log sigmoid(score - reference), which saturates where a reply is good (Wang et al. 2024, 2402.00742).

    Args:
        score_B: raw scores of a Bradley-Terry reward model.
        reference: score of a reply that counts as good enough.

    Returns:
        Shaped scores, at most 0; log P(better than the reference reply).
    """
    return logsigmoid(score_B - reference)


def preference_as_reward(score_B: Tensor, reference_BM: Tensor) -> Tensor:
    """Return mean over m of sigmoid(score - reference_m), PAR (Fu et al. 2025, 2502.18770, eq. 5).

    Bounded, steep where the reply is about as good as the reference's, flat where it is already better. Each term is
    P(the reply beats that reference reply) of a Bradley-Terry reward model.

    Args:
        score_B: raw scores.
        reference_BM: raw scores of M replies of the reference model to the same prompt; one is enough (paper, 4.4).

    Returns:
        Shaped scores between 0 and 1.
    """
    return torch.sigmoid(score_B[:, None] - reference_BM).mean(dim=1)


def length_penalty(length_B: Tensor, *, coef: float, free: int) -> Tensor:
    """Return -coef x max(0, length - free), to be added to the score.

    Args:
        length_B: tokens of each reply.
        coef: score a token, at least 0.
        free: tokens that cost nothing.
    """
    return -coef * (length_B.to(torch.get_default_dtype()) - free).clamp(min=0.0)


def regress_out(score_B: Tensor, length_B: Tensor) -> Tensor:
    """Return the scores minus their least-squares line over length, plus their mean.

    Args:
        score_B: raw scores of a round.
        length_B: tokens of each reply; scores are returned as they are when all lengths are equal.
    """
    length_B = length_B.to(score_B.dtype)
    centred_B = length_B - length_B.mean()
    spread = centred_B.square().sum()
    slope = torch.where(spread > 0, (centred_B * score_B).sum() / spread.clamp(min=1e-12), torch.zeros_like(spread))
    return score_B - slope * centred_B


def loess_out(score_B: Tensor, length_B: Tensor, *, frac: float = 0.9) -> Tensor:
    """Return the scores minus their LOESS curve over length, whose mean stays (Huang et al. 2024, 2409.17407, eq. 4).

    Local lines with tricube weights over the nearest `frac` of the replies (Cleveland 1979), without the robustness
    iterations. Where the neighbours all have one length the local line is their mean.

    Args:
        score_B: raw scores of a round.
        length_B: tokens of each reply.
        frac: share of the replies in a neighbourhood; the paper's 0.9.
    """
    x_B = length_B.to(score_B.dtype)
    far_BB = (x_B[:, None] - x_B[None, :]).abs()
    nearest = min(x_B.numel(), max(2, math.ceil(frac * x_B.numel())))
    width_B = far_BB.kthvalue(nearest, dim=1).values.clamp(min=1e-9) * (1 + 1e-9)
    weight_BB = (1 - (far_BB / width_B[:, None]).clamp(max=1.0) ** 3) ** 3
    total_B = weight_BB.sum(dim=1)
    x_mean_B, y_mean_B = (weight_BB @ x_B) / total_B, (weight_BB @ score_B) / total_B
    apart_BB = x_B[None, :] - x_mean_B[:, None]
    spread_B = (weight_BB * apart_BB.square()).sum(dim=1)
    cross_B = (weight_BB * apart_BB * (score_B[None, :] - y_mean_B[:, None])).sum(dim=1)
    slope_B = torch.where(spread_B > 1e-9, cross_B / spread_B.clamp(min=1e-9), torch.zeros_like(cross_B))
    curve_B = y_mean_B + slope_B * (x_B - x_mean_B)
    return score_B - curve_B + curve_B.mean()
