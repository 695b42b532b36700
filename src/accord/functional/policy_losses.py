"""Losses of the policy beside the clipped surrogate: REINFORCE, sequence ratios, CISPO, SAPO.

Each returns one number a token. With `mask` given, what stands at the other positions (NaN included) changes neither
values nor gradients. Advantages and old log-probabilities are data: nothing flows into them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from accord.functional.losses import MAX_LOG_RATIO, token_ratio
from accord.functional.masks import keep, masked_mean, masked_sum

RatioLevel = Literal["token", "sequence", "sequence_sum"]


def reinforce(logp: Tensor, adv: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return -A log pi, whose gradient is the score-function estimator (Williams 1992, eq. 4).

    Args:
        logp: log-probabilities under the policy being trained (nats), [B, T].
        adv: advantages; unbiased only for replies that this very policy has sampled.
        mask: True = counts.

    Returns:
        loss_BT; its value means nothing, only its gradient does.
    """
    return -keep(adv, mask) * keep(logp, mask)


def importance_ratio(logp_BT: Tensor, old_logp_BT: Tensor, mask_BT: Tensor, level: RatioLevel) -> Tensor:
    """Return pi / pi_old of tokens or of whole replies.

    Args:
        logp_BT: log-probabilities under the policy being trained (nats).
        old_logp_BT: log-probabilities under the policy that sampled.
        mask_BT: True = counts.
        level: "token": of each token (PPO); "sequence": of the reply, to the power 1 / length (GSPO, Zheng et al.
            2025, 2507.18071, eq. 7); "sequence_sum": of the reply (RLOO, Ahmadian et al. 2024).

    Returns:
        Ratios [B, T] for "token" (1 outside the mask), [B, 1] for the others.
    """
    if level == "token":
        return token_ratio(logp_BT, old_logp_BT, mask=mask_BT)
    log_ratio_BT = keep(logp_BT, mask_BT) - keep(old_logp_BT, mask_BT)
    reduce = masked_mean if level == "sequence" else masked_sum
    log_ratio_B = reduce(log_ratio_BT, mask_BT, dim=1)
    return log_ratio_B.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()[:, None]


def cispo(
    logp: Tensor, old_logp: Tensor, adv: Tensor, *, largest: float, smallest: float = 0.0, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return -clip(rho) A log pi with the clipped ratio as a constant weight (MiniMax-M1, 2506.13585, eq. 4).

    No token loses its gradient; the ratio only weighs it, up to a limit.

    Args:
        logp: log-probabilities under the policy being trained (nats), [B, T].
        old_logp: log-probabilities under the policy that sampled.
        adv: advantages.
        largest: upper limit of the weight (the paper's 1 + eps_high; TRL names this number `epsilon_high`, 5).
        smallest: lower limit; 0 = none, as in the paper's experiments.
        mask: True = counts.

    Returns:
        (loss_BT, ratio_BT); the ratio is before the limits. Outside the mask the loss is 0 and the ratio 1.
    """
    ratio = token_ratio(logp, old_logp, mask=mask)
    return ratio.clamp(smallest, largest).detach() * reinforce(logp, adv, mask=mask), ratio


def sapo(
    logp: Tensor,
    old_logp: Tensor,
    adv: Tensor,
    *,
    temperature_pos: float = 1.0,
    temperature_neg: float = 1.05,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return -A (4 / tau) sigmoid(tau (rho - 1)): a soft gate in place of the clip (SAPO, 2511.20347, eq. 5).

    At ratio 1 its gradient is that of -A rho; away from it the gradient fades, with no edge where it stops.

    Args:
        logp: log-probabilities under the policy being trained (nats), [B, T].
        old_logp: log-probabilities under the policy that sampled.
        adv: advantages.
        temperature_pos: tau for A > 0.
        temperature_neg: tau for A <= 0; larger = fades sooner.
        mask: True = counts.

    Returns:
        (loss_BT, ratio_BT). Outside the mask the loss is 0 and the ratio 1.
    """
    ratio, adv = token_ratio(logp, old_logp, mask=mask), keep(adv, mask)
    gate = [4.0 / tau * torch.sigmoid(tau * (ratio - 1.0)) for tau in (temperature_pos, temperature_neg)]
    return -adv * torch.where(adv > 0, gate[0], gate[1]), ratio
