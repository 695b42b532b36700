"""Process reward models: the loss of each step, and one number for all steps of a reply."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from accord.functional.masks import keep, masked_sum

Aggregate = Literal["min", "product", "last"]


def step_nll(score_BT: Tensor, target_BT: Tensor, mask: Tensor) -> Tensor:
    """Return -log P(label of the step), with P(right) = sigmoid(score) (Lightman et al. 2023, 2305.20050).

    Args:
        score_BT: scores (log-odds of "right") at the last token of each step.
        target_BT: 1 = the step is right, 0 = it is wrong; anything between is P(right).
        mask: True at the last token of each step.

    Returns:
        loss_BT, nats; 0 elsewhere.
    """
    score_BT, target_BT = keep(score_BT, mask), keep(target_BT, mask).to(score_BT.dtype)
    return keep(-target_BT * logsigmoid(score_BT) - (1 - target_BT) * logsigmoid(-score_BT), mask)


def aggregate_steps(score_BT: Tensor, mask: Tensor, how: Aggregate = "min") -> Tensor:
    """Return one number a reply from P(right) of its steps.

    Args:
        score_BT: scores (log-odds of "right") at the last token of each step.
        mask: True at the last token of each step.
        how: "min" the weakest step, "product" P(all steps are right) if steps were independent (Lightman et al. 2023,
            section 2.6), "last" the last step (Wang et al. 2023, 2312.08935).

    Returns:
        score_B in [0, 1]; NaN for a row without steps.
    """
    logp_BT = logsigmoid(keep(score_BT, mask))
    if how == "product":
        logp_B = masked_sum(logp_BT, mask, dim=1)
    elif how == "min":
        logp_B = torch.where(mask, logp_BT, torch.inf).amin(dim=1)
    else:
        positions_T = torch.arange(mask.shape[1], device=mask.device)
        last_B = torch.where(mask, positions_T, 0).amax(dim=1, keepdim=True)
        logp_B = logp_BT.gather(1, last_B).squeeze(1)
    return torch.where(mask.any(dim=1), logp_B.exp(), torch.nan)
