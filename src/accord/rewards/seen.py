"""What the head of a reward model reads of replies, gathered while they are scored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

See = Callable[[list[int], np.ndarray], object]
"""Told the places and the features [N, D] of the rows of every forward."""
Measure = Callable[[np.ndarray], np.ndarray]
"""Features [N, D] to how far each row is from training replies [N]."""


def gathered(read: Callable[[See], object], most: int | None = None) -> np.ndarray:
    """Return the features of rows, [N, D], in the order of their places.

    Args:
        read: scores at least one row, and tells the function it is given.
        most: only of the first so many rows; None = of all.
    """
    found: list[np.ndarray] = []
    places: list[int] = []

    def see(at: list[int], states: np.ndarray) -> None:
        kept = [i for i, place in enumerate(at) if most is None or place < most]
        places.extend(at[i] for i in kept)
        found.append(states if len(kept) == len(at) else states[kept])

    read(see)
    return np.concatenate(found)[np.argsort(places)]


class Distances:
    """How far rows are from training replies, measured as they are seen."""

    def __init__(self, measure: Measure, number: int) -> None:
        """Expect so many rows."""
        self.measure = measure
        self.values = [0.0] * number
        """By place."""

    def __call__(self, rows: list[int], states: np.ndarray) -> None:
        """See the rows of one forward."""
        for row, distance in zip(rows, self.measure(states).tolist(), strict=True):
            self.values[row] = distance
