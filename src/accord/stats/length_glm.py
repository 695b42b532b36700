"""The regression behind AlpacaEval 2's length-controlled win rate, with given weights or fitted.

Dubois et al. 2024, "Length-Controlled AlpacaEval", section 3; as in its code (`glm_winrate.py`):

    logit P(model wins on i) = w_len tanh(delta_i / std(delta)) + w_difficulty d_i + w_model

delta_i = characters of the baseline's reply minus those of the model's, std of a sample (n - 1), d_i the given
difficulty of the instruction. The controlled win rate is the mean of the probabilities with the first term left out.

Deviations of `fit_length_glm` from the package's `length_controlled_noreg`: the L1 problem is solved by coordinate
descent to a fixed tolerance instead of liblinear's, and rows go to the five folds in turn (its folds are in turn too,
but in an order that depends on a sort of equal keys). `length_controlled_v1` adds rows of two gamed baselines that are
not published, so nobody but its authors can refit it; their weights can be used.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from accord.stats.arrays import Floats, vector
from accord.stats.intervals import Interval

Z95 = 1.959963984540054
"""Standard errors on each side of a mean in its 95 % interval."""
_CS = np.logspace(-4, 4, 10)
"""Inverse strengths of the L1 penalty that are tried: scikit-learn's default grid, which the package uses."""


@dataclass(frozen=True)
class LengthGlm:
    """Weights of one model against one baseline."""

    length: float
    """Log odds gained by tanh of one standard deviation by which the *baseline* is longer."""
    difficulty: float
    """Log odds gained by one unit of difficulty; 0 = fitted without difficulties."""
    model: float
    """Log odds of a win at equal length and difficulty 0."""


def length_feature(len_baseline: ArrayLike, len_model: ArrayLike) -> Floats:
    """Return tanh of the standardised difference of length, baseline minus model.

    Args:
        len_baseline: characters of the baseline's replies.
        len_model: characters of the model's, in the same order.

    Raises:
        ValueError: if the lengths do not match, there are fewer than two, or all differences are the same.
    """
    a, b = vector(len_baseline), vector(len_model)
    if a.size != b.size or a.size < 2:
        raise ValueError(f"{a.size} and {b.size} lengths; the same number is needed of both, and at least two")
    delta = a - b
    spread = float(delta.std(ddof=1))
    if spread == 0:
        raise ValueError("all replies differ by the same length: its effect cannot be told from the model's")
    return np.tanh(delta / spread)


def controlled_win_rate(weights: LengthGlm, difficulty: ArrayLike) -> Interval:
    """Return the mean win probability at equal length, with the standard error of that mean over instructions.

    Args:
        weights: of the model.
        difficulty: of the instructions that count, one each; zeros where there are none.

    Returns:
        Mean with value +- 1.96 standard errors, cut to [0, 1]. This is the spread over instructions of *predictions*,
        as the leaderboard gives it: it leaves out the uncertainty of the weights, so it is too narrow.

    Raises:
        ValueError: if there are no instructions.
    """
    d = vector(difficulty)
    if d.size == 0:
        raise ValueError("no instructions to predict for")
    p = np.asarray(expit(weights.difficulty * d + weights.model), dtype=np.float64)
    return mean_with_se(p)


def mean_with_se(values: ArrayLike) -> Interval:
    """Return a mean in [0, 1] with its normal 95 % interval from the standard error (n - 1), cut to [0, 1]."""
    x = vector(values)
    mean, se = float(x.mean()), standard_error(x)
    return Interval(mean, max(0.0, mean - Z95 * se), min(1.0, mean + Z95 * se), int(x.size))


def standard_error(values: ArrayLike) -> float:
    """Return the standard error of a mean, sample variance (n - 1); nan for fewer than two values."""
    x = vector(values)
    return float(x.std(ddof=1) / np.sqrt(x.size)) if x.size > 1 else float("nan")


def fitted_win_rate(
    outcomes: ArrayLike, length: ArrayLike, difficulty: ArrayLike | None = None
) -> tuple[LengthGlm, Interval]:
    """Fit the regression and return the controlled win rate with an interval that knows of the fit's uncertainty.

    Args:
        outcomes: probability in [0, 1] that the model's reply was preferred.
        length: from `length_feature`, in the same order.
        difficulty: of each instruction; None = without that term.

    Returns:
        The weights, and the mean prediction at equal length +- 1.96 standard errors from its influence function over
        instructions (Newey and McFadden 1994, section 6), which ignores the shrinkage of the L1 penalty.
    """
    y, x = vector(outcomes), vector(length)
    weights = fit_length_glm(y, x, difficulty)
    d = np.zeros_like(x) if difficulty is None else vector(difficulty)
    columns = [x, *([] if difficulty is None else [d]), np.ones_like(x)]
    design = np.stack(columns, axis=1)
    fitted = np.asarray(expit(weights.length * x + weights.difficulty * d + weights.model), dtype=np.float64)
    p = np.asarray(expit(weights.difficulty * d + weights.model), dtype=np.float64)
    equal = design.copy()
    equal[:, 0] = 0.0
    gradient = ((p * (1 - p))[:, None] * equal).mean(axis=0)
    information = (design * (fitted * (1 - fitted))[:, None]).T @ design / y.size
    influence = p - p.mean() + ((y - fitted)[:, None] * design) @ (np.linalg.pinv(information) @ gradient)
    mean, half = float(p.mean()), Z95 * standard_error(influence)
    return weights, Interval(mean, max(0.0, mean - half), min(1.0, mean + half), int(y.size))


def fit_length_glm(outcomes: ArrayLike, length: ArrayLike, difficulty: ArrayLike | None = None) -> LengthGlm:
    """Fit the three weights, L1-penalised with the strength chosen by five-fold cross-validation.

    Args:
        outcomes: probability in [0, 1] that the model's reply was preferred.
        length: from `length_feature`, in the same order.
        difficulty: of each instruction; None = leave the term out (for instructions of one's own, as upstream advises).

    Raises:
        ValueError: if numbers do not match, there are fewer than ten rows, or an outcome is outside [0, 1].
    """
    y, x = vector(outcomes), vector(length)
    columns = [x, *([] if difficulty is None else [vector(difficulty)]), np.ones_like(x)]
    if any(column.size != y.size for column in columns) or y.size < 10:
        raise ValueError("outcomes, lengths and difficulties must be of the same rows, at least ten")
    if np.any((y < 0) | (y > 1)):
        raise ValueError("an outcome must be between 0 (loss) and 1 (win)")
    design = np.stack(columns, axis=1)
    fold = np.arange(y.size) % 5
    losses = np.zeros(len(_CS))
    for k in range(5):
        held = fold == k
        start = np.zeros(design.shape[1])
        for i, c in enumerate(_CS):  # from strong to weak penalty, each starting where the last one ended
            start = _l1_logistic(design[~held], y[~held], float(c), start)
            z = design[held] @ start
            losses[i] += float(np.mean(np.logaddexp(0, z) - y[held] * z))
    best = _l1_logistic(design, y, float(_CS[int(np.argmin(losses))]), np.zeros(design.shape[1]))
    middle = float(best[1]) if difficulty is not None else 0.0
    return LengthGlm(float(best[0]), middle, float(best[-1]))


def is_extreme_change(raw: float, controlled: float) -> bool:
    """Return whether length control moved a win rate so far that the regression may have failed.

    The package's rule: the distance is more than 10 points *and* more than a quarter of the room on that side. It says
    something about the fit; it is no alarm for gaming (NullModel passes it).

    Args:
        raw: win rate in percent.
        controlled: length-controlled win rate in percent.
    """
    low = min(raw - raw / 4, raw - 10)
    high = max(raw + (100 - raw) / 4, raw + 10)
    return controlled < low or controlled > high


def _l1_logistic(design: Floats, y: Floats, c: float, start: Floats) -> Floats:
    """Minimise |w|_1 + c sum(log(1 + e^z) - y z), z = design w, by proximal Newton steps on one weight at a time.

    Convex with few columns: cycles of one-dimensional steps with halving converge to the optimum (Yuan et al. 2012).
    """
    w = start.copy()
    z = design @ w

    def value(z: Floats, w: Floats) -> float:
        return float(np.abs(w).sum() + c * (np.logaddexp(0, z) - y * z).sum())

    current = value(z, w)
    for _ in range(500):
        largest = 0.0
        for j in range(w.size):
            x = design[:, j]
            p = np.asarray(expit(z), dtype=np.float64)
            slope = c * float(x @ (p - y))
            bend = c * float((x * x) @ (p * (1 - p))) + 1e-12
            target = _soft(w[j] - slope / bend, 1 / bend)
            step = target - float(w[j])
            while abs(step) > 1e-10:
                tried = w.copy()
                tried[j] += step
                moved = z + step * x
                found = value(moved, tried)
                if found <= current:
                    w, z, current = tried, moved, found
                    largest = max(largest, abs(step))
                    break
                step /= 2
        if largest < 1e-7:
            break
    return w


def _soft(value: float, by: float) -> float:
    return float(np.sign(value) * max(abs(value) - by, 0.0))
