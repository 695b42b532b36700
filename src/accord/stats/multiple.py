"""Many tests at once."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from accord.stats.arrays import Floats, vector


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return for each test the smallest rate of false findings at which it is found (Benjamini and Hochberg 1995).

    Args:
        p_values: one a test; they may depend on each other positively.

    Returns:
        q-values in the order given; never below the p-value.

    Raises:
        ValueError: if a p-value is outside [0, 1].
    """
    p = vector(p_values)
    if np.any((p < 0) | (p > 1)):
        raise ValueError("a p-value must be between 0 and 1")
    order = np.argsort(p)[::-1]
    scaled = p[order] * p.size / np.arange(p.size, 0, -1)
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(scaled), 1.0) if p.size else scaled
    return q


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values such that rejecting those at most alpha errs anywhere with probability alpha (Holm 1979).

    Args:
        p_values: one a test, with any dependence between them.

    Returns:
        Adjusted p-values in the order given; never below the p-value, at most 1.

    Raises:
        ValueError: if a p-value is outside [0, 1].
    """
    p = vector(p_values)
    if np.any((p < 0) | (p > 1)):
        raise ValueError("a p-value must be between 0 and 1")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted
