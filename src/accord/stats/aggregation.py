"""True labels behind the votes of annotators who err, each in an own way (Dawid and Skene 1979)."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from accord.stats.agreement import Vote
from accord.stats.arrays import Floats
from accord.stats.em import Step, encode, maximise, mirror


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
    objective: tuple[float, ...] = ()
    """`log_likelihood` plus the log of the Dirichlet priors, up to a constant; never falls."""

    @property
    def best(self) -> dict[Hashable, Hashable]:
        """The likeliest label of each item; of equally likely ones the first."""
        return {item: self.labels[int(i)] for item, i in zip(self.items, self.posterior.argmax(axis=1), strict=True)}

    @property
    def skill(self) -> Floats:
        """(annotators) probability of saying what is true, labels as common as they are."""
        right: Floats = np.diagonal(self.confusion, axis1=1, axis2=2) @ self.prior
        return right


def dawid_skene(
    votes: Iterable[Vote],
    *,
    labels: Sequence[Hashable] | None = None,
    iterations: int = 100,
    tolerance: float = 0.0,
    floor: float = 1e-10,
    smoothing: float = 0.0,
    gold: Mapping[Hashable, Hashable] | None = None,
    swap: Mapping[Hashable, Hashable] | None = None,
) -> DawidSkene:
    """Return the maximum-likelihood labels and confusion matrices by expectation maximisation.

    Starts from the shares of the votes. One iteration is: prior and confusion matrices from the posteriors, then
    posteriors from those (Dawid and Skene 1979, eqs. 2.3 to 2.5).

    Args:
        votes: (item, annotator, label). Two votes of one annotator on one item are two observations.
        labels: all labels; None = the sorted labels that occur.
        iterations: at most that many.
        tolerance: stop when the objective rose by less (nats); 0 = make all iterations.
        floor: expected counts in the confusion matrices are at least this, so that what an annotator was never
            seen to say is very unlikely instead of impossible. The paper has no such floor.
        smoothing: added to every expected count, a Dirichlet prior on each row of the confusion matrices. With
            few votes an annotator (below about 20) 0 is over-confident; 1 is a usual choice.
        gold: item -> its true label: the posterior of these items is certain, and their votes teach what the
            annotators are worth.
        swap: label -> what it becomes when the two replies change places, e.g. {"first": "second", "second":
            "first"}. Which reply is called the first means nothing; prior and matrices are then kept symmetric, so
            that they cannot learn a preference for a name. None = no symmetry.

    Returns:
        Posteriors, prior and confusion matrices of the last iteration.

    Raises:
        ValueError: if there are no votes, a label is unknown, or a setting is out of range.
    """
    if iterations < 1 or floor <= 0 or smoothing < 0:
        raise ValueError("iterations must be at least 1, floor above 0 and smoothing not negative")
    ballots = encode(votes, labels, gold)
    image = mirror(ballots.labels, swap)
    num = len(ballots.labels)

    def symmetric(posterior: Floats) -> Floats:
        prior = posterior.mean(axis=0)
        return (prior + prior[image]) / 2

    def model(posterior: Floats, before: Step[Floats] | None) -> Step[Floats]:
        del before
        given_true = np.zeros((len(ballots.annotators), num, num))  # annotator, given, true
        np.add.at(given_true, (ballots.who, ballots.label), posterior[ballots.item])
        counts = given_true.swapaxes(1, 2)
        counts = (counts + counts[:, image][:, :, image]) / 2
        confusion = np.maximum(counts, floor) + smoothing
        confusion /= confusion.sum(axis=2, keepdims=True)
        penalty = smoothing * float(np.log(confusion).sum())
        with np.errstate(divide="ignore"):  # a label nobody gave has prior 0, log -inf, posterior 0
            log_prior = np.log(symmetric(posterior))
        return Step(log_prior, np.log(confusion)[ballots.who, :, ballots.label], penalty, confusion)

    found = maximise(ballots, model, iterations=iterations, tolerance=tolerance)
    return DawidSkene(
        ballots.items,
        ballots.annotators,
        ballots.labels,
        found.posterior,
        symmetric(found.posterior),
        found.step.parameters,
        found.log_likelihood,
        found.objective,
    )
