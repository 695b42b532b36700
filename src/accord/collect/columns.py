"""Column types that mean the same in SQLite and PostgreSQL: aware times, JSON, ids."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import JSON, DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

ID_LENGTH = 36


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone, always UTC; SQLite would drop the zone, so it is taken off and put back here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse times without a zone, which are ambiguous."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no zone")
        moved = value.astimezone(UTC)
        return moved.replace(tzinfo=None) if dialect.name == "sqlite" else moved

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC whatever the server's own zone is."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def json_type() -> JSON:
    """Return the type of a JSON column: text in SQLite, JSONB in PostgreSQL; None is the SQL NULL."""
    return JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def utcnow() -> datetime:
    """Return the time now, aware, UTC."""
    return datetime.now(UTC)


def as_text(value: datetime | None) -> str | None:
    """Return a time as ISO 8601 with microseconds and zone, equal for equal times; for hashes and exports."""
    return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")
