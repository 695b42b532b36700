"""f-divergences in place of the KL in DPO: what stands for the log-ratio (Wang et al. 2023, "Beyond reverse KL").

The optimum of reward minus beta D_f(pi, pi_ref) has the reward beta f'(pi / pi_ref) + const, so each function here
returns f'(ratio) from log(ratio). Exponents are limited to half of what the number format can hold; beyond it the
gradient is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def reverse_kl(log_ratio: Tensor) -> Tensor:
    """Return log(ratio): KL(pi || pi_ref), plain DPO, without the constant.

    Args:
        log_ratio: log(pi / pi_ref) of whole replies, nats.

    Returns:
        The argument.
    """
    return log_ratio


def forward_kl(log_ratio: Tensor) -> Tensor:
    """Return -1 / ratio: KL(pi_ref || pi), f(x) = -log x.

    Args:
        log_ratio: log(pi / pi_ref) of whole replies, nats.

    Returns:
        f'(ratio).
    """
    return -_exp(-log_ratio)


def js(log_ratio: Tensor) -> Tensor:
    """Return log(2 ratio / (1 + ratio)): the Jensen-Shannon divergence.

    Args:
        log_ratio: log(pi / pi_ref) of whole replies, nats.

    Returns:
        f'(ratio).
    """
    return math.log(2.0) + logsigmoid(log_ratio)


def alpha(log_ratio: Tensor, *, coefficient: float) -> Tensor:
    """Return (ratio^(a - 1) - 1) / (a - 1): an alpha-divergence; a -> 1 is the reverse KL, 0 the forward KL.

    `coefficient` is a as TRL counts it; the paper's alpha is 1 - a.

    Args:
        log_ratio: log(pi / pi_ref) of whole replies, nats.
        coefficient: a, in [0, 1).

    Returns:
        f'(ratio).
    """
    power = 1.0 - coefficient
    return (1.0 - _exp(-power * log_ratio)) / power


def _exp(x: Tensor) -> Tensor:
    return x.clamp(max=0.5 * math.log(torch.finfo(x.dtype).max)).exp()


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "reverse_kl": reverse_kl,
    "forward_kl": forward_kl,
    "js_divergence": js,
    "alpha_divergence": alpha,
}
"""Under TRL's names."""
