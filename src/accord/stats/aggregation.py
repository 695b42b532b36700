"""True labels behind the votes of annotators who err, each in an own way (Dawid and Skene 1979)."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy.special import logsumexp

from accord.stats.agreement import Vote
from accord.stats.arrays import Floats


@dataclass(frozen=True)
class DawidSkene:
    """What is believed about items and annotators."""

    items: tuple[Hashable, ...]
    """Items, in order of first appearance."""
    annotators: tuple[Hashable, ...]
    """Annotators, in order of first appearance."""
    labels: tuple[Hashable, ...]
    """Labels, the columns of everything below."""
    posterior: Floats
    """(items, labels) probability that this is the item's label."""
    prior: Floats
    """(labels) how common each label is: the mean posterior."""
    confusion: Floats
    """(annotators, true label, given label) probability that the annotator says so."""
    log_likelihood: tuple[float, ...]
    """Of the votes, in nats, under each iteration's prior and matrices; never falls unless `smoothing` is used."""

    @property
    def best(self) -> dict[Hashable, Hashable]:
        """The likeliest label of each item; of equally likely ones the first."""
        return {item: self.labels[int(i)] for item, i in zip(self.items, self.posterior.argmax(axis=1), strict=True)}


def dawid_skene(
    votes: Iterable[Vote],
    *,
    labels: Sequence[Hashable] | None = None,
    iterations: int = 100,
    tolerance: float = 0.0,
    floor: float = 1e-10,
    smoothing: float = 0.0,
) -> DawidSkene:
    """Return the maximum-likelihood labels and confusion matrices by expectation maximisation.

    Starts from the shares of the votes. One iteration is: prior and confusion matrices from the posteriors, then
    posteriors from those (Dawid and Skene 1979, eqs. 2.3 to 2.5).

    Args:
        votes: (item, annotator, label). Two votes of one annotator on one item are two observations.
        labels: all labels; None = the sorted labels that occur.
        iterations: at most that many.
        tolerance: stop when the log-likelihood of the votes rose by less (nats); 0 = make all iterations.
        floor: expected counts in the confusion matrices are at least this, so that what an annotator was never
            seen to say is very unlikely instead of impossible. The paper has no such floor.
        smoothing: added to every expected count, a Dirichlet prior on each row of the confusion matrices. With
            few votes an annotator (below about 20) 0 is over-confident; 1 is a usual choice.

    Returns:
        Posteriors, prior and confusion matrices of the last iteration.

    Raises:
        ValueError: if there are no votes, a label is unknown, or a setting is out of range.
    """
    given = list(votes)
    if not given:
        raise ValueError("no votes")
    if iterations < 1 or floor <= 0 or smoothing < 0:
        raise ValueError("iterations must be at least 1, floor above 0 and smoothing not negative")
    items = tuple(dict.fromkeys(item for item, _, _ in given))
    annotators = tuple(dict.fromkeys(who for _, who, _ in given))
    seen = {label for _, _, label in given}
    order = tuple(labels) if labels is not None else tuple(sorted(cast(Any, seen)))
    if seen - set(order):
        raise ValueError(f"labels {sorted(map(str, seen - set(order)))} are not among {order}")
    places = [{name: i for i, name in enumerate(names)} for names in (items, annotators, order)]
    item, who, label = (np.array([p[v[i]] for v in given]) for i, p in enumerate(places))

    posterior = np.zeros((len(items), len(order)))
    np.add.at(posterior, (item, label), 1.0)
    posterior /= posterior.sum(axis=1, keepdims=True)
    likelihood: list[float] = []
    while True:
        prior = posterior.mean(axis=0)
        given_true = np.zeros((len(annotators), len(order), len(order)))
        np.add.at(given_true, (who, label), posterior[item])
        confusion = np.maximum(given_true.swapaxes(1, 2), floor) + smoothing
        confusion /= confusion.sum(axis=2, keepdims=True)
        with np.errstate(divide="ignore"):  # a label nobody gave has prior 0, log -inf, posterior 0
            joint = np.broadcast_to(np.log(prior), posterior.shape).copy()
        np.add.at(joint, item, np.log(confusion)[who, :, label])
        evidence = cast(Floats, logsumexp(joint, axis=1, keepdims=True))
        likelihood.append(float(evidence.sum()))
        posterior = np.exp(joint - evidence)
        converged = len(likelihood) > 1 and likelihood[-1] - likelihood[-2] < tolerance
        if len(likelihood) == iterations or converged:
            break
    return DawidSkene(items, annotators, order, posterior, posterior.mean(axis=0), confusion, tuple(likelihood))
