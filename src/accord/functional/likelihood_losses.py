"""Losses on pairs that have no reference: SLiC-HF, SimPO, CPO, ORPO.

P = pairs; each function takes a `PairLogps`, does not read its reference, and returns one number a pair.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from accord.functional.pair_logps import PairLogps


def slic(pairs: PairLogps, *, slic_delta: float, slic_lambda: float) -> Tensor:
    """Return max(0, delta - chosen + rejected) - lambda chosen (Zhao et al. 2023, SLiC-HF).

    Deviation: the regulariser's target is the chosen reply, not a reply of the SFT data.

    Args:
        pairs: sums; the reference is not read.
        slic_delta: margin, nats.
        slic_lambda: weight of the log-likelihood, summed over the reply.

    Returns:
        loss_P.
    """
    return torch.relu(slic_delta - pairs.chosen_P + pairs.rejected_P) - slic_lambda * pairs.chosen_P


def simpo(pairs: PairLogps, *, beta: float, simpo_gamma: float) -> Tensor:
    """Return -log sigmoid(beta (chosen - rejected) - gamma) on means per token (Meng et al. 2024, eq. 6).

    Args:
        pairs: means per token; the reference is not read.
        beta: scale, per nat a token.
        simpo_gamma: margin gamma itself; the paper often quotes gamma / beta.

    Returns:
        loss_P.
    """
    return -logsigmoid(beta * (pairs.chosen_P - pairs.rejected_P) - simpo_gamma)


def cpo(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return -log sigmoid(beta (chosen - rejected)), the preference part of CPO (Xu et al. 2024, eq. 5).

    Args:
        pairs: sums; the reference is not read.
        beta: scale, per nat.

    Returns:
        loss_P; CPO adds the negative log-likelihood of the chosen replies.
    """
    return -logsigmoid(beta * (pairs.chosen_P - pairs.rejected_P))


def log_odds(logp: Tensor) -> Tensor:
    """Return log(p / (1 - p)).

    Args:
        logp: log p, nats; values above -1e-7 are taken as that, where the odds of a certain token would be infinite.

    Returns:
        Log-odds of the shape of `logp`.
    """
    below = logp.clamp(max=-1e-7)
    # 1 - exp(x) loses every digit near 0, log1p(-exp(x)) keeps those of very negative x.
    near = below > -0.7
    complement = torch.where(
        near,
        (-torch.expm1(torch.where(near, below, -1.0))).log(),
        torch.log1p(-torch.where(near, -1.0, below).exp()),
    )
    return below - complement


def orpo(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return -beta log sigmoid(log odds of chosen - log odds of rejected) (Hong et al. 2024, eq. 7).

    Args:
        pairs: means per token; the reference is not read.
        beta: lambda in the paper, weight of this term.

    Returns:
        loss_P; ORPO adds the negative log-likelihood of the chosen replies.
    """
    return -beta * logsigmoid(log_odds(pairs.chosen_P) - log_odds(pairs.rejected_P))
