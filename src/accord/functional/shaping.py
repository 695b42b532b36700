"""Shapes of rewards: what is done to a score before it is turned into advantages."""

from __future__ import annotations

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
