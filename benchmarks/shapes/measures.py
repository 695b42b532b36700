"""Numbers over seeds: means with intervals, and curves on a common grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from accord.stats import Interval

Floats = NDArray[np.float64]


def over_seeds(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean over seeds with Student's interval.

    Not a bootstrap: with fewer than ten seeds its percentile interval is too narrow.

    Args:
        values: one number a seed; nan = not defined there, and left out (see `n`).
        level: confidence.
    """
    x = np.array([v for v in values if np.isfinite(v)], dtype=np.float64)
    if x.size < 2:
        return Interval(float(x.mean()) if x.size else float("nan"), float("-inf"), float("inf"), int(x.size))
    half = float(student.ppf(0.5 + level / 2, x.size - 1)) * float(x.std(ddof=1)) / float(np.sqrt(x.size))
    return Interval(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, int(x.size))


def band(curves: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    """Return mean, lower and upper end of the interval at each point of curves on one grid."""
    found = [over_seeds([float(curve[i]) for curve in curves]) for i in range(len(curves[0]))]
    return tuple(np.array([getattr(f, name) for f in found]) for name in ("value", "low", "high"))  # type: ignore[return-value]


def on_grid(kl: Sequence[float], gold: Sequence[float], grid: Floats) -> Floats:
    """Return gold over d = sqrt(KL) on a grid of d; nan beyond the largest d reached.

    Args:
        kl: divergences in the order of the path, nats. Where it turns back, the first visit counts.
        gold: gold at each.
        grid: distances d wanted.
    """
    highest = np.maximum.accumulate(np.asarray(kl, dtype=np.float64))
    first = np.concatenate([[True], np.diff(highest) > 0])
    d = np.sqrt(np.maximum(highest[first], 0.0))
    return np.interp(grid, d, np.asarray(gold, dtype=np.float64)[first], right=np.nan)


def text(interval: Interval, digits: int = 2) -> str:
    """Return `value [low, high]`."""
    if not np.isfinite(interval.low):
        return f"{interval.value:.{digits}f}"
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def cell(values: Sequence[float], digits: int = 2) -> str:
    """Return mean and interval as text, with n where some seeds have no value; "-" where none has."""
    found = over_seeds(values)
    if not found.n:
        return "-"
    return text(found, digits) + ("" if found.n == len(values) else f", n {found.n}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, a blank one last."""
    line = "|" + "---|" * len(head)
    return ["| " + " | ".join(head) + " |", line, *("| " + " | ".join(row) + " |" for row in rows), ""]
