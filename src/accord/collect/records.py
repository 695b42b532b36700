"""Records that cross HTTP and Python: what an annotator sees and says, and a project's rules.

A *position* is a place on the annotator's screen (0 is the left or the first). A *candidate index* is a place in the
task as it is stored. The client only knows positions; `Verdict.resolved` turns them into candidate indexes with the
order that was shown, and `Verdict.shown` back. Nothing a client receives names a model, a response id, another
person's answer or a gold answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from accord.collect.fields import FLAGS, Gate, Kind, Name, Purpose, SkipReason, Slice, Text, UserRole, storable
from accord.collect.settings import ProjectSettings, QuizRule, TiePolicy
from accord.types import Candidate, Message, Prompt, Record

__all__ = [
    "FLAGS",
    "Added",
    "Gate",
    "Guideline",
    "GuidelineRef",
    "KeyInfo",
    "Kind",
    "Name",
    "NewTask",
    "Progress",
    "ProjectSettings",
    "Purpose",
    "QuizRule",
    "Requirements",
    "Scale",
    "ShownCandidate",
    "Skip",
    "SkipReason",
    "Slice",
    "Submission",
    "Submitted",
    "TaskView",
    "Text",
    "TiePolicy",
    "User",
    "UserRole",
    "Verdict",
    "storable",
]


class Verdict(Record):
    """What one person says of one task; which fields are used depends on `kind`.

    In what a client sends the integers are positions. In the store and in exports they are candidate indexes.
    """

    kind: Kind
    position: int | None = Field(default=None, ge=0)
    """Pair: the preferred one; None for a tie or both bad."""
    strength: int | None = Field(default=None, ge=1, le=3)
    """Pair: 1 slightly, 2 better, 3 much better. With position or tie it is the 7-point scale."""
    tie: bool = False
    both_bad: bool = False
    ranking: tuple[tuple[int, ...], ...] | None = None
    """Best group first, ties share a group; what was not ranked (top-k) is left out."""
    ratings: tuple[int | None, ...] | None = None
    """Likert 1..7 by position; None = not rated."""
    flags: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    success: tuple[bool | None, ...] | None = None
    """Human evaluation: did the reply do the task, by position."""
    edit: Text | None = Field(default=None, max_length=200_000)
    edit_position: int | None = Field(default=None, ge=0)
    rationale: Text = Field(default="", max_length=4000)
    confidence: int | None = Field(default=None, ge=1, le=5)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        choices = [self.position is not None, self.tie, self.both_bad]
        if self.kind == "pair" and sum(choices) != 1:
            raise ValueError("a pair needs one of position, tie, both_bad")
        if self.kind != "pair" and any(choices):
            raise ValueError(f"position, tie and both_bad belong to pairs, not to {self.kind}")
        if self.strength is not None and self.position is None:
            raise ValueError("strength goes with a position")
        if (self.kind == "rank") != (self.ranking is not None):
            raise ValueError("a ranking belongs to rank, and rank needs one")
        if self.kind == "rate" and not any(v is not None for v in (*(self.ratings or ()), *(self.success or ()))):
            raise ValueError("rate needs a rating or a success")
        if (self.edit is None) != (self.edit_position is None):
            raise ValueError("edit and edit_position go together")
        if self.kind == "edit" and self.edit is None:
            raise ValueError("edit needs the edited text")
        self._plausible()
        return self

    def _plausible(self) -> None:
        if self.ranking is not None:
            named = [i for group in self.ranking for i in group]
            if not named or not all(self.ranking) or len(set(named)) != len(named) or min(named) < 0:
                raise ValueError("a ranking has no empty group and names each position at most once")
        if any(r is not None and not 1 <= r <= 7 for r in self.ratings or ()):
            raise ValueError("ratings go from 1 to 7")
        if any(position < 0 for position in self.flags):
            raise ValueError("flags belong to positions 0, 1, ...")
        if self.edit is not None and not self.edit.strip():
            raise ValueError("the edited text is empty")

    def resolved(self, order: Sequence[int]) -> Self:
        """Return the same verdict with candidate indexes for positions.

        Args:
            order: candidate index at each position, a permutation.
        """
        place = {candidate: position for position, candidate in enumerate(order)}
        return self._renamed(dict(enumerate(order)), [place[c] for c in range(len(order))])

    def shown(self, order: Sequence[int]) -> Self:
        """Return the same verdict with positions for candidate indexes; the inverse of `resolved`."""
        place = {candidate: position for position, candidate in enumerate(order)}
        return self._renamed(place, list(order))

    def _renamed(self, new: Mapping[int, int], take: Sequence[int]) -> Self:
        """Rename indexes by `new`; entry i of a per-reply list comes from place take[i]."""
        one = {name: None if (v := getattr(self, name)) is None else new[v] for name in ("position", "edit_position")}
        each = {
            name: None if (values := getattr(self, name)) is None else tuple(values[i] for i in take)
            for name in ("ratings", "success")
        }
        ranking = None
        if self.ranking is not None:
            ranking = tuple(tuple(sorted(new[i] for i in group)) for group in self.ranking)
        flags = {new[i]: names for i, names in sorted(self.flags.items(), key=lambda item: new[item[0]])}
        return self.model_copy(update={**one, **each, "ranking": ranking, "flags": flags})


class Submission(Record):
    """One answer of an annotator, as the client sends it."""

    assignment: Name
    key: Annotated[Text, Field(min_length=8, max_length=100)]
    """Made by the client, once for this answer: sending it again is harmless."""
    verdict: Verdict
    dwell_ms: int = Field(default=0, ge=0, le=10**9)
    """From both replies visible to the answer."""
    seen_ms: int = Field(default=0, ge=0, le=10**9)
    """How much of that the page was in the foreground."""
    client: dict[str, Any] = Field(default_factory=dict)
    """Small facts about the client (device, keyboard or not); at most 2,000 characters of JSON."""

    @model_validator(mode="after")
    def _small(self) -> Self:
        if len(text := json.dumps(self.client, allow_nan=False)) > 2000 or "\\u0000" in text:
            raise ValueError("client is for small facts: at most 2,000 characters of JSON, no NUL")
        return self


class Skip(Record):
    """The annotator cannot or does not want to judge this task."""

    assignment: Name
    key: Annotated[Text, Field(min_length=8, max_length=100)]
    reason: SkipReason
    comment: Text = Field(default="", max_length=2000)


class ShownCandidate(Record):
    """One reply as an annotator sees it: where, and its text."""

    position: int
    text: str


class Scale(Record):
    """Which answers the page offers."""

    strength: bool
    tie: bool
    both_bad: bool
    rating: tuple[int, int] = (1, 7)
    success: bool = False


class Requirements(Record):
    """What an answer must have before it can be sent."""

    rationale: bool
    seen: bool
    """All replies must have been scrolled to their end."""
    ratings: bool


class GuidelineRef(Record):
    """Which written rules were in force."""

    id: str
    version: int


class Guideline(Record):
    """The written rules of a project, one version."""

    id: str
    version: int
    markdown: str
    sha256: str
    author: str | None = None
    """User id; None = from the command line."""
    created_at: datetime


class Progress(Record):
    """How far one annotator is."""

    done: int
    today: int
    remaining: int
    """Tasks this person could still be given, gold not counted; above ten in round tens."""
    eta_seconds: float | None
    gold_right: int | None
    gold_total: int | None
    """Hidden tests answered, in steps of five, so that no single one is given away."""


class TaskView(Record):
    """All an annotator gets to know of a task."""

    assignment: str
    kind: Kind
    purpose: Purpose
    messages: tuple[Message, ...]
    candidates: tuple[ShownCandidate, ...]
    flags: tuple[str, ...]
    scale: Scale
    guideline: GuidelineRef | None
    require: Requirements
    lease_expires_at: datetime
    progress: Progress
    can_undo: bool
    previous: Verdict | None = None
    """After an undo: the answer that is being revised, in positions."""


class Submitted(Record):
    """What became of an answer."""

    annotation: str
    repeated: bool = False
    """The same answer had arrived before; nothing was stored again."""
    extra: bool = False
    """It came after the lease, when the task had all its labels: kept, not counted."""


class User(Record):
    """A person or program with access."""

    id: str
    handle: str
    role: UserRole
    pseudonym: str
    """The only name exports carry."""
    groups: tuple[str, ...]
    disabled: bool
    blocked: str | None
    """Why this person gets no more tasks; None = not blocked."""
    qualified: bool
    """Let in by hand; a passed quiz counts for its own project (`gold.qualified`)."""
    created_at: datetime


class KeyInfo(Record):
    """An API key without its secret."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewTask(Record):
    """A task to add."""

    kind: Kind
    prompt: Prompt
    candidates: tuple[Candidate, ...] = Field(min_length=1, max_length=9)
    key: str = ""
    """Tasks with the same key in a project are the same task; empty = made from the content."""
    overlap: int | None = Field(default=None, ge=1, le=100)
    """Labels wanted; None = the project's, by slice."""
    priority: int = 0
    slice: Slice | None = None
    """None = drawn by the project's `random_slice`."""
    policy: str = Field(default="random", max_length=50)
    propensity: float | None = Field(default=None, gt=0, le=1)
    gold: dict[str, Any] | None = None
    """The right answer, which makes it a hidden test; `gold.Gold` has the fields, indexes are those of candidates."""
    purpose: Purpose = "label"
    authors: tuple[str, ...] = ()
    """Handles or pseudonyms of users who wrote the prompt or helped; they never get the task. A candidate whose model
    is "human:<pseudonym>" is that person's, and adds them."""
    tags: tuple[str, ...] = ()
    meta: dict[str, Any] = Field(default_factory=dict)


class Added(Record):
    """What became of new tasks."""

    added: int
    known: int
    """Keys that were there already; nothing changed."""
