"""Answers: stored once however often they are sent, never lost, never over the overlap, taken back only by adding.

A submit is one transaction: the task's row is locked, the annotation and its event are added, the counters moved. What
comes after its lease still counts while the task has room; otherwise it is kept as extra.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from accord.collect import events
from accord.collect.at_once import AtOnce, new
from accord.collect.columns import utcnow
from accord.collect.content import Origin, response_values
from accord.collect.corrections import Answered, history, skip, undo
from accord.collect.current import annotation_of
from accord.collect.database import Store
from accord.collect.failures import Conflict
from accord.collect.gold import gate
from accord.collect.ids import new_id
from accord.collect.records import ProjectSettings, Submission, Submitted, User, Verdict
from accord.collect.schema import AnnotationRow, AssignmentRow, ResponseRow
from accord.collect.settling import SETTLE, Change, lock_own, settled
from accord.collect.verdicts import Gold, fitting, is_right, outcome
from accord.collect.views import user_id
from accord.types import Candidate

__all__ = ["Answered", "history", "request_sha", "skip", "submit", "undo"]

_STORED = select(AnnotationRow.id, AnnotationRow.request_sha256, AnnotationRow.extra).where(
    AnnotationRow.annotator_id == bindparam("user"), AnnotationRow.idempotency_key == bindparam("key")
)
_ANNOTATION = AnnotationRow.metadata.tables["annotation"]
_ANSWERED = (
    update(AssignmentRow.metadata.tables["assignment"])
    .where(AssignmentRow.id == bindparam("assignment"))
    .values(state="submitted", submitted_at=bindparam("first_answered"), gold_right=bindparam("first_right"))
)
_ANNOTATE = insert(_ANNOTATION).values(new(*_ANNOTATION.c.keys()))
_STORE = AtOnce(_ANNOTATE, _ANSWERED, SETTLE)
_STORE_HIDDEN = AtOnce(_ANNOTATE, _ANSWERED)


@dataclass(frozen=True)
class _Place:
    """What an answer does to the counters."""

    counted: bool
    """It takes a place of the overlap that it did not have."""
    held: bool
    """It had a lease, which ends."""
    extra: bool
    late: bool


def submit(store: Store, who: User | str, submission: Submission) -> Submitted:
    """Store an answer.

    Args:
        store: an open store.
        who: the person it comes from.
        submission: with the positions that person saw.

    Returns:
        The annotation's id; with `repeated` when the same request had arrived before.

    Raises:
        NotFound: there is no such assignment.
        NotAllowed: it is somebody else's.
        Invalid: the verdict does not fit the task or the project's rules.
        Conflict: the key was used for another answer, or the task is answered already.
    """
    user = user_id(who)
    try:
        done, hidden = store.transact(lambda session: _submit(session, user, submission))
    except IntegrityError as error:
        if "idempotency_key" not in str(error.orig):
            raise
        # Two requests with one key for two assignments, at the same moment.
        raise Conflict("this key was used for another answer", fix="make a new key for every answer") from error
    if hidden is not None:
        store.transact(lambda session: gate(session, hidden, user))
    return done


def _submit(session: Session, user: str, submission: Submission) -> tuple[Submitted, str | None]:
    """The stored answer, and the project's id when it was a hidden test."""
    row = lock_own(session, submission.assignment, user)
    sha = request_sha(submission)
    connection = session.connection()
    stored = connection.execute(_STORED, {"user": user, "key": submission.key}).first()
    if stored is not None:
        if stored.request_sha256 != sha:
            raise Conflict("this key was used for another answer", fix="make a new key for every answer")
        return Submitted(annotation=stored.id, repeated=True, extra=stored.extra), None
    settings = ProjectSettings.model_validate(row.settings)
    fitting(submission.verdict, row.kind, len(row.shown_order), settings)
    now = utcnow()
    place = _place(row, now)
    verdict = submission.verdict.resolved(row.shown_order)
    old = annotation_of(session, submission.assignment) if row.state == "revising" else None
    annotation: dict[str, Any] = {
        **_answer(session, row, user, submission, verdict),
        "request_sha256": sha,
        "ordinal": (row.n_done + 1 if place.counted else None) if old is None else old.ordinal,
        "extra": place.extra if old is None else old.extra,
        "late": place.late if old is None else old.late,
        "created_at": now,
        "supersedes_id": None if old is None else old.id,
    }
    hidden = row.lane == "gold" and old is None
    right = _graded(row, verdict) if hidden else row.gold_right
    change = Change(
        claimed=-int(place.held),
        done=int(place.counted),
        label=None if annotation["extra"] else verdict,
        replaces=annotation["supersedes_id"],
    )
    values = {f"new_{name}": value for name, value in annotation.items()}
    values |= {"assignment": row.id, "first_answered": row.submitted_at or now, "first_right": right}
    values |= settled(session, row, settings, change)
    (_STORE_HIDDEN if row.lane == "gold" else _STORE).run(connection, values)
    after = {"sha256": events.fingerprint_of(annotation), "task": row.task}
    verb, target = "submit" if old is None else "revise", ("annotation", annotation["id"])
    events.record(session, user, verb, target, project=row.project_id, after=after)
    return Submitted(annotation=annotation["id"], extra=annotation["extra"]), row.project_id if hidden else None


def request_sha(submission: Submission) -> str:
    """Return the hash that tells a repeated request from another one: what is said of what, not how long it took."""
    return events.digest([submission.assignment, submission.verdict.model_dump(mode="json")])


def _place(locked: Any, now: datetime) -> _Place:
    if locked.state == "submitted":
        raise Conflict("this task is answered already", fix="undo it first to change the answer")
    if locked.state == "revising":
        return _Place(counted=False, held=False, extra=False, late=False)
    held = locked.state == "open"
    late = not held or locked.lease_expires_at <= now
    if locked.lane != "queue":
        return _Place(counted=False, held=False, extra=False, late=late)
    # Whoever holds a lease has a place; a task that was closed or decided meanwhile takes no more.
    room = held or locked.n_claimed + locked.n_done < locked.overlap
    counted = room and locked.task_state in ("open", "adjudicate")
    return _Place(counted=counted, held=held, extra=not counted, late=late)


def _graded(locked: Any, verdict: Verdict) -> bool:
    return is_right(verdict, Gold.model_validate(locked.gold), len(locked.shown_order))


def _answer(session: Session, row: Any, user: str, submission: Submission, verdict: Verdict) -> dict[str, Any]:
    """The columns that say what was said."""
    return {
        "id": new_id(),
        "project_id": row.project_id,
        "task_id": row.task,
        "assignment_id": submission.assignment,
        "annotator_id": user,
        "idempotency_key": submission.key,
        "kind": verdict.kind,
        "outcome": outcome(verdict),
        "choice": verdict.position,
        "verdict": verdict.model_dump(mode="json"),
        "edit_response_id": _edited(session, row.prompt_id, user, verdict),
        "dwell_ms": submission.dwell_ms,
        "seen_ms": submission.seen_ms,
        "client": submission.client,
        "guideline_id": row.guideline_id,
    }


def _edited(session: Session, prompt: str, user: str, verdict: Verdict) -> str | None:
    """Store the edited text as a reply by that person; the same text again is the same reply."""
    if verdict.edit is None:
        return None
    values = response_values(prompt, Candidate(text=verdict.edit), Origin(None, user))
    same = select(ResponseRow.id).where(ResponseRow.prompt_id == prompt, ResponseRow.sha256 == values["sha256"])
    known = session.scalar(same)
    if known is None:
        session.execute(insert(ResponseRow.metadata.tables["response"]), values)
    return known or values["id"]
