"""Raw annotations: every answer as it was given, with what is needed to analyse it or to store it elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from accord.collect.columns import as_text
from accord.collect.content import HUMAN, chunks
from accord.collect.fields import Kind, Purpose, Slice
from accord.collect.records import Verdict
from accord.collect.schema import AnnotationRow, AssignmentRow, PromptRow, ResponseRow, TaskRow
from accord.collect.tables import GuidelineRow, ModelVersionRow, ProfileRow
from accord.types import Candidate, Message, Prompt, Record

_PAGE = 500
NESTED = ("prompt", "candidates", "verdict", "gold", "client", "task_meta", "groups", "tags")
"""Fields that are JSON text in tables, whose columns have one type."""


class RawAnnotation(Record):
    """One answer of one person. Answers are never changed: an undo or edit is another row that supersedes."""

    id: str
    task: str
    """Key of the task: the same in every database the task was imported into."""
    kind: Kind
    purpose: Purpose
    slice: Slice
    policy: str
    propensity: float | None
    is_gold: bool
    gold: dict[str, Any] | None
    """The right answer, in candidate indexes, of a hidden test."""
    repeat_of: str | None
    """Key of the task this one repeats in reverse order."""
    prompt: Prompt
    candidates: tuple[Candidate, ...]
    annotator: str
    """Pseudonym."""
    groups: tuple[str, ...]
    outcome: str
    """choice, tie, both_bad, ranking, rating, edit or retracted."""
    verdict: Verdict | None
    """With candidate indexes in place of positions; None when retracted."""
    shown_order: tuple[int, ...]
    """Candidate index at each position."""
    dwell_ms: int
    seen_ms: int
    number: int
    """How many-th task of this person it was."""
    served_at: str
    created_at: str
    """ISO 8601, UTC."""
    guideline_version: int | None
    guideline_sha256: str | None
    supersedes: str | None
    """Id of the answer this one takes the place of."""
    extra: bool
    """Came when the task had all its labels: kept, not counted."""
    client: dict[str, Any]
    tags: tuple[str, ...]
    task_meta: dict[str, Any]


def current(annotations: Sequence[RawAnnotation]) -> list[RawAnnotation]:
    """Return the answers that stand: not superseded, not retracted."""
    gone = {a.supersedes for a in annotations if a.supersedes}
    return [a for a in annotations if a.id not in gone and a.outcome != "retracted"]


def raw_annotations(session: Session, project_id: str) -> list[RawAnnotation]:
    """Return all answers of a project in the order they were given.

    Args:
        session: of `Store.read(snapshot=True)`.
        project_id: id of the project.
    """
    guidelines = {g.id: g for g in session.scalars(select(GuidelineRow).where(GuidelineRow.project_id == project_id))}
    named = select(TaskRow.id, TaskRow.key).where(TaskRow.project_id == project_id)
    keys: dict[str, str] = {row.id: row.key for row in session.execute(named)}
    people = {p.user_id: p for p in session.scalars(select(ProfileRow))}
    replies: dict[str, Candidate] = {}
    prompts: dict[str, Prompt] = {}
    found: list[RawAnnotation] = []
    last = ""
    while True:
        query = (
            select(AnnotationRow, AssignmentRow, TaskRow)
            .join(AssignmentRow, AnnotationRow.assignment_id == AssignmentRow.id)
            .join(TaskRow, AnnotationRow.task_id == TaskRow.id)
            .where(AnnotationRow.project_id == project_id, AnnotationRow.id > last)
            .order_by(AnnotationRow.id)
            .limit(_PAGE)
        )
        page = session.execute(query).all()
        if not page:
            return found
        _load(session, [task for _, _, task in page], prompts, replies)
        for annotation, assignment, task in page:
            guideline = guidelines.get(annotation.guideline_id or "")
            shared = {
                "repeat_of": keys.get(task.repeat_of) if task.repeat_of else None,
                "prompt": prompts[task.prompt_id],
                "candidates": tuple(replies[name] for name in task.candidates),
                "annotator": people[annotation.annotator_id].pseudonym,
                "groups": tuple(people[annotation.annotator_id].groups),
                "guideline_version": guideline.version if guideline else None,
                "guideline_sha256": guideline.sha256 if guideline else None,
            }
            found.append(_record(annotation, assignment, task, shared))
        last = page[-1][0].id
        session.expunge_all()


def _record(
    annotation: AnnotationRow, assignment: AssignmentRow, task: TaskRow, shared: Mapping[str, Any]
) -> RawAnnotation:
    return RawAnnotation.model_validate(
        {
            **shared,
            "id": annotation.id,
            "task": task.key,
            "kind": task.kind,
            "purpose": task.purpose,
            "slice": task.slice,
            "policy": task.policy,
            "propensity": task.propensity,
            "is_gold": task.gold is not None,
            "gold": task.gold,
            "outcome": annotation.outcome,
            "verdict": annotation.verdict,
            "shown_order": tuple(assignment.shown_order),
            "dwell_ms": annotation.dwell_ms,
            "seen_ms": annotation.seen_ms,
            "number": assignment.number,
            "served_at": as_text(assignment.served_at),
            "created_at": as_text(annotation.created_at),
            "supersedes": annotation.supersedes_id,
            "extra": annotation.extra,
            "client": annotation.client,
            "tags": tuple(task.tags),
            "task_meta": task.meta,
        }
    )


def _load(
    session: Session, tasks: Sequence[TaskRow], prompts: dict[str, Prompt], replies: dict[str, Candidate]
) -> None:
    """Fetch the prompts and replies of tasks that are not there yet."""
    wanted = {task.prompt_id for task in tasks} - prompts.keys()
    for row in session.scalars(select(PromptRow).where(PromptRow.id.in_(sorted(wanted)))):
        messages = tuple(Message.model_validate(message) for message in row.messages)
        prompts[row.id] = Prompt(id=row.external_id, messages=messages, meta=row.meta)
    names = {name for task in tasks for name in task.candidates} - replies.keys()
    query = (
        select(ResponseRow, ModelVersionRow.name, ProfileRow.pseudonym)
        .outerjoin(ModelVersionRow, ResponseRow.model_version_id == ModelVersionRow.id)
        .outerjoin(ProfileRow, ResponseRow.author_user_id == ProfileRow.user_id)
    )
    for some in chunks(sorted(names)):
        for reply, model, person in session.execute(query.where(ResponseRow.id.in_(some))):
            origin = model if reply.author_user_id is None else f"{HUMAN}{person}"
            replies[reply.id] = Candidate(text=reply.text, model=origin, meta=reply.meta)
