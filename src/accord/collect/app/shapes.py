"""Bodies of requests and answers of the JSON API that the store has no record for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import ConfigDict, Field

from accord.collect.app.security import Scope
from accord.collect.quiz import NewQuizItem, QuizItem, QuizOutcome, QuizPass, QuizScore
from accord.collect.records import Name, NewTask, Text, UserRole, Verdict
from accord.collect.records import Progress as OwnProgress
from accord.types import Record

ProjectName = Annotated[
    Annotated[Text, Field(min_length=1, max_length=100)] | None, Query(description="project; the site's when missing")
]
Password = Annotated[str, Field(min_length=10, max_length=200)]
Scopes = Annotated[tuple[Scope, ...], Field(min_length=1, max_length=5)]
ExportKind = Literal["preferences", "pairs", "rankings", "unpaired", "demonstrations", "annotations"]
ExportFormat = Literal["jsonl", "parquet", "hf"]
ImportKind = Literal["auto", "pair", "rank", "rate", "edit"]
Groups = Annotated[tuple[Name, ...], Field(max_length=20)]


class Done(Record):
    """It is done, and there is nothing else to say."""

    ok: Literal[True] = True


class SkipResult(Done):
    """The task is given back."""

    progress: OwnProgress


class Me(Record):
    """The person or program that asks."""

    handle: str
    role: UserRole
    csrf: str
    """For the header X-CSRF-Token; empty for API keys, which need none."""
    project: str
    qualified: bool
    """False while the project's quiz is not passed."""


class NewPassword(Record):
    """A change of one's own password."""

    old: str = Field(max_length=1000)
    new: Password


class SessionRenewed(Record):
    """The session goes on under a new token."""

    csrf: str


class ClaimRequest(Record):
    """A wish for a task."""

    project: Name | None = None
    prefetch: bool = False
    """It is the one after the current task."""


class AssignmentRef(Record):
    """One's assignment."""

    assignment: Name


class ReleaseRequest(AssignmentRef):
    """A task given back."""

    csrf: str = Field(default="", max_length=200)


class SubmitResult(Record):
    """What became of a verdict."""

    annotation: str
    repeated: bool
    extra: bool
    progress: OwnProgress


class GuidelineText(Record):
    """The guidelines in force; version 0 with no text while none are written."""

    id: str | None
    version: int
    markdown: str


class QuizView(Record):
    """The qualification; no items when it is passed, or no attempt is left."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    items: tuple[QuizItem, ...]
    required: QuizPass | None = Field(default=None, alias="pass")
    result: QuizScore | None = None
    """Of the latest attempt."""
    attempts_left: int


class QuizAnswer(Record):
    """The answer to one question."""

    id: Name
    verdict: Verdict


class QuizAnswers(Record):
    """All answers of an attempt."""

    answers: tuple[QuizAnswer, ...] = Field(min_length=1, max_length=100)


class QuizResult(QuizOutcome):
    """How the attempt went, and where to go next."""

    next: str


class NewQuiz(Record):
    """Questions to add."""

    items: tuple[NewQuizItem, ...] = Field(min_length=1, max_length=500)
    replace: bool = False
    """Retire those that are there."""


class TaskIds(Record):
    """Tasks, by id."""

    tasks: tuple[Name, ...] = Field(min_length=1, max_length=10_000)


class Count(Record):
    """How many it were."""

    count: int


class NewUser(Record):
    """A person or program to add."""

    handle: Name
    role: UserRole = "annotator"
    password: Password | None = None
    """None: logs in with keys only, or by a later invitation."""
    groups: Groups = ()


class Disable(Record):
    """Whether a person is kept out."""

    disabled: bool = True


class Qualify(Record):
    """An admin's word on whether a person labels."""

    qualified: bool


class NewInvitation(Record):
    """An invitation to make."""

    role: UserRole = "annotator"
    groups: Groups = ()
    expires_hours: float = Field(default=168.0, gt=0, le=24 * 366)


class InvitationLink(Record):
    """The address to send; it works once."""

    url: str


class NewKey(Record):
    """An API key to make."""

    handle: Name
    """Whose key."""
    name: Annotated[Text, Field(max_length=100)] = "key"
    scopes: Scopes
    expires_days: float | None = Field(default=365.0, gt=0, le=3660)


class KeySecret(Record):
    """A new key; the secret is shown this once."""

    id: str
    secret: str
    prefix: str


class NewGuidelines(Record):
    """The next version of the guidelines."""

    markdown: Annotated[Text, Field(min_length=1, max_length=500_000)]


class GuidelineVersion(Record):
    """That version."""

    version: int
    id: str


class GoldItem(Record):
    """A task made a hidden test, or an ordinary task again."""

    task: Name
    gold: dict[str, Any] | None
    """The right answer in candidate indexes: the fields of a verdict, or several of them under "accept"."""


class NewTasks(Record):
    """Tasks to add."""

    items: tuple[NewTask, ...] = Field(min_length=1, max_length=10_000)


class Refused(Record):
    """Why one row was not added."""

    line: int
    why: str


class Imported(Record):
    """What became of an import."""

    added: int
    repeated: int
    """Known already: importing the same again changes nothing."""
    refused: tuple[Refused, ...] = ()
    """The first thousand of them."""
    refused_total: int = 0
    leaking: int = 0
    """Replies that name a model or its maker."""


class Decision(Record):
    """An adjudicator's verdict; its integers are positions in the item's `candidates`."""

    verdict: Verdict
    reason: Annotated[Text, Field(max_length=4000)] = ""
    gold: bool = False
    """Use the task as a hidden test from now on, with this as its right answer."""


class Adjudicated(Record):
    """The stored decision."""

    adjudication: str


class ChainCheck(Record):
    """Whether the chain of events is whole."""

    intact: bool
    events: int
    head: str
    """Hash of the last event; keep it elsewhere to notice when the end is cut off."""
    first_bad: str | None = None


class Answer(Record):
    """Base of answers that may gain fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class UserEntry(Answer):
    """A person as an admin sees them."""

    id: str
    handle: str
    role: UserRole
    pseudonym: str
    groups: tuple[str, ...]
    disabled: bool
    created_at: datetime
    last_seen: datetime | None = None


class InvitationEntry(Answer):
    """An invitation, without its token."""

    id: str
    role: UserRole
    groups: tuple[str, ...]
    expires_at: datetime
    used_by: str | None


class KeyEntry(Answer):
    """A key, without its secret."""

    id: str
    handle: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    revoked: bool


class People(Answer):
    """Everybody with access, and who may come."""

    users: tuple[UserEntry, ...]
    invitations: tuple[InvitationEntry, ...]
    keys: tuple[KeyEntry, ...]
