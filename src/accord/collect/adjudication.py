"""The last word on tasks people disagree about: who decides sees every answer, under pseudonyms, models hidden.

Candidates are shown in an order drawn from the project's seed, the task and the adjudicator: the same when the page is
loaded again, so that a verdict in positions can be resolved, and not the order anybody labelled in.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.orm import Session

from accord import rng
from accord.collect import events
from accord.collect.columns import utcnow
from accord.collect.content import chunks
from accord.collect.current import holds, verdict_of
from accord.collect.database import Store
from accord.collect.failures import Conflict, NotAllowed, NotFound
from accord.collect.ids import new_id
from accord.collect.projects import require_project
from accord.collect.records import Kind, ProjectSettings, Purpose, Scale, ShownCandidate, User, Verdict
from accord.collect.schema import (
    AdjudicationRow,
    AnnotationRow,
    AssignmentRow,
    GuidelineRow,
    ProfileRow,
    ProjectRow,
    PromptRow,
    ResponseRow,
    TaskAuthorRow,
    TaskRow,
)
from accord.collect.verdicts import fitting
from accord.collect.views import user_id
from accord.types import Message, Record


class GivenLabel(Record):
    """What somebody said, in positions of the item's `candidates`."""

    annotator: str
    verdict: Verdict
    seconds: float
    created_at: datetime
    guideline: int | None


class GivenSkip(Record):
    """Why somebody did not answer."""

    annotator: str
    reason: str
    comment: str


class AdjudicationItem(Record):
    """A task that needs a decision."""

    task: str
    kind: Kind
    purpose: Purpose
    messages: tuple[Message, ...]
    candidates: tuple[ShownCandidate, ...]
    flags: tuple[str, ...]
    scale: Scale
    reason: str
    labels: tuple[GivenLabel, ...]
    skips: tuple[GivenSkip, ...] = ()


class AdjudicationQueue(Record):
    """The next tasks that need a decision, and how many there are."""

    items: tuple[AdjudicationItem, ...]
    remaining: int


def queue(store: Store, project: str, who: User | str, *, limit: int = 20) -> AdjudicationQueue:
    """Return the tasks that wait for a decision of somebody; those they labelled or wrote are not among them.

    Args:
        store: an open store.
        project: name or id.
        who: the adjudicator.
        limit: at most so many items.

    Raises:
        NotFound: no such project.
    """
    user = user_id(who)
    with store.read() as session:
        row = require_project(session, project)
        waiting = _waiting(row.id, user)
        remaining = int(session.scalar(select(func.count()).select_from(waiting.subquery())) or 0)
        tasks = session.scalars(waiting.order_by(TaskRow.precedence, TaskRow.id).limit(limit)).all()
        return AdjudicationQueue(items=tuple(_items(session, row, user, tasks)), remaining=remaining)


def adjudicate(
    store: Store, who: User | str, task: str, verdict: Verdict, *, reason: str = "", key: str | None = None
) -> str:
    """Decide a task; the labels of the annotators stay as they are. Sending the same decision again is harmless.

    Args:
        store: an open store.
        who: the adjudicator.
        task: id.
        verdict: in the positions of the queue's item.
        reason: for the audit trail and the export.
        key: made by the client for this decision; None = the decision itself.

    Returns:
        The id of the decision.

    Raises:
        NotFound: no such task.
        NotAllowed: the adjudicator labelled or wrote it.
        Conflict: it does not wait for a decision (any more).
        Invalid: the verdict does not fit the task.
    """
    user = user_id(who)
    stored_key = key or events.digest([task, verdict.model_dump(mode="json"), reason])

    def work(session: Session) -> str:
        row = session.scalar(select(TaskRow).where(TaskRow.id == task).with_for_update())
        if row is None:
            raise NotFound(f"there is no task {task[:60]}", fix="load the queue again")
        same = select(AdjudicationRow.id).where(
            AdjudicationRow.adjudicator_id == user, AdjudicationRow.idempotency_key == stored_key
        )
        if (again := session.scalar(same)) is not None:
            return again
        if row.state != "adjudicate":
            raise Conflict("this task does not wait for a decision", fix="load the queue again")
        if session.scalar(_waiting(row.project_id, user).where(TaskRow.id == task)) is None:
            raise NotAllowed("you labelled or wrote this task", fix="leave it to another adjudicator")
        project = require_project(session, row.project_id)
        settings = ProjectSettings.model_validate(project.settings)
        kind: Any = row.kind
        fitting(verdict, kind, len(row.candidates), settings.model_copy(update={"require_rationale": False}))
        order = _order(project, user, row)
        values: dict[str, Any] = {
            "id": new_id(),
            "project_id": row.project_id,
            "task_id": task,
            "adjudicator_id": user,
            "idempotency_key": stored_key,
            "verdict": verdict.resolved(order).model_dump(mode="json"),
            "shown_order": order,
            "reason": reason,
            "created_at": utcnow(),
        }
        session.execute(insert(AdjudicationRow.metadata.tables["adjudication"]), values)
        session.execute(update(TaskRow).where(TaskRow.id == task).values(state="done"))
        after = {"sha256": events.fingerprint(AdjudicationRow(**values)), "task": task}
        events.record(session, user, "adjudicate", ("adjudication", values["id"]), project=row.project_id, after=after)
        return values["id"]

    return store.transact(work)


def _waiting(project: str, user: str) -> Any:
    return select(TaskRow).where(
        TaskRow.project_id == project,
        TaskRow.state == "adjudicate",
        ~exists().where(
            AssignmentRow.task_id == TaskRow.id,
            AssignmentRow.annotator_id == user,
            AssignmentRow.state.in_(("submitted", "revising")),
        ),
        ~exists().where(TaskAuthorRow.task_id == TaskRow.id, TaskAuthorRow.user_id == user),
    )


def _order(project: ProjectRow, user: str, task: TaskRow) -> list[int]:
    return rng.permutation(len(task.candidates), project.seed, "adjudication", task.id, user)


def _items(session: Session, project: ProjectRow, user: str, tasks: Sequence[TaskRow]) -> list[AdjudicationItem]:
    settings = ProjectSettings.model_validate(project.settings)
    prompts = {
        row.id: row.messages
        for some in chunks([task.prompt_id for task in tasks])
        for row in session.execute(select(PromptRow.id, PromptRow.messages).where(PromptRow.id.in_(some)))
    }
    texts = {
        row.id: row.text
        for some in chunks([response for task in tasks for response in task.candidates])
        for row in session.execute(select(ResponseRow.id, ResponseRow.text).where(ResponseRow.id.in_(some)))
    }
    labels = _labels(session, [task.id for task in tasks])
    skips = _skips(session, [task.id for task in tasks])
    found: list[AdjudicationItem] = []
    for task in tasks:
        order = _order(project, user, task)
        given = tuple(
            label.model_copy(update={"verdict": label.verdict.shown(order)}) for label in labels.get(task.id, ())
        )
        kind: Any = task.kind
        purpose: Any = task.purpose
        success = task.purpose == "evaluation"
        found.append(
            AdjudicationItem(
                task=task.id,
                kind=kind,
                purpose=purpose,
                messages=tuple(Message.model_validate(m) for m in prompts[task.prompt_id]),
                candidates=tuple(
                    ShownCandidate(position=p, text=texts[task.candidates[i]]) for p, i in enumerate(order)
                ),
                flags=settings.flags,
                scale=Scale(strength=settings.strength, tie=settings.tie, both_bad=settings.both_bad, success=success),
                reason=_reason(task, settings),
                labels=given,
                skips=tuple(skips.get(task.id, ())),
            )
        )
    return found


def _reason(task: TaskRow, settings: ProjectSettings) -> str:
    if task.n_done < task.overlap and task.n_skipped >= settings.skips_to_adjudicate:
        return f"{task.n_skipped} people skipped it"
    return f"{task.n_done} people disagree"


def _labels(session: Session, tasks: Sequence[str]) -> dict[str, list[GivenLabel]]:
    found: dict[str, list[GivenLabel]] = defaultdict(list)
    for some in chunks(tasks):
        query = (
            select(AnnotationRow, ProfileRow.pseudonym, GuidelineRow.version)
            .join(ProfileRow, ProfileRow.user_id == AnnotationRow.annotator_id)
            .outerjoin(GuidelineRow, GuidelineRow.id == AnnotationRow.guideline_id)
            .where(AnnotationRow.task_id.in_(some), holds())
            .order_by(AnnotationRow.id)
        )
        for row, pseudonym, version in session.execute(query):
            found[row.task_id].append(
                GivenLabel(
                    annotator=pseudonym,
                    verdict=verdict_of(row),
                    seconds=row.dwell_ms / 1000,
                    created_at=row.created_at,
                    guideline=version,
                )
            )
    return found


def _skips(session: Session, tasks: Sequence[str]) -> dict[str, list[GivenSkip]]:
    found: dict[str, list[GivenSkip]] = defaultdict(list)
    for some in chunks(tasks):
        query = (
            select(AssignmentRow.task_id, ProfileRow.pseudonym, AssignmentRow.skip_reason, AssignmentRow.skip_comment)
            .join(ProfileRow, ProfileRow.user_id == AssignmentRow.annotator_id)
            .where(AssignmentRow.task_id.in_(some), AssignmentRow.state == "skipped")
            .order_by(AssignmentRow.id)
        )
        for row in session.execute(query):
            given = GivenSkip(
                annotator=row.pseudonym, reason=row.skip_reason or "other", comment=row.skip_comment or ""
            )
            found[row.task_id].append(given)
    return found
