"""Hidden tests among the tasks, and what they say about a person; `quiz.py` has the open test before the first task."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.orm import Session

from accord.collect import events, scheduling
from accord.collect.columns import utcnow
from accord.collect.current import counted_verdicts
from accord.collect.database import Store
from accord.collect.failures import NotFound
from accord.collect.projects import require_project
from accord.collect.quiz import Quiz, QuizOutcome, add_quiz_items, answer_quiz, is_qualified, passed_quiz, quiz
from accord.collect.records import Kind, ProjectSettings, User, Verdict
from accord.collect.schema import AssignmentRow, ProfileRow, ProjectRow, PromptRow, ResponseRow, TaskRow
from accord.collect.verdicts import parse_gold
from accord.collect.views import user_id
from accord.types import Record

__all__ = [
    "GoldItem",
    "Quiz",
    "QuizOutcome",
    "add_quiz_items",
    "answer_quiz",
    "gate",
    "gold_stats",
    "is_qualified",
    "items",
    "passed_quiz",
    "quiz",
    "set_gold",
]


class GoldItem(Record):
    """A hidden test as an administrator sees it."""

    task: str
    kind: Kind
    prompt: str
    """Last turn before the reply."""
    candidates: tuple[str, ...]
    gold: dict[str, Any]
    answered: int
    right: int
    repeated: int = 0


def items(store: Store, project: str) -> list[GoldItem]:
    """Return the hidden tests of a project with how often they were answered right, in the order they were added.

    Raises:
        NotFound: no such project.
    """
    with store.read() as session:
        row = require_project(session, project)
        query = (
            select(
                TaskRow.id,
                TaskRow.kind,
                TaskRow.candidates,
                TaskRow.gold,
                PromptRow.messages,
                func.count(AssignmentRow.gold_right).label("answered"),
                func.count(case((AssignmentRow.gold_right.is_(True), 1))).label("right"),
            )
            .join(PromptRow, PromptRow.id == TaskRow.prompt_id)
            .outerjoin(AssignmentRow, AssignmentRow.task_id == TaskRow.id)
            .where(TaskRow.project_id == row.id, TaskRow.lane == "gold")
            .group_by(TaskRow.id, PromptRow.id)
            .order_by(TaskRow.id)
        )
        found = session.execute(query).all()
        prompts = select(TaskRow.prompt_id).where(TaskRow.project_id == row.id, TaskRow.lane == "gold")
        query = select(ResponseRow.id, ResponseRow.text).where(ResponseRow.prompt_id.in_(prompts))
        texts = {r.id: r.text for r in session.execute(query)}
    return [
        GoldItem(
            task=r.id,
            kind=r.kind,
            prompt=r.messages[-1]["content"],
            candidates=tuple(texts[c] for c in r.candidates),
            gold=r.gold,
            answered=r.answered,
            right=r.right,
        )
        for r in found
    ]


def set_gold(
    store: Store, project: str, task: str, gold: Mapping[str, Any] | Verdict | None, *, actor: str = events.SYSTEM
) -> None:
    """Make a task a hidden test, or an ordinary one again. Answers given before are not graded.

    Args:
        store: an open store.
        project: name or id.
        task: id.
        gold: as in `NewTask.gold`; None = an ordinary task.
        actor: id of who does it.

    Raises:
        NotFound: no such project or task.
        Invalid: the answer does not fit the task.
    """

    def work(session: Session) -> None:
        found = require_project(session, project)
        row = session.scalar(
            select(TaskRow).where(TaskRow.id == task, TaskRow.project_id == found.id).with_for_update()
        )
        if row is None or row.lane == "repeat":
            raise NotFound(f"there is no task {task[:60]}", fix="see the list of tasks")
        values = _as_gold(row, gold) if gold is not None else _as_ordinary(session, row, found.settings)
        session.execute(update(TaskRow).where(TaskRow.id == task).values(**values))
        before, after = {"gold": row.gold}, {"gold": values["gold"]}
        events.record(session, actor, "set_gold", ("task", task), project=found.id, before=before, after=after)

    store.transact(work)


def _as_gold(row: TaskRow, gold: Mapping[str, Any] | Verdict) -> dict[str, Any]:
    parsed = parse_gold(gold, row.kind, len(row.candidates))  # pyright: ignore[reportArgumentType]
    return {"gold": parsed.model_dump(mode="json"), "lane": "gold", "state": "open", "n_claimed": 0, "n_done": 0}


def _as_ordinary(session: Session, row: TaskRow, settings: dict[str, Any]) -> dict[str, Any]:
    """Count again what the queue counts; answers beyond the overlap are there, and make room in it."""
    claimed = session.scalar(select(func.count()).where(AssignmentRow.task_id == row.id, AssignmentRow.state == "open"))
    verdicts = counted_verdicts(session, row.id, extra=True)
    rules = ProjectSettings.model_validate(settings)
    overlap = max(row.overlap_base, len(verdicts) + (claimed or 0))
    need = scheduling.after_label(verdicts, overlap, row.n_skipped, rules)
    counts = {"n_claimed": claimed or 0, "n_done": len(verdicts)}
    return {"gold": None, "lane": "queue", "overlap": need.overlap, "state": need.state, **counts}


def gold_stats(store: Store, project: str, who: User | str) -> tuple[int, int]:
    """Return how many hidden tests somebody answered right, and how many they answered.

    Raises:
        NotFound: no such project.
    """
    with store.read() as session:
        values = {"project": require_project(session, project).id, "user": user_id(who), "since": EVER}
        row = session.execute(_TESTS, values).one()
    return row.right, row.total


EVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Before any answer."""
_TESTS = select(
    func.count(case((AssignmentRow.gold_right.is_(True), 1))).label("right"),
    func.count(AssignmentRow.gold_right).label("total"),
    select(ProjectRow.settings).where(ProjectRow.id == bindparam("project")).scalar_subquery().label("settings"),
).where(
    AssignmentRow.annotator_id == bindparam("user"),
    AssignmentRow.project_id == bindparam("project"),
    AssignmentRow.submitted_at > bindparam("since"),
)
_PROFILE = (
    select(ProfileRow.blocked_at, ProfileRow.qualified_at)
    .where(ProfileRow.user_id == bindparam("user"))
    .with_for_update()
)


def gate(session: Session, project: str, user: str) -> None:
    """Block somebody when the hidden tests say so; those before an administrator let them in do not count.

    Args:
        session: in a write transaction.
        project: id.
        user: id.
    """
    connection = session.connection()
    profile = connection.execute(_PROFILE, {"user": user}).one()
    if profile.blocked_at is not None:
        return
    values = {"project": project, "user": user, "since": profile.qualified_at or EVER}
    tests = connection.execute(_TESTS, values).one()
    if not scheduling.blocks(tests.right, tests.total, ProjectSettings.model_validate(tests.settings)):
        return
    reason = f"{tests.right} of {tests.total} hidden tests right"
    session.execute(
        update(ProfileRow).where(ProfileRow.user_id == user).values(blocked_at=utcnow(), block_reason=reason)
    )
    events.record(session, events.SYSTEM, "block", ("user", user), project=project, after={"reason": reason})
