"""Weights that correct for a sampler whose probabilities are not those of the learner.

An engine of other kernels, another precision or older weights samples from mu, not from pi_old. An expectation under
pi_old is one under mu times w = pi_old / mu. This is a weight on the loss and not part of the PPO ratio pi / pi_old: it
does not change while the policy moves, and it is not clipped with it. Weights are data: nothing flows through them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from accord.functional.losses import MAX_LOG_RATIO
from accord.functional.masks import keep, masked_mean, masked_sum


def token_weight(old_logp_BT: Tensor, sampler_logp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return pi_old / mu of each token.

    Args:
        old_logp_BT: log-probabilities of the sampled tokens by the learner (nats).
        sampler_logp_BT: log-probabilities the sampler reported.
        mask_BT: True = counts.

    Returns:
        weight_BT, detached; 1 outside the mask.
    """
    log_BT = keep(old_logp_BT, mask_BT) - keep(sampler_logp_BT, mask_BT)
    return log_BT.detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def sequence_weight(
    old_logp_BT: Tensor, sampler_logp_BT: Tensor, mask_BT: Tensor, *, geometric_mean: bool = False
) -> Tensor:
    """Return pi_old / mu of each whole reply.

    Args:
        old_logp_BT: log-probabilities of the sampled tokens by the learner (nats).
        sampler_logp_BT: log-probabilities the sampler reported.
        mask_BT: True = counts.
        geometric_mean: the mean over tokens instead of the product. It does not shrink or grow with the length of the
            reply, and it is no longer an importance weight.

    Returns:
        weight_B, detached; 1 for a row without counted tokens.
    """
    log_BT = keep(old_logp_BT, mask_BT) - keep(sampler_logp_BT, mask_BT)
    reduce = masked_mean if geometric_mean else masked_sum
    return reduce(log_BT, mask_BT, dim=1).detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def bounded_weight(
    weight: Tensor, mode: Literal["truncate", "mask"], *, largest: float, smallest: float = 0.0
) -> Tensor:
    """Return weights within limits: a few huge ones would otherwise be all that is learned from.

    Args:
        weight: of tokens or replies.
        mode: "truncate" cuts at `largest` (truncated importance sampling; Ionides 2008); "mask" makes weights outside
            [smallest, largest] 0, so the token or reply is not learned from (IcePop; TRL's sequence mask).
        largest: 2 or 3 are usual.
        smallest: for "mask"; 0 = no lower limit.

    Returns:
        Weights of the same shape.
    """
    if mode == "truncate":
        return weight.clamp(max=largest)
    return torch.where((weight >= smallest) & (weight <= largest), weight, torch.zeros_like(weight))
