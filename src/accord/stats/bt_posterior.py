"""The posterior density of Bradley-Terry with annotators: parameters, gradient, curvature, sandwich errors.

Parameters in this order: strengths of the items, b and g of the annotators, the tie parameter.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import coo_array, csc_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from accord.stats.arrays import Floats, cluster_index
from accord.stats.bt_outcomes import Outcomes, Ties, outcomes
from accord.stats.em import Integers

Judged = tuple[Hashable, Hashable, Hashable, float]
"""(shown first, shown second, annotator, result for the first: 1 = better, 0 = worse, 0.5 = tie)."""

_ANCHOR = 400.0
"""Precision with which the mean of b is held at 1."""


@dataclass(frozen=True)
class Settings:
    """Priors and the model of ties."""

    ties: Ties = "davidson"
    """What a tie is; without any tie in the data it makes no difference."""
    ridge: float | None = None
    """Precision of the strengths, 1 / variance; None = estimated where things are compared often enough, else 1/2."""
    skill_sd: float = 1.0
    """Standard deviation of the prior of b around 1."""
    side_sd: float = 1.0
    """Standard deviation of the prior of g around 0; 0 = nobody leans, e.g. where the order was not recorded."""


@dataclass(frozen=True)
class Posterior:
    """Judgements as arrays, and the posterior density of the parameters (strengths, b, g, tie)."""

    items: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    first: Integers
    second: Integers
    who: Integers
    result: Floats
    cluster: Integers
    weight: Floats
    component: Integers
    how: Settings
    ties: Ties
    """The model in use: "half" where there are no ties."""

    @classmethod
    def of(
        cls,
        judged: Sequence[Judged],
        how: Settings,
        clusters: Sequence[Hashable] | None,
        weights: Sequence[float] | None,
    ) -> Posterior:
        if not judged:
            raise ValueError("no judgements")
        for first, second, _, result in judged:
            if first == second or not (result in (0.0, 0.5, 1.0) or (how.ties == "half" and 0 < result < 1)):
                raise ValueError(f"a judgement is of two things and 1, 0 or 0.5, got {(first, second, result)}")
        items = tuple(dict.fromkeys(name for first, second, _, _ in judged for name in (first, second)))
        annotators = tuple(dict.fromkeys(who for _, _, who, _ in judged))
        place, seat = ({name: i for i, name in enumerate(names)} for names in (items, annotators))
        first, second = (np.array([place[row[side]] for row in judged], dtype=np.int64) for side in (0, 1))
        met = csr_array((np.ones(len(judged)), (first, second)), shape=(len(items), len(items)))
        result = np.array([row[3] for row in judged], dtype=np.float64)
        return cls(
            items=items,
            annotators=annotators,
            first=first,
            second=second,
            who=np.array([seat[row[2]] for row in judged], dtype=np.int64),
            result=result,
            cluster=cluster_index(clusters, len(judged)),
            weight=np.ones(len(judged)) if weights is None else np.asarray(weights, dtype=np.float64),
            component=cast(Any, connected_components)(met, directed=False)[1].astype(np.int64),
            how=how,
            ties=how.ties if np.any(result == 0.5) else "half",
        )

    def reweighted(self, weight: Floats) -> Posterior:
        return replace(self, weight=weight)

    @property
    def num_items(self) -> int:
        return len(self.items)

    @property
    def games_of_items(self) -> Integers:
        return np.bincount(self.first, minlength=len(self.items)) + np.bincount(self.second, minlength=len(self.items))

    @property
    def votes_of_annotators(self) -> Integers:
        return np.bincount(self.who, minlength=len(self.annotators))

    def start(self) -> Floats:
        """Average annotators, equal things."""
        i, w = len(self.items), len(self.annotators)
        return np.concatenate([np.zeros(i), np.ones(w), np.zeros(w), [-1.0 if self.ties == "rao_kupper" else 0.0]])

    def split(self, x: Floats) -> tuple[Floats, Floats, Floats, float]:
        i, w = len(self.items), len(self.annotators)
        return x[:i], x[i : i + w], x[i + w : i + 2 * w], float(x[-1])

    def terms(self, x: Floats) -> tuple[Floats, Outcomes]:
        """(judgements) difference of strengths, and likelihoods."""
        s, b, g, tie = self.split(x)
        gap = s[self.first] - s[self.second]
        return gap, outcomes(self.ties, b[self.who] * gap + g[self.who], tie, self.result)

    def precisions(self, ridge: float) -> Floats:
        """Of the independent priors, in the order of the parameters."""
        i, w = len(self.items), len(self.annotators)
        side = 1 / max(self.how.side_sd, 1e-4) ** 2
        return np.concatenate([np.full(i, ridge), np.full(w, 1 / self.how.skill_sd**2), np.full(w, side), [0.01]])

    def loss(self, x: Floats, ridge: float) -> tuple[float, Floats]:
        """Negative log posterior density up to a constant, and its gradient."""
        gap, found = self.terms(x)
        b = self.split(x)[1]
        i, w = len(self.items), len(self.annotators)
        slope = self.weight * found.x
        by_gap = slope * b[self.who]
        away = x - self.prior_mean()
        prior = self.precisions(ridge)
        lean = float(b.mean()) - 1
        value = -float((self.weight * found.value).sum()) + 0.5 * float((prior * away**2).sum())
        gradient = prior * away
        gradient[:i] += np.bincount(self.second, by_gap, i) - np.bincount(self.first, by_gap, i)
        gradient[i : i + w] += _ANCHOR * lean / w - np.bincount(self.who, slope * gap, w)
        gradient[i + w : i + 2 * w] -= np.bincount(self.who, slope, w)
        gradient[-1] -= float((self.weight * found.tie).sum())
        return value + 0.5 * _ANCHOR * lean**2, gradient

    def prior_mean(self) -> Floats:
        return np.concatenate(
            [np.zeros(len(self.items)), np.ones(len(self.annotators)), np.zeros(len(self.annotators) + 1)]
        )

    def fit(self, ridge: float, start: Floats) -> Floats:
        """Parameters of the highest density; gradients below 1e-6."""
        options = {"maxiter": 5000, "maxfun": 20000, "gtol": 1e-6, "ftol": 1e-15, "maxcor": 20}
        best = cast(Any, minimize)(self.loss, start, args=(ridge,), jac=True, method="L-BFGS-B", options=options)
        return cast(Floats, best.x)

    def columns(self) -> tuple[Integers, Integers, Integers, Integers]:
        """Index of s_first, s_second, b_w and g_w of each judgement."""
        i, w = len(self.items), len(self.annotators)
        return self.first, self.second, i + self.who, i + w + self.who

    def jacobian(self, x: Floats) -> csr_array:
        """(judgements, parameters) derivative of the log odds."""
        gap, _ = self.terms(x)
        b = self.split(x)[1][self.who]
        rows = np.arange(len(self.who))
        values = np.concatenate([b, -b, gap, np.ones(len(rows))])
        return csr_array((values, (np.tile(rows, 4), np.concatenate(self.columns()))), shape=(len(rows), len(x)))

    def hessian(self, x: Floats, ridge: float) -> csc_array:
        """Of the loss."""
        _, found = self.terms(x)
        size, (first, second, skill, _) = len(x), self.columns()
        jacobian = self.jacobian(x)
        bend = jacobian.T @ (jacobian * (-self.weight * found.xx)[:, None])
        # The log odds are bilinear: b times a difference of strengths.
        slope = -self.weight * found.x
        mixed = coo_array(
            (np.concatenate([slope, -slope]), (np.concatenate([first, second]), np.tile(skill, 2))), shape=(size, size)
        ).tocsr()
        edge = csr_array(jacobian.T @ (-self.weight * found.x_tie)[:, None])
        last = csr_array((np.ones(1), (np.zeros(1, dtype=np.int64), np.array([size - 1]))), shape=(1, size))
        corner = float((-self.weight * found.tie_tie).sum())
        i, w = len(self.items), len(self.annotators)
        diagonal = self.precisions(ridge)
        diagonal[-1] += corner
        seats = np.arange(i, i + w)
        anchor = csr_array(
            (np.full(w * w, _ANCHOR / w**2), (np.repeat(seats, w), np.tile(seats, w))), shape=(size, size)
        )
        spot = csr_array((diagonal, (np.arange(size), np.arange(size))), shape=(size, size))
        return csc_array(bend + mixed + mixed.T + edge @ last + (edge @ last).T + spot + anchor)

    def item_covariance(self, x: Floats, ridge: float) -> tuple[Floats, ...]:
        """Inverse of the strengths' block of the Hessian, component by component."""
        block = csr_array(self.hessian(x, ridge)[: len(self.items), : len(self.items)])
        order = np.argsort(self.component, kind="stable")
        ends = np.cumsum(np.bincount(self.component))
        parts = np.split(order, ends[:-1])
        return tuple(np.linalg.inv(block[part][:, part].toarray()) for part in parts)

    def standard_errors(self, x: Floats, ridge: float) -> Floats:
        """(annotators, 2) sandwich standard errors of b and g."""
        _, found = self.terms(x)
        size, w = len(x), len(self.annotators)
        scores = csr_array(self.jacobian(x) * (self.weight * found.x)[:, None])
        rows = np.arange(len(self.who))
        groups = int(self.cluster.max()) + 1
        member = csr_array((np.ones(len(rows)), (self.cluster, rows)), shape=(groups, len(rows)))
        by_cluster = np.asarray((member @ scores) @ self._solved(x, ridge), dtype=np.float64)
        by_cluster += np.outer(member @ (self.weight * found.tie), self._solved(x, ridge)[size - 1])
        correction = groups / max(groups - 1, 1)
        return np.sqrt((by_cluster**2).sum(axis=0) * correction).reshape(2, w).T

    def _solved(self, x: Floats, ridge: float) -> Floats:
        """(parameters, 2 annotators) columns of the inverse Hessian that belong to b and g."""
        i, w = len(self.items), len(self.annotators)
        unit = np.zeros((len(x), 2 * w))
        unit[np.arange(i, i + 2 * w), np.arange(2 * w)] = 1.0
        return cast(Any, splu)(self.hessian(x, ridge)).solve(unit)
