"""Tasks, people and answers for the tests of the store."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from accord.collect import claims, people, projects, submissions, tasks
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.records import NewTask, ProjectSettings, Submission, Submitted, TaskView, User, Verdict
from accord.collect.schema import AssignmentRow, TaskRow
from accord.types import Candidate, Message, Prompt

PLAIN: dict[str, Any] = {"gold_rate": 0, "gold_rate_new": 0, "repeat_rate": 0, "random_slice": 0, "gate": "off"}
"""Rules without any surprise: only the queue, one label a task."""


def prompt(number: int) -> Prompt:
    return Prompt(id=f"prompt-{number}", messages=(Message(role="user", content=f"question {number}"),))


def pair(number: int, **fields: Any) -> NewTask:
    """A pair whose replies are "a <number>" and "b <number>"."""
    replies = (Candidate(text=f"a {number}", model="model-a"), Candidate(text=f"b {number}", model="model-b"))
    return NewTask(**{"kind": "pair", "prompt": prompt(number), "candidates": replies, **fields})


def many(kind: str, number: int, count: int, **fields: Any) -> NewTask:
    """A task of any kind with `count` replies "0 <number>", "1 <number>", ..."""
    replies = tuple(Candidate(text=f"{i} {number}", model=f"model-{i}") for i in range(count))
    return NewTask(**{"kind": kind, "prompt": prompt(number), "candidates": replies, **fields})


def project(store: Store, new: Sequence[NewTask] = (), *, seed: int = 1, **settings: Any) -> None:
    """A project named default with plain rules, except for `settings`."""
    projects.ensure_project(store, "default", ProjectSettings(**{**PLAIN, **settings}), seed=seed)
    tasks.add_tasks(store, "default", new)


def person(store: Store, handle: str, **fields: Any) -> User:
    return people.create_user(store, handle, "annotator", **fields)


def claim(store: Store, who: User, **options: Any) -> TaskView:
    """A claim that must find something."""
    view = claims.claim(store, "default", who, **options)
    assert view is not None
    return view


def answer(view: TaskView, text: str = "a", *, key: str = "", **fields: Any) -> Submission:
    """Prefer the reply that begins with `text`, wherever it is shown."""
    position = next(c.position for c in view.candidates if c.text.startswith(text))
    verdict = Verdict(kind="pair", position=position, **fields)
    return Submission(assignment=view.assignment, key=key or str(uuid.uuid4()), verdict=verdict, dwell_ms=1000)


def say(view: TaskView, **fields: Any) -> Submission:
    """Any verdict, in positions."""
    verdict = Verdict(kind=view.kind, **fields)
    return Submission(assignment=view.assignment, key=str(uuid.uuid4()), verdict=verdict, dwell_ms=1000)


def label(store: Store, who: User, text: str = "a") -> Submitted:
    """Claim and answer."""
    return submissions.submit(store, who, answer(claim(store, who), text))


def expire(store: Store, assignment: str) -> None:
    """Let a lease run out without waiting for it."""
    with store.write() as session:
        past = utcnow() - timedelta(seconds=1)
        session.execute(update(AssignmentRow).where(AssignmentRow.id == assignment).values(lease_expires_at=past))


def task_rows(store: Store) -> list[TaskRow]:
    """Every task, in the order they were added."""
    with store.read() as session:
        return list(session.scalars(select(TaskRow).order_by(TaskRow.id)))


def assignment(store: Store, id: str) -> AssignmentRow:
    with store.read() as session:
        row = session.get(AssignmentRow, id)
        assert row is not None
        return row
