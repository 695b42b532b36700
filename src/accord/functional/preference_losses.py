"""Losses on pairs of replies, from summed log-probabilities of the policy and the reference.

P = pairs; `chosen` and `rejected` are log p(reply | prompt), summed over the reply's tokens (nats). Every
loss returns one number a pair. Length-normalised variants take the same functions on means per token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo(
    chosen_P: Tensor,
    rejected_P: Tensor,
    ref_chosen_P: Tensor,
    ref_rejected_P: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
    reference_free: bool = False,
    target_P: Tensor | None = None,
) -> Tensor:
    """Return the DPO loss -log sigmoid(beta h) (Rafailov et al. 2023, eq. 7).

    h = (chosen - ref_chosen) - (rejected - ref_rejected). With label noise the loss is the expectation over
    the two outcomes, -p log sigmoid(beta h) - (1 - p) log sigmoid(-beta h): conservative DPO (Mitchell
    2023, "cDPO").

    Args:
        chosen_P: log-probability of the chosen reply under the policy.
        rejected_P: log-probability of the rejected reply under the policy.
        ref_chosen_P: the chosen reply under the reference.
        ref_rejected_P: the rejected reply under the reference.
        beta: strength of the KL constraint, per nat.
        label_smoothing: probability that a label is flipped, in [0, 0.5).
        reference_free: use a uniform reference, i.e. ignore the two reference terms.
        target_P: P(chosen is preferred); None = 1. Smoothing is applied on top.

    Returns:
        loss_P.
    """
    h_P = chosen_P - rejected_P
    if not reference_free:
        h_P = h_P - (ref_chosen_P - ref_rejected_P)
    positive_P = logsigmoid(beta * h_P)
    if target_P is None and label_smoothing == 0.0:
        return -positive_P
    certain_P = torch.ones_like(h_P) if target_P is None else target_P
    p_P = certain_P * (1.0 - label_smoothing) + (1.0 - certain_P) * label_smoothing
    return -p_P * positive_P - (1.0 - p_P) * logsigmoid(-beta * h_P)


def ipo(chosen_P: Tensor, rejected_P: Tensor, ref_chosen_P: Tensor, ref_rejected_P: Tensor, *, beta: float) -> Tensor:
    """Return the IPO loss (h - 1 / (2 beta))^2 (Azar et al. 2023, eq. 17).

    Args:
        chosen_P: log-probability of the chosen reply under the policy; sums are the paper's form, means per
            token (of all four arguments) the form TRL uses.
        rejected_P: the same of the rejected reply.
        ref_chosen_P: the chosen reply under the reference.
        ref_rejected_P: the rejected reply under the reference.
        beta: tau in the paper.

    Returns:
        loss_P.
    """
    h_P = (chosen_P - ref_chosen_P) - (rejected_P - ref_rejected_P)
    return (h_P - 1.0 / (2.0 * beta)).square()


def hinge(chosen_P: Tensor, rejected_P: Tensor, ref_chosen_P: Tensor, ref_rejected_P: Tensor, *, beta: float) -> Tensor:
    """Return max(0, 1 - beta h), the hinge-norm loss of RSO (Liu et al. 2023, eq. 12).

    Args:
        chosen_P: summed log-probability of the chosen reply under the policy.
        rejected_P: the same of the rejected reply.
        ref_chosen_P: the chosen reply under the reference.
        ref_rejected_P: the rejected reply under the reference.
        beta: gamma in the paper, per nat.

    Returns:
        loss_P.
    """
    h_P = (chosen_P - ref_chosen_P) - (rejected_P - ref_rejected_P)
    return torch.relu(1.0 - beta * h_P)


def implicit_reward(logp_P: Tensor, ref_logp_P: Tensor, *, beta: float) -> Tensor:
    """Return beta log(pi / pi_ref), the reward DPO's policy is optimal for (Rafailov et al. 2023, eq. 5).

    Args:
        logp_P: summed log-probability of the reply under the policy.
        ref_logp_P: the same under the reference.
        beta: strength of the KL constraint.

    Returns:
        Reward of each reply, up to a constant per prompt.
    """
    return beta * (logp_P - ref_logp_P)
