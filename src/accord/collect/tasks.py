"""Adding tasks, the same one never twice; the selection policies take turns in the queue."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from accord import rng
from accord.collect import events, scheduling
from accord.collect.columns import utcnow
from accord.collect.content import Content, add_content, check_storable, chunks, content_sha, users_named
from accord.collect.database import Store
from accord.collect.events import digest
from accord.collect.failures import Invalid, StoreError
from accord.collect.ids import new_id
from accord.collect.projects import require_project
from accord.collect.records import Added, NewTask, ProjectSettings
from accord.collect.schema import ProjectRow, TaskAuthorRow, TaskRow
from accord.collect.verdicts import parse_gold


def add_tasks(store: Store, project: str, items: Iterable[NewTask], *, actor: str = events.SYSTEM) -> Added:
    """Add tasks to a project, all or none of them.

    Args:
        store: an open store.
        project: name or id.
        items: a task whose key is known already is left as it is.
        actor: id of who does it.

    Raises:
        NotFound: no such project.
        Invalid: a task cannot be used; its number (from 1) is in `where`.
    """
    new = list(items)
    keys = [task_key(task) for task in new]
    for number, task in enumerate(new, 1):
        try:
            _check(task)
        except StoreError as error:
            raise Invalid(error.what, where=f"task {number}", fix=error.fix) from error

    def work(session: Session) -> Added:
        row = require_project(session, project, lock=True)
        known: set[str] = set()
        for some in chunks(keys):
            query = select(TaskRow.key).where(TaskRow.project_id == row.id, TaskRow.key.in_(some))
            known.update(session.scalars(query))
        fresh: dict[str, NewTask] = {}
        for key, task in zip(keys, new, strict=True):
            if key not in known:
                fresh.setdefault(key, task)
        if fresh:
            _insert(session, row, fresh)
            after = {"tasks": len(fresh)}
            events.record(session, actor, "add_tasks", ("project", row.id), project=row.id, after=after)
        return Added(added=len(fresh), known=len(new) - len(fresh))

    return store.transact(work)


def task_key(task: NewTask) -> str:
    """Return the key of a task: its own, or the hash of what is asked about what."""
    if task.key:
        return task.key
    return digest([task.kind, task.purpose, content_sha(task.prompt, task.candidates), task.gold is not None])


def close_tasks(store: Store, project: str, tasks: Sequence[str], *, actor: str = events.SYSTEM) -> int:
    """Withdraw tasks: nobody gets them any more, and their labels stay. Return how many were open till now.

    Raises:
        NotFound: no such project.
    """

    def work(session: Session) -> int:
        row = require_project(session, project)
        closed: list[str] = []
        for some in chunks(sorted(set(tasks))):
            query = select(TaskRow.id).where(TaskRow.project_id == row.id, TaskRow.id.in_(some))
            query = query.where(TaskRow.state != "closed").order_by(TaskRow.id).with_for_update()
            found = list(session.scalars(query))
            session.execute(update(TaskRow).where(TaskRow.id.in_(found)).values(state="closed"))
            closed.extend(found)
        if closed:
            after = {"tasks": closed}
            events.record(session, actor, "close_tasks", ("project", row.id), project=row.id, after=after)
        return len(closed)

    return store.transact(work)


def _check(task: NewTask) -> None:
    check_storable(task.prompt, task.candidates)
    count = len(task.candidates)
    if (
        (task.kind == "pair" and count != 2)
        or (task.kind == "rank" and count < 2)
        or (task.kind == "edit" and count != 1)
    ):
        wanted = {"pair": "two replies", "rank": "two to nine replies", "edit": "one reply"}[task.kind]
        raise Invalid(f"a task of kind {task.kind} has {wanted}, this one {count}", fix="change its kind or candidates")
    if len(task.key) > 200:
        raise Invalid("a key has at most 200 characters", fix="shorten it")
    try:
        events.canonical([task.meta, task.tags])
    except (TypeError, ValueError) as error:
        raise Invalid(f"meta cannot be stored: {error}", fix="keep to JSON with finite numbers") from error
    if task.gold is not None:
        parse_gold(task.gold, task.kind, count)


def _insert(session: Session, project: ProjectRow, fresh: Mapping[str, NewTask]) -> None:
    settings = ProjectSettings.model_validate(project.settings)
    slices = {key: _slice(task, project.seed, key, settings) for key, task in fresh.items()}
    turns = _turns(session, project, {key: task.policy for key, task in fresh.items() if task.gold is None})
    authors = users_named(session, {name for task in fresh.values() for name in task.authors})
    for some in chunks(list(fresh.items())):
        contents = add_content(session, project.id, [(task.prompt, task.candidates) for _, task in some])
        rows: list[dict[str, Any]] = []
        written: list[dict[str, str]] = []
        for (key, task), content in zip(some, contents, strict=True):
            row = _row(task, key, content, slices[key], settings)
            rows.append({**row, "project_id": project.id, "turn": turns.get(key, 0)})
            who = content.authors | {authors[name] for name in task.authors}
            written.extend({"task_id": row["id"], "user_id": user} for user in sorted(who))
        session.execute(insert(TaskRow.metadata.tables["task"]), rows)
        if written:
            session.execute(insert(TaskAuthorRow.metadata.tables["task_author"]), written)


def _row(task: NewTask, key: str, content: Content, slice: str, settings: ProjectSettings) -> dict[str, Any]:
    gold = None if task.gold is None else parse_gold(task.gold, task.kind, len(task.candidates))
    overlap = 1 if gold else task.overlap or scheduling.overlap_for(slice, settings)
    return {
        "id": new_id(),
        "key": key,
        "kind": task.kind,
        "purpose": task.purpose,
        "prompt_id": content.prompt,
        "candidates": list(content.responses),
        "overlap": overlap,
        "overlap_base": overlap,
        "precedence": -task.priority,
        "slice": slice,
        "policy": task.policy,
        "propensity": task.propensity,
        "lane": "gold" if gold else "queue",
        "gold": None if gold is None else gold.model_dump(mode="json"),
        "state": "open",
        "n_claimed": 0,
        "n_done": 0,
        "n_skipped": 0,
        "tags": list(task.tags),
        "meta": task.meta,
        "created_at": utcnow(),
    }


def _slice(task: NewTask, seed: int, key: str, settings: ProjectSettings) -> str:
    """A task chosen by a model is active; one chosen at random is in the random slice with the project's share."""
    if task.slice is not None:
        return task.slice
    chosen = task.policy == "random" and scheduling.in_random_slice(seed, key, settings)
    return "random" if chosen else "active"


def _turns(session: Session, project: ProjectRow, policies: Mapping[str, str]) -> dict[str, int]:
    """Places in the queue: the n-th task of every policy comes before the (n+1)-th of any, in random order.

    A policy that starts late begins where the queue is now, not before it.
    """
    mine = (TaskRow.project_id == project.id, TaskRow.lane == "queue")
    latest = select(TaskRow.policy, func.max(TaskRow.turn).label("turn")).where(*mine).group_by(TaskRow.policy)
    last = {row.policy: int(row.turn) for row in session.execute(latest)}
    now = session.scalar(select(func.min(TaskRow.turn)).where(*mine, TaskRow.state == "open")) or 0
    by_policy: dict[str, list[str]] = defaultdict(list)
    for key, policy in policies.items():
        by_policy[policy].append(key)
    turns: dict[str, int] = {}
    for policy, keys in by_policy.items():
        start = max(last.get(policy, -1) + 1, now)
        order = rng.permutation(len(keys), project.seed, "turns", policy, start)
        turns.update({key: start + place for key, place in zip(keys, order, strict=True)})
    return turns
