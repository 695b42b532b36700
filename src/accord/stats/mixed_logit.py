"""Logistic regression of choices on properties, where the things chosen between differ in ways not measured.

    logit P(y = 1) = x beta + sign * u_unit,   u ~ N(0, spread^2)

u is the quality difference of one pair of replies, seen with + or - by the order it was shown in. Leaving it out would
draw every coefficient towards 0 (by a seventh when the spread is 1, a third when it is 2). It is integrated out, which
needs pairs that were judged more than once. Where there are none the spread is 0 and the coefficients are averages over
pairs.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, log_expit, logsumexp, ndtr

from accord.stats.arrays import Floats, cluster_index
from accord.stats.em import Integers

_PRIOR_SD = 5.0
"""Of every coefficient, so that complete separation stays finite; without effect on anything else."""
_NODES = 12


@dataclass(frozen=True)
class Coefficients:
    """Estimates with sandwich errors."""

    value: Floats
    """(columns) log odds."""
    error: Floats
    """(columns) standard error, clustered."""
    spread: float
    """Standard deviation of what was not measured; 0 where it cannot be told."""
    n: int
    clusters: int

    @property
    def p_value(self) -> Floats:
        """(columns) two-sided, of no effect."""
        return np.asarray(2 * ndtr(-np.abs(self.value / self.error)), dtype=np.float64)


def mixed_logit(
    y: Floats,
    x: Floats,
    *,
    units: Sequence[Hashable],
    signs: Floats,
    clusters: Sequence[Hashable],
) -> Coefficients:
    """Fit by maximum likelihood.

    Args:
        y: (rows) 1 or 0.
        x: (rows, columns) design, with a column of ones if there is to be an intercept.
        units: pair of replies of each row.
        signs: (rows) +1 where the pair's first reply is shown first, else -1.
        clusters: prompt of each row: what is independent of each other.

    Raises:
        ValueError: if there are no rows.
    """
    if not len(y):
        raise ValueError("no rows")
    unit, group = cluster_index(units, len(y)), cluster_index(clusters, len(y))
    repeated = int(np.bincount(unit).max()) > 1
    model = _Model(y, x, unit, signs)
    start = np.zeros(x.shape[1] + 1)
    start[-1] = 0.0 if repeated else -np.inf
    found = _fit(model, start, free_spread=repeated)
    if repeated and found[-1] < np.log(0.05):
        found = _fit(model, np.append(found[:-1], -np.inf), free_spread=False)
    free = len(found) if np.isfinite(found[-1]) else len(found) - 1
    errors = _errors(model, found, group, free)
    return Coefficients(found[:-1], errors[: x.shape[1]], float(np.exp(found[-1])), len(y), int(group.max()) + 1)


@dataclass(frozen=True)
class _Model:
    y: Floats
    x: Floats
    unit: Integers
    signs: Floats

    def scores(self, theta: Floats) -> tuple[float, Floats]:
        """Log-likelihood, and (rows, parameters) its derivative by coefficients and log spread."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        u = self.signs[:, None] * np.exp(theta[-1]) * nodes
        logit = (self.x @ theta[:-1])[:, None] + u
        said = np.where(self.y[:, None] == 1, log_expit(logit), log_expit(-logit))
        joint = np.tile(np.log(weights / weights.sum()), (int(self.unit.max()) + 1, 1))
        np.add.at(joint, self.unit, said)
        evidence = np.asarray(logsumexp(joint, axis=1, keepdims=True))
        posterior = np.exp(joint - evidence)[self.unit]
        left = posterior * (self.y[:, None] - expit(logit))
        by_row = np.concatenate([left.sum(axis=1)[:, None] * self.x, (left * u).sum(axis=1)[:, None]], axis=1)
        return float(evidence.sum()), by_row

    def loss(self, theta: Floats) -> tuple[float, Floats]:
        """Negative log-likelihood with the weak prior, and its gradient."""
        value, by_row = self.scores(theta)
        precision = np.append(np.full(len(theta) - 1, 1 / _PRIOR_SD**2), 0.0)
        safe = np.where(np.isfinite(theta), theta, 0.0)
        return -value + 0.5 * float(precision @ safe**2), precision * safe - by_row.sum(axis=0)


def _fit(model: _Model, start: Floats, *, free_spread: bool) -> Floats:
    free = len(start) if free_spread else len(start) - 1

    def loss(part: Floats) -> tuple[float, Floats]:
        value, gradient = model.loss(np.append(part, start[free:]))
        return value, gradient[:free]

    bounds = [(None, None)] * (len(start) - 1) + [(np.log(0.01), np.log(20.0))] * (free - len(start) + 1)
    best = cast(Any, minimize)(loss, start[:free], jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-6})
    return np.append(cast(Floats, best.x), start[free:])


def _errors(model: _Model, theta: Floats, group: Integers, free: int) -> Floats:
    """(parameters) sandwich errors: curvature by differences of the gradient, noise from the clusters' scores."""
    step = 1e-5
    curvature: Floats = np.zeros((free, free))
    for k in range(free):
        up, down = theta.copy(), theta.copy()
        up[k] += step
        down[k] -= step
        curvature[k] = (model.loss(up)[1] - model.loss(down)[1])[:free] / (2 * step)
    inverse = np.linalg.pinv((curvature + curvature.T) / 2)
    num = int(group.max()) + 1
    member = csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape=(num, len(group)))
    by_cluster = np.asarray(member @ model.scores(theta)[1], dtype=np.float64)[:, :free]
    noise = by_cluster.T @ by_cluster * num / max(num - 1, 1)
    return np.sqrt(np.maximum(np.diag(inverse @ noise @ inverse), 1e-18))


@dataclass(frozen=True)
class Effect:
    """One coefficient."""

    value: float
    """In log odds."""
    error: float
    n: int

    @property
    def p_value(self) -> float:
        """Two-sided, of no effect."""
        return float(2 * ndtr(-abs(self.value) / self.error))


def one_effect(
    y: Floats, x: Floats, offset: Floats, *, spread: float, clusters: Sequence[Hashable], prior_sd: float = 2.5
) -> Effect:
    """Fit one coefficient with everything else known, for the few judgements of one annotator.

    Args:
        y: (rows) 1 or 0.
        x: (rows) the property.
        offset: (rows) log odds without it.
        spread: of what was not measured; integrated out row by row.
        clusters: prompt of each row.
        prior_sd: of a normal prior around 0: keeps somebody who always says the same finite.

    Returns:
        The estimate; its error is the larger of curvature and sandwich, since either is too small at times.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()

    def slopes(beta: float) -> Floats:
        logit = (offset + beta * x)[:, None] + spread * nodes
        p = np.asarray(expit(logit), dtype=np.float64)
        said = np.where(y[:, None] == 1, p, 1 - p) * weights
        return ((said * (y[:, None] - p)).sum(axis=1) / np.maximum(said.sum(axis=1), 1e-300)) * x

    def slope(beta: float) -> float:
        return float(slopes(beta).sum()) - beta / prior_sd**2

    low, high = -8 * prior_sd, 8 * prior_sd
    for _ in range(60):  # the slope falls, from above 0 to below
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    beta = (low + high) / 2
    curvature = -(slope(beta + 1e-4) - slope(beta - 1e-4)) / 2e-4
    group = cluster_index(clusters, len(y))
    noise = float((np.bincount(group, slopes(beta)) ** 2).sum())
    return Effect(beta, max(1 / np.sqrt(curvature), float(np.sqrt(noise)) / curvature), len(y))


@dataclass(frozen=True)
class Pooled:
    """Effects of many annotators, each drawn towards the others as far as it is uncertain."""

    mean: float
    spread: float
    """Standard deviation of the true effects (DerSimonian and Laird 1986)."""
    value: Floats
    error: Floats


def partial_pooling(value: Floats, error: Floats) -> Pooled:
    """Return the estimates shrunk to their mean: what to believe of each annotator.

    Args:
        value: one estimate an annotator.
        error: their standard errors.
    """
    weight = 1 / error**2
    mean = float((weight * value).sum() / weight.sum())
    excess = float((weight * (value - mean) ** 2).sum()) - (len(value) - 1)
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    variance = max(0.0, excess / scale) if scale > 0 else 0.0
    both = 1 / (error**2 + variance)
    mean = float((both * value).sum() / both.sum())
    keep = variance / (variance + error**2)
    mean_error = 1 / both.sum()
    shrunk = keep * value + (1 - keep) * mean
    return Pooled(mean, float(np.sqrt(variance)), shrunk, np.sqrt(keep * error**2 + (1 - keep) ** 2 * mean_error))
