"""Reading the store for people in charge: how far a project is, who labels how, which tasks there are."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from accord.collect.columns import utcnow
from accord.collect.current import holds
from accord.collect.database import Store
from accord.collect.projects import project_id, require_project
from accord.collect.records import Kind, Progress, ProjectSettings, Purpose, Slice, User
from accord.collect.schema import (
    AnnotationRow,
    AssignmentRow,
    ProfileRow,
    PromptRow,
    QuizResultRow,
    TaskRow,
    UserRow,
)
from accord.collect.views import progress_of, today, user_id
from accord.stats.intervals import wilson
from accord.types import Preference, Record

DAYS = 30
"""Days of `ProjectProgress.by_day`."""


class TaskCounts(Record):
    """Tasks of the queue by state; hidden tests and repeats are not among them."""

    total: int
    open: int
    done: int
    adjudicate: int
    closed: int


class LabelCounts(Record):
    """Labels of the queue that count."""

    total: int
    today: int


class KindCount(Record):
    """Tasks of one kind."""

    kind: Kind
    total: int
    done: int


class DayCount(Record):
    """Labels of one day, UTC."""

    day: str
    count: int


class ProjectProgress(Record):
    """How far a project is."""

    project: str
    tasks: TaskCounts
    annotations: LabelCounts
    by_kind: tuple[KindCount, ...]
    by_day: tuple[DayCount, ...]
    skips: dict[str, int]
    open_leases: int
    active_annotators: int
    """People who answered here within the last hour."""
    remaining: int
    """Labels still wanted."""
    eta_seconds: float | None
    """At the pace of the last hour, in which imported judgements do not count."""


class AnnotatorStats(Record):
    """One person's work in a project."""

    id: str
    handle: str
    pseudonym: str
    role: str
    groups: tuple[str, ...]
    done: int
    today: int
    skipped: int
    median_seconds: float | None
    gold_right: int
    gold_total: int
    gold_low: float | None
    gold_high: float | None
    """95 % Wilson interval of the share right."""
    state: str
    """new, qualified or blocked."""
    disabled: bool
    last_seen: datetime | None


class TaskSummary(Record):
    """One task as an administrator sees it."""

    id: str
    key: str
    kind: Kind
    purpose: Purpose
    state: str
    lane: str
    slice: Slice
    policy: str
    overlap: int
    claimed: int
    done: int
    skipped: int
    prompt: str
    candidates: int


class TaskPage(Record):
    """Some tasks, in the order they were added."""

    tasks: tuple[TaskSummary, ...]
    next: str | None
    """Pass it as `after` for the next page."""


def own_progress(store: Store, project: str, who: User | str) -> Progress:
    """Return how far one person is.

    Raises:
        NotFound: no such project.
    """
    with store.look() as connection:
        return progress_of(store, connection, project_id(store, connection, project), user_id(who))[0]


def progress(store: Store, project: str) -> ProjectProgress:
    """Return how far a project is.

    Raises:
        NotFound: no such project.
    """
    with store.read() as session:
        row = require_project(session, project)
        tasks, kinds, remaining = _task_counts(session, row.id)
        labels = (AnnotationRow.project_id == row.id, AnnotationRow.extra.is_(False), TaskRow.lane == "queue", holds())
        counted = select(func.count()).select_from(AnnotationRow).join(TaskRow, TaskRow.id == AnnotationRow.task_id)
        total = int(session.scalar(counted.where(*labels)) or 0)
        new = int(session.scalar(counted.where(*labels, AnnotationRow.created_at >= today())) or 0)
        pace = counted.join(AssignmentRow, AssignmentRow.id == AnnotationRow.assignment_id).where(_given_here())
        recent = int(session.scalar(pace.where(*labels, AnnotationRow.created_at >= _hour_ago())) or 0)
        mine = (AssignmentRow.project_id == row.id,)
        held = mine + (AssignmentRow.state == "open", AssignmentRow.lease_expires_at > utcnow())
        skips = select(AssignmentRow.skip_reason, func.count()).where(*mine, AssignmentRow.state == "skipped")
        active = select(func.count(AnnotationRow.annotator_id.distinct())).where(
            AnnotationRow.project_id == row.id, AnnotationRow.created_at >= _hour_ago(), _given_here()
        )
        active = active.join(AssignmentRow, AssignmentRow.id == AnnotationRow.assignment_id)
        return ProjectProgress(
            project=row.name,
            tasks=tasks,
            annotations=LabelCounts(total=total, today=new),
            by_kind=kinds,
            by_day=tuple(_by_day(session, labels)),
            skips={str(r[0]): r[1] for r in session.execute(skips.group_by(AssignmentRow.skip_reason))},
            open_leases=int(session.scalar(select(func.count()).select_from(AssignmentRow).where(*held)) or 0),
            active_annotators=int(session.scalar(active) or 0),
            remaining=remaining,
            eta_seconds=round(remaining / recent * 3600, 1) if recent and remaining else None,
        )


def _hour_ago() -> datetime:
    return utcnow() - timedelta(hours=1)


def _given_here() -> Any:
    """Leave imported judgements out: nobody held their tasks, so the lease ends when the answer came (importing)."""
    return AssignmentRow.lease_expires_at != AssignmentRow.submitted_at


def _task_counts(session: Session, project: str) -> tuple[TaskCounts, tuple[KindCount, ...], int]:
    query = (
        select(TaskRow.kind, TaskRow.state, func.count().label("n"), func.sum(TaskRow.overlap - TaskRow.n_done))
        .where(TaskRow.project_id == project, TaskRow.lane == "queue")
        .group_by(TaskRow.kind, TaskRow.state)
    )
    states: dict[str, int] = defaultdict(int)
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    remaining = 0
    for kind, state, count, wanted in session.execute(query):
        states[state] += count
        kinds[kind][0] += count
        kinds[kind][1] += count if state == "done" else 0
        remaining += int(wanted) if state == "open" else 0
    names: tuple[Any, ...] = tuple(sorted(kinds))
    return (
        TaskCounts(total=sum(states.values()), **{s: states[s] for s in ("open", "done", "adjudicate", "closed")}),
        tuple(KindCount(kind=kind, total=kinds[kind][0], done=kinds[kind][1]) for kind in names),
        remaining,
    )


def _by_day(session: Session, labels: tuple[Any, ...]) -> Iterator[DayCount]:
    since = today() - timedelta(days=DAYS - 1)
    day = func.date(AnnotationRow.created_at)
    query = select(day, func.count()).select_from(AnnotationRow).join(TaskRow, TaskRow.id == AnnotationRow.task_id)
    query = query.where(*labels, AnnotationRow.created_at >= since).group_by(day).order_by(day)
    for name, count in session.execute(query):
        yield DayCount(day=str(name), count=count)


def annotators(store: Store, project: str) -> list[AnnotatorStats]:
    """Return everybody who labels or may label, by handle.

    Raises:
        NotFound: no such project.
    """
    with store.read() as session:
        row = require_project(session, project)
        quiz = ProjectSettings.model_validate(row.settings).quiz_pass is not None
        passed = set(
            session.scalars(
                select(QuizResultRow.user_id).where(QuizResultRow.project_id == row.id, QuizResultRow.passed.is_(True))
            )
        )
        work = {r.annotator_id: r for r in session.execute(_work().where(AssignmentRow.project_id == row.id))}
        seconds: dict[str, list[int]] = defaultdict(list)
        dwell = select(AnnotationRow.annotator_id, AnnotationRow.dwell_ms)
        for user, spent in session.execute(dwell.where(AnnotationRow.project_id == row.id, holds())):
            seconds[user].append(spent)
        people = select(UserRow, ProfileRow).join(ProfileRow, ProfileRow.user_id == UserRow.id)
        return [
            _stats(user, profile, work.get(user.id), seconds.get(user.id), not quiz or user.id in passed)
            for user, profile in session.execute(people.order_by(UserRow.handle))
            if user.role == "annotator" or user.id in work
        ]


_ANSWERED = AssignmentRow.state.in_(("submitted", "revising"))


def _work() -> Any:
    return select(
        AssignmentRow.annotator_id,
        func.count(case((_ANSWERED, 1))).label("done"),
        func.count(case((_ANSWERED & (AssignmentRow.submitted_at >= today()), 1))).label("today"),
        func.count(case((AssignmentRow.state == "skipped", 1))).label("skipped"),
        func.count(AssignmentRow.gold_right).label("gold_total"),
        func.count(case((AssignmentRow.gold_right.is_(True), 1))).label("gold_right"),
        func.max(AssignmentRow.served_at).label("last_seen"),
    ).group_by(AssignmentRow.annotator_id)


def _stats(user: UserRow, profile: ProfileRow, work: Any, seconds: list[int] | None, passed: bool) -> AnnotatorStats:
    right, total = (work.gold_right, work.gold_total) if work else (0, 0)
    interval = wilson(right, total) if total else None
    qualified = passed or profile.qualified_at is not None
    return AnnotatorStats(
        id=user.id,
        handle=user.handle,
        pseudonym=profile.pseudonym,
        role=user.role,
        groups=tuple(profile.groups),
        done=work.done if work else 0,
        today=work.today if work else 0,
        skipped=work.skipped if work else 0,
        median_seconds=median(seconds) / 1000 if seconds else None,
        gold_right=right,
        gold_total=total,
        gold_low=interval.low if interval else None,
        gold_high=interval.high if interval else None,
        state="blocked" if profile.blocked_at else "qualified" if qualified else "new",
        disabled=user.disabled_at is not None,
        last_seen=work.last_seen if work else None,
    )


def tasks(
    store: Store, project: str, *, state: str | None = None, after: str | None = None, limit: int = 50
) -> TaskPage:
    """Return a page of tasks.

    Args:
        store: an open store.
        project: name or id.
        state: open, done, adjudicate or closed; None = all.
        after: `TaskPage.next` of the page before.
        limit: tasks on the page.

    Raises:
        NotFound: no such project.
    """
    with store.read() as session:
        row = require_project(session, project)
        query = select(TaskRow, PromptRow.messages).join(PromptRow, PromptRow.id == TaskRow.prompt_id)
        query = query.where(TaskRow.project_id == row.id).order_by(TaskRow.id).limit(limit + 1)
        if state is not None:
            query = query.where(TaskRow.state == state)
        if after is not None:
            query = query.where(TaskRow.id > after)
        found = session.execute(query).all()
    page = tuple(_summary(task, messages) for task, messages in found[:limit])
    return TaskPage(tasks=page, next=page[-1].id if len(found) > limit else None)


def _summary(task: TaskRow, messages: list[Any]) -> TaskSummary:
    kind: Any = task.kind
    purpose: Any = task.purpose
    slice: Any = task.slice
    return TaskSummary(
        id=task.id,
        key=task.key,
        kind=kind,
        purpose=purpose,
        state=task.state,
        lane=task.lane,
        slice=slice,
        policy=task.policy,
        overlap=task.overlap,
        claimed=task.n_claimed,
        done=task.n_done,
        skipped=task.n_skipped,
        prompt=messages[-1]["content"],
        candidates=len(task.candidates),
    )


def preferences(store: Store, project: str, *, slice: Slice | None = None, planned: bool = False) -> list[Preference]:
    """Return the comparisons that stand, without hidden tests and repeats; `exporting` has every other choice.

    Args:
        store: an open store.
        project: name or id.
        slice: only this one; agreement is measured on "random".
        planned: only the labels every task was to get from the start. More were asked for where people disagreed, and
            with those agreement would look worse than it is.

    Raises:
        NotFound: no such project.
    """
    from accord.collect.exporting.derive import preferences as derived
    from accord.collect.exporting.derive import selected
    from accord.collect.exporting.gather import gather
    from accord.collect.exporting.options import ExportOptions

    options = ExportOptions(slice=slice or "all", purpose="all")
    collected = gather(store, project)
    found = derived(selected(collected.answers, options).records)
    return [p for p in found if p.id in collected.planned] if planned else found
