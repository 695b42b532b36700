"""Losses on pairs of replies, from log-probabilities of the policy and the reference, and the table of all of them.

P = pairs. Every loss takes a `PairLogps` and its own options and returns one number a pair. A new loss is one function
and one entry of `PAIR_LOSSES`. u = chosen - ref_chosen, v = rejected - ref_rejected, h = u - v, all in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from accord.functional.likelihood_losses import cpo, orpo, simpo, slic
from accord.functional.pair_logps import PairLogps
from accord.functional.transport_losses import aot, aot_unpaired


def dpo(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return -log sigmoid(beta h) (Rafailov et al. 2023, eq. 7).

    On means per token: length-normalised DPO. On f'(ratio): f-DPO.

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.

    Returns:
        loss_P.
    """
    return -logsigmoid(beta * pairs.h_P)


def robust(pairs: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    """Return the noise-corrected DPO loss (Chowdhury et al. 2024, eq. 12), unbiased under random flips.

    (-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2 e).

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.
        label_smoothing: e, probability that a label is flipped, in [0, 0.5).

    Returns:
        loss_P; it has no lower bound.
    """
    right_P, wrong_P = logsigmoid(beta * pairs.h_P), logsigmoid(-beta * pairs.h_P)
    return (-(1.0 - label_smoothing) * right_P + label_smoothing * wrong_P) / (1.0 - 2.0 * label_smoothing)


def ipo(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return the IPO loss (h - 1 / (2 beta))^2 (Azar et al. 2023, eq. 17).

    Args:
        pairs: sums are the paper's form, means per token the form TRL uses.
        beta: tau in the paper.

    Returns:
        loss_P.
    """
    return (pairs.h_P - 1.0 / (2.0 * beta)).square()


def hinge(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return max(0, 1 - beta h), the hinge-norm loss of RSO (Liu et al. 2023, eq. 12).

    Args:
        pairs: sums.
        beta: gamma in the paper, per nat.

    Returns:
        loss_P.
    """
    return torch.relu(1.0 - beta * pairs.h_P)


def squared_hinge(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return max(0, 1 - beta h)^2, the truncated quadratic loss of GPO (Tang et al. 2024, 2402.05749, table 1).

    Args:
        pairs: sums.
        beta: strength of the regularisation, per nat.

    Returns:
        loss_P.
    """
    return hinge(pairs, beta=beta).square()


def exo_pair(pairs: PairLogps, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Return KL(policy || labels) on the two replies (Ji et al. 2024, EXO, eq. 16).

    The policy's distribution is (sigmoid(beta h), sigmoid(-beta h)), the labels' (1 - e, e).

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.
        label_smoothing: e; 0 means 1e-3 as in TRL, because the logarithm of 0 has no value.

    Returns:
        loss_P.
    """
    log_q_P, log_r_P = logsigmoid(beta * pairs.h_P), logsigmoid(-beta * pairs.h_P)
    noise = label_smoothing or 1e-3
    return log_q_P.exp() * (log_q_P - math.log1p(-noise)) + log_r_P.exp() * (log_r_P - math.log(noise))


def nca_pair(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return -log sigmoid(beta u) - 1/2 log sigmoid(-beta u) - 1/2 log sigmoid(-beta v) (Chen et al. 2024, NCA).

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.

    Returns:
        loss_P.
    """
    u_P, v_P = beta * pairs.u_P, beta * pairs.v_P
    return -logsigmoid(u_P) - 0.5 * logsigmoid(-u_P) - 0.5 * logsigmoid(-v_P)


def bco_pair(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return -log sigmoid(beta u) - log sigmoid(-beta v), BCO with a reward shift of 0 (Jung et al. 2024).

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.

    Returns:
        loss_P.
    """
    return -logsigmoid(beta * pairs.u_P) - logsigmoid(-beta * pairs.v_P)


def sppo_hard(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return (u - 1 / (2 beta))^2 + (v + 1 / (2 beta))^2 (Wu et al. 2024, SPPO with hard labels).

    Args:
        pairs: sums.
        beta: 1 / eta of the paper, per nat.

    Returns:
        loss_P.
    """
    return (pairs.u_P - 0.5 / beta).square() + (pairs.v_P + 0.5 / beta).square()


def apo_zero(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return 1 - sigmoid(beta u) + sigmoid(beta v) (D'Oosterlinck et al. 2024): chosen up, rejected down.

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.

    Returns:
        loss_P.
    """
    return torch.sigmoid(-beta * pairs.u_P) + torch.sigmoid(beta * pairs.v_P)


def apo_down(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return sigmoid(beta u) + 1 - sigmoid(beta h) (D'Oosterlinck et al. 2024): both down, rejected more.

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.

    Returns:
        loss_P.
    """
    return torch.sigmoid(beta * pairs.u_P) + torch.sigmoid(-beta * pairs.h_P)


def discopop(pairs: PairLogps, *, beta: float, discopop_tau: float) -> Tensor:
    """Return the log-ratio modulated loss, a mix of logistic and exponential (Lu et al. 2024, DiscoPOP, eq. 7).

    (1 - m) (-log sigmoid(x)) + m exp(-x) with x = beta h and m = sigmoid(x / tau).

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.
        discopop_tau: temperature of the mix, in (0, 1); below 1 the exponential never overflows.

    Returns:
        loss_P.
    """
    x_P = beta * pairs.h_P
    logistic_P = -logsigmoid(x_P) * torch.sigmoid(-x_P / discopop_tau)
    return logistic_P + (logsigmoid(x_P / discopop_tau) - x_P).exp()


def dpop(pairs: PairLogps, *, beta: float, dpop_lambda: float) -> Tensor:
    """Return -log sigmoid(beta (h - lambda max(0, -u))), DPO-positive (Pal et al. 2024, eq. 3).

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.
        dpop_lambda: penalty of a chosen reply that became less likely than under the reference.

    Returns:
        loss_P.
    """
    return -logsigmoid(beta * (pairs.h_P - dpop_lambda * torch.relu(-pairs.u_P)))


def rdpo(pairs: PairLogps, *, beta: float, rdpo_alpha: float) -> Tensor:
    """Return -log sigmoid(beta h + alpha (|chosen| - |rejected|)), length-regularised DPO (Park et al. 2024, eq. 9).

    Args:
        pairs: sums.
        beta: strength of the KL constraint, per nat.
        rdpo_alpha: length penalty, nats x beta a token.

    Returns:
        loss_P.
    """
    return -logsigmoid(beta * pairs.h_P + rdpo_alpha * (pairs.chosen_length_P - pairs.rejected_length_P))


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


@dataclass(frozen=True)
class PairLoss:
    """How a loss is to be called."""

    function: Callable[..., Tensor] | None
    """`PairLogps` and the options below -> loss_P; None = only the likelihood term."""
    options: tuple[str, ...] = ("beta",)
    """Names of its options. A loss with `label_smoothing` among them deals with label noise itself."""
    per_token: bool = False
    """It is made for means per token, not for sums."""
    reference: bool = True
    """It reads the reference."""
    differences: bool = False
    """It sees h only, so that f-divergences apply."""
    anchors: bool | None = None
    """It compares ranks within the batch: paired (True) or unpaired (False) anchors."""
    nll: str | float = 0.0
    """Weight, or the option that is the weight, of the chosen replies' mean negative log-likelihood a token."""


PAIR_LOSSES: dict[str, PairLoss] = {
    "sigmoid": PairLoss(dpo, differences=True),
    "sigmoid_norm": PairLoss(dpo, per_token=True),
    "robust": PairLoss(robust, ("beta", "label_smoothing"), differences=True),
    "ipo": PairLoss(ipo, per_token=True),
    "ipo_avg": PairLoss(ipo, per_token=True),
    "ipo_sum": PairLoss(ipo),
    "hinge": PairLoss(hinge, differences=True),
    "squared_hinge": PairLoss(squared_hinge, differences=True),
    "slic": PairLoss(slic, ("slic_delta", "slic_lambda"), reference=False),
    "exo_pair": PairLoss(exo_pair, ("beta", "label_smoothing")),
    "nca_pair": PairLoss(nca_pair),
    "bco_pair": PairLoss(bco_pair),
    "sppo_hard": PairLoss(sppo_hard),
    "apo_zero": PairLoss(apo_zero),
    "apo_down": PairLoss(apo_down),
    "aot": PairLoss(aot, anchors=True),
    "aot_unpaired": PairLoss(aot_unpaired, anchors=False),
    "discopop": PairLoss(discopop, ("beta", "discopop_tau"), differences=True),
    "simpo": PairLoss(simpo, ("beta", "simpo_gamma"), per_token=True, reference=False),
    "cpo": PairLoss(cpo, reference=False, nll="cpo_alpha"),
    "orpo": PairLoss(orpo, per_token=True, reference=False, nll=1.0),
    "dpop": PairLoss(dpop, ("beta", "dpop_lambda")),
    "rdpo": PairLoss(rdpo, ("beta", "rdpo_alpha"), differences=True),
    "sft": PairLoss(None, (), reference=False, nll=1.0),
}
"""Every loss on pairs under TRL's name where TRL has it; `ipo` is TRL's averaged form, `ipo_sum` the paper's."""
