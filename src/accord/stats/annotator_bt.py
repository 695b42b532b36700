"""Strengths from comparisons by annotators of different skill and with a preference for one side.

    x = b_w (s_first - s_second) + g_w,   P(first) = sigmoid(x)

Annotator w sees the difference of the strengths enlarged by b_w (1 = as the average, 0 = not at all: a spammer, below 0
= the wrong way round: an adversary) and leans by g_w to whatever is shown first. Plain Bradley-Terry is b = 1, g = 0.
In place of Crowd-BT (Chen et al. 2013), whose spammers flip coins but press no side.

Identification: strengths are shifted to mean 0 in each connected part of the comparisons (numbers of two parts mean
nothing to each other; `components` says which they are), the mean of b is held at 1, and priors b ~ N(1, 1),
g ~ N(0, 1), s ~ N(0, 1 / ridge) keep what few votes say finite. The prior's `ridge` is estimated unless given.

This is for things that are compared often: models, or the replies of one prompt. Where every pair is its own and is
judged two or three times, use `annotator_pairs`, which integrates over the strengths.
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from scipy.special import ndtr

from accord.stats.arrays import Floats, percentiles, resamples
from accord.stats.bt_outcomes import Ties, share_of_first
from accord.stats.bt_posterior import Judged, Posterior, Settings
from accord.stats.em import Integers
from accord.stats.intervals import Interval

_RIDGES = 12
"""Rounds of estimating the spread of the strengths; each moves less than half as far as the one before."""
_OFTEN = 10
"""Judgements a thing from which on the spread of the strengths is estimated; with fewer the estimate goes to 0."""
_USUAL = 0.5
"""The ridge otherwise: two things differ by 2 logits (one standard deviation)."""


@dataclass(frozen=True)
class AnnotatorBT:
    """Strengths, and what the annotators are worth."""

    items: tuple[Hashable, ...]
    """Things compared, in order of first appearance."""
    annotators: tuple[Hashable, ...]
    """Annotators, in order of first appearance."""
    strength: Floats
    """(items) s; mean 0 in each component."""
    skill: Floats
    """(annotators) b."""
    side: Floats
    """(annotators) g, in log odds for what is shown first."""
    tie: float | None
    """Parameter of the tie model (log nu of Davidson, log eta of Rao-Kupper); None without ties."""
    ridge: float
    """Precision of the strengths' prior that was used."""
    component: Integers
    """(items) which connected part of the comparisons."""
    covariance: tuple[Floats, ...]
    """For each component the covariance of its strengths, the annotators held fixed (Laplace)."""
    settings: Settings
    skill_interval: dict[Hashable, Interval]
    """b with its 95 % sandwich interval, clustered as asked; `n` = judgements."""
    side_interval: dict[Hashable, Interval]
    """g, likewise."""

    @property
    def components(self) -> int:
        """Number of connected parts; strengths of different parts cannot be compared."""
        return int(self.component.max()) + 1

    def preference(self, first: Hashable, second: Hashable) -> float:
        """P(an average annotator without a side prefers `first`), a tie counting half: the soft label of a pair.

        What is not known about the strengths pulls it towards one half (MacKay 1992, "The evidence framework").

        Raises:
            ValueError: if the two were never compared, not even through others.
        """
        gap, variance = self._gap(first, second)
        moderated = np.array([gap / np.sqrt(1 + np.pi * variance / 8)])
        ties: Ties = "half" if self.tie is None else self.settings.ties
        return float(share_of_first(ties, moderated, self.tie or 0.0)[0])

    def better(self, first: Hashable, second: Hashable) -> float:
        """P(`first` is stronger), in the Laplace approximation.

        Raises:
            ValueError: if the two were never compared, not even through others.
        """
        gap, variance = self._gap(first, second)
        return float(ndtr(gap / np.sqrt(variance)))

    def _gap(self, first: Hashable, second: Hashable) -> tuple[float, float]:
        i, j = self._place[first], self._place[second]
        part = int(self.component[i])
        if part != int(self.component[j]):
            raise ValueError(f"{first!r} and {second!r} were never compared, not even through others")
        a, b = self._within[i], self._within[j]
        cov = self.covariance[part]
        return float(self.strength[i] - self.strength[j]), float(cov[a, a] + cov[b, b] - 2 * cov[a, b])

    @cached_property
    def _place(self) -> dict[Hashable, int]:
        return {item: i for i, item in enumerate(self.items)}

    @cached_property
    def _within(self) -> Integers:
        return _within(self.component)


def annotator_bradley_terry(
    judged: Iterable[Judged],
    settings: Settings | None = None,
    *,
    clusters: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
) -> AnnotatorBT:
    """Return the most probable strengths, skills and sides.

    Args:
        judged: see `Judged`. A ranking enters as its pairs, each with weight 1 / (number of pairs).
        settings: priors and ties.
        clusters: e.g. the prompt of each judgement: what is independent of each other. None = every judgement.
        weights: of the judgements; None = 1.

    Raises:
        ValueError: if there are no judgements, or one is of a thing with itself or has another result.
    """
    how = settings or Settings()
    data = Posterior.of(list(judged), how, clusters, weights)
    ridge = _USUAL if how.ridge is None else how.ridge
    estimated = how.ridge is None and len(data.who) >= _OFTEN * data.num_items
    x, covariance = data.start(), ()
    for _ in range(_RIDGES):
        x = data.fit(ridge, x)
        covariance = data.item_covariance(x, ridge)
        if not estimated:
            break
        # EM for the variance of the strengths: mean of estimate squared plus what is not known of it.
        spread = sum(float(np.trace(c)) for c in covariance) + float((x[: data.num_items] ** 2).sum())
        before, ridge = ridge, data.num_items / spread
        if abs(np.log(ridge / before)) < 0.01:
            break
    return _result(data, x, ridge, covariance)


def annotator_bradley_terry_bootstrap(
    judged: Sequence[Judged],
    clusters: Sequence[Hashable],
    settings: Settings | None = None,
    *,
    seed: int = 0,
    num: int = 200,
    level: float = 0.95,
) -> dict[str, dict[Hashable, Interval]]:
    """Return percentile intervals of a bootstrap that draws whole clusters (prompts) and fits again.

    Args:
        judged: the judgements.
        clusters: the prompt of each.
        settings: as for the fit; the strengths' prior stays that of all data.
        seed: of the resampling.
        num: resamples.
        level: confidence.

    Returns:
        `strength` of each item, `skill` and `side` of each annotator. Things and annotators that a resample happens to
        leave out are there at the prior's mean, which widens the interval.
    """
    how = settings or Settings()
    full = annotator_bradley_terry(judged, how, clusters=clusters)
    data = Posterior.of(judged, how, clusters, None)
    point = np.concatenate([full.strength, full.skill, full.side, [full.tie or 0.0]])
    found: list[Floats] = []
    for weight in resamples(int(data.cluster.max()) + 1, num, seed, "annotator-bt"):
        found.append(data.reweighted(weight[data.cluster]).fit(full.ridge, point))
    drawn = np.array(found)
    counts = np.concatenate([data.games_of_items, data.votes_of_annotators, data.votes_of_annotators])
    intervals = [Interval(float(point[k]), *percentiles(drawn[:, k], level), int(n)) for k, n in enumerate(counts)]
    i, w = len(full.items), len(full.annotators)
    return {
        "strength": dict(zip(full.items, intervals[:i], strict=True)),
        "skill": dict(zip(full.annotators, intervals[i : i + w], strict=True)),
        "side": dict(zip(full.annotators, intervals[i + w :], strict=True)),
    }


def _result(data: Posterior, x: Floats, ridge: float, covariance: tuple[Floats, ...]) -> AnnotatorBT:
    s, b, g, tie = data.split(x)
    errors = data.standard_errors(x, ridge) * NormalDist().inv_cdf(0.975)
    votes = data.votes_of_annotators
    spans = [
        {
            who: Interval(float(v), float(v - errors[k, column]), float(v + errors[k, column]), int(votes[k]))
            for k, (who, v) in enumerate(zip(data.annotators, values, strict=True))
        }
        for column, values in enumerate((b, g))
    ]
    return AnnotatorBT(
        items=data.items,
        annotators=data.annotators,
        strength=s,
        skill=b,
        side=g,
        tie=None if data.ties == "half" else tie,
        ridge=ridge,
        component=data.component,
        covariance=covariance,
        settings=data.how,
        skill_interval=spans[0],
        side_interval=spans[1],
    )


def _within(component: Integers) -> Integers:
    """(items) place of each inside its component."""
    order = np.argsort(component, kind="stable")
    sizes = np.bincount(component)
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(component), dtype=np.int64)
    place[order] = np.arange(len(component)) - np.repeat(starts, sizes)
    return place
