"""The tables. Labels and events are only ever added: triggers of the migrations refuse UPDATE and DELETE on both.

What is counted when a task is served:  task.n_claimed  open assignments (a lease that ran out is taken back by the
next claim), task.n_done  labels that count. An assignment is one person and one task, once; undo and edit add an
annotation that supersedes the one before.

`lane` keeps hidden tests and repeats out of the common queue. The queue's order is (precedence, turn, id): precedence
is minus the priority, turns interleave the selection policies.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from accord.collect.tables import (
    ID,
    ApiKeyRow,
    DatasetSnapshotRow,
    EventRow,
    GuidelineRow,
    InvitationRow,
    Map,
    ModelVersionRow,
    ProfileRow,
    ProjectRow,
    QuizItemRow,
    QuizResultRow,
    Row,
    Rows,
    SessionRow,
    UserRow,
    id_column,
    maybe,
    one_of,
    ref,
)

__all__ = [
    "AdjudicationRow",
    "AnnotationRow",
    "ApiKeyRow",
    "AssignmentRow",
    "DatasetSnapshotRow",
    "EventRow",
    "GuidelineRow",
    "InvitationRow",
    "ModelVersionRow",
    "ProfileRow",
    "ProjectRow",
    "PromptRow",
    "QuizItemRow",
    "QuizResultRow",
    "ResponseRow",
    "Row",
    "SessionRow",
    "TaskAuthorRow",
    "TaskRow",
    "UserRow",
]


class PromptRow(Row):
    """What replies answer."""

    __tablename__ = "prompt"
    __table_args__ = (UniqueConstraint("project_id", "sha256"),)
    id: Mapped[str] = id_column()
    project_id: Mapped[str] = ref("project.id")
    external_id: Mapped[str]
    """`Prompt.id` of whoever added it."""
    messages: Mapped[Rows]
    meta: Mapped[Map]
    sha256: Mapped[str] = mapped_column(String(64))
    """Of the whole record (id, messages, meta)."""
    created_at: Mapped[datetime]


class ResponseRow(Row):
    """A reply, by a model or by a person, never by both or neither."""

    __tablename__ = "response"
    __table_args__ = (
        CheckConstraint("(model_version_id IS NULL) <> (author_user_id IS NULL)", name="one_origin"),
        UniqueConstraint("prompt_id", "sha256"),
    )
    id: Mapped[str] = id_column()
    prompt_id: Mapped[str] = ref("prompt.id")
    model_version_id: Mapped[str | None] = maybe("model_version.id", index=True)
    author_user_id: Mapped[str | None] = maybe("user.id", index=True)
    text: Mapped[str]
    meta: Mapped[Map]
    """Finish reason, sampling parameters, seed, scores, ...: `Candidate.meta`."""
    sha256: Mapped[str] = mapped_column(String(64))
    """Of origin, text and meta."""
    created_at: Mapped[datetime]


class TaskRow(Row):
    """Something to judge."""

    __tablename__ = "task"
    __table_args__ = (
        UniqueConstraint("project_id", "key"),
        Index("ix_task_queue", "project_id", "state", "lane", "precedence", "turn", "id"),
        one_of("kind", "pair", "rank", "rate", "edit"),
        one_of("purpose", "label", "evaluation", "qualification"),
        one_of("slice", "random", "active"),
        one_of("state", "open", "done", "adjudicate", "closed"),
        one_of("lane", "queue", "gold", "repeat"),
        CheckConstraint("n_claimed >= 0 AND n_done >= 0 AND overlap >= 1", name="counts"),
        CheckConstraint("lane <> 'queue' OR n_claimed + n_done <= overlap", name="overlap"),
        CheckConstraint("(lane = 'gold') = (gold IS NOT NULL)", name="gold"),
    )
    id: Mapped[str] = id_column()
    project_id: Mapped[str] = ref("project.id")
    key: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(10))
    purpose: Mapped[str] = mapped_column(String(15))
    prompt_id: Mapped[str] = ref("prompt.id", index=True)
    candidates: Mapped[Rows]
    """Response ids in stored order; a candidate index is a place in it."""
    overlap: Mapped[int]
    overlap_base: Mapped[int]
    """Labels wanted before any escalation."""
    precedence: Mapped[int] = mapped_column(default=0)
    turn: Mapped[int] = mapped_column(default=0)
    slice: Mapped[str] = mapped_column(String(10))
    policy: Mapped[str] = mapped_column(String(50))
    propensity: Mapped[float | None]
    lane: Mapped[str] = mapped_column(String(10))
    gold: Mapped[Map | None]
    repeat_of: Mapped[str | None] = maybe("task.id", index=True)
    reserved_for: Mapped[str | None] = maybe("user.id", index=True)
    state: Mapped[str] = mapped_column(String(12))
    n_claimed: Mapped[int] = mapped_column(default=0)
    n_done: Mapped[int] = mapped_column(default=0)
    n_skipped: Mapped[int] = mapped_column(default=0)
    tags: Mapped[Rows]
    meta: Mapped[Map]
    created_at: Mapped[datetime]


class TaskAuthorRow(Row):
    """Who wrote part of a task, and therefore never gets it."""

    __tablename__ = "task_author"
    task_id: Mapped[str] = mapped_column(ID, ForeignKey("task.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ID, ForeignKey("user.id"), primary_key=True)


class AssignmentRow(Row):
    """One person and one task."""

    __tablename__ = "assignment"
    __table_args__ = (
        UniqueConstraint("task_id", "annotator_id"),
        Index("ix_assignment_mine", "annotator_id", "project_id", "state", "submitted_at"),
        Index("ix_assignment_leases", "lease_expires_at", sqlite_where=text("state = 'open'"),
              postgresql_where=text("state = 'open'")),
        one_of("state", "open", "revising", "submitted", "skipped", "expired", "released"),
    )  # fmt: skip
    id: Mapped[str] = id_column()
    project_id: Mapped[str] = mapped_column(ID, index=True)
    """The task's; no foreign key, since every insert would lock the one project row."""
    task_id: Mapped[str] = ref("task.id")
    annotator_id: Mapped[str] = ref("user.id")
    state: Mapped[str] = mapped_column(String(10))
    shown_order: Mapped[Rows]
    """Candidate index at each position."""
    seed: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[int]
    """How many-th task of this person it is; for fatigue."""
    guideline_id: Mapped[str | None] = maybe("guideline.id")
    lease_expires_at: Mapped[datetime]
    served_at: Mapped[datetime]
    submitted_at: Mapped[datetime | None]
    """Of the first answer."""
    gold_right: Mapped[bool | None]
    """Whether the first answer to a hidden test was right; edits do not change it."""
    skip_reason: Mapped[str | None] = mapped_column(String(20))
    skip_comment: Mapped[str | None]
    skip_key: Mapped[str | None] = mapped_column(String(100))


class AnnotationRow(Row):
    """What somebody said; never changed, never deleted."""

    __tablename__ = "annotation"
    __table_args__ = (
        UniqueConstraint("annotator_id", "idempotency_key"),
        Index("ix_annotation_project", "project_id", "id"),
        Index("ix_annotation_recent", "annotator_id", "id"),
        one_of("kind", "pair", "rank", "rate", "edit"),
        one_of("outcome", "choice", "tie", "both_bad", "ranking", "rating", "edit", "retracted"),
    )
    id: Mapped[str] = id_column()
    project_id: Mapped[str] = mapped_column(ID)
    """The task's; no foreign key, since every insert would lock the one project row."""
    task_id: Mapped[str] = ref("task.id", index=True)
    assignment_id: Mapped[str] = ref("assignment.id", index=True)
    annotator_id: Mapped[str] = ref("user.id")
    idempotency_key: Mapped[str] = mapped_column(String(120))
    request_sha256: Mapped[str] = mapped_column(String(64))
    """Of assignment and verdict as sent: tells a repeated request from another one with the same key."""
    kind: Mapped[str] = mapped_column(String(10))
    outcome: Mapped[str] = mapped_column(String(10))
    choice: Mapped[int | None]
    """Candidate index."""
    verdict: Mapped[Map | None]
    """`records.Verdict` with candidate indexes; None when retracted."""
    edit_response_id: Mapped[str | None] = maybe("response.id", index=True)
    ordinal: Mapped[int | None]
    """The how many-th counted label of its task; None = extra or repeat."""
    extra: Mapped[bool] = mapped_column(default=False)
    late: Mapped[bool] = mapped_column(default=False)
    dwell_ms: Mapped[int]
    seen_ms: Mapped[int]
    client: Mapped[Map]
    guideline_id: Mapped[str | None] = maybe("guideline.id")
    created_at: Mapped[datetime]
    supersedes_id: Mapped[str | None] = mapped_column(ID, ForeignKey("annotation.id"), unique=True)


class AdjudicationRow(Row):
    """The last word on a task people disagreed about; their labels stay."""

    __tablename__ = "adjudication"
    __table_args__ = (UniqueConstraint("adjudicator_id", "idempotency_key"),)
    id: Mapped[str] = id_column()
    project_id: Mapped[str] = ref("project.id", index=True)
    task_id: Mapped[str] = ref("task.id", index=True)
    adjudicator_id: Mapped[str] = ref("user.id")
    idempotency_key: Mapped[str] = mapped_column(String(120))
    verdict: Mapped[Map]
    shown_order: Mapped[Rows]
    reason: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime]
