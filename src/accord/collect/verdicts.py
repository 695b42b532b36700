"""Verdicts against the task they are about: do they fit it, are they right, how alike are several of them?

All integers are candidate indexes here, except in `fitting`, which gets what the client sent.
"""

# pyright: strict, reportUnknownVariableType=false
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from pydantic import Field, ValidationError, model_validator

from accord.collect.failures import Invalid
from accord.collect.fields import Kind
from accord.collect.records import ProjectSettings, Verdict
from accord.types import Record


class Gold(Record):
    """The right answer of a hidden test."""

    accept: tuple[Verdict, ...] = Field(min_length=1)
    """Any of these is right."""
    tolerance: int = Field(default=0, ge=0, le=6)
    """Ratings may be off by so much."""
    concordance: float = Field(default=1.0, gt=0, le=1)
    """Share of the pairs a right ranking orders that must be ordered alike."""

    @model_validator(mode="after")
    def _can_be_graded(self) -> Gold:
        if any(verdict.kind == "edit" for verdict in self.accept):
            raise ValueError("an edit cannot be right or wrong")
        return self


def parse_gold(gold: Mapping[str, Any] | Verdict, kind: Kind, num_candidates: int) -> Gold:
    """Return the gold answer of a task from a `Gold`, or from the fields of one right `Verdict` (kind may be left out).

    Raises:
        Invalid: it is neither, or does not fit the task.
    """
    fields: dict[str, Any] = gold.model_dump() if isinstance(gold, Verdict) else dict(gold)
    try:
        if "accept" in fields:
            accept: list[Mapping[str, Any]] = [{"kind": kind, **verdict} for verdict in fields["accept"]]
            parsed = Gold.model_validate({**fields, "accept": accept})
        else:
            parsed = Gold(accept=(Verdict.model_validate({"kind": kind, **fields}),))
    except (ValidationError, TypeError) as error:
        raise Invalid(f"this is no gold answer: {_first(error)}", fix='e.g. {"position": 0} for a pair') from error
    for verdict in parsed.accept:
        problem = "it is of another kind" if verdict.kind != kind else misfit(verdict, num_candidates)
        if not problem and kind == "rank" and not any(_order(verdict, num_candidates).values()):
            problem = "it orders nothing, so every answer would be right"
        if problem:
            raise Invalid(f"the gold answer does not fit the task: {problem}", fix="use indexes of its candidates")
    return parsed


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
    return str(error)


def misfit(verdict: Verdict, num_candidates: int) -> str | None:
    """Return why a verdict cannot be about so many candidates; None when it can."""
    named = [
        *([verdict.position] if verdict.position is not None else []),
        *(i for group in verdict.ranking or () for i in group),
        *verdict.flags,
        *([verdict.edit_position] if verdict.edit_position is not None else []),
    ]
    if any(not 0 <= i < num_candidates for i in named):
        return f"it names a place that {num_candidates} replies do not have"
    for name in ("ratings", "success"):
        values = getattr(verdict, name)
        if values is not None and len(values) != num_candidates:
            return f"{name} must have an entry for each of {num_candidates} replies"
    if verdict.kind == "pair" and num_candidates != 2:
        return "a pair has two replies"
    return None


def fitting(verdict: Verdict, kind: Kind, num_candidates: int, settings: ProjectSettings) -> None:
    """Refuse what a client should not have sent.

    Raises:
        Invalid: the verdict does not fit the task or the project's rules.
    """
    problem = misfit(verdict, num_candidates)
    if verdict.kind != kind:
        problem = f"the task asks for {kind}, not for {verdict.kind}"
    elif verdict.tie and not settings.tie:
        problem = "ties are not allowed in this project"
    elif verdict.both_bad and not settings.both_bad:
        problem = "'both bad' is not allowed in this project"
    elif verdict.strength is not None and not settings.strength:
        problem = "this project does not ask for strength"
    elif settings.require_rationale and not verdict.rationale.strip():
        problem = "this project asks for a reason"
    elif settings.require_ratings and kind != "edit" and None in (verdict.ratings or (None,)):
        problem = "this project asks for a rating of every reply"
    unknown = {name for names in verdict.flags.values() for name in names} - set(settings.flags)
    if unknown and not problem:
        problem = f"there is no flag {min(unknown)}"
    if problem:
        raise Invalid(problem, fix="correct the answer and send it again")


def outcome(verdict: Verdict) -> str:
    """Return the column `annotation.outcome` of a verdict."""
    if verdict.kind == "pair":
        return "tie" if verdict.tie else "both_bad" if verdict.both_bad else "choice"
    return {"rank": "ranking", "rate": "rating", "edit": "edit"}[verdict.kind]


def is_right(verdict: Verdict, gold: Gold, num_candidates: int) -> bool:
    """Return whether an answer to a hidden test is right."""
    return any(_like(verdict, wanted, gold, num_candidates) for wanted in gold.accept)


def _like(verdict: Verdict, wanted: Verdict, gold: Gold, num_candidates: int) -> bool:
    if wanted.kind == "pair":
        return (verdict.position, verdict.tie, verdict.both_bad) == (wanted.position, wanted.tie, wanted.both_bad)
    if wanted.kind == "rank":
        pairs, found = _order(wanted, num_candidates), _order(verdict, num_candidates)
        alike = sum(found.get(pair) == sign for pair, sign in pairs.items() if sign)
        return alike >= gold.concordance * sum(1 for sign in pairs.values() if sign) - 1e-9
    rated = all(
        w is None or (v is not None and abs(v - w) <= gold.tolerance)
        for w, v in zip(wanted.ratings or (), verdict.ratings or (None,) * len(wanted.ratings or ()), strict=False)
    )
    done = all(
        w is None or v == w
        for w, v in zip(wanted.success or (), verdict.success or (None,) * len(wanted.success or ()), strict=False)
    )
    return rated and done


def _order(verdict: Verdict, num_candidates: int) -> dict[tuple[int, int], int]:
    """1 where the first of two candidates is better, -1 where the second is, 0 for ties; what is not ranked is last."""
    groups = verdict.ranking or ()
    place = {i: n for n, group in enumerate(groups) for i in group}
    order: dict[tuple[int, int], int] = {}
    for a, b in combinations(range(num_candidates), 2):
        if a in place or b in place:
            left, right = place.get(a, len(groups)), place.get(b, len(groups))
            order[a, b] = (right > left) - (right < left)
    return order


def likeness(verdicts: Sequence[Verdict]) -> float:
    """Return how alike answers to one task are, from 0 to 1; 1 for fewer than two.

    Pairs: share of the most frequent answer. Rankings: mean over two people of the share of candidate pairs they order
    alike, of the pairs one of them orders; replies that nobody ranked say nothing. Ratings: 1 - mean absolute
    difference / 6. Edits: always 1.
    """
    if len(verdicts) < 2 or verdicts[0].kind == "edit":
        return 1.0
    if verdicts[0].kind == "pair":
        counts = Counter((v.position, v.tie, v.both_bad) for v in verdicts)
        return max(counts.values()) / len(verdicts)
    if verdicts[0].kind == "rank":
        named = [i for v in verdicts for group in v.ranking or () for i in group]
        orders = [_order(v, max(named) + 1) for v in verdicts]
        return _mean(
            _mean(float(a.get(pair) == b.get(pair)) for pair in a.keys() | b.keys()) for a, b in combinations(orders, 2)
        )
    return _mean(
        1 - abs(x - y) / 6
        for a, b in combinations([v.ratings or () for v in verdicts], 2)
        for x, y in zip(a, b, strict=False)
        if x is not None and y is not None
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 1.0
