"""Expectation maximisation over true labels: what Dawid-Skene, one-coin, MACE and GLAD have in common.

Each says with which probability an annotator gives a label when another one is true, and how to estimate that from
what is believed about the truth. The rest is here: votes as arrays, gold labels, the loop, when to stop.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from accord.stats.agreement import Vote
from accord.stats.arrays import Floats

P = TypeVar("P")
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Ballots:
    """Votes as indices."""

    items: tuple[Hashable, ...]
    """Items, in order of first appearance."""
    annotators: tuple[Hashable, ...]
    """Annotators, in order of first appearance."""
    labels: tuple[Hashable, ...]
    """Labels, in the order given or sorted."""
    item: Integers
    """(votes) index of the item."""
    who: Integers
    """(votes) index of the annotator."""
    label: Integers
    """(votes) index of the label."""
    known: Integers
    """(items) index of the gold label, -1 where there is none."""

    @property
    def shares(self) -> Floats:
        """(items, labels) share of the votes, the gold label where there is one."""
        counts: Floats = np.zeros((len(self.items), len(self.labels)))
        np.add.at(counts, (self.item, self.label), 1.0)
        return self.clamp(counts / counts.sum(axis=1, keepdims=True))

    def clamp(self, posterior: Floats) -> Floats:
        """Put certainty where gold is known."""
        gold = np.flatnonzero(self.known >= 0)
        posterior[gold] = 0.0
        posterior[gold, self.known[gold]] = 1.0
        return posterior

    def by_item(self, log_given: Floats) -> Floats:
        """(votes, labels) -> (items, labels): sums over the votes of each item."""
        total: Floats = np.zeros((len(self.items), log_given.shape[1]))
        np.add.at(total, self.item, log_given)
        return total

    def by_annotator(self, value: Floats) -> Floats:
        """(votes) -> (annotators): sums over the votes of each annotator."""
        return np.bincount(self.who, weights=value, minlength=len(self.annotators)).astype(np.float64)

    @property
    def said(self) -> Floats:
        """(votes, labels) 1 where the column is the label given."""
        return np.eye(len(self.labels))[self.label]


@dataclass(frozen=True)
class Step(Generic[P]):
    """One model of the annotators."""

    log_prior: Floats
    """(labels) log probability of each label before any vote."""
    log_given: Floats
    """(votes, labels) log probability of the vote if the column is the true label."""
    log_penalty: float
    """Log density of the parameters under their prior, up to a constant; 0 without one."""
    parameters: P
    """What was estimated."""


@dataclass(frozen=True)
class Fitted(Generic[P]):
    """End of the iterations."""

    posterior: Floats
    """(items, labels)."""
    step: Step[P]
    """The last model."""
    log_likelihood: tuple[float, ...]
    """Of the votes and gold labels, in nats, under each iteration's model."""
    objective: tuple[float, ...]
    """The same plus the log prior of the parameters: what the iterations raise, and never lower."""


def encode(
    votes: Iterable[Vote],
    labels: Sequence[Hashable] | None = None,
    gold: Mapping[Hashable, Hashable] | None = None,
) -> Ballots:
    """Return votes as indices.

    Args:
        votes: (item, annotator, label).
        labels: all labels in order; None = the sorted labels that occur.
        gold: item -> its true label; items without votes are ignored.

    Raises:
        ValueError: if there are no votes or a label is unknown.
    """
    given = list(votes)
    if not given:
        raise ValueError("no votes")
    items = tuple(dict.fromkeys(item for item, _, _ in given))
    annotators = tuple(dict.fromkeys(who for _, who, _ in given))
    voted = set(items)
    truth = {item: label for item, label in (gold or {}).items() if item in voted}
    seen = {label for _, _, label in given} | set(truth.values())
    order = tuple(labels) if labels is not None else tuple(sorted(cast(Any, seen)))
    if seen - set(order):
        raise ValueError(f"labels {sorted(map(str, seen - set(order)))} are not among {order}")
    places = [{name: i for i, name in enumerate(names)} for names in (items, annotators, order)]
    item, who, label = (np.array([p[v[i]] for v in given], dtype=np.int64) for i, p in enumerate(places))
    known = np.array([places[2][truth[i]] if i in truth else -1 for i in items], dtype=np.int64)
    return Ballots(items, annotators, order, item, who, label, known)


def mirror(labels: Sequence[Hashable], swap: Mapping[Hashable, Hashable] | None) -> Integers:
    """Return for each label the index of what it becomes when the two replies change places.

    Args:
        labels: all labels in order.
        swap: label -> its mirror image; labels that are not in it are their own. None = nothing changes.

    Raises:
        ValueError: if the image is no label, or its image is another one.
    """
    place = {label: i for i, label in enumerate(labels)}
    images = {**{label: label for label in labels}, **(swap or {})}
    for label in labels:
        if images[label] not in place or images[images[label]] != label:
            raise ValueError(f"the mirror image of {label!r} must be a label whose mirror image is {label!r}")
    return np.array([place[images[label]] for label in labels], dtype=np.int64)


def maximise(
    ballots: Ballots,
    model: Callable[[Floats, Step[P] | None], Step[P]],
    *,
    iterations: int,
    tolerance: float,
) -> Fitted[P]:
    """Alternate between the model of the annotators and what it says about the truth, from the shares of the votes.

    Args:
        ballots: the votes; where gold is known the posterior stays there.
        model: (posterior, step before or None) -> the model that fits it best. It must not lower the expected
            log-likelihood plus its own penalty.
        iterations: at most that many.
        tolerance: stop when the objective rose by less (nats); 0 = make all iterations.

    Raises:
        ValueError: if `iterations` is below 1.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, not {iterations}")
    posterior = ballots.shares
    gold = ballots.known >= 0
    likelihood: list[float] = []
    objective: list[float] = []
    step: Step[P] | None = None
    while True:
        step = model(posterior, step)
        joint = step.log_prior + ballots.by_item(step.log_given)
        evidence = cast(Floats, logsumexp(joint, axis=1, keepdims=True))
        at_gold = joint[gold, ballots.known[gold]]
        likelihood.append(float(evidence[~gold].sum() + at_gold.sum()))
        objective.append(likelihood[-1] + step.log_penalty)
        posterior = ballots.clamp(np.exp(joint - evidence))
        converged = len(objective) > 1 and objective[-1] - objective[-2] < tolerance
        if len(objective) == iterations or converged:
            return Fitted(posterior, step, tuple(likelihood), tuple(objective))
