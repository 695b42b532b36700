"""What makes an item worth a label: uncertainty, disagreement, and what nothing near it covers yet."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, xlogy

from accord.rng import generator
from accord.stats.arrays import Floats, vector

_WORD = re.compile(r"\w+|[^\w\s]")


def uncertainty(difference: ArrayLike) -> Floats:
    """Return 1/2 - |p - 1/2| for p = sigmoid(difference): 1/2 where the reward model cannot say, 0 where it is sure.

    Entropy (`entropy`) puts items into the same order.

    Args:
        difference: score of the first reply minus that of the second, log-odds.
    """
    return 0.5 - np.abs(expit(vector(difference)) - 0.5)


def entropy(difference: ArrayLike) -> Floats:
    """Return the entropy of Bernoulli(sigmoid(difference)), in nats.

    Args:
        difference: score of the first reply minus that of the second, log-odds.
    """
    p = expit(vector(difference))
    return -(xlogy(p, p) + xlogy(1 - p, 1 - p))


def disagreement(members: ArrayLike) -> Floats:
    """Return what a label would tell about which member is right, in nats (BALD, Houlsby et al. 2011, 1112.5745).

    The entropy of the mean probability less the mean entropy: high where members are sure of opposite things, 0 where
    all are equally unsure, which is noise that no label takes away.

    Args:
        members: (K, N) score differences of K members, log-odds.
    """
    rows = np.asarray(members, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"members must be members x items, not of shape {rows.shape}")
    p = expit(rows)
    mean = p.mean(axis=0)
    joint = -(xlogy(mean, mean) + xlogy(1 - mean, 1 - mean))
    own = -(xlogy(p, p) + xlogy(1 - p, 1 - p)).mean(axis=0)
    return np.maximum(joint - own, 0.0)


def ngram_features(texts: Sequence[str], *, n: int = 2, size: int = 512) -> Floats:
    """Return hashed counts of words and word n-grams (Weinberger et al. 2009, 0902.2206), rows of length 1.

    Args:
        texts: one a row, e.g. prompt and both replies.
        n: longest n-gram, words.
        size: columns; two n-grams that share one cancel or add by a signed hash.

    Returns:
        (N, size); the row of an empty text is 0.
    """
    found = np.zeros((len(texts), size))
    for row, text in enumerate(texts):
        words = _WORD.findall(text.lower())
        for length in range(1, n + 1):
            for start in range(len(words) - length + 1):
                code = zlib.crc32("\x1f".join(words[start : start + length]).encode("utf-8", "surrogatepass"))
                found[row, (code >> 1) % size] += 1.0 if code & 1 else -1.0
    found = np.sign(found) * np.sqrt(np.abs(found))
    norm = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, norm, out=np.zeros_like(found), where=norm > 0)


def coverage_order(features: ArrayLike, count: int, covered: ArrayLike | None = None) -> list[int]:
    """Return items so that each is the one farthest from everything before it (greedy k-center, Gonzalez 1985).

    The largest distance from any item to the chosen is at most twice the smallest possible (Sener and Savarese 2018,
    1708.00489, use it for labels).

    Args:
        features: (N, D), Euclidean distances between rows.
        count: how many items to order; all when there are no more.
        covered: (M, D) what is covered already. Without it the first item is the one nearest to the mean.

    Returns:
        Indices, the most wanted first; of equally far items the first.
    """
    rows = np.asarray(features, dtype=np.float64)
    size = len(rows)
    square = (rows**2).sum(axis=1)

    def away(point: Floats) -> Floats:
        return np.maximum(square - 2.0 * (rows @ point) + float(point @ point), 0.0)

    order: list[int] = []
    points = np.zeros((0, rows.shape[1])) if covered is None else np.asarray(covered, dtype=np.float64)
    if len(points):
        distance = np.full(size, np.inf)
        for point in points:
            distance = np.minimum(distance, away(point))
    elif size:
        order.append(int(away(rows.mean(axis=0)).argmin()))
        distance = away(rows[order[0]])
        distance[order[0]] = -1.0
    else:
        return []
    while len(order) < min(count, size):
        following = int(distance.argmax())
        order.append(following)
        distance = np.minimum(distance, away(rows[following]))
        distance[order] = -1.0
    return order[:count]


def ranked(values: ArrayLike, *, seed: int, temperature: float = 0.0) -> list[int]:
    """Return items by falling value; equal ones in an order drawn by the seed.

    Args:
        values: one an item.
        seed: of ties and noise.
        temperature: deviation-sized Gumbel noise on the values; 0 = none.
    """
    x = vector(values)
    rng = generator(seed, "selection", "ranked")
    ties = rng.random(x.size)
    if temperature > 0 and x.size:
        x = x + temperature * float(x.std()) * rng.gumbel(size=x.size)
    return [int(i) for i in np.lexsort((ties, -x))]


def interleave(orders: Mapping[str, Sequence[int]], shares: Mapping[str, float], count: int) -> list[tuple[int, str]]:
    """Return the first `count` items of several orders taken in turn, each with the policy that placed it first.

    Args:
        orders: policy -> items, the most wanted first.
        shares: policy -> positive share of the places; at every length each has its share, within one place.
        count: how many; fewer when the orders are used up.
    """
    names = list(orders)
    places = dict.fromkeys(names, 0)
    placed = dict.fromkeys(names, 0)
    seen: set[int] = set()
    found: list[tuple[int, str]] = []
    while len(found) < count:
        open_ = [name for name in names if places[name] < len(orders[name])]
        if not open_:
            break
        name = max(open_, key=lambda n: shares[n] * (len(found) + 1) / sum(shares.values()) - placed[n])
        item = orders[name][places[name]]
        places[name] += 1
        if item not in seen:
            seen.add(item)
            placed[name] += 1
            found.append((item, name))
    return found
