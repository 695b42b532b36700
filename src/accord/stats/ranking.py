"""Strengths from comparisons: Bradley-Terry, Plackett-Luce and Elo."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, log_expit, logsumexp

from accord.stats.arrays import Floats, cluster_index, percentiles, resamples
from accord.stats.intervals import Interval

Game = tuple[Hashable, Hashable, float]
"""(first, second, outcome for the first: 1 = win, 0.5 = tie, 0 = loss)."""
Objective = Callable[[Floats], tuple[float, Floats, Floats]]
"""Strengths -> negative log-likelihood, its gradient and its Hessian."""


def bradley_terry(wins: ArrayLike, names: Sequence[Hashable] | None = None) -> Floats:
    """Return log strengths s with P(i beats j) = sigmoid(s_i - s_j), by maximum likelihood (Zermelo 1929).

    Args:
        wins: (n, n), how often the row beat the column; a tie is half a win for each. The diagonal is ignored.
        names: what the players are called in an error; None = by number.

    Returns:
        (n) log strengths with mean 0. 400 / ln 10 of them is one point on the Elo scale.

    Raises:
        ValueError: if `wins` is not a square table of finite, non-negative numbers, or if no finite maximum
            exists: the players fall into groups such that one never lost to (or never met) another.
    """
    table = np.array(wins, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not np.all(np.isfinite(table) & (table >= 0)):
        raise ValueError("wins must be a square table of finite, non-negative numbers")
    np.fill_diagonal(table, 0.0)
    _require_connected(table, names)
    games = table + table.T

    def objective(s: Floats) -> tuple[float, Floats, Floats]:
        gap = np.subtract.outer(s, s)
        p = np.asarray(expit(gap), dtype=np.float64)
        slope = table.sum(axis=1) - (games * p).sum(axis=1)
        curvature = games * p * (1 - p)
        return -float((table * log_expit(gap)).sum()), -slope, np.diag(curvature.sum(axis=1)) - curvature

    return _maximise(objective, len(table))


def bradley_terry_intervals(
    games: Iterable[Game],
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    num: int = 500,
    level: float = 0.95,
) -> dict[Hashable, Interval]:
    """Return log strengths with percentile intervals of a bootstrap over games or clusters of games.

    Args:
        games: (first, second, outcome for the first); 1 = win, 0.5 = tie, 0 = loss.
        clusters: e.g. the prompt of each game; whole clusters are drawn. None = every game on its own.
        seed: of the resampling.
        num: resamples.
        level: confidence.

    Returns:
        Player -> interval, in order of first appearance; `n` = games of that player.

    Raises:
        ValueError: if an outcome is outside [0, 1], no finite maximum exists for the games, or it does not
            exist for more than 1 - level of the resamples (too few games to say anything by a bootstrap).
            Up to that many are left out.
    """
    played = list(games)
    wrong = [game for game in played if not 0 <= game[2] <= 1 or game[0] == game[1]]
    if wrong:
        raise ValueError(f"a game needs two players and an outcome between 0 (loss) and 1 (win), got {wrong[0]}")
    names = list(dict.fromkeys(name for first, second, _ in played for name in (first, second)))
    place = {name: i for i, name in enumerate(names)}
    row = np.array([place[first] for first, _, _ in played], dtype=np.int64)
    column = np.array([place[second] for _, second, _ in played], dtype=np.int64)
    outcome = np.array([result for _, _, result in played], dtype=np.float64)

    def table(weight: Floats) -> Floats:
        wins = np.zeros((len(names), len(names)))
        np.add.at(wins, (row, column), weight * outcome)
        np.add.at(wins, (column, row), weight * (1 - outcome))
        return wins

    value = bradley_terry(table(np.ones(len(played))), names)
    index = cluster_index(clusters, len(played))
    found: list[Floats] = []
    for weight in resamples(int(index.max()) + 1, num, seed, "bradley-terry"):
        wins = table(weight[index])
        if _groups(wins)[0] == 1:
            found.append(bradley_terry(wins))
    if len(found) < level * num:
        raise ValueError(f"{num - len(found)} of {num} resamples have no finite strengths: more games are needed")
    count = np.bincount(row, minlength=len(names)) + np.bincount(column, minlength=len(names))
    drawn = np.array(found)
    return {
        name: Interval(float(value[i]), *percentiles(drawn[:, i], level), int(count[i])) for i, name in enumerate(names)
    }


def plackett_luce(rankings: Iterable[Sequence[Hashable]]) -> dict[Hashable, float]:
    """Return log strengths by maximum likelihood: the best is drawn by softmax, then the next of the rest.

    Plackett (1975); existence and uniqueness as in Hunter (2004, section 5).

    Args:
        rankings: each from best to worst, of two or more things; not everything has to be in each.

    Returns:
        Thing -> log strength with mean 0, in order of first appearance.

    Raises:
        ValueError: if a ranking names a thing twice, there are none, or no finite maximum exists.
    """
    given = [tuple(ranking) for ranking in rankings]
    names = list(dict.fromkeys(name for ranking in given for name in ranking))
    place = {name: i for i, name in enumerate(names)}
    beaten = np.zeros((len(names), len(names)))
    of_length: defaultdict[int, list[list[int]]] = defaultdict(list)
    for ranking in given:
        if len(set(ranking)) < len(ranking) or len(ranking) < 2:
            raise ValueError(f"a ranking needs two or more different things, got {ranking}")
        order = [place[name] for name in ranking]
        for k, i in enumerate(order):
            beaten[i, order[k + 1 :]] += 1
        of_length[len(order)].append(order)
    _require_connected(beaten, names)
    orders = [np.array(rows) for rows in of_length.values()]

    def objective(s: Floats) -> tuple[float, Floats, Floats]:
        value, slope, curvature = 0.0, np.zeros(len(s)), np.zeros((len(s), len(s)))
        for order in orders:  # (rankings, things), all of one length
            for k in range(order.shape[1] - 1):
                rest = order[:, k:]
                total = np.asarray(logsumexp(s[rest], axis=1))
                p = np.exp(s[rest] - total[:, None])
                value += float((total - s[order[:, k]]).sum())
                np.add.at(slope, rest, p)
                np.add.at(slope, order[:, k], -1.0)
                np.add.at(curvature, (rest, rest), p)
                np.add.at(curvature, (rest[:, :, None], rest[:, None, :]), -p[:, :, None] * p[:, None, :])
        return value, slope, curvature

    strengths = _maximise(objective, len(names))
    return {name: float(s) for name, s in zip(names, strengths, strict=True)}


def elo(
    games: Iterable[Game], *, k: float = 32.0, start: float = 1000.0, scale: float = 400.0, base: float = 10.0
) -> dict[Hashable, float]:
    """Return ratings after the games, in their order (Elo 1978); the order matters, unlike in Bradley-Terry.

    Args:
        games: (first, second, outcome for the first).
        k: the most that one game can move a rating.
        start: rating of whoever has not played yet.
        scale: a lead of that much means odds of `base` to 1.
        base: see `scale`.

    Returns:
        Player -> rating, in order of first appearance. The sum stays that of the starts.

    Raises:
        ValueError: if an outcome is outside [0, 1] or somebody plays against themselves.
    """
    rating: dict[Hashable, float] = {}
    for first, second, outcome in games:
        if not 0 <= outcome <= 1 or first == second:
            raise ValueError(f"a game needs two players and an outcome between 0 and 1, got {(first, second, outcome)}")
        a, b = rating.setdefault(first, start), rating.setdefault(second, start)
        expected = 1.0 / (1.0 + base ** ((b - a) / scale))
        rating[first] = a + k * (outcome - expected)
        rating[second] = b - k * (outcome - expected)
    return rating


def elo_scale(log_strengths: Mapping[Hashable, float] | ArrayLike) -> Any:
    """Return Bradley-Terry log strengths in Elo points: 400 / ln 10 each, so that 400 points are odds of 10 to 1."""
    factor = 400.0 / float(np.log(10.0))
    if isinstance(log_strengths, Mapping):
        return {name: factor * s for name, s in log_strengths.items()}
    return factor * np.asarray(log_strengths, dtype=np.float64)


def _groups(beaten: Floats) -> tuple[int, Any]:
    """Number of groups, and group of each player: within a group everybody can be reached through wins."""
    number, group = cast(Any, connected_components)(csr_array(beaten > 0), directed=True, connection="strong")
    return int(number), group


def _require_connected(beaten: Floats, names: Sequence[Hashable] | None) -> None:
    """Ford (1957): a finite maximum exists exactly if wins lead from everybody to everybody."""
    if len(beaten) < 2:
        raise ValueError("a ranking needs comparisons of at least two players")
    number, group = _groups(beaten)
    if number > 1:
        called = list(names) if names is not None else list(range(len(beaten)))
        parts = [[called[i] for i in np.flatnonzero(group == g)] for g in range(number)]
        raise ValueError(
            "no finite strengths: one of these groups never lost to another, or never met it: "
            + "; ".join(", ".join(map(str, part)) for part in parts)
            + ". Add comparisons between them (both outcomes must occur), or rank each group on its own"
        )


def _maximise(objective: Objective, size: int) -> Floats:
    """Newton's method with halved steps; the direction of equal shifts, which changes nothing, is filled in."""
    s = np.zeros(size)
    value, slope, curvature = objective(s)
    for _ in range(200):
        step = np.linalg.solve(curvature + np.ones((size, size)) / size, slope)
        shrink = 1.0
        while True:
            tried = s - shrink * step
            tried -= tried.mean()
            found = objective(tried)
            if found[0] <= value + 1e-12 * abs(value) or shrink < 1e-12:
                break
            shrink /= 2
        s = tried
        value, slope, curvature = found
        if float(np.abs(step).max()) < 1e-12:
            break
    return s
