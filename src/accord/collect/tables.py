"""Tables of who has access and under which rules: projects, users, keys, model versions, the quiz, events."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from accord.collect.columns import ID_LENGTH, UtcTime, json_type
from accord.collect.ids import new_id

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
Rows = list[Any]
Map = dict[str, Any]
ID = String(ID_LENGTH)


class Row(DeclarativeBase):
    """One row of any table."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it as a plain class attribute)
        Map: json_type(),
        Rows: json_type(),
        datetime: UtcTime(),
        str: Text(),
        int: Integer(),
        float: Float(),
    }


def id_column() -> Mapped[str]:
    """Return the primary key: a fresh id."""
    return mapped_column(ID, primary_key=True, default=new_id)


def ref(target: str, *, index: bool = False) -> Mapped[str]:
    """Return a foreign key."""
    return mapped_column(ID, ForeignKey(target), index=index)


def maybe(target: str, *, index: bool = False) -> Mapped[str | None]:
    """Return a foreign key that may be null."""
    return mapped_column(ID, ForeignKey(target), index=index)


def one_of(column: str, *names: str) -> CheckConstraint:
    """Return the check that a column holds one of some names."""
    listed = ", ".join(f"'{name}'" for name in names)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class ProjectRow(Row):
    """A set of tasks with its own rules and guidelines."""

    __tablename__ = "project"
    id: Mapped[str] = id_column()
    name: Mapped[str] = mapped_column(String(100), unique=True)
    settings: Mapped[Map]
    seed: Mapped[int] = mapped_column(BigInteger)
    """Root of every random draw of the project; secret, so that nobody can work out where the gold is."""
    created_at: Mapped[datetime]


class GuidelineRow(Row):
    """One version of the written rules."""

    __tablename__ = "guideline"
    __table_args__ = (UniqueConstraint("project_id", "version"),)
    id: Mapped[str] = id_column()
    project_id: Mapped[str] = ref("project.id")
    version: Mapped[int]
    markdown: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    created_by: Mapped[str | None] = maybe("user.id")
    created_at: Mapped[datetime]


class UserRow(Row):
    """Who has access."""

    __tablename__ = "user"
    __table_args__ = (one_of("role", "admin", "adjudicator", "annotator", "service"),)
    id: Mapped[str] = id_column()
    handle: Mapped[str] = mapped_column(String(100), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    password_hash: Mapped[str | None]
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class ProfileRow(Row):
    """What is known of a user as an annotator; its row is the lock of that person's claims."""

    __tablename__ = "annotator_profile"
    user_id: Mapped[str] = mapped_column(ID, ForeignKey("user.id"), primary_key=True)
    pseudonym: Mapped[str] = mapped_column(String(50), unique=True)
    groups: Mapped[Rows]
    weight: Mapped[float] = mapped_column(default=1.0)
    served: Mapped[int] = mapped_column(default=0)
    """Tasks served so far; numbers the random draws of this person."""
    qualified_at: Mapped[datetime | None]
    blocked_at: Mapped[datetime | None]
    block_reason: Mapped[str | None]
    consent_version: Mapped[str | None] = mapped_column(String(50))


class SessionRow(Row):
    """A signed-in browser; only the hash of its token is kept."""

    __tablename__ = "session"
    id: Mapped[str] = id_column()
    user_id: Mapped[str] = ref("user.id", index=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ApiKeyRow(Row):
    """A program's access; the prefix finds it, the hash proves it."""

    __tablename__ = "api_key"
    id: Mapped[str] = id_column()
    user_id: Mapped[str] = ref("user.id", index=True)
    name: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(16), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[Rows]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class InvitationRow(Row):
    """A link that makes one account; `first_admin` marks the one printed at the first start."""

    __tablename__ = "invitation"
    __table_args__ = (one_of("role", "admin", "adjudicator", "annotator", "service"),)
    id: Mapped[str] = id_column()
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    groups: Mapped[Rows]
    first_admin: Mapped[bool] = mapped_column(default=False)
    created_by: Mapped[str | None] = maybe("user.id")
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    used_by: Mapped[str | None] = maybe("user.id")


class ModelVersionRow(Row):
    """Where a reply came from; the name is empty when an import did not say, and never null."""

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("name", "version"),)
    id: Mapped[str] = id_column()
    name: Mapped[str] = mapped_column(String(300))
    version: Mapped[str] = mapped_column(String(100), default="")
    base: Mapped[str | None]
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    dataset_snapshot_id: Mapped[str | None] = maybe("dataset_snapshot.id")
    code_commit: Mapped[str | None]
    metrics: Mapped[Map | None]
    card_md: Mapped[str | None]
    stage: Mapped[str | None] = mapped_column(String(20))
    created_at: Mapped[datetime]


class QuizItemRow(Row):
    """A question of the qualification quiz."""

    __tablename__ = "quiz_item"
    id: Mapped[str] = id_column()
    project_id: Mapped[str] = ref("project.id", index=True)
    kind: Mapped[str] = mapped_column(String(10))
    messages: Mapped[Rows]
    candidates: Mapped[Rows]
    """Texts."""
    gold: Mapped[Map]
    explanation: Mapped[str]
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class QuizResultRow(Row):
    """One attempt at the quiz."""

    __tablename__ = "quiz_result"
    __table_args__ = (UniqueConstraint("project_id", "user_id", "attempt"),)
    id: Mapped[str] = id_column()
    project_id: Mapped[str] = ref("project.id")
    user_id: Mapped[str] = ref("user.id", index=True)
    attempt: Mapped[int]
    num_right: Mapped[int]
    num_items: Mapped[int]
    passed: Mapped[bool]
    answers: Mapped[Rows]
    created_at: Mapped[datetime]


class EventRow(Row):
    """Who did what; each row holds the hash of the one before, so that a change anywhere shows."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_object", "object_type", "object_id"),)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(ID_LENGTH))
    """User id, or "system"."""
    verb: Mapped[str] = mapped_column(String(40))
    object_type: Mapped[str] = mapped_column(String(40))
    object_id: Mapped[str] = mapped_column(String(ID_LENGTH))
    project_id: Mapped[str | None] = mapped_column(ID, index=True)
    before: Mapped[Map | None]
    after: Mapped[Map | None]
    prev_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)


class DatasetSnapshotRow(Row):
    """A data set that was exported, by content."""

    __tablename__ = "dataset_snapshot"
    id: Mapped[str] = id_column()
    project_id: Mapped[str] = ref("project.id", index=True)
    kind: Mapped[str] = mapped_column(String(30))
    query: Mapped[Map]
    sha256: Mapped[str] = mapped_column(String(64))
    n_rows: Mapped[int]
    path: Mapped[str]
    created_by: Mapped[str | None] = maybe("user.id")
    created_at: Mapped[datetime]
