"""How far predicted probabilities and score differences can be believed: accuracy, calibration, temperature."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, xlogy

from accord.stats.arrays import vector


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram."""

    p: float
    """Mean predicted probability."""
    freq: float
    """Mean label, what a calibrated model would have predicted."""
    n: int
    """Number of predictions."""


def accuracy_ties_half(delta: ArrayLike) -> float:
    """Return the share of positive score differences (chosen minus rejected); an exact tie counts half."""
    x = vector(delta)
    return float(np.mean((x > 0) + 0.5 * (x == 0)))


def reliability(prob: ArrayLike, label: ArrayLike, bins: int = 10, *, confidence: bool = False) -> list[Bin]:
    """Return the reliability diagram over equally wide bins of [0, 1].

    Args:
        prob: predicted probability of the first outcome.
        label: 1 = the first outcome happened, 0 = the other; soft labels are allowed.
        bins: number of bins; each holds its lower edge, the last one also 1.
        confidence: use max(p, 1 - p) and whether the likelier outcome happened. The direct form shows a
            model that is too sure of one side; in this one such errors can cancel.

    Returns:
        The bins that are not empty, in order.
    """
    p, y = vector(prob), vector(label)
    if confidence:
        p, y = np.maximum(p, 1 - p), np.where(p >= 0.5, y, 1 - y)
    index = np.minimum((p * bins).astype(int), bins - 1)
    found: list[Bin] = []
    for i in range(bins):
        here = index == i
        if here.any():
            found.append(Bin(float(p[here].mean()), float(y[here].mean()), int(here.sum())))
    return found


def ece(prob: ArrayLike, label: ArrayLike, bins: int = 10, *, confidence: bool = False) -> float:
    """Return the expected calibration error (Guo et al. 2017, eq. 3), mean |p - frequency|.

    Args:
        prob: predicted probability of the first outcome.
        label: 1 = the first outcome happened, 0 = the other.
        bins: equally wide bins of [0, 1].
        confidence: bin max(p, 1 - p) instead of p.

    Returns:
        A number in [0, 1]; 0 = calibrated.
    """
    found = reliability(prob, label, bins, confidence=confidence)
    return sum(b.n * abs(b.p - b.freq) for b in found) / sum(b.n for b in found)


def brier(prob: ArrayLike, label: ArrayLike) -> float:
    """Return the mean squared error of predicted probabilities (Brier 1950, two-class form, in [0, 1])."""
    return float(np.mean((vector(prob) - vector(label)) ** 2))


def nll(prob: ArrayLike, label: ArrayLike) -> float:
    """Return the mean negative log-likelihood (nats) of labels under predicted probabilities; may be inf."""
    p, y = vector(prob), vector(label)
    return float(-np.mean(xlogy(y, p) + xlogy(1 - y, 1 - p)))


def temperature_mle(logit: ArrayLike, label: ArrayLike) -> float:
    """Return the T that minimises the NLL of sigmoid(logit / T) (Guo et al. 2017, section 4.2).

    Args:
        logit: e.g. score differences of a reward model.
        label: 1 = the first outcome happened, 0 = the other; soft labels are allowed.

    Returns:
        T: above 1 = the model was too sure. 0.0 if the labels are separated perfectly (no finite optimum),
            inf if
        the logits say nothing or the opposite.
    """
    z, y = vector(logit), vector(label)

    def slope(inverse: float) -> float:
        return float(np.mean((expit(inverse * z) - y) * z))

    if slope(0.0) >= 0:
        return float("inf")
    if float(np.mean(((z > 0) - y) * z)) == 0.0:  # the slope's limit as T goes to 0: never negative
        return 0.0
    high = 1.0
    while slope(high) <= 0:
        high *= 2
    inverse = cast(Any, brentq)(slope, 0.0, high, xtol=1e-15, rtol=1e-14)
    return 1.0 / float(inverse)
