"""Agreement of rankings: Kendall's tau-b of every two annotators, and Kendall's W of all, both with ties."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from accord.stats.arrays import Floats, vector
from accord.stats.intervals import Estimate, bootstrap_mean

Ranking = tuple[Hashable, Hashable, Sequence[float]]
"""(item, annotator, rank of each thing, 1 = best; equal ranks are ties), things in the same order for everybody."""
_NOTHING = "no item was ranked by two annotators"


def tau_b(x: ArrayLike, y: ArrayLike) -> float:
    """Return Kendall's tau-b (1945): agreeing minus disagreeing pairs, over the pairs that neither ties.

    Args:
        x: ranks or scores of the things.
        y: of the same things by another annotator.

    Returns:
        1 = the same order, -1 = the opposite; nan if one of them ties everything.

    Raises:
        ValueError: if the lengths differ or there are fewer than two things.
    """
    a, b = vector(x), vector(y)
    if a.size != b.size or a.size < 2:
        raise ValueError(f"two rankings of the same two or more things are needed, got {a.size} and {b.size}")
    first, second = np.sign(np.subtract.outer(a, a)), np.sign(np.subtract.outer(b, b))
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale > 0 else float("nan")


def kendall_w(ranks: ArrayLike) -> float:
    """Return Kendall's W (Kendall and Babington Smith 1939) with the correction for ties.

    W = 12 S / (m^2 (k^3 - k) - m sum_j T_j), where S is the sum of squared deviations of the rank sums and T_j the sum
    of t^3 - t over the ties of annotator j. By chance W is about 1 / m, not 0.

    Args:
        ranks: (annotators, things), 1 = best.

    Returns:
        1 = everybody gave the same order; nan if everybody ties everything.

    Raises:
        ValueError: if there are fewer than two annotators or two things.
    """
    table = np.asarray(ranks, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError("ranks must be annotators x things, two or more of each")
    table = np.stack([rankdata(row) for row in table])
    num, things = table.shape
    sums = table.sum(axis=0)
    deviation = float(((sums - sums.mean()) ** 2).sum())
    ties = sum(float((t**3 - t).sum()) for row in table for _, t in [np.unique(row, return_counts=True)])
    scale = num**2 * (things**3 - things) - num * ties
    return 12 * deviation / scale if scale > 0 else float("nan")


def rank_agreement(
    rankings: Iterable[Ranking],
    *,
    clusters: Mapping[Hashable, Hashable] | None = None,
    seed: int = 0,
    num: int = 2000,
) -> dict[str, Estimate]:
    """Return agreement of rankings over items, with intervals of a bootstrap over prompts.

    Args:
        rankings: see `Ranking`. Of several rankings of one annotator on an item the first counts.
        clusters: item -> prompt; None = every item on its own.
        seed: of the bootstrap.
        num: resamples.

    Returns:
        `tau_b`: mean over items of the mean over pairs of annotators; pairs in which one ties everything are left
        out. `w`: mean over items of Kendall's W. Both are None with a reason where nothing is defined.

    Raises:
        ValueError: if two annotators ranked different numbers of things on one item.
    """
    given: defaultdict[Hashable, dict[Hashable, Floats]] = defaultdict(dict)
    for item, who, ranks in rankings:
        given[item].setdefault(who, vector(ranks))
    values: dict[str, list[tuple[Hashable, float]]] = {"tau_b": [], "w": []}
    pairable = {item: list(said.values()) for item, said in given.items() if len(said) > 1}
    for item, said in pairable.items():
        prompt = clusters[item] if clusters else item
        taus = [tau_b(a, b) for a, b in combinations(said, 2)]
        defined = [t for t in taus if not np.isnan(t)]
        if defined:
            values["tau_b"].append((prompt, float(np.mean(defined))))
        w = kendall_w(np.stack(said))
        if not np.isnan(w):
            values["w"].append((prompt, w))
    why = "every ranking ties everything" if pairable else _NOTHING
    return {
        name: Estimate.of(bootstrap_mean([v for _, v in found], [p for p, _ in found], seed=seed, num=num))
        if found
        else Estimate.undefined(why, len(pairable))
        for name, found in values.items()
    }
