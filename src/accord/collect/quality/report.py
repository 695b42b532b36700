"""One report on the quality of judgements: agreement, annotators, alarms, consensus, what the labels can show."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from accord.collect.groups import Contrast, GroupAgreement, contrast, group_agreement
from accord.collect.quality.agreement import (
    PairAgreement,
    agreement_with_others,
    pair_agreement,
    ranking_agreement,
    rating_agreement,
)
from accord.collect.quality.audit import Finding, audit, with_alarms
from accord.collect.quality.conduct import Conduct, conduct
from accord.collect.quality.judged import SWAP, TIE, VERDICTS, Judged, judged
from accord.errors import DataError
from accord.stats.annotator_pairs import AnnotatorPairs, annotator_pairs
from accord.stats.combine import combine
from accord.stats.consensus import Consensus, one_coin
from accord.stats.intervals import Estimate, Interval
from accord.stats.panel import Bootstrap
from accord.stats.power import Design, minimum_detectable
from accord.types import Preference


@dataclass(frozen=True)
class Person:
    """One annotator."""

    name: str
    group: str
    conduct: Conduct
    agreed: float | None
    """Share of other people's verdicts on the same pairs that are the same."""
    met: int
    """How many verdicts that is."""
    right: float | None
    """Probability of being right by the consensus, not counting difficulty."""
    skill: Interval | None
    """b of Bradley-Terry with annotators: 1 = as the average, 0 = guessing, below 0 = the wrong way round."""
    side: Interval | None
    """g: lean to what is shown first, log odds."""


@dataclass(frozen=True)
class Resolved:
    """What a model of the annotators makes of the votes."""

    method: str
    note: str
    pairs: int
    contested: int
    """Pairs where no verdict has 80 %: candidates for more labels or adjudication."""
    ties: int
    """Pairs whose likeliest verdict is a tie or both bad."""


@dataclass(frozen=True)
class Size:
    """What so many labels can show about a win rate."""

    labels: int
    labels_per_prompt: float
    icc: float | None
    """Symmetric nominal alpha: how much alike two labels of one pair are; None where it is not known."""
    effect: float
    """Design effect; with an unknown correlation that of 0.3."""
    detectable: float | None
    """Smallest win rate above one half that is found 8 times of 10."""


@dataclass(frozen=True)
class Report:
    """Everything `accord agree` says."""

    name: str
    note: str
    judgements: int
    repeats: int
    prompts: int
    unclear: int
    agreement: PairAgreement
    rankings: dict[str, Estimate] | None
    ratings: dict[str, Estimate] | None
    groups: tuple[GroupAgreement, ...]
    contrast: Contrast | None
    people: tuple[Person, ...]
    findings: tuple[Finding, ...]
    resolved: Resolved | None
    size: Size | None

    @property
    def alarms(self) -> list[Finding]:
        """What should be looked at."""
        return [f for f in self.findings if f.alarm]

    def to_json(self) -> str:
        """Everything as JSON; a number that is not defined is null with a reason beside it."""
        told = {**asdict(self), "alarms": [asdict(f) for f in self.alarms]}
        return json.dumps(_finite(told), indent=2, allow_nan=False, ensure_ascii=False, default=str) + "\n"


def quality_report(
    preferences: Sequence[Preference],
    for_agreement: Sequence[Preference] | None = None,
    *,
    name: str = "",
    note: str = "",
    how: Bootstrap | None = None,
) -> Report:
    """Measure the quality of judgements.

    Args:
        preferences: all of them, in the order they were given; the audit uses all, swapped repeats and gold too.
        for_agreement: those agreement is estimated on, e.g. of the random slice; None = all.
        name: of the data.
        note: about the choice for agreement.
        how: of the intervals.

    Raises:
        DataError: there are no judgements.
    """
    if not preferences:
        raise DataError("there are no judgements", where=name or None, fix="collect some, or name another project")
    how = how or Bootstrap()
    data = judged(preferences)
    measured = data if for_agreement is None else judged(for_agreement)
    agreement = pair_agreement(measured, how)
    simple = _simple(data)
    people, conduct_findings = conduct(data)
    grouped = [pair for pair in measured.pairs if any(j.group for j in pair.judgements)]
    several = len({j.group for pair in grouped for j in pair.judgements if j.group}) > 1
    ratings = rating_agreement(preferences, how)
    return Report(
        name=name,
        note=note,
        judgements=len(data.judgements) + len(data.rankings),
        repeats=sum(j.repeat for j in data.judgements),
        prompts=len({j.prompt for j in data.judgements}),
        unclear=data.unclear,
        agreement=agreement,
        rankings=ranking_agreement(measured.rankings, seed=how.seed) if measured.rankings else None,
        ratings=ratings if ratings["raw"].n else None,
        groups=tuple(group_agreement(grouped, seed=how.seed)) if several else (),
        contrast=contrast(grouped, seed=how.seed) if several else None,
        people=_people(data, people, simple),
        findings=tuple(with_alarms([*audit(data), *conduct_findings])),
        resolved=_resolved(data),
        size=_size(data, agreement),
    )


def _simple(data: Judged) -> Consensus | None:
    """One-coin consensus on the pairs that were judged twice or more."""
    votes = _shared(data)
    return one_coin(votes, labels=VERDICTS, swap=SWAP) if votes else None


def _shared(data: Judged) -> list[tuple[int, str, str]]:
    people: defaultdict[int, set[str]] = defaultdict(set)
    for pair, who, _ in data.votes:
        people[pair].add(who)
    return [vote for vote in data.votes if len(people[vote[0]]) > 1]


def _strengths(data: Judged) -> AnnotatorPairs | None:
    """Skills and sides, from judgements whose order is known; "both bad" orders nothing."""
    shared = {pair for pair, _, _ in _shared(data)}
    votes = [
        (j.pair, not j.turned, j.annotator, 0.5 if j.verdict == TIE else float(bool(j.upper)))
        for j in data.judgements
        if not j.repeat and j.ordered and j.verdict in (*SWAP, TIE) and j.pair in shared
    ]
    return annotator_pairs(votes, clusters=data.prompts) if len({vote[2] for vote in votes}) > 1 else None


def _people(data: Judged, conducts: dict[str, Conduct], simple: Consensus | None) -> tuple[Person, ...]:
    agreed = agreement_with_others(data)
    right = simple.skills if simple else {}
    strengths = _strengths(data)
    group = {j.annotator: j.group for j in reversed(data.judgements)}
    found = [
        Person(
            name=who,
            group=group.get(who, ""),
            conduct=how,
            agreed=agreed[who][0] if who in agreed else None,
            met=agreed[who][1] if who in agreed else 0,
            right=right.get(who),
            skill=strengths.skill_interval.get(who) if strengths else None,
            side=strengths.side_interval.get(who) if strengths else None,
        )
        for who, how in conducts.items()
        if not who.startswith("unnamed ")
    ]
    return tuple(sorted(found, key=lambda p: (-p.conduct.judgements, p.name)))


def _resolved(data: Judged) -> Resolved | None:
    votes = _shared(data)
    if not votes:
        return None
    believed = combine(votes, labels=VERDICTS, swap=SWAP)
    most = believed.posterior.max(axis=1)
    best = [believed.labels[int(k)] for k in believed.posterior.argmax(axis=1)]
    return Resolved(
        method=believed.method,
        note=believed.note,
        pairs=len(believed.items),
        contested=int((most < 0.8).sum()),
        ties=sum(label not in SWAP for label in best),
    )


def _size(data: Judged, agreement: PairAgreement) -> Size | None:
    votes = data.votes
    if not votes:
        return None
    prompts = len({j.prompt for j in data.judgements})
    nominal = next(c.symmetric.value for c in agreement.coefficients if "nominal" in c.name)
    icc = None if nominal is None else float(np.clip(nominal, 0.0, 1.0))
    ties = sum(verdict not in SWAP for _, _, verdict in votes) / len(votes)
    design = Design(max(1.0, len(votes) / prompts), 0.3 if icc is None else icc, min(ties, 0.98))
    return Size(len(votes), design.labels_per_prompt, icc, design.effect, minimum_detectable(len(votes), design))


def _finite(value: object) -> object:
    """The same with None for numbers that JSON has not."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
