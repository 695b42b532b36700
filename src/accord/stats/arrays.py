"""Observations as arrays: vectors of numbers, sums by cluster, and draws of whole clusters."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accord.rng import generator

Floats = NDArray[np.float64]
Clusters = Sequence[Hashable] | NDArray[np.int64] | None
"""Cluster of each observation: names of any kind, or numbers as an array, which is faster; None = one each."""


def vector(values: ArrayLike) -> Floats:
    """Return the values as one flat array of floats."""
    return np.asarray(values, dtype=np.float64).reshape(-1)


def by_cluster(x: Floats, clusters: Clusters) -> tuple[Floats, Floats]:
    """Return sum and number of the observations of each cluster, clusters in order of first appearance.

    Raises:
        ValueError: if `clusters` has another length.
    """
    if clusters is None:
        return x, np.ones_like(x)
    index = cluster_index(clusters, int(x.size))
    sums = np.bincount(index, weights=x).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def cluster_index(clusters: Clusters, size: int) -> NDArray[np.int64]:
    """Return the number of each observation's cluster, in order of first appearance; None = one each.

    Raises:
        ValueError: if `clusters` does not have `size` entries.
    """
    if clusters is None:
        return np.arange(size, dtype=np.int64)
    if len(clusters) != size:
        raise ValueError(f"{size} values but {len(clusters)} clusters")
    if isinstance(clusters, np.ndarray):
        _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[inverse]
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(cluster, len(number)) for cluster in clusters], dtype=np.int64)


def resamples(size: int, num: int, seed: int, *names: str) -> Iterator[Floats]:
    """Yield how often each of `size` units is drawn in each of `num` bootstrap resamples."""
    rng = generator(seed, "bootstrap", *names)
    for _ in range(num):
        yield np.bincount(rng.integers(0, size, size=size), minlength=size).astype(np.float64)


def resampled_ratios(top: Floats, bottom: Floats, num: int, rng: np.random.Generator) -> Floats:
    """Return sum(top) / sum(bottom) over `num` resamples of the units; those whose `bottom` sums to 0 are left out."""
    return resampled_together([(top, bottom)], num, rng)[0]


def resampled_together(ratios: Sequence[tuple[Floats, Floats]], num: int, rng: np.random.Generator) -> list[Floats]:
    """Return `resampled_ratios` of several (top, bottom), all of the same size, from one set of resamples.

    Drawing the units takes longer than adding them up.
    """
    k = ratios[0][0].size
    found: list[list[Floats]] = [[] for _ in ratios]
    rows = max(1, 1_000_000 // k)  # bounds the memory of the index matrix
    for start in range(0, num, rows):
        picks = rng.integers(0, k, size=(min(rows, num - start), k))
        for (top, bottom), drawn in zip(ratios, found, strict=True):
            below = bottom.take(picks).sum(axis=1)
            drawn.append(top.take(picks).sum(axis=1)[below > 0] / below[below > 0])
    return [np.concatenate(drawn) for drawn in found]


def percentiles(values: ArrayLike, level: float) -> tuple[float, float]:
    """Return the ends of the central interval that holds `level` of the values."""
    low, high = np.quantile(vector(values), [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
