"""Repeats: a task somebody has judged comes again, in reverse order, to tell noise from a love of one side.

A repeat is a task of its own, reserved for one person, with `repeat_of`; it never enters preferences.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import bindparam, exists, insert, select
from sqlalchemy.orm import Session, aliased

from accord.collect.columns import utcnow
from accord.collect.ids import new_id
from accord.collect.schema import AssignmentRow, TaskRow

CHOICE = 200
"""Answered tasks the next repeat is drawn from, the latest ones."""


@dataclass(frozen=True)
class Repeat:
    """A repeat to serve."""

    task: str
    order: list[int]
    mine: str | None


_R = aliased(TaskRow)
_M = aliased(AssignmentRow)
_WAITING = (
    select(TaskRow.id, _M.id.label("mine"), AssignmentRow.shown_order)
    .join(
        AssignmentRow, (AssignmentRow.task_id == TaskRow.repeat_of) & (AssignmentRow.annotator_id == bindparam("user"))
    )
    .outerjoin(_M, (_M.task_id == TaskRow.id) & (_M.annotator_id == bindparam("user")))
    .where(
        TaskRow.reserved_for == bindparam("user"),
        TaskRow.project_id == bindparam("project"),
        TaskRow.lane == "repeat",
        TaskRow.state == "open",
        _M.id.is_(None) | _M.state.in_(("expired", "released")),
    )
    .limit(1)
)
_ANSWERED = (
    select(TaskRow, AssignmentRow.shown_order)
    .join(AssignmentRow, AssignmentRow.task_id == TaskRow.id)
    .where(
        AssignmentRow.annotator_id == bindparam("user"),
        AssignmentRow.project_id == bindparam("project"),
        AssignmentRow.state == "submitted",
        AssignmentRow.number <= bindparam("until"),
        TaskRow.lane == "queue",
        TaskRow.kind.in_(("pair", "rank")),
        TaskRow.state != "closed",
        ~exists().where(_R.repeat_of == TaskRow.id, _R.reserved_for == bindparam("user")),
    )
    .order_by(AssignmentRow.number.desc())
    .limit(CHOICE)
)


def repeat_task(
    session: Session, project: str, user: str, served: int, after: int, stream: np.random.Generator
) -> Repeat | None:
    """Return a repeat for somebody, made if need be; None when nothing was answered long enough ago.

    Args:
        session: in the transaction of a claim, which holds the person's lock.
        project: id.
        user: id.
        served: tasks served to this person so far.
        after: tasks that must lie between the two.
        stream: draws which one.
    """
    waiting = session.execute(_WAITING, {"user": user, "project": project}).first()
    if waiting is not None:
        return Repeat(waiting.id, waiting.shown_order[::-1], waiting.mine)
    found = session.execute(_ANSWERED, {"user": user, "project": project, "until": served - after}).all()
    if not found:
        return None
    first, shown = found[int(stream.integers(len(found)))]
    row: dict[str, Any] = {c.name: getattr(first, c.name) for c in TaskRow.__table__.columns}
    row.update(
        id=new_id(),
        key=f"repeat:{first.id}:{user}",
        overlap=1,
        overlap_base=1,
        lane="repeat",
        repeat_of=first.id,
        reserved_for=user,
        state="open",
        n_claimed=0,
        n_done=0,
        n_skipped=0,
        created_at=utcnow(),
    )
    session.execute(insert(TaskRow.metadata.tables["task"]), row)
    return Repeat(row["id"], shown[::-1], None)
