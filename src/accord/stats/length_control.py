"""Win rate at equal length: how often a model would win if its replies were as long as the baseline's."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from accord.stats.arrays import vector


@dataclass(frozen=True)
class LengthControlled:
    """A win rate and what length has to do with it."""

    value: float
    """Win rate at equal length."""
    raw: float
    """Win rate as observed, ties counting half."""
    intercept: float
    """Log odds of a win at equal length."""
    slope: float
    """Log odds gained by tanh of one standard deviation of extra length; above 0 = longer replies win."""
    n: int
    """Number of comparisons."""


def length_controlled_win_rate(outcomes: ArrayLike, length_delta: ArrayLike) -> LengthControlled:
    """Return the length-controlled win rate, minimal form of Dubois et al. 2024 ("Length-Controlled AlpacaEval").

    Fits logit P(win) = a + b tanh(delta / std(delta)) by maximum likelihood and reports sigmoid(a). Left out of
    the paper's model: the difficulty of each instruction, and the regularisation towards two length-gamed baselines.

    Args:
        outcomes: 1 = the model won, 0.5 = tie, 0 = the baseline won.
        length_delta: length of the model's reply minus the baseline's, in any unit, in the same order.

    Returns:
        The controlled win rate, beside the raw one and the coefficients. The standard deviation is that of a
        sample (n - 1).

    Raises:
        ValueError: if the lengths differ, an outcome is outside [0, 1], all differences of length are the same,
            or length separates wins from losses completely (no finite fit exists).
    """
    y, delta = vector(outcomes), vector(length_delta)
    if y.size != delta.size or y.size < 2:
        raise ValueError(f"{y.size} outcomes but {delta.size} differences of length; at least two are needed")
    if np.any((y < 0) | (y > 1)):
        raise ValueError("an outcome must be between 0 (loss) and 1 (win)")
    spread = float(delta.std(ddof=1))
    if spread == 0.0:
        raise ValueError("all replies differ by the same length: its effect cannot be told from the model's")
    x = np.tanh(delta / spread)
    if _separated(y, x):
        raise ValueError("length separates wins from losses completely: the fit has no finite maximum")
    design = np.stack([np.ones_like(x), x], axis=1)
    coef = np.zeros(2)
    value = np.inf
    for _ in range(200):
        logit = design @ coef
        p = np.asarray(expit(logit), dtype=np.float64)
        value = float((np.logaddexp(0, logit) - y * logit).sum())
        step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design, design.T @ (y - p))
        shrink = 1.0
        while shrink > 1e-12:
            tried = design @ (coef + shrink * step)
            if float((np.logaddexp(0, tried) - y * tried).sum()) <= value + 1e-12 * abs(value):
                break
            shrink /= 2
        coef = coef + shrink * step
        if float(np.abs(step).max()) < 1e-12:
            break
    a, b = (float(c) for c in coef)
    return LengthControlled(float(expit(a)), float(y.mean()), a, b, int(y.size))


def _separated(
    y: np.ndarray[tuple[int], np.dtype[np.float64]], x: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> bool:
    """Whether some threshold on x puts everything that is partly a win on one side of all that is partly a loss."""
    won, lost = x[y > 0], x[y < 1]
    return not won.size or not lost.size or won.min() >= lost.max() or won.max() <= lost.min()
