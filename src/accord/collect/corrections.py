"""What somebody does about a task other than answering it: skip it, or take the last answer up again."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from accord.collect import events
from accord.collect.columns import utcnow
from accord.collect.current import annotation_of, holds, verdict_of
from accord.collect.database import Store
from accord.collect.failures import Conflict, NotFound
from accord.collect.ids import new_id
from accord.collect.projects import require_project
from accord.collect.records import Kind, ProjectSettings, Skip, TaskView, User, Verdict
from accord.collect.schema import AnnotationRow, AssignmentRow, ProjectRow, TaskRow
from accord.collect.settling import SETTLE, Change, lock_own, settled
from accord.collect.views import task_view, user_id
from accord.types import Record


class Answered(Record):
    """One of somebody's own answers."""

    annotation: str
    kind: Kind
    verdict: Verdict
    """In the positions that were shown."""
    answered_at: datetime


def skip(store: Store, who: User | str, request: Skip) -> None:
    """Give a task back for good, with the reason; an answer that is being revised is retracted.

    Args:
        store: an open store.
        who: the person it was given to.
        request: sending it again is harmless.

    Raises:
        NotFound: there is no such assignment.
        NotAllowed: it is somebody else's.
        Conflict: it is answered.
    """
    user = user_id(who)

    def work(session: Session) -> None:
        row = lock_own(session, request.assignment, user)
        if row.state == "skipped":
            return
        if row.state == "submitted":
            raise Conflict("this task is answered already", fix="undo it first to skip it")
        settings = ProjectSettings.model_validate(row.settings)
        counted = _retract(session, row, user, request.key) if row.state == "revising" else False
        session.execute(
            update(AssignmentRow)
            .where(AssignmentRow.id == row.id)
            .values(state="skipped", skip_reason=request.reason, skip_comment=request.comment, skip_key=request.key)
        )
        held = row.state == "open" and row.lane == "queue"
        if row.lane != "gold":
            change = Change(claimed=-int(held), done=-int(counted), skipped=1)
            session.connection().execute(SETTLE, settled(session, row, settings, change))
        after = {"reason": request.reason, "task": row.task}
        events.record(session, user, "skip", ("assignment", row.id), project=row.project_id, after=after)

    store.transact(work)


def _retract(session: Session, row: Any, user: str, key: str) -> bool:
    """Add the annotation that takes the current one back; return whether that one counted."""
    old = annotation_of(session, row.id)
    if old is None:
        return False
    values: dict[str, Any] = {c.name: getattr(old, c.name) for c in AnnotationRow.__table__.columns}
    values |= {"id": new_id(), "idempotency_key": f"retract:{key}", "outcome": "retracted", "choice": None}
    values |= {"verdict": None, "edit_response_id": None, "created_at": utcnow(), "supersedes_id": old.id}
    session.execute(insert(AnnotationRow.metadata.tables["annotation"]), values)
    after = {"sha256": events.fingerprint(AnnotationRow(**values)), "task": row.task}
    events.record(session, user, "retract", ("annotation", values["id"]), project=row.project_id, after=after)
    return row.lane == "queue" and not old.extra


def undo(store: Store, who: User | str, project: str | None = None) -> TaskView:
    """Open somebody's last answer again; a new one will supersede it, and until then it holds.

    Called again, it goes one answer further back.

    Args:
        store: an open store.
        who: whose.
        project: name or id; None = the last answer in any.

    Returns:
        The task with `previous`, the answer that stands.

    Raises:
        NotFound: there is nothing to undo.
    """
    user = user_id(who)

    def work(session: Session) -> str:
        mine = [AssignmentRow.annotator_id == user]
        if project is not None:
            mine.append(AssignmentRow.project_id == require_project(session, project).id)
        newest = select(AssignmentRow).order_by(AssignmentRow.submitted_at.desc(), AssignmentRow.id.desc()).limit(1)
        opened = session.scalar(newest.where(*mine, AssignmentRow.state == "revising"))
        query = newest.where(*mine, AssignmentRow.state == "submitted").with_for_update()
        if opened is not None:
            query = query.where(AssignmentRow.submitted_at < opened.submitted_at)
        target = session.scalar(query) or opened
        if target is None:
            raise NotFound("there is no answer to take back", fix="go on with the current task")
        if opened is not None and opened.id != target.id:
            session.execute(update(AssignmentRow).where(AssignmentRow.id == opened.id).values(state="submitted"))
        settings = session.scalar(select(ProjectRow.settings).where(ProjectRow.id == target.project_id))
        until = utcnow() + timedelta(seconds=ProjectSettings.model_validate(settings).lease_seconds)
        session.execute(
            update(AssignmentRow).where(AssignmentRow.id == target.id).values(state="revising", lease_expires_at=until)
        )
        events.record(session, user, "undo", ("assignment", target.id), project=target.project_id)
        return target.id

    assignment = store.transact(work)
    with store.read() as session:
        old = annotation_of(session, assignment)
        return task_view(store, session.connection(), assignment, previous=None if old is None else verdict_of(old))


def history(store: Store, who: User | str, *, limit: int = 50) -> list[Answered]:
    """Return somebody's latest answers, newest first."""
    query = (
        select(AnnotationRow, AssignmentRow.shown_order)
        .join(AssignmentRow, AssignmentRow.id == AnnotationRow.assignment_id)
        .join(TaskRow, TaskRow.id == AnnotationRow.task_id)
        .where(AnnotationRow.annotator_id == user_id(who), holds())
        .order_by(AnnotationRow.id.desc())
        .limit(limit)
    )
    with store.read() as session:
        return [
            Answered(
                annotation=row.id,
                kind=row.kind,  # pyright: ignore[reportArgumentType]
                verdict=verdict_of(row).shown(order),
                answered_at=row.created_at,
            )
            for row, order in session.execute(query)
        ]
