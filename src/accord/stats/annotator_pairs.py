"""Pairs that are judged a few times each, by annotators of different skill and with a preference for one side.

The model of `annotator_bt` for the usual data of preference learning, where every pair of replies is its own little
world. With two or three votes a pair its difference of strengths cannot be estimated beside the annotators' skills: the
joint maximum shrinks the differences to nothing (Neyman and Scott 1948). Here they are integrated out:

    d_i ~ N(0, spread^2),   x = b_w (+-d_i) + g_w,   P(shown first is preferred) = sigmoid(x)

with + where the pair's first reply is shown first. Skills b, sides g, the spread and the tie parameter are those of the
highest marginal density, priors b ~ N(1, 1) and g ~ N(0, 1), mean of b held at 1. What is then believed of each d_i is
the soft label.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import logsumexp

from accord.stats.arrays import Floats, cluster_index
from accord.stats.bt_outcomes import Ties, outcomes, share_of_first
from accord.stats.bt_posterior import Settings
from accord.stats.em import Integers
from accord.stats.intervals import Interval

PairVote = tuple[Hashable, bool, Hashable, float]
"""(pair, whether its first reply was shown first, annotator, result for what was shown first: 1, 0 or 0.5)."""

_NODES = 40
"""Points of the grid over d; an even number, so that none is exactly 0."""
_WIDTH = 4.5
"""Standard deviations the grid reaches."""
_ANCHOR = 400.0
_LOG_SPREAD_SD = 1.5
"""Of the prior of log spread around 0: between a twentieth and twenty at 95 %."""


@dataclass(frozen=True)
class AnnotatorPairs:
    """What is believed of the pairs, and what the annotators are worth."""

    pairs: tuple[Hashable, ...]
    """In order of first appearance."""
    annotators: tuple[Hashable, ...]
    """In order of first appearance."""
    preference: Floats
    """(pairs) P(an average annotator without a side prefers the first reply), a tie counting half: the soft label."""
    better: Floats
    """(pairs) P(the first reply is better), d > 0."""
    skill: Floats
    """(annotators) b: 1 = average, 0 = a spammer, below 0 = an adversary."""
    side: Floats
    """(annotators) g, log odds for what is shown first."""
    spread: float
    """Standard deviation of d among the pairs; the larger, the clearer the pairs."""
    tie: float | None
    """Parameter of the tie model; None without ties."""
    skill_interval: dict[Hashable, Interval]
    """b with its 95 % sandwich interval; `n` = votes."""
    side_interval: dict[Hashable, Interval]
    """g, likewise."""

    @cached_property
    def soft(self) -> dict[Hashable, float]:
        """Pair -> soft label."""
        return {pair: float(p) for pair, p in zip(self.pairs, self.preference, strict=True)}


def annotator_pairs(
    votes: Iterable[PairVote],
    settings: Settings | None = None,
    *,
    gold: Mapping[Hashable, bool] | None = None,
    clusters: Mapping[Hashable, Hashable] | None = None,
) -> AnnotatorPairs:
    """Return skills, sides and what is believed of each pair.

    Args:
        votes: see `PairVote`.
        settings: priors and ties; `ridge` plays no part, the spread is estimated.
        gold: pair -> whether its first reply is the better one.
        clusters: pair -> prompt, for the intervals; None = every pair on its own.

    Raises:
        ValueError: if there are no votes, or a result is not 1, 0 or 0.5.
    """
    data = MarginalDensity.of(list(votes), settings or Settings(), gold or {}, clusters)
    options = {"maxiter": 2000, "gtol": 1e-6, "ftol": 1e-14}
    best = cast(Any, minimize)(data.loss, data.start(), jac=True, method="L-BFGS-B", options=options)
    return data.finish(cast(Floats, best.x))


@dataclass(frozen=True)
class MarginalDensity:
    """Votes as arrays; parameters are b, g, the tie parameter, log spread."""

    pairs: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    pair: Integers
    who: Integers
    sign: Floats
    result: Floats
    log_weight: Floats
    """(pairs, nodes) of the prior of d; gold leaves one side of it."""
    cluster: Integers
    """(pairs)."""
    how: Settings
    ties: Ties

    @classmethod
    def of(
        cls,
        votes: Sequence[PairVote],
        how: Settings,
        gold: Mapping[Hashable, bool],
        clusters: Mapping[Hashable, Hashable] | None,
    ) -> MarginalDensity:
        if not votes:
            raise ValueError("no votes")
        wrong = [vote for vote in votes if vote[3] not in (0.0, 0.5, 1.0)]
        if wrong:
            raise ValueError(f"a result is 1, 0 or 0.5, got {wrong[0]}")
        pairs = tuple(dict.fromkeys(vote[0] for vote in votes))
        annotators = tuple(dict.fromkeys(vote[2] for vote in votes))
        place, seat = ({name: i for i, name in enumerate(names)} for names in (pairs, annotators))
        density = -0.5 * _nodes() ** 2
        log_weight = np.tile(density - float(np.log(np.exp(density).sum())), (len(pairs), 1))
        for pair, first in gold.items():
            if pair in place:
                log_weight[place[pair], (_nodes() > 0) != first] = -np.inf
        result = np.array([vote[3] for vote in votes], dtype=np.float64)
        return cls(
            pairs=pairs,
            annotators=annotators,
            pair=np.array([place[vote[0]] for vote in votes], dtype=np.int64),
            who=np.array([seat[vote[2]] for vote in votes], dtype=np.int64),
            sign=np.array([1.0 if vote[1] else -1.0 for vote in votes]),
            result=result,
            log_weight=log_weight,
            cluster=cluster_index([clusters[p] for p in pairs] if clusters else None, len(pairs)),
            how=how,
            ties=how.ties if np.any(result == 0.5) else "half",
        )

    def start(self) -> Floats:
        w = len(self.annotators)
        return np.concatenate([np.ones(w), np.zeros(w), [-1.0 if self.ties == "rao_kupper" else 0.0, 0.0]])

    def beliefs(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """(pairs, nodes) posterior of d, log evidence of each pair, and (votes, parameters in use) scores.

        The scores of a vote are by b, g, tie and log spread.
        """
        w = len(self.annotators)
        b, g = x[:w][self.who, None], x[w : 2 * w][self.who, None]
        d = self.sign[:, None] * np.exp(x[-1]) * _nodes()
        found = outcomes(self.ties, b * d + g, float(x[-2]), np.broadcast_to(self.result[:, None], d.shape))
        joint = self.log_weight.copy()
        np.add.at(joint, self.pair, found.value)
        evidence = np.asarray(logsumexp(joint, axis=1))
        posterior = np.exp(joint - evidence[:, None])
        slope = posterior[self.pair] * found.x
        tie = (posterior[self.pair] * found.tie).sum(axis=1)
        by_d = (slope * d).sum(axis=1)
        return posterior, evidence, np.stack([by_d, slope.sum(axis=1), tie, by_d * b[:, 0]], axis=1)

    def loss(self, x: Floats) -> tuple[float, Floats]:
        """Negative log marginal density up to a constant, and its gradient."""
        w = len(self.annotators)
        _, evidence, scores = self.beliefs(x)
        away, precision = x - self.prior_mean(), self.precisions()
        lean = float(x[:w].mean()) - 1
        value = -float(evidence.sum()) + 0.5 * float((precision * away**2).sum()) + 0.5 * _ANCHOR * lean**2
        gradient = precision * away
        gradient[:w] += _ANCHOR * lean / w - np.bincount(self.who, scores[:, 0], w)
        gradient[w : 2 * w] -= np.bincount(self.who, scores[:, 1], w)
        gradient[-2:] -= scores[:, 2:].sum(axis=0)
        return value, gradient

    def prior_mean(self) -> Floats:
        w = len(self.annotators)
        return np.concatenate([np.ones(w), np.zeros(w + 2)])

    def precisions(self) -> Floats:
        w = len(self.annotators)
        side = 1 / max(self.how.side_sd, 1e-4) ** 2
        return np.concatenate([np.full(w, 1 / self.how.skill_sd**2), np.full(w, side), [0.01, 1 / _LOG_SPREAD_SD**2]])

    def errors(self, x: Floats) -> Floats:
        """(parameters) sandwich standard errors: information from the scores of pairs, noise from those of prompts."""
        w, votes = len(self.annotators), len(self.who)
        scores = self.beliefs(x)[2]
        columns = [self.who, w + self.who, np.full(votes, 2 * w), np.full(votes, 2 * w + 1)]
        by_pair = csr_array(
            (scores.T.reshape(-1), (np.tile(self.pair, 4), np.concatenate(columns))), shape=(len(self.pairs), len(x))
        )
        groups = int(self.cluster.max()) + 1
        seats = np.arange(len(self.pairs))
        member = csr_array((np.ones(len(seats)), (self.cluster, seats)), shape=(groups, len(seats)))
        by_cluster = csr_array(member @ by_pair)
        information = csr_array(by_pair.T @ by_pair).toarray() + np.diag(self.precisions())
        information[:w, :w] += _ANCHOR / w**2
        inverse = np.linalg.inv(information)
        noise = csr_array(by_cluster.T @ by_cluster).toarray() * groups / max(groups - 1, 1)
        return np.sqrt(np.diag(inverse @ noise @ inverse))

    def finish(self, x: Floats) -> AnnotatorPairs:
        w = len(self.annotators)
        posterior = self.beliefs(x)[0]
        spread, tie = float(np.exp(x[-1])), float(x[-2])
        reach = self.errors(x) * NormalDist().inv_cdf(0.975)
        votes = np.bincount(self.who, minlength=w)
        spans = [
            {
                who: Interval(float(x[k]), float(x[k] - reach[k]), float(x[k] + reach[k]), int(votes[k - start]))
                for k, who in enumerate(self.annotators, start)
            }
            for start in (0, w)
        ]
        return AnnotatorPairs(
            pairs=self.pairs,
            annotators=self.annotators,
            preference=posterior @ share_of_first(self.ties, spread * _nodes(), tie),
            better=posterior @ (_nodes() > 0).astype(np.float64),
            skill=x[:w],
            side=x[w : 2 * w],
            spread=spread,
            tie=None if self.ties == "half" else tie,
            skill_interval=spans[0],
            side_interval=spans[1],
        )


def _nodes() -> Floats:
    """Standardised d."""
    return np.linspace(-_WIDTH, _WIDTH, _NODES)
