"""Losses on single replies marked desirable or undesirable, from log-ratios of policy to reference.

B = replies; `log_ratio_B` is log(pi / pi_ref) summed over the reply's tokens (nats). Each function takes the label as
P(desirable), so a soft label is the expectation over both, and returns one number a reply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def kl_estimate(log_ratio_B: Tensor, weight_B: Tensor) -> Tensor:
    """Return z0 = max(0, mean log-ratio), KTO's estimate of KL(pi || pi_ref) (Ethayarajh et al. 2024, section 4.1).

    Args:
        log_ratio_B: log-ratios of replies to prompts they were not written for, nats.
        weight_B: weight of each.

    Returns:
        A scalar, detached: KTO takes no gradient through it.
    """
    return ((log_ratio_B * weight_B).sum() / weight_B.sum()).clamp(min=0.0).detach()


def reward_shift(log_ratio_B: Tensor, target_B: Tensor, weight_B: Tensor) -> Tensor:
    """Return BCO's shift, half way between the mean log-ratios of both labels (Jung et al. 2024, eq. 12).

    Deviation: the mean is over the optimiser step, not a moving average. With one label only it is that label's mean.

    Args:
        log_ratio_B: log-ratios of the replies, nats.
        target_B: P(desirable) of each.
        weight_B: weight of each.

    Returns:
        A scalar, detached, nats.
    """
    sides = [weight_B * target_B, weight_B * (1.0 - target_B)]
    means = torch.stack([(log_ratio_B * w).sum() / w.sum().clamp(min=1e-12) for w in sides])
    there = torch.stack([w.sum() > 0 for w in sides]).to(means.dtype)
    return ((means * there).sum() / there.sum()).detach()


def _of_both_labels(
    loss: Callable[[Tensor], Tensor], x_B: Tensor, target_B: Tensor, desirable_weight: float, undesirable_weight: float
) -> Tensor:
    """Expectation over the label of `loss`, which a desirable reply has at x and an undesirable one at -x."""
    return target_B * desirable_weight * loss(x_B) + (1.0 - target_B) * undesirable_weight * loss(-x_B)


def kto(
    log_ratio_B: Tensor,
    target_B: Tensor,
    anchor_B: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """Return the KTO loss (Ethayarajh et al. 2024, eq. 8).

    lambda_D (1 - sigmoid(beta (r - z0))) of a desirable reply, lambda_U (1 - sigmoid(beta (z0 - r))) of an undesirable
    one.

    Args:
        log_ratio_B: r.
        target_B: P(desirable).
        anchor_B: z0, see `kl_estimate`.
        beta: strength of the KL constraint, per nat.
        desirable_weight: lambda_D.
        undesirable_weight: lambda_U.

    Returns:
        loss_B.
    """
    x_B = beta * (log_ratio_B - anchor_B)
    return _of_both_labels(lambda x: torch.sigmoid(-x), x_B, target_B, desirable_weight, undesirable_weight)


def bco(
    log_ratio_B: Tensor,
    target_B: Tensor,
    anchor_B: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """Return the binary classifier loss -log sigmoid(+-beta (r - shift)) (Jung et al. 2024, eq. 11).

    Args:
        log_ratio_B: r.
        target_B: P(desirable).
        anchor_B: the shift, see `reward_shift`.
        beta: strength of the KL constraint, per nat.
        desirable_weight: weight of desirable replies.
        undesirable_weight: weight of undesirable replies.

    Returns:
        loss_B.
    """
    x_B = beta * (log_ratio_B - anchor_B)
    return _of_both_labels(lambda x: -logsigmoid(x), x_B, target_B, desirable_weight, undesirable_weight)


def apo_zero_unpaired(
    log_ratio_B: Tensor,
    target_B: Tensor,
    anchor_B: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """Return sigmoid(-+beta r) of a desirable or undesirable reply, KTO at z0 = 0 (D'Oosterlinck et al. 2024).

    Args:
        log_ratio_B: r.
        target_B: P(desirable).
        anchor_B: 0.
        beta: strength of the KL constraint, per nat.
        desirable_weight: weight of desirable replies.
        undesirable_weight: weight of undesirable replies.

    Returns:
        loss_B.
    """
    weights = {"desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
    return kto(log_ratio_B, target_B, torch.zeros_like(anchor_B), beta=beta, **weights)


@dataclass(frozen=True)
class UnpairedLoss:
    """How a loss is to be called."""

    function: Callable[..., Tensor]
    """(log_ratio_B, target_B, anchor_B) and beta and the two weights -> loss_B."""
    mismatches: bool = False
    """Its anchor is `kl_estimate` over mismatched replies."""
    shift: bool = False
    """Its anchor is `reward_shift` over the replies themselves."""


UNPAIRED_LOSSES: dict[str, UnpairedLoss] = {
    "kto": UnpairedLoss(kto, mismatches=True),
    "bco": UnpairedLoss(bco, shift=True),
    "apo_zero_unpaired": UnpairedLoss(apo_zero_unpaired),
}
"""Every loss on single replies under TRL's name where TRL has it."""
