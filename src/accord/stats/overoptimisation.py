"""Curves of over-optimisation: gold score against the distance from the reference (Gao et al. 2022).

The distance is d = sqrt(KL) in square roots of nats, and the gold score is measured from that of the reference, so
that every curve starts at 0.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from accord.stats.arrays import Floats, vector

Form = Literal["best_of_n", "rl"]
"""d (alpha - beta d), seen with best-of-n; d (alpha - beta log d), seen with reinforcement learning."""


@dataclass(frozen=True)
class Peak:
    """Where a curve is highest."""

    d: float
    """Square root of the divergence there."""
    kl: float
    """The divergence there, in nats."""
    gold: float
    """The gold score there, from that of the reference."""


@dataclass(frozen=True)
class Curve:
    """A curve of one of the two forms."""

    form: Form
    """Which form."""
    alpha: float
    """Slope of the gain: at the start (best_of_n), or at d = 1 (rl, where the term with beta is 0)."""
    beta: float
    """How fast the gain is eaten up; above 0 = over-optimisation sets in."""
    r2: float = float("nan")
    """Share of the points' variance about their mean that the fit explains; nan = not fitted."""

    def __call__(self, d: ArrayLike) -> Floats:
        """Return the gold score at distances d (square roots of nats)."""
        gain, loss = _terms(self.form, vector(d))
        return self.alpha * gain - self.beta * loss

    @property
    def peak(self) -> Peak | None:
        """The maximum: d* = alpha / (2 beta), or d* = exp(alpha / beta - 1); None if the curve never falls."""
        if self.beta <= 0 or (self.form == "best_of_n" and self.alpha <= 0):
            return None
        if self.form == "best_of_n":
            d = self.alpha / (2 * self.beta)
            return Peak(d, d * d, self.alpha**2 / (4 * self.beta))
        with np.errstate(over="ignore"):
            d = float(np.exp(self.alpha / self.beta - 1))
        return Peak(d, d * d, self.beta * d)


def fit_curve(form: Form, d: ArrayLike, gold: ArrayLike, weight: ArrayLike | None = None) -> Curve:
    """Return the curve of least squares; both forms are linear in alpha and beta.

    Args:
        form: "best_of_n" or "rl" (Gao et al. 2022, section 3.1).
        d: sqrt(KL) of each point, not negative.
        gold: gold score of each point minus that of the reference.
        weight: of each point, e.g. one over its variance; None = all alike.

    Returns:
        The curve, with r2.

    Raises:
        ValueError: if the lengths differ, a d is negative, or fewer than two different d above 0 are given.
    """
    x, y = vector(d), vector(gold)
    w = np.ones_like(x) if weight is None else vector(weight)
    if not x.size == y.size == w.size:
        raise ValueError(f"{x.size} distances, {y.size} gold scores and {w.size} weights")
    if np.any(x < 0) or np.unique(x[(x > 0) & (w > 0)]).size < 2:
        raise ValueError("a curve needs at least two different distances above 0 and none below")
    gain, loss = _terms(form, x)
    root = np.sqrt(w)
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([gain, -loss], axis=1) * root[:, None], y * root, rcond=None)
    rest = y - (alpha * gain - beta * loss)
    spread = float((w * (y - (w * y).sum() / w.sum()) ** 2).sum())
    return Curve(form, float(alpha), float(beta), 1.0 - float((w * rest**2).sum()) / spread if spread else float("nan"))


def _terms(form: Form, d: Floats) -> tuple[Floats, Floats]:
    """What alpha and beta multiply."""
    if form == "best_of_n":
        return d, d * d
    return d, np.asarray(xlogy(d, d), dtype=np.float64)
