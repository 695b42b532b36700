"""Best-of-n: how far it moves the policy, how often it wins, and its mean without drawing n again and again."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from accord.stats.arrays import Floats, vector


def best_of_n_kl(n: int) -> float:
    """Return log n - (n - 1) / n, the divergence in nats of best-of-n from its base (Stiennon et al. 2020, app. G.3).

    Args:
        n: samples of which the best by score is kept.

    Returns:
        The exact KL(best-of-n || base) where no two samples score the same; an upper bound otherwise
        (Beirami et al. 2024), see `best_of_n_kl_exact`.

    Raises:
        ValueError: if n is below 1.
    """
    _positive(n)
    return math.log(n) - (n - 1) / n


def best_of_n_kl_exact(base: ArrayLike, n: int) -> float:
    """Return the exact divergence of best-of-n from a discrete base (Beirami et al. 2024).

    Args:
        base: probabilities of the outcomes, *from worst to best* score, no two scores equal (among equal scores
            best-of-n keeps the base's proportions: add those probabilities up).
        n: samples of which the best is kept.

    Returns:
        KL in nats; at most `best_of_n_kl(n)` and at most -log of the best outcome's probability.

    Raises:
        ValueError: if n is below 1 or `base` is not a distribution.
    """
    _positive(n)
    p = vector(base)
    if np.any(p < 0) or not math.isclose(float(p.sum()), 1.0, rel_tol=0, abs_tol=1e-9):
        raise ValueError("base must be probabilities that add up to 1")
    below = np.cumsum(p) - p
    best = (below + p) ** n - below**n
    here = best > 0
    return float((best[here] * np.log(best[here] / p[here])).sum())


def best_of_n_win_rate(n: int) -> float:
    """Return n / (n + 1), how often best-of-n outscores one sample of its base, ties of scores aside.

    Raises:
        ValueError: if n is below 1.
    """
    _positive(n)
    return n / (n + 1)


def best_of_n_gold(proxy: ArrayLike, gold: ArrayLike, n: int) -> float:
    """Return the unbiased estimate of best-of-n's mean gold score from N >= n samples (Nakano et al. 2021, app. I).

    The mean over all subsets of n samples of the gold score of the one with the highest proxy score.

    Args:
        proxy: score by which the best is chosen, one a sample of the same prompt.
        gold: score that is averaged, in the same order. `gold=proxy` gives the mean proxy score.
        n: size of the subsets.

    Returns:
        The estimate. Samples with the same proxy score are equally likely to be chosen.

    Raises:
        ValueError: if the lengths differ, or n is not between 1 and N.
    """
    score, truth = vector(proxy), vector(gold)
    size = int(score.size)
    if size != truth.size:
        raise ValueError(f"{size} proxy scores but {truth.size} gold scores")
    if not 1 <= n <= size:
        raise ValueError(f"best of {n} out of {size} samples")
    order = np.argsort(score, kind="stable")
    weight = _chosen(size, n)
    _, group = np.unique(score[order], return_inverse=True)
    mean = np.bincount(group, weights=truth[order]) / np.bincount(group)
    return float((weight * mean[group]).sum())


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of solving a task in k attempts (Chen et al. 2021, eq. 1).

    Args:
        n: attempts made.
        correct: of them, those that solved it.
        k: attempts allowed.

    Returns:
        1 - C(n - correct, k) / C(n, k).

    Raises:
        ValueError: if not 0 <= correct <= n or not 1 <= k <= n.
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {correct} correct among {n} attempts")
    if k > n - correct:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(n - correct + 1, n + 1)))


def _chosen(size: int, n: int) -> Floats:
    """Probability that the i-th worst of `size` is the best of n: C(i - 1, n - 1) / C(size, n)."""
    weight = np.zeros(size)
    here = n / size
    for i in range(size, n - 1, -1):
        weight[i - 1] = here
        if i > 1:
            here *= (i - n) / (i - 1)
    return weight


def _positive(n: int) -> None:
    if n < 1:
        raise ValueError(f"best of {n} samples")
