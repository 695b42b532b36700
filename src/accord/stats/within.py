"""Association within groups: what is left of a correlation when the groups' own levels are taken out."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from accord.stats.arrays import vector


@dataclass(frozen=True)
class Association:
    """A correlation of two variables, group levels removed."""

    r: float
    """Pearson's r of the deviations from the group means; nan where one of them does not vary."""
    error: float
    """Standard error of Fisher's z for that many degrees of freedom, on the scale of r: (1 - r^2) / sqrt(df - 1)."""
    n: int
    """Values in groups of two or more."""


def within_groups(x: ArrayLike, y: ArrayLike, group: Sequence[Hashable]) -> Association:
    """Return the correlation of x and y within groups: the partial correlation given the group.

    Args:
        x: one number an item.
        y: one number an item.
        group: name of each item's group; a group of one says nothing. When all are groups of one, the correlation is
            taken over all items instead, as if they were one group: the groups' levels are then part of it.

    Raises:
        ValueError: the lengths differ.
    """
    a, b = vector(x), vector(y)
    if not a.size == b.size == len(group):
        raise ValueError(f"{a.size} and {b.size} values in {len(group)} groups")
    if a.size == 0:
        return Association(float("nan"), float("nan"), 0)
    place: dict[Hashable, int] = {}
    index = np.array([place.setdefault(name, len(place)) for name in group])
    if len(place) == a.size:
        index = np.zeros_like(index)
    counts = np.bincount(index)
    kept = counts[index] > 1
    n, groups = int(kept.sum()), int((counts > 1).sum())
    dx = (a - (np.bincount(index, weights=a) / counts)[index])[kept]
    dy = (b - (np.bincount(index, weights=b) / counts)[index])[kept]
    spread = float(np.sqrt((dx**2).sum() * (dy**2).sum()))
    scale = float(np.abs(a).max() * np.abs(b).max()) * max(n, 1)
    if n - groups < 3 or spread <= 1e-12 * max(scale, 1e-300):
        return Association(float("nan"), float("nan"), n)
    r = float(np.clip((dx * dy).sum() / spread, -1.0, 1.0))
    return Association(r, (1 - r * r) / float(np.sqrt(n - groups - 1)), n)
