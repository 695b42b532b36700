"""Losses of the reward model on pairs (P), and the normalisation of its scores."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(
    chosen_P: Tensor,
    rejected_P: Tensor,
    *,
    margin: Tensor | None = None,
    target: Tensor | None = None,
    label_smoothing: float = 0.0,
    center: float = 0.0,
) -> Tensor:
    """Return the Bradley-Terry negative log-likelihood, -log sigmoid(chosen - rejected).

    Stiennon et al. 2020, section 3.4. With a soft target p the loss is the expectation over both outcomes,
    and the margin has to be won by whichever side is preferred: -p log s(d - m) - (1 - p) log s(-d - m).

    Args:
        chosen_P: scores of the chosen replies.
        rejected_P: scores of the rejected replies.
        margin: m in reward units (Touvron et al. 2023, "Llama 2", eq. 2); None = 0.
        target: p = P(chosen is preferred); a tie is 0.5; None = 1.
        label_smoothing: probability that a label is flipped, in [0, 0.5); applied on top of `target`.
        center: weight of (chosen + rejected)^2, which keeps scores near zero (Eisenstein et al. 2023).

    Returns:
        loss_P.
    """
    delta_P = chosen_P - rejected_P
    won_P = logsigmoid(delta_P if margin is None else delta_P - margin)
    if target is None and label_smoothing == 0.0:
        loss_P = -won_P
    else:
        lost_P = logsigmoid(-delta_P if margin is None else -delta_P - margin)
        certain_P = torch.ones_like(delta_P) if target is None else target
        p_P = certain_P * (1.0 - label_smoothing) + (1.0 - certain_P) * label_smoothing
        loss_P = -p_P * won_P - (1.0 - p_P) * lost_P
    return loss_P + center * (chosen_P + rejected_P).square() if center else loss_P


def accuracy_ties_half(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """Return 1 where the chosen reply scores higher, 0.5 at equal scores, else 0.

    Args:
        chosen_P: scores of the chosen replies.
        rejected_P: scores of the rejected replies.

    Returns:
        One number a pair; a constant reward model averages 0.5, as it should.
    """
    delta_P = chosen_P - rejected_P
    return (delta_P > 0).to(delta_P.dtype) + 0.5 * (delta_P == 0).to(delta_P.dtype)


def norm_gain_bias(score_B: Tensor, mean: float = 0.0, std: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return (gain, bias) that give scores the wanted moments (Ziegler et al. 2019, section 2.1).

    Args:
        score_B: scores of samples of the reference policy.
        mean: wanted mean.
        std: wanted standard deviation (population).

    Returns:
        (gain, bias), scalars; the gain is inf if all scores are equal.
    """
    gain = std / score_B.std(correction=0)
    return gain, mean - gain * score_B.mean()
