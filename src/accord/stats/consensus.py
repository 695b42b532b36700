"""True labels under models with one or two numbers an annotator: one-coin, MACE, GLAD.

All start from the shares of the votes, so that the result depends on the votes alone, and all maximise a penalised
likelihood: `objective` never falls.

Deviations from the papers:
1. MACE (Hovy et al. 2013) restarts at random points and uses variational Bayes; here one start and a penalised
   likelihood with pseudo-counts (its `smoothing`).
2. GLAD (Whitehill et al. 2009) has two labels; a wrong answer is spread evenly over the other labels.
3. `swap` keeps everything the same when the two replies of a comparison change places.
4. One-coin can spread wrong answers by how often the labels are given (`spread="shares"`) instead of evenly. Where one
   label is rare, as ties are, a wrong vote for a reply nearly always stands where the other reply is right, and a model
   that gives the tie an equal part takes every vote for up to twice the odds it has.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from accord.stats.agreement import Vote
from accord.stats.arrays import Floats
from accord.stats.em import Ballots, Fitted, Step, encode, maximise, mirror

P = TypeVar("P")
_FLOOR = 1e-10
"""Probabilities stay this far from 0 and 1."""


@dataclass(frozen=True)
class Consensus:
    """What is believed about items and annotators."""

    method: str
    """Name of the model."""
    items: tuple[Hashable, ...]
    """Items, in order of first appearance."""
    annotators: tuple[Hashable, ...]
    """Annotators, in order of first appearance."""
    labels: tuple[Hashable, ...]
    """Labels, the columns of `posterior`."""
    posterior: Floats
    """(items, labels) probability that this is the item's label."""
    skill: Floats
    """(annotators) probability of saying what is true; on an item of average difficulty with GLAD."""
    log_likelihood: tuple[float, ...] = ()
    """Of the votes, in nats, under each iteration's model."""
    objective: tuple[float, ...] = ()
    """The same plus the log prior of the parameters, up to a constant; never falls."""
    note: str = ""
    """What a reader has to know, e.g. that another model was asked for."""

    @property
    def best(self) -> dict[Hashable, Hashable]:
        """The likeliest label of each item; of equally likely ones the first."""
        return {item: self.labels[int(i)] for item, i in zip(self.items, self.posterior.argmax(axis=1), strict=True)}

    @property
    def skills(self) -> dict[Hashable, float]:
        """Annotator -> probability of saying what is true."""
        return {who: float(s) for who, s in zip(self.annotators, self.skill, strict=True)}


@dataclass(frozen=True)
class Mace:
    """A consensus with what MACE knows of each annotator."""

    consensus: Consensus
    competence: Floats
    """(annotators) probability of not spamming, theta."""
    strategy: Floats
    """(annotators, labels) what the annotator says when spamming, xi."""


@dataclass(frozen=True)
class Glad:
    """A consensus with abilities and difficulties."""

    consensus: Consensus
    ability: Floats
    """(annotators) alpha: 0 = guesses, below 0 = says the opposite."""
    easiness: Floats
    """(items) log beta: the smaller, the harder; P(right) = sigmoid(alpha * exp(log beta))."""


def one_coin(
    votes: Iterable[Vote],
    *,
    labels: Sequence[Hashable] | None = None,
    gold: Mapping[Hashable, Hashable] | None = None,
    swap: Mapping[Hashable, Hashable] | None = None,
    prior: tuple[float, float] = (3.0, 1.0),
    spread: Literal["even", "shares"] = "even",
    iterations: int = 100,
    tolerance: float = 1e-9,
) -> Consensus:
    """Return labels where each annotator is right with one probability, whatever is true (Dawid-Skene, one coin).

    Args:
        votes: (item, annotator, label).
        labels: all labels; None = the sorted labels that occur.
        gold: item -> its true label; certain, and teaches what the annotators are worth.
        swap: as for `dawid_skene`; here it keeps the labels' own frequencies symmetric.
        prior: imagined right and wrong answers of each annotator. (0, 0) is maximum likelihood; with few votes that
            is over-confident.
        spread: of wrong answers over the labels that are not true: evenly, or in proportion to all votes for them.
        iterations: at most that many.
        tolerance: stop when the objective rose by less (nats).

    Raises:
        ValueError: if there are no votes, a label is unknown or a setting is out of range.
    """
    right, wrong = prior
    if right < 0 or wrong < 0:
        raise ValueError(f"imagined answers must not be negative, got {prior}")
    ballots = encode(votes, labels, gold)
    image = mirror(ballots.labels, swap)
    log_part = _log_parts(ballots, image, spread)
    done = ballots.by_annotator(np.ones(len(ballots.who)))

    def model(posterior: Floats, before: Step[Floats] | None) -> Step[Floats]:
        del before
        agreed = ballots.by_annotator(posterior[ballots.item, ballots.label])
        skill = np.clip((agreed + right) / (done + right + wrong), _FLOOR, 1 - _FLOOR)
        own = ballots.said
        log_wrong = np.log1p(-skill)[ballots.who, None] + log_part[ballots.label]
        log_given = own * np.log(skill)[ballots.who, None] + (1 - own) * log_wrong
        penalty = float((right * np.log(skill) + wrong * np.log1p(-skill)).sum())
        return Step(_log_mean(posterior, image), log_given, penalty, skill)

    found = maximise(ballots, model, iterations=iterations, tolerance=tolerance)
    return _consensus("one_coin", ballots, found, found.step.parameters)


def mace(
    votes: Iterable[Vote],
    *,
    labels: Sequence[Hashable] | None = None,
    gold: Mapping[Hashable, Hashable] | None = None,
    swap: Mapping[Hashable, Hashable] | None = None,
    smoothing: float = 0.1,
    iterations: int = 200,
    tolerance: float = 1e-9,
) -> Mace:
    """Return labels where an annotator either knows the truth or spams (Hovy et al. 2013, "Learning whom to trust").

    P(label | truth) = theta [label = truth] + (1 - theta) xi[label]. Nobody is systematically wrong in this model:
    an adversary looks like a spammer.

    Args:
        votes: (item, annotator, label).
        labels: all labels; None = the sorted labels that occur.
        gold: item -> its true label; certain, and teaches what the annotators are worth.
        swap: as for `dawid_skene`: what is said when spamming then prefers neither reply.
        smoothing: imagined votes of each kind (knowing, spamming, each label when spamming).
        iterations: at most that many.
        tolerance: stop when the objective rose by less (nats).

    Raises:
        ValueError: if there are no votes, a label is unknown or a setting is out of range.
    """
    if smoothing < 0:
        raise ValueError(f"smoothing must not be negative, got {smoothing}")
    ballots = encode(votes, labels, gold)
    image = mirror(ballots.labels, swap)
    num, size = len(ballots.annotators), len(ballots.labels)
    own = ballots.said
    uniform = np.full(size, -np.log(size))

    def knowing(theta: Floats, xi: Floats) -> Floats:
        """(votes) probability of having known the truth, if the label given is the truth."""
        known, spam = theta[ballots.who], (1 - theta)[ballots.who] * xi[ballots.who, ballots.label]
        return known / (known + spam)

    def model(posterior: Floats, before: Step[tuple[Floats, Floats]] | None) -> Step[tuple[Floats, Floats]]:
        theta, xi = before.parameters if before else (np.full(num, 0.5), np.full((num, size), 1 / size))
        knew = posterior[ballots.item, ballots.label] * knowing(theta, xi)
        spam: Floats = np.zeros((num, size))
        np.add.at(spam, (ballots.who, ballots.label), 1 - knew)
        spam = (spam + spam[:, image]) / 2 + smoothing
        known = ballots.by_annotator(knew) + smoothing
        theta = np.clip(known / (known + spam.sum(axis=1) - smoothing * (size - 1)), _FLOOR, 1 - _FLOOR)
        xi = np.maximum(spam, _FLOOR) / np.maximum(spam, _FLOOR).sum(axis=1, keepdims=True)
        spammed = (1 - theta)[ballots.who] * xi[ballots.who, ballots.label]
        log_given = np.log(own * theta[ballots.who, None] + spammed[:, None])
        penalty = smoothing * float(np.log(theta).sum() + np.log1p(-theta).sum() + np.log(xi).sum())
        return Step(uniform, log_given, penalty, (theta, xi))

    found = maximise(ballots, model, iterations=iterations, tolerance=tolerance)
    theta, xi = found.step.parameters
    consensus = _consensus("mace", ballots, found, theta + (1 - theta) * (xi @ found.posterior.mean(axis=0)))
    return Mace(consensus, theta, xi)


def glad(
    votes: Iterable[Vote],
    *,
    labels: Sequence[Hashable] | None = None,
    gold: Mapping[Hashable, Hashable] | None = None,
    iterations: int = 100,
    tolerance: float = 1e-6,
) -> Glad:
    """Return labels where items differ in difficulty (Whitehill et al. 2009, "Whose vote should count more").

    P(right) = sigmoid(alpha * exp(b)) with the paper's priors alpha ~ N(1, 1) and b ~ N(1, 1); all labels are
    equally common.

    Args:
        votes: (item, annotator, label).
        labels: all labels; None = the sorted labels that occur.
        gold: item -> its true label; certain, and teaches what the annotators are worth.
        iterations: at most that many.
        tolerance: stop when the objective rose by less (nats).

    Raises:
        ValueError: if there are no votes or a label is unknown.
    """
    ballots = encode(votes, labels, gold)
    num, size = len(ballots.annotators), len(ballots.labels)
    own = ballots.said
    others = np.log(max(size - 1, 1))
    uniform = np.full(size, -np.log(size))

    def loss(x: Floats, right: Floats) -> tuple[float, Floats]:
        """Negative expected log-likelihood and log prior, and the gradient."""
        alpha, easy = x[:num], x[num:]
        beta = np.exp(easy)[ballots.item]
        t = alpha[ballots.who] * beta
        value = float((right * log_expit(t) + (1 - right) * (log_expit(-t) - others)).sum())
        value -= 0.5 * float(((x - 1) ** 2).sum())
        slope = right - expit(t)
        by_item = np.bincount(ballots.item, weights=slope * t, minlength=len(ballots.items))
        return -value, -(np.concatenate([ballots.by_annotator(slope * beta), by_item]) - (x - 1))

    def model(posterior: Floats, before: Step[Floats] | None) -> Step[Floats]:
        start = before.parameters if before else np.ones(num + len(ballots.items))
        right = posterior[ballots.item, ballots.label]
        best = cast(Any, minimize)(loss, start, args=(right,), jac=True, method="L-BFGS-B", options={"maxiter": 50})
        # A line search that fails must not undo what the iteration before had reached.
        x = cast(Floats, best.x) if best.fun <= loss(start, right)[0] else start
        t = x[:num][ballots.who] * np.exp(x[num:])[ballots.item]
        log_given = own * log_expit(t)[:, None] + (1 - own) * (log_expit(-t) - others)[:, None]
        return Step(uniform, log_given, -0.5 * float(((x - 1) ** 2).sum()), x)

    found = maximise(ballots, model, iterations=iterations, tolerance=tolerance)
    alpha, easy = found.step.parameters[:num], found.step.parameters[num:]
    skill = cast(Floats, expit(alpha * float(np.exp(easy.mean()))))
    return Glad(_consensus("glad", ballots, found, skill), alpha, easy)


def _log_parts(ballots: Ballots, image: np.ndarray[Any, Any], spread: Literal["even", "shares"]) -> Floats:
    """(labels given, true labels) log of the part of wrong answers that is this label; the diagonal means nothing."""
    number = len(ballots.labels)
    if spread == "even":
        return np.full((number, number), -np.log(max(number - 1, 1)))
    count = np.bincount(ballots.label, minlength=number) + 0.5
    share = (count + count[image]) / (2 * count.sum())
    return np.log(share)[:, None] - np.log1p(-np.minimum(share, 1 - _FLOOR))[None, :]


def _log_mean(posterior: Floats, image: np.ndarray[Any, Any]) -> Floats:
    """Log of the mean posterior, the same for mirror images."""
    prior = posterior.mean(axis=0)
    with np.errstate(divide="ignore"):
        return np.log((prior + prior[image]) / 2)


def _consensus(method: str, ballots: Ballots, found: Fitted[Any], skill: Floats) -> Consensus:
    return Consensus(
        method=method,
        items=ballots.items,
        annotators=ballots.annotators,
        labels=ballots.labels,
        posterior=found.posterior,
        skill=skill,
        log_likelihood=found.log_likelihood,
        objective=found.objective,
    )
