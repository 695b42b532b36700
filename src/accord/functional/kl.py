"""Sampled estimators of the divergence between the policy and the reference, and the adaptive KL coefficient.

For tokens drawn from the policy all three estimate KL(policy || reference) (Schulman 2020, "Approximating KL
Divergence"). What their *gradients* estimate differs, and matters:

- as a reward (detached, with return-to-go) only k1 gives the gradient of the sequence KL;
- as a loss k1 has zero expected gradient, k2 the gradient of the reverse KL of that token's distribution, and
  k3 that of the forward KL. Times the non-detached importance ratio k1 and k3 become right; k2 does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.functional.losses import token_ratio
from accord.functional.masks import keep


def k1(logp: Tensor, ref_logp: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return the plain estimator log(pi / pi_ref): unbiased, of either sign.

    Args:
        logp: log-probabilities of sampled tokens under the policy (nats), any shape.
        ref_logp: the same tokens under the reference.
        mask: True = counts; elsewhere the result and all gradients are zero.

    Returns:
        One number a token, nats.
    """
    return keep(logp, mask) - keep(ref_logp, mask)


def k2(logp: Tensor, ref_logp: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return half the squared log-ratio: biased, never negative.

    Args:
        logp: log-probabilities of sampled tokens under the policy (nats), any shape.
        ref_logp: the same tokens under the reference.
        mask: True = counts; elsewhere the result and all gradients are zero.

    Returns:
        One number a token, nats.
    """
    return 0.5 * k1(logp, ref_logp, mask=mask).square()


def k3(logp: Tensor, ref_logp: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return pi_ref/pi - 1 - log(pi_ref/pi): unbiased, never negative (up to rounding).

    Args:
        logp: log-probabilities of sampled tokens under the policy (nats), any shape.
        ref_logp: the same tokens under the reference.
        mask: True = counts; elsewhere the result and all gradients are zero.

    Returns:
        One number a token, nats.
    """
    log_ratio = -k1(logp, ref_logp, mask=mask)
    return torch.expm1(log_ratio) - log_ratio


def weighted(estimate: Tensor, logp: Tensor, old_logp: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return an estimate times pi / pi_old, through which the gradient flows (DeepSeek-V3.2, 2512.02556, eq. 7).

    In expectation over pi_old this is the divergence of the *current* policy's next-token distribution, so for k1 and
    k3 its gradient is the one of the reverse KL; for k2 it is not. Each token's own distribution only: what a token
    does to the states after it is missing, as in every KL term of a loss.

    Args:
        estimate: k1 or k3 of the current policy, one number a token.
        logp: log-probabilities under the policy being trained (nats).
        old_logp: log-probabilities under the policy that sampled.
        mask: True = counts.

    Returns:
        One number a token, nats.
    """
    return estimate * token_ratio(logp, old_logp, mask=mask)


def adaptive_kl_step(kl_coef: float, kl_seq: float, target: float, horizon: float, n: int) -> float:
    """Return the KL coefficient after one batch (Ziegler et al. 2019, section 2.2).

    Args:
        kl_coef: coefficient in use.
        kl_seq: KL *summed over each sequence*, averaged over the batch (nats). A mean over tokens here
            would be compared with a target for whole sequences.
        target: wanted `kl_seq` (nats).
        horizon: episodes over which a lasting error of 20% or more changes the coefficient by about 20%.
        n: episodes in the batch.

    Returns:
        The new coefficient.
    """
    error = min(max(kl_seq / target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * n / horizon)
