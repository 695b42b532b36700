"""Log-likelihood of one comparison with its first and second derivatives: Bradley-Terry, Davidson, Rao-Kupper.

x is the log odds of the first against the second, tie a parameter of how common ties are:

    half        ties are half a win for each                                         Bradley and Terry 1952
    davidson    P(first) : P(second) : P(tie) = e^(x/2) : e^(-x/2) : e^tie            Davidson 1970
    rao_kupper  P(first) = sigmoid(x - e^tie), P(second) = sigmoid(-x - e^tie)        Rao and Kupper 1967
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, log_expit

from accord.stats.arrays import Floats

Ties = Literal["half", "davidson", "rao_kupper"]
"""How ties are modelled."""


@dataclass(frozen=True)
class Outcomes:
    """Log-likelihood of each comparison (nats) and derivatives."""

    value: Floats
    x: Floats
    """By x."""
    tie: Floats
    """By the tie parameter; 0 with "half"."""
    xx: Floats
    """Second, by x twice."""
    x_tie: Floats
    tie_tie: Floats


def outcomes(ties: Ties, x: Floats, tie: float, result: Floats) -> Outcomes:
    """Return the log-likelihood of results.

    Args:
        ties: the model.
        x: (comparisons) log odds of the first.
        tie: its parameter; no meaning with "half".
        result: (comparisons) 1 = the first won, 0 = the second, 0.5 = tie. Other values are for "half" only.
    """
    if ties == "davidson":
        return _davidson(x, tie, result)
    if ties == "rao_kupper":
        return _rao_kupper(x, tie, result)
    p = _sigmoid(x)
    nothing = np.zeros_like(x)
    value = result * np.asarray(log_expit(x)) + (1 - result) * np.asarray(log_expit(-x))
    return Outcomes(value, result - p, nothing, -p * (1 - p), nothing, nothing)


def share_of_first(ties: Ties, x: Floats, tie: float) -> Floats:
    """Return P(first) + P(tie) / 2."""
    if ties == "davidson":
        first, second, _ = _davidson_odds(x, tie)
        return 0.5 + (first - second) / 2
    if ties == "rao_kupper":
        return 0.5 + (_sigmoid(x - np.exp(tie)) - _sigmoid(-x - np.exp(tie))) / 2
    return _sigmoid(x)


def _davidson_odds(x: Floats, tie: float) -> tuple[Floats, Floats, Floats]:
    """Probabilities of the three results."""
    logits = np.stack([x / 2, -x / 2, np.full_like(x, tie)])
    odds = np.exp(logits - logits.max(axis=0))
    first, second, none = odds / odds.sum(axis=0)
    return first, second, none


def _davidson(x: Floats, tie: float, result: Floats) -> Outcomes:
    first, second, none = _davidson_odds(x, tie)
    tied = (result == 0.5).astype(np.float64)
    lead = (first - second) / 2
    value = np.where(result == 1.0, np.log(first), np.where(result == 0.0, np.log(second), np.log(none)))
    return Outcomes(
        value=value,
        x=(result - 0.5) - lead,
        tie=tied - none,
        xx=lead**2 - (first + second) / 4,
        x_tie=none * lead,
        tie_tie=-none * (1 - none),
    )


def _rao_kupper(x: Floats, tie: float, result: Floats) -> Outcomes:
    eta = float(np.exp(tie))
    up, down = x - eta, -x - eta  # log odds of "the first" and of "the second" against the rest
    p, q = _sigmoid(-up), _sigmoid(-down)
    first, second = (result >= 0.5).astype(np.float64), (result <= 0.5).astype(np.float64)
    tied = first * second
    # P(tie) = (e^(2 eta) - 1) P(first) P(second), so a tie counts as both results and a constant.
    value = first * np.asarray(log_expit(up)) + second * np.asarray(log_expit(down))
    value = value + tied * (2 * eta + np.log1p(-np.exp(-2 * eta)))
    grow = 2 / -np.expm1(-2 * eta)
    by_eta = -first * p - second * q + tied * grow
    bend = -first * p * (1 - p) - second * q * (1 - q)
    # d grow / d eta = -4 e^(-2 eta) / (1 - e^(-2 eta))^2
    eta_eta = bend - tied * 4 * np.exp(-2 * eta) / np.expm1(-2 * eta) ** 2
    return Outcomes(
        value=value,
        x=first * p - second * q,
        tie=by_eta * eta,
        xx=bend,
        x_tie=(first * p * (1 - p) - second * q * (1 - q)) * eta,
        tie_tie=eta_eta * eta**2 + by_eta * eta,
    )


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(expit(x), dtype=np.float64)
