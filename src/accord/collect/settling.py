"""The row of an assignment with its task, locked, and what an answer does to the counters."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from accord.collect import scheduling
from accord.collect.current import counted_verdicts
from accord.collect.failures import NotAllowed, NotFound
from accord.collect.records import ProjectSettings
from accord.collect.schema import AdjudicationRow, AssignmentRow, ProjectRow, TaskRow

_LOCK = (
    select(
        AssignmentRow.id,
        AssignmentRow.annotator_id,
        AssignmentRow.project_id,
        AssignmentRow.state,
        AssignmentRow.shown_order,
        AssignmentRow.guideline_id,
        AssignmentRow.lease_expires_at,
        AssignmentRow.submitted_at,
        AssignmentRow.gold_right,
        AssignmentRow.skip_key,
        TaskRow.id.label("task"),
        TaskRow.kind,
        TaskRow.lane,
        TaskRow.gold,
        TaskRow.prompt_id,
        TaskRow.state.label("task_state"),
        TaskRow.overlap,
        TaskRow.n_claimed,
        TaskRow.n_done,
        TaskRow.n_skipped,
        ProjectRow.settings,
    )
    .join(TaskRow, TaskRow.id == AssignmentRow.task_id)
    .join(ProjectRow, ProjectRow.id == TaskRow.project_id)
    .where(AssignmentRow.id == bindparam("assignment"))
    .with_for_update(of=(TaskRow, AssignmentRow))
)


def lock_own(session: Session, assignment: str, user: str) -> Any:
    """Return an assignment with its task and the project's rules, both rows locked.

    Raises:
        NotFound: there is no such assignment.
        NotAllowed: it is somebody else's.
    """
    row = session.execute(_LOCK, {"assignment": assignment}).first()
    if row is None:
        raise NotFound("there is no such assignment", fix="ask for the next task")
    if row.annotator_id != user:
        raise NotAllowed("this task was given to somebody else", fix="ask for the next task")
    return row


def settle(
    session: Session, locked: Any, settings: ProjectSettings, *, claimed: int = 0, done: int = 0, skipped: int = 0
) -> None:
    """Move the counters of a task and decide what it needs now: more labels, an adjudicator, nothing.

    Args:
        session: in the transaction that locked the task.
        locked: from `lock_own`, as it was before.
        settings: of the project.
        claimed: change of the open leases.
        done: change of the labels that count.
        skipped: change of the people who skipped.
    """
    if locked.lane == "gold":
        return
    values: dict[str, Any] = {"n_skipped": locked.n_skipped + skipped}
    if locked.lane == "repeat":
        values["state"] = "done"
    else:
        count = locked.n_done + done
        values |= {"n_claimed": locked.n_claimed + claimed, "n_done": count}
        if locked.task_state != "closed" and not _is_decided(session, locked):
            verdicts = counted_verdicts(session, locked.task) if count >= locked.overlap else []
            need = scheduling.after_label(verdicts, locked.overlap, values["n_skipped"], settings)
            values |= {"overlap": need.overlap, "state": need.state}
    session.execute(update(TaskRow).where(TaskRow.id == locked.task).values(**values))


def _is_decided(session: Session, locked: Any) -> bool:
    """Whether an adjudicator has had the last word."""
    if locked.task_state == "open":
        return False
    query = select(func.count()).select_from(AdjudicationRow).where(AdjudicationRow.task_id == locked.task)
    return bool(session.scalar(query))
