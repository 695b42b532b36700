"""Finished judgements as rows of the store: who said what about which task, with an event for every label."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from accord.collect import events
from accord.collect.columns import ID_LENGTH, utcnow
from accord.collect.content import chunks
from accord.collect.database import Store
from accord.collect.ids import new_id
from accord.collect.importing.options import Refused
from accord.collect.projects import require_project
from accord.collect.records import NewTask, Verdict
from accord.collect.schema import AnnotationRow, AssignmentRow, ResponseRow, TaskRow
from accord.collect.tables import GuidelineRow, ProfileRow, UserRow
from accord.collect.tasks import add_tasks
from accord.collect.verdicts import Gold, is_right, outcome


@dataclass(frozen=True)
class Answer:
    """One finished judgement; indexes are those of `task.candidates`."""

    where: str
    line: int
    task: NewTask
    """With its key."""
    verdict: Verdict | None
    """None = retracted."""
    pseudonym: str
    """Of the person; made when nobody has it."""
    key: str
    """The same judgement has the same key whenever it is imported."""
    shown_order: tuple[int, ...]
    groups: tuple[str, ...] = ()
    dwell_ms: int = 0
    seen_ms: int = 0
    number: int | None = None
    """How many-th task of this person; None = counted here."""
    served_at: datetime | None = None
    created_at: datetime | None = None
    client: dict[str, Any] = field(default_factory=dict[str, Any])
    id: str = ""
    """Id to keep if it is free; empty = a new one."""
    supersedes: str = ""
    """Id of an earlier answer of the same person to the same task."""
    extra: bool = False
    guideline: str = ""
    """SHA-256 of the guidelines it was made under."""
    repeat_of: str = ""
    """Key of the task this one repeats."""


@dataclass
class Stored:
    """What became of answers."""

    added: int = 0
    repeated: int = 0
    refused: list[Refused] = field(default_factory=list[Refused])


def store_answers(
    store: Store, project: str, answers: Iterable[Answer], *, overlap: int | None = None, actor: str = events.SYSTEM
) -> Stored:
    """Add answers with their tasks and people; what is there already is left as it is.

    Args:
        store: an open store.
        project: name or id.
        answers: an answer that supersedes another comes after it.
        overlap: labels wanted of tasks that are new; None = as many as there are.
        actor: id of who does it.

    Raises:
        NotFound: no such project.
        Invalid: a task cannot be used.
    """
    given = list(answers)
    tasks = {answer.task.key: answer.task for answer in given}
    fresh = _fresh_keys(store, project, list(tasks))
    add_tasks(store, project, tasks.values(), actor=actor)
    return store.transact(lambda session: _Writer(session, project, fresh, overlap, actor).write(given))


def _fresh_keys(store: Store, project: str, keys: Sequence[str]) -> set[str]:
    found: set[str] = set()
    with store.read() as session:
        owner = require_project(session, project).id
        for some in chunks(keys):
            query = select(TaskRow.key).where(TaskRow.project_id == owner, TaskRow.key.in_(some))
            found.update(session.scalars(query))
    return set(keys) - found


class _Writer:
    """One transaction; looks everything up once, then adds rows in the order of the answers."""

    def __init__(self, session: Session, project: str, fresh: set[str], overlap: int | None, actor: str) -> None:
        self.session = session
        self.project = require_project(session, project, lock=True).id
        self.fresh = fresh
        self.overlap = overlap
        self.actor = actor
        self.now = utcnow()
        self.done = Stored()
        self.new: list[AnnotationRow] = []

    def write(self, answers: Sequence[Answer]) -> Stored:
        """Add what is new."""
        self._look_up(answers)
        for answer in answers:
            self._one(answer)
        for key in {answer.task.key for answer in answers}:
            self._close(key)
        self.session.flush()
        for row in self.new:
            after = {"sha256": events.fingerprint(row)}
            target = ("annotation", row.id)
            events.record(self.session, self.actor, "import", target, project=self.project, after=after)
        return self.done

    def _look_up(self, answers: Sequence[Answer]) -> None:
        session = self.session
        self.tasks: dict[str, TaskRow] = {}
        for some in chunks(sorted({a.task.key for a in answers} | {a.repeat_of for a in answers})):
            query = select(TaskRow).where(TaskRow.project_id == self.project, TaskRow.key.in_(some))
            # Locked, since counters are read here and written at the end: people may be answering these tasks now.
            found = session.scalars(query.order_by(TaskRow.id).with_for_update())
            self.tasks |= {row.key: row for row in found}
        self.texts: dict[str, str] = {}
        for some in chunks(sorted({name for row in self.tasks.values() for name in row.candidates})):
            found = session.execute(select(ResponseRow.id, ResponseRow.text).where(ResponseRow.id.in_(some)))
            self.texts |= {row.id: row.text for row in found}
        self.people = self._people(answers)
        self.guidelines = {
            row.sha256: row.id
            for row in session.scalars(select(GuidelineRow).where(GuidelineRow.project_id == self.project))
        }
        ids = {row.id for row in self.tasks.values()}
        self.assignments: dict[tuple[str, str], AssignmentRow] = {}
        self.keys: set[tuple[str, str]] = set()
        self.ordinals: dict[str, int | None] = {}
        for some in chunks(sorted(ids)):
            for row in session.scalars(select(AssignmentRow).where(AssignmentRow.task_id.in_(some))):
                self.assignments[row.task_id, row.annotator_id] = row
        for some in chunks(sorted({name for a in answers for name in (a.id, a.supersedes) if name})):
            found = session.execute(select(AnnotationRow.id, AnnotationRow.ordinal).where(AnnotationRow.id.in_(some)))
            self.ordinals.update((row.id, row.ordinal) for row in found)
        for some in chunks(sorted({a.key for a in answers})):
            query = select(AnnotationRow.annotator_id, AnnotationRow.idempotency_key)
            found = session.execute(query.where(AnnotationRow.idempotency_key.in_(some)))
            self.keys.update((row.annotator_id, row.idempotency_key) for row in found)

    def _people(self, answers: Sequence[Answer]) -> dict[str, ProfileRow]:
        wanted = {answer.pseudonym: answer.groups for answer in answers}
        found: dict[str, ProfileRow] = {}
        for some in chunks(sorted(wanted)):
            query = select(ProfileRow).where(ProfileRow.pseudonym.in_(some)).order_by(ProfileRow.user_id)
            found |= {row.pseudonym: row for row in self.session.scalars(query.with_for_update())}
        for name, groups in wanted.items():
            if name in found:
                continue
            user = UserRow(
                id=new_id(),
                handle=f"import-{events.digest(name)[:16]}",
                role="annotator",
                password_hash=None,
                created_at=utcnow(),
            )
            self.session.add(user)
            self.session.flush()
            found[name] = ProfileRow(user_id=user.id, pseudonym=name, groups=list(groups), weight=1.0, served=0)
            self.session.add(found[name])
            self.session.flush()
            after = {"handle": user.handle, "role": "annotator", "groups": list(groups), "pseudonym": name}
            events.record(self.session, self.actor, "create", ("user", user.id), after=after)
        return found

    def _refuse(self, answer: Answer, why: str) -> None:
        self.done.refused.append(Refused(answer.line, why, answer.where))

    def _one(self, answer: Answer) -> None:
        task, who = self.tasks[answer.task.key], self.people[answer.pseudonym]
        if (who.user_id, answer.key) in self.keys or (answer.id and answer.id in self.ordinals):
            self.done.repeated += 1
            return
        order = self._order(answer, task)
        if order is None:
            self._refuse(answer, "the task of this key has other replies in this project")
            return
        assignment = self.assignments.get((task.id, who.user_id))
        if assignment is not None and not answer.supersedes:
            self._refuse(answer, "this person has judged these replies before")
            return
        if assignment is None:
            assignment = self._assign(answer, task, who, order)
        self._annotate(answer, task, assignment, order)

    def _order(self, answer: Answer, task: TaskRow) -> list[int] | None:
        """Stored index of each candidate of the answer; None when the replies are not the same."""
        mine = [candidate.text for candidate in answer.task.candidates]
        stored = [self.texts[name] for name in task.candidates]
        if mine == stored:
            return list(range(len(mine)))
        if sorted(mine) != sorted(stored) or len(set(stored)) < len(stored):
            return None
        return [stored.index(text) for text in mine]

    def _assign(self, answer: Answer, task: TaskRow, who: ProfileRow, order: list[int]) -> AssignmentRow:
        if answer.repeat_of in self.tasks and task.repeat_of is None:
            task.repeat_of, task.lane, task.reserved_for = self.tasks[answer.repeat_of].id, "repeat", who.user_id
        who.served = max(who.served + (answer.number is None), answer.number or 0)
        when = answer.created_at or self.now
        row = AssignmentRow(
            id=new_id(),
            project_id=self.project,
            task_id=task.id,
            annotator_id=who.user_id,
            state="submitted",
            shown_order=[order[index] for index in answer.shown_order],
            seed=0,
            number=answer.number or who.served,
            guideline_id=self.guidelines.get(answer.guideline),
            lease_expires_at=when,
            served_at=answer.served_at or when,
            submitted_at=when,
        )
        self.session.add(row)
        self.session.flush()
        self.assignments[task.id, who.user_id] = row
        return row

    def _annotate(self, answer: Answer, task: TaskRow, assignment: AssignmentRow, order: list[int]) -> None:
        verdict = None if answer.verdict is None else answer.verdict.resolved(order)
        counts = not answer.extra and task.lane != "repeat" and not answer.supersedes
        task.n_done += counts
        if verdict is None:
            assignment.state = "released"
            task.n_done -= task.lane != "repeat" and task.n_done > 0
        elif task.gold is not None and assignment.gold_right is None:
            assignment.gold_right = is_right(verdict, Gold.model_validate(task.gold), len(order))
        row = AnnotationRow(
            id=answer.id if 0 < len(answer.id) <= ID_LENGTH else new_id(),
            project_id=self.project,
            task_id=task.id,
            assignment_id=assignment.id,
            annotator_id=assignment.annotator_id,
            idempotency_key=answer.key,
            request_sha256=events.digest([answer.key, verdict and verdict.model_dump(mode="json")]),
            kind=task.kind,
            outcome="retracted" if verdict is None else outcome(verdict),
            choice=None if verdict is None else verdict.position,
            verdict=None if verdict is None else verdict.model_dump(mode="json"),
            edit_response_id=None,
            # A revised answer keeps the place of the one before it.
            ordinal=task.n_done if counts else self.ordinals.get(answer.supersedes or ""),
            extra=answer.extra,
            late=False,
            dwell_ms=answer.dwell_ms,
            seen_ms=answer.seen_ms,
            client=answer.client,
            guideline_id=self.guidelines.get(answer.guideline),
            created_at=answer.created_at or self.now,
            supersedes_id=answer.supersedes or None,
        )
        if task.lane == "queue":
            task.overlap = max(task.overlap, task.n_done + task.n_claimed)
        self.session.add(row)
        self.session.flush()
        self.new.append(row)
        self.ordinals[row.id] = row.ordinal
        self.keys.add((row.annotator_id, row.idempotency_key))
        self.done.added += 1

    def _close(self, key: str) -> None:
        """A task that was made for these answers wants no more than they are, unless asked for."""
        task = self.tasks[key]
        if key in self.fresh and task.n_done:
            task.overlap = max(task.n_done + task.n_claimed, self.overlap or 1)
            task.overlap_base = task.overlap
        if task.state == "open" and task.n_done >= task.overlap and task.lane != "gold":
            task.state = "done"
