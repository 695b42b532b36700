"""What an annotator gets to see of a task, put together from the stored rows; nothing that would undo the blinding."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, func, select
from sqlalchemy.orm import aliased

from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.records import (
    GuidelineRef,
    Progress,
    ProjectSettings,
    Requirements,
    Scale,
    ShownCandidate,
    TaskView,
    User,
    Verdict,
)
from accord.collect.schema import (
    AnnotationRow,
    AssignmentRow,
    GuidelineRow,
    ProjectRow,
    PromptRow,
    ResponseRow,
    TaskRow,
)
from accord.types import Message

ANSWERED = ("submitted", "revising")
SEEN = ("open", "submitted", "revising", "skipped")
"""States of an assignment whose task the person does not get again."""
PACE = 20
"""Answers the estimate of the time left looks back at."""
GOLD_STEP = 5
"""A person's own accuracy on hidden tests grows by so many at once: one by one it would say which task was one."""
LEFT_STEP = 10
"""Above this the number of tasks left is rounded up to a multiple of it: a hidden test does not lower the exact one."""


def user_id(who: User | str) -> str:
    """Return the id of a user given as record or id."""
    return who if isinstance(who, str) else who.id


def today() -> datetime:
    """Return the last midnight, UTC."""
    now = utcnow()
    return datetime(now.year, now.month, now.day, tzinfo=UTC)


_TASK = (
    select(
        AssignmentRow.id,
        AssignmentRow.annotator_id,
        AssignmentRow.shown_order,
        AssignmentRow.lease_expires_at,
        TaskRow.kind,
        TaskRow.purpose,
        TaskRow.candidates,
        PromptRow.messages,
        ProjectRow.id.label("project_id"),
        ProjectRow.settings,
        GuidelineRow.id.label("guideline_id"),
        GuidelineRow.version,
    )
    .join(TaskRow, TaskRow.id == AssignmentRow.task_id)
    .join(PromptRow, PromptRow.id == TaskRow.prompt_id)
    .join(ProjectRow, ProjectRow.id == TaskRow.project_id)
    .outerjoin(GuidelineRow, GuidelineRow.id == AssignmentRow.guideline_id)
    .where(AssignmentRow.id == bindparam("assignment"))
)
_TEXTS = select(ResponseRow.id, ResponseRow.text).where(ResponseRow.id.in_(bindparam("ids", expanding=True)))


def task_view(store: Store, connection: Connection, assignment: str, *, previous: Verdict | None = None) -> TaskView:
    """Return the view of an assignment.

    Args:
        store: an open store.
        connection: reads.
        assignment: id; it must exist.
        previous: the answer that is being revised, in candidate indexes.
    """
    row = connection.execute(_TASK, {"assignment": assignment}).one()
    settings = ProjectSettings.model_validate(row.settings)
    texts = {r.id: r.text for r in connection.execute(_TEXTS, {"ids": sorted(set(row.candidates))})}
    order: list[int] = row.shown_order
    shown = tuple(
        ShownCandidate(position=position, text=texts[row.candidates[index]]) for position, index in enumerate(order)
    )
    evaluation = row.purpose == "evaluation"
    progress, can_undo = progress_of(store, connection, row.project_id, row.annotator_id)
    return TaskView(
        assignment=row.id,
        kind=row.kind,
        purpose=row.purpose,
        messages=tuple(Message.model_validate(message) for message in row.messages),
        candidates=shown,
        flags=settings.flags,
        scale=Scale(strength=settings.strength, tie=settings.tie, both_bad=settings.both_bad, success=evaluation),
        guideline=None if row.guideline_id is None else GuidelineRef(id=row.guideline_id, version=row.version),
        require=Requirements(
            rationale=settings.require_rationale, seen=settings.min_seen, ratings=settings.require_ratings
        ),
        lease_expires_at=row.lease_expires_at,
        progress=progress,
        can_undo=can_undo,
        previous=None if previous is None else previous.shown(order),
    )


def _progress_query() -> Any:
    mine = and_(
        AssignmentRow.annotator_id == bindparam("user"),
        AssignmentRow.project_id == bindparam("project"),
    )
    answered = AssignmentRow.state.in_(ANSWERED)
    recent = (
        select(AnnotationRow.dwell_ms.label("dwell_ms"))
        .where(AnnotationRow.annotator_id == bindparam("user"), AnnotationRow.outcome != "retracted")
        .order_by(AnnotationRow.id.desc())
        .limit(PACE)
        .subquery()
    )
    counts = select(
        func.count(case((answered, 1))).label("done"),
        func.count(case((and_(answered, AssignmentRow.submitted_at >= bindparam("today")), 1))).label("today"),
        func.count(case((AssignmentRow.state == "submitted", 1))).label("undoable"),
    ).where(mine)
    seen = (
        select(func.count())
        .select_from(AssignmentRow)
        .join(TaskRow, TaskRow.id == AssignmentRow.task_id)
        .where(mine, AssignmentRow.state.in_(SEEN), TaskRow.state == "open", TaskRow.lane == "queue")
    )
    test = aliased(AssignmentRow)
    tests = (
        select(
            test.gold_right.label("right"),
            func.row_number().over(order_by=(test.submitted_at, test.id)).label("place"),
            func.count().over().label("total"),
        )
        .where(test.annotator_id == bindparam("user"), test.project_id == bindparam("project"))
        .where(test.gold_right.is_not(None))
        .subquery()
    )
    told = tests.c.place <= tests.c.total - tests.c.total % GOLD_STEP
    return counts.add_columns(
        select(func.count()).select_from(tests).where(told).scalar_subquery().label("gold_total"),
        select(func.count()).select_from(tests).where(told, tests.c.right).scalar_subquery().label("gold_right"),
        seen.scalar_subquery().label("seen_open"),
        select(func.avg(recent.c.dwell_ms)).scalar_subquery().label("pace_ms"),
    )


_PROGRESS = _progress_query()
_OPEN = select(func.count()).where(
    TaskRow.project_id == bindparam("project"), TaskRow.state == "open", TaskRow.lane == "queue"
)


def progress_of(store: Store, connection: Connection, project: str, user: str) -> tuple[Progress, bool]:
    """Return how far a person is in a project, and whether there is an answer to undo.

    Nothing here changes by a hidden test or a repeat alone, or it would give them away. In large projects `remaining`
    rests on a count of open tasks that may be two seconds old.

    Args:
        store: an open store.
        connection: reads.
        project: id.
        user: id.
    """
    row = connection.execute(_PROGRESS, {"user": user, "project": project, "today": today()}).one()
    waiting = store.remembered(("open", project), lambda: int(connection.scalar(_OPEN, {"project": project}) or 0))
    remaining = max(0, waiting - row.seen_open)
    if remaining > LEFT_STEP:
        remaining += -remaining % LEFT_STEP
    pace = None if row.pace_ms is None else float(row.pace_ms) / 1000
    progress = Progress(
        done=row.done,
        today=row.today,
        remaining=remaining,
        eta_seconds=None if pace is None else round(pace * remaining, 1),
        gold_right=row.gold_right if row.gold_total else None,
        gold_total=row.gold_total or None,
    )
    return progress, row.undoable > 0
