"""Which annotation of an assignment holds: the one that nothing supersedes, unless it is a retraction."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, bindparam, exists, select
from sqlalchemy.orm import Session, aliased

from accord.collect.records import Verdict
from accord.collect.schema import AnnotationRow

_LATER = aliased(AnnotationRow)


def holds() -> ColumnElement[bool]:
    """Return the condition on `AnnotationRow` that it is the current one and not a retraction."""
    return ~exists().where(_LATER.supersedes_id == AnnotationRow.id) & (AnnotationRow.outcome != "retracted")


_COUNTED = (
    select(AnnotationRow.id, AnnotationRow.verdict)
    .where(AnnotationRow.task_id == bindparam("task"), AnnotationRow.extra.is_(False), holds())
    .order_by(AnnotationRow.id)
)
_ALL = (
    select(AnnotationRow.id, AnnotationRow.verdict)
    .where(AnnotationRow.task_id == bindparam("task"), holds())
    .order_by(AnnotationRow.id)
)
_OF_ASSIGNMENT = select(AnnotationRow).where(AnnotationRow.assignment_id == bindparam("assignment"), holds())


def counted_verdicts(session: Session, task: str, *, extra: bool = False, without: str | None = None) -> list[Verdict]:
    """Return the verdicts on a task, candidate indexes, oldest first.

    Args:
        session: reads.
        task: id.
        extra: those that came too late to count, too.
        without: id of an annotation to leave out.
    """
    found = session.connection().execute(_ALL if extra else _COUNTED, {"task": task})
    return [Verdict.model_validate(row.verdict) for row in found if row.id != without]


def annotation_of(session: Session, assignment: str) -> AnnotationRow | None:
    """Return what somebody says of a task now."""
    return session.scalar(_OF_ASSIGNMENT, {"assignment": assignment})


def verdict_of(row: Any) -> Verdict:
    """Return the verdict of an annotation, candidate indexes."""
    return Verdict.model_validate(row.verdict)
