"""Which items people see next, and with what probability each could have been seen.

Every policy is an order of the items, most wanted first: by the reward model's uncertainty, by the disagreement of an
ensemble, by what is not covered yet, or several of them in turn. Of `count` places a slice is first given to items
drawn at random from all, and the order fills the rest:

    pi_i = k_r / N + (1 - k_r / N) P(H >= rank_i - k_a + 1),   H ~ Hypergeometric(N - 1, rank_i, k_r)

is the exact probability that item i is chosen (k_r random places, k_a by the order, N items): i is taken by the order
when fewer than k_a of the rank_i items before it are left, and H of them are in the random slice. So every choice
carries its propensity, totals over *all* items can be estimated without bias (Horvitz and Thompson 1952), and the plain
mean of the random slice is the population's: agreement and reward-model accuracy are measured there.

The order is fixed before the slice is drawn, and probabilities are those given the order; without a random slice the
chosen have propensity 1 and nothing can be said about the rest.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from accord.collect.priorities import coverage_order, disagreement, interleave, ranked, uncertainty
from accord.errors import ConfigError
from accord.rng import generator
from accord.stats.arrays import Floats, vector

Policy = Literal["random", "uncertainty", "disagreement", "coverage"]
POLICIES: tuple[Policy, ...] = ("random", "uncertainty", "disagreement", "coverage")
Slice = Literal["random", "active"]
_NEEDS: dict[str, str] = {"uncertainty": "difference", "disagreement": "members", "coverage": "features"}


@dataclass(frozen=True)
class Pick:
    """One chosen item."""

    index: int
    """Place among the items it was chosen from."""
    policy: str
    """What wanted it."""
    slice: Slice
    """Drawn at random from all items, or wanted by a policy."""
    propensity: float
    """Probability that this item is chosen at all, in (0, 1]."""


@dataclass(frozen=True)
class Signals:
    """What is known about the items; a policy needs its own field only."""

    size: int
    """Number of items, N."""
    difference: ArrayLike | None = None
    """(N) reward-model score of the first reply minus that of the second, log-odds."""
    members: ArrayLike | None = None
    """(K, N) the same from each of K members of an ensemble."""
    features: ArrayLike | None = None
    """(N, D) of prompt and replies: embeddings, or `ngram_features`."""
    covered: ArrayLike | None = None
    """(M, D) features of what has labels already."""


def select(
    signals: Signals, count: int, policies: Mapping[str, float], *, seed: int, temperature: float = 0.0
) -> list[Pick]:
    """Choose items by a mixture of policies.

    Args:
        signals: what is known about the items.
        count: how many to choose; all when there are no more.
        policies: name -> share of the places, any positive numbers; `random` is the slice drawn from all items.
        seed: of ties, of the noise and of the random slice.
        temperature: 0 = strictly by value; above, Gumbel noise of that many standard deviations of the value is added
            to uncertainty and disagreement, so that near neighbours in the order swap.

    Returns:
        Picks in random order, so that the order in which they are labelled tells nothing.

    Raises:
        ConfigError: an unknown policy, shares that are not positive, or a policy without its signal.
    """
    _check(signals, policies)
    orders: dict[str, Sequence[int]] = {}
    for name in policies:
        if name == "coverage":
            orders[name] = coverage_order(cast(ArrayLike, signals.features), count, signals.covered)
        elif name == "uncertainty":
            values = uncertainty(cast(ArrayLike, signals.difference))
            orders[name] = ranked(values, seed=seed, temperature=temperature)
        elif name == "disagreement":
            values = disagreement(cast(ArrayLike, signals.members))
            orders[name] = ranked(values, seed=seed, temperature=temperature)
    total = sum(policies.values())
    wanted = interleave(orders, {name: policies[name] for name in orders}, count)
    return choose(signals.size, count, wanted, random_share=policies.get("random", 0.0) / total, seed=seed)


def choose(
    size: int, count: int, wanted: Sequence[tuple[int, str]], *, random_share: float = 0.15, seed: int
) -> list[Pick]:
    """Fill a random slice from all items, then the other places in the wanted order.

    Args:
        size: number of items, N.
        count: places; everything is chosen when there are no more items.
        wanted: (item, policy) the most wanted first, at least `count` of them; none = all places are random.
        random_share: part of the places that is drawn at random from all items; rounded, at least one unless 0.
        seed: of the slice and of the order of the result.

    Returns:
        Picks in random order.

    Raises:
        ConfigError: count below 1, or a share outside [0, 1].
        ValueError: an item twice, one that is not there, or too few.
    """
    if count < 1 or not 0 <= random_share <= 1:
        raise ConfigError(
            f"cannot choose {count} items with a random share of {random_share:g}",
            fix="choose at least one item, with a random share between 0 and 1",
        )
    items = [item for item, _ in wanted]
    count = min(count, size)
    if len(set(items)) < len(items) or any(not 0 <= item < size for item in items) or 0 < len(items) < count:
        raise ValueError(f"the wanted order must name {count} items below {size}, each once, or none")
    drawn = max(round(random_share * count), 1 if random_share > 0 else 0) if items else count
    rng = generator(seed, "selection", "random slice")
    slice_ = {int(i) for i in rng.choice(size, size=drawn, replace=False)}
    propensity = inclusion(size, count - drawn, drawn, items)
    picks = [Pick(i, "random", "random", float(propensity[i])) for i in sorted(slice_)]
    left = [(item, policy) for item, policy in wanted if item not in slice_][: count - drawn]
    picks += [Pick(item, policy, "active", float(propensity[item])) for item, policy in left]
    return [picks[int(i)] for i in rng.permutation(len(picks))]


def inclusion(size: int, active: int, drawn: int, order: Sequence[int]) -> Floats:
    """Return the probability of each item to be chosen (equation at the top of the file).

    Args:
        size: number of items, N.
        active: places filled by the order, k_a.
        drawn: places of the random slice, k_r.
        order: items, the most wanted first; items it leaves out can be drawn only.

    Returns:
        (N) probabilities that sum to k_a + k_r when the order is at least that long.
    """
    random = drawn / size if size else 0.0
    found = np.full(size, random)
    if active == 0:
        return found
    for rank, item in enumerate(order[: active + drawn]):
        found[item] = random + (1 - random) * _at_least(rank - active + 1, size - 1, rank, drawn)
    return found


def horvitz_thompson(values: ArrayLike, propensities: ArrayLike, size: int) -> float:
    """Return the estimated mean over all items, without bias when every item could be chosen.

    Args:
        values: what was measured on the chosen items.
        propensities: of the chosen items, in (0, 1].
        size: number of all items.

    Raises:
        ValueError: lengths differ, or a propensity is outside (0, 1].
    """
    x, weights = _weighted(values, propensities)
    return float((x * weights).sum() / size)


def hajek(values: ArrayLike, propensities: ArrayLike) -> float:
    """Return the mean weighted by 1 / propensity: slightly biased, but steadier than Horvitz-Thompson (Hajek 1971).

    Args:
        values: what was measured on the chosen items.
        propensities: of the chosen items, in (0, 1].

    Raises:
        ValueError: lengths differ, a propensity is outside (0, 1], or there are no values.
    """
    x, weights = _weighted(values, propensities)
    if x.size == 0:
        raise ValueError("the mean of no values is not defined")
    return float((x * weights).sum() / weights.sum())


def _weighted(values: ArrayLike, propensities: ArrayLike) -> tuple[Floats, Floats]:
    x, p = vector(values), vector(propensities)
    if x.size != p.size:
        raise ValueError(f"{x.size} values but {p.size} propensities")
    if np.any((p <= 0) | (p > 1)):
        raise ValueError("a propensity must be above 0 and at most 1")
    return x, 1.0 / p


def _at_least(least: int, size: int, marked: int, drawn: int) -> float:
    """P(H >= least) for the number H of marked ones among `drawn` of `size`."""
    top = min(drawn, marked)
    if least <= max(0, drawn - (size - marked)):
        return 1.0
    if least > top:
        return 0.0
    hits: NDArray[Any] = np.arange(least, top + 1, dtype=np.float64)
    logs = _log_choose(marked, hits) + _log_choose(size - marked, drawn - hits) - _log_choose(size, drawn)
    return min(float(np.exp(logs).sum()), 1.0)


def _log_choose(n: Any, k: Any) -> Any:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _check(signals: Signals, policies: Mapping[str, float]) -> None:
    unknown = sorted(set(policies) - set(POLICIES))
    if unknown or not policies:
        raise ConfigError(f"no selection policy is called {unknown}", fix=f"choose from {', '.join(POLICIES)}")
    wrong = sorted(name for name, share in policies.items() if not (share > 0 and np.isfinite(share)))
    if wrong:
        raise ConfigError(
            f"the share of {', '.join(wrong)} is not positive", fix="give positive numbers, or leave it out"
        )
    for name, field in _NEEDS.items():
        value = getattr(signals, field)
        if name not in policies:
            continue
        if value is None:
            raise ConfigError(
                f"the policy {name} needs {field} for every item",
                fix="name a reward model" if name == "uncertainty" else f"give {field}, or choose another policy",
            )
        shape = np.shape(value)
        length = shape[-1] if field == "members" else shape[0]
        if length != signals.size:
            raise ConfigError(f"{field} of {length} items, and there are {signals.size}")
