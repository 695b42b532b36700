"""The rules of one project: what is asked, of how many people, and when somebody is not asked any more."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from accord.collect.fields import FLAGS, Gate, Kind, Name
from accord.types import Record

TiePolicy = Literal["tie", "drop", "adjudicate", "random"]


class QuizRule(Record):
    """When a qualification quiz is passed."""

    items: int = Field(default=10, ge=1, le=100)
    """Questions in one attempt."""
    rule: Literal["share", "beta"] = "share"
    """share: at least `share` right. beta: P(accuracy < share) below 1 - confidence, uniform prior."""
    share: float = Field(default=0.8, gt=0, le=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    attempts: int = Field(default=3, ge=1, le=100)
    """Attempts a person has."""


class ProjectSettings(Record):
    """Rules of a project. Stored with it; every change is an event."""

    kinds: tuple[Kind, ...] = ("pair", "rank", "rate", "edit")
    flags: tuple[Name, ...] = FLAGS
    """Yes-or-no questions per reply."""
    tie: bool = True
    both_bad: bool = True
    strength: bool = True
    """Ask how much better: the 7-point scale."""
    require_rationale: bool = False
    require_ratings: bool = False
    """Ask for a rating of every reply, also in pairs and rankings."""
    min_seen: bool = True
    """Sending waits until every reply was scrolled to its end."""
    overlap: int = Field(default=1, ge=1, le=100)
    """Labels a task, outside the random slice."""
    random_slice: float = Field(default=0.15, ge=0, le=1)
    """Share of tasks whose agreement is measured."""
    slice_overlap: int = Field(default=3, ge=1, le=100)
    """Labels a task in the random slice."""
    escalate_overlap: int = Field(default=5, ge=1, le=100)
    """Labels a task gets when people disagree; no more than `slice_overlap` = never."""
    escalate_below: float = Field(default=0.7, ge=0, le=1)
    """More labels are asked for while the largest share of equal answers is below this."""
    adjudicate_below: float = Field(default=0.7, ge=0, le=1)
    """With all labels in, below this an adjudicator decides."""
    skips_to_adjudicate: int = Field(default=3, ge=1)
    """So many people skipped it: an adjudicator looks at it."""
    gold_rate: float = Field(default=0.1, ge=0, le=0.9)
    """Chance that the next task is a hidden test."""
    gold_rate_new: float = Field(default=0.5, ge=0, le=0.9)
    """The same for new people: until they have answered `gold_new` hidden tests, and these speak for them."""
    gold_new: int = Field(default=10, ge=0)
    """0 = nobody is new."""
    repeat_rate: float = Field(default=0.04, ge=0, le=0.5)
    """Chance that the next task is one the person has judged, in reverse order."""
    repeat_after: int = Field(default=10, ge=1)
    """Answers that must lie between a task and its repeat."""
    lease_seconds: int = Field(default=900, ge=1, le=86_400)
    """How long a served task is held; a heartbeat extends it."""
    max_open: int = Field(default=2, ge=1, le=20)
    """Tasks one person may hold: the current one and the one fetched ahead."""
    daily_cap: int | None = Field(default=None, ge=1)
    """Answers a person a day (UTC); None = no cap."""
    gate: Gate = "sprt"
    """How the hidden tests block people: sprt = `stats.sequential_gold`; beta = once P(share right < `gate_bad`)
    exceeds 1 - `gate_miss`, uniform prior; off = never."""
    gate_bad: float = Field(default=0.5, gt=0, lt=1)
    """Share right of somebody to be blocked."""
    gate_good: float = Field(default=0.75, gt=0, lt=1)
    """Share right of somebody to be kept (sprt)."""
    gate_error: float = Field(default=0.02, gt=0, lt=0.5)
    """Chance of ever blocking somebody who is right with probability `gate_good` (sprt)."""
    gate_miss: float = Field(default=0.05, gt=0, lt=0.5)
    """Chance of passing somebody to be blocked (sprt); what may remain of doubt (beta)."""
    gate_horizon: int = Field(default=60, ge=1)
    """Hidden tests after which nobody is undecided (sprt)."""
    gate_least: int = Field(default=5, ge=1)
    """Hidden tests before anybody is blocked."""
    quiz_pass: QuizRule | None = None
    """None = no quiz."""
    tie_policy: TiePolicy = "adjudicate"
    """How a majority vote without a majority is read."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gold_rate + self.repeat_rate > 0.95 or self.gold_rate_new + self.repeat_rate > 0.95:
            raise ValueError("gold and repeats together must leave room for new tasks (at most 0.95)")
        if self.gate == "sprt" and self.gate_bad >= self.gate_good:
            raise ValueError("gate_bad must be below gate_good")
        return self
