"""Keeping length out of a reward: correlation with length and overlap of two heads (ODIN, 2402.07319)."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import torch
from torch import Tensor


def pearson(x_B: Tensor, y_B: Tensor) -> Tensor:
    """Return the correlation of two columns; 0, with no gradient, when one of them is constant.

    Args:
        x_B: one number a row.
        y_B: one number a row.

    Returns:
        Scalar in [-1, 1].
    """
    x_B, y_B = x_B - x_B.mean(), y_B - y_B.mean()
    scale = x_B.square().sum() * y_B.square().sum()
    varies = scale > 0
    return torch.where(varies, (x_B * y_B).sum() / torch.where(varies, scale, 1.0).sqrt(), 0.0)


def length_penalty(quality_B: Tensor, length_score_B: Tensor, tokens_B: Tensor) -> Tensor:
    """Return |corr(quality, length)| - corr(length score, length) (Chen et al. 2024, section 3).

    The first term takes length out of the quality head, the second one puts it into the length head.

    Args:
        quality_B: output of the quality head.
        length_score_B: output of the length head.
        tokens_B: length of each reply, tokens.

    Returns:
        Scalar in [-1, 2].
    """
    tokens_B = tokens_B.to(quality_B.dtype)
    return pearson(quality_B, tokens_B).abs() - pearson(length_score_B, tokens_B)


def overlap(weight_KD: Tensor) -> Tensor:
    """Return |cosine| of the weights of two heads: 0 = they read different directions of the hidden state.

    Chen et al. 2024 take |w_Q . w_L| of heads kept at unit length; this is the same number for heads of any length.

    Args:
        weight_KD: weights of the two heads.

    Returns:
        Scalar in [0, 1].
    """
    first_D, second_D = weight_KD[0], weight_KD[1]
    return (first_D @ second_D).abs() / (first_D.square().sum() * second_D.square().sum()).sqrt()
