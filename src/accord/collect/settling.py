"""The row of an assignment with its task, locked, and what an answer does to the counters."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from accord.collect import scheduling
from accord.collect.current import counted_verdicts
from accord.collect.failures import NotAllowed, NotFound
from accord.collect.records import ProjectSettings, Verdict
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
    row = session.connection().execute(_LOCK, {"assignment": assignment}).first()
    if row is None:
        raise NotFound("there is no such assignment", fix="ask for the next task")
    if row.annotator_id != user:
        raise NotAllowed("this task was given to somebody else", fix="ask for the next task")
    return row


@dataclass(frozen=True)
class Change:
    """What is about to happen to a task."""

    claimed: int = 0
    """Change of the open leases."""
    done: int = 0
    """Change of the labels that count."""
    skipped: int = 0
    """Change of the people who skipped."""
    label: Verdict | None = None
    """A label that counts and is added with the change, candidate indexes."""
    replaces: str | None = None
    """The annotation whose place it takes."""


def settled(session: Session, locked: Any, settings: ProjectSettings, change: Change) -> dict[str, Any]:
    """Return the parameters of `SETTLE`: counters, and what the task needs now: more labels, an adjudicator, nothing.

    Args:
        session: in the transaction that locked the task.
        locked: from `lock_own`, as it was before; hidden tests have no counters, so nothing is to be done for them.
        settings: of the project.
        change: what happens to it.
    """
    need = scheduling.Need(locked.overlap, "done" if locked.lane == "repeat" else locked.task_state)
    queue, skipped = locked.lane == "queue", locked.n_skipped + change.skipped
    done = locked.n_done + change.done * queue
    if queue and locked.task_state != "closed" and not _is_decided(session, locked):
        verdicts: list[Verdict] = []
        if done >= locked.overlap:
            verdicts = counted_verdicts(session, locked.task, without=change.replaces)
            verdicts += [] if change.label is None else [change.label]
        need = scheduling.after_label(verdicts, locked.overlap, skipped, settings)
    return {
        "task": locked.task,
        "now_claimed": locked.n_claimed + change.claimed * queue,
        "now_done": done,
        "now_skipped": skipped,
        "now_overlap": need.overlap,
        "now_state": need.state,
    }


SETTLE = (
    update(TaskRow.metadata.tables["task"])
    .where(TaskRow.id == bindparam("task"))
    .values(
        n_claimed=bindparam("now_claimed"),
        n_done=bindparam("now_done"),
        n_skipped=bindparam("now_skipped"),
        overlap=bindparam("now_overlap"),
        state=bindparam("now_state"),
    )
)


def _is_decided(session: Session, locked: Any) -> bool:
    """Whether an adjudicator has had the last word."""
    if locked.task_state == "open":
        return False
    query = select(func.count()).select_from(AdjudicationRow).where(AdjudicationRow.task_id == locked.task)
    return bool(session.scalar(query))
