"""Serving tasks: who gets which one next, for how long, in which order its replies are shown.

A claim is one short transaction. It locks the person's own profile row first, so that one person's claims come one
after the other; takes back leases that ran out; and then takes the first task of the queue that has room. The row is
locked with SKIP LOCKED: without FOR UPDATE two annotators would read the same free place, on PostgreSQL silently.
The counters are columns of the locked row itself, because after waiting for a lock PostgreSQL looks again at that row
only, and not at what a subquery counted elsewhere.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, case, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session, aliased

from accord.collect import scheduling
from accord.collect.at_once import AtOnce, new
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.failures import Conflict, NotAllowed, NotFound, TooMany
from accord.collect.gold import EVER, passed_quiz
from accord.collect.ids import new_id
from accord.collect.records import ProjectSettings, TaskView, User
from accord.collect.repeats import repeat_task
from accord.collect.schema import (
    AssignmentRow,
    GuidelineRow,
    ProfileRow,
    ProjectRow,
    TaskAuthorRow,
    TaskRow,
    UserRow,
)
from accord.collect.settling import lock_own
from accord.collect.views import SEEN, task_view, today, user_id

RECLAIM = 50
"""Leases that ran out and are taken back in one claim."""
GOLD_CHOICE = 200
"""Hidden tests the next one is drawn from."""


@dataclass(frozen=True)
class _Person:
    """Who claims, where, under which rules."""

    user: str
    served: int
    project: str
    seed: int
    settings: ProjectSettings
    guideline: str | None
    expired: bool
    since: datetime
    """Hidden tests before do not count: an administrator let the person in again."""


@dataclass(frozen=True)
class _Found:
    """A task to serve."""

    task: str
    candidates: int
    mine: str | None
    """An earlier assignment of the same person that ran out or was given back."""
    order: list[int] | None = None
    """The order to show; None = a random one."""
    counted: bool = False


def claim(store: Store, project: str, who: User | str, *, prefetch: bool = False) -> TaskView | None:
    """Return a task for somebody to judge; None when there is nothing for them now.

    Args:
        store: an open store.
        project: name or id.
        who: user.
        prefetch: False returns the task the person holds already, if there is one, so that a reloaded page goes on
            where it was. True asks for one more; at the limit of open tasks the newest one is returned.

    Raises:
        NotFound: no such project or user.
        NotAllowed: the person is blocked, disabled, or has not passed the quiz.
        TooMany: the daily cap is reached.
    """
    user = user_id(who)
    found = store.transact(lambda session: _claim(session, project, user, prefetch))
    if found == _BUSY:
        # Every task with room was locked by somebody at that moment: wait for the first instead of sending people away.
        found = store.transact(lambda session: _claim(session, project, user, prefetch, wait=True))
    if found is None:
        return None
    with store.look() as connection:
        return task_view(store, connection, found)


_BUSY = "busy"


def _claim(session: Session, project: str, user: str, prefetch: bool, *, wait: bool = False) -> str | None:
    now = utcnow()
    person = _person(session, project, user, now)
    values = {"user": user, "project": person.project, "now": now, "since": person.since}
    mine = session.connection().execute(_MINE, values).one()
    if mine.held and not prefetch:
        _extend(session, mine.first, person.settings, now)
        return mine.first
    if mine.held >= person.settings.max_open:
        return mine.last
    _check_cap(session, person, mine.held)
    if person.expired and not wait:
        reclaim(session, now)
    task = _next_task(session, person, (mine.right, mine.gold), wait=wait)
    if task is None:
        return None if wait or not _somebody_waits(session, person) else _BUSY
    return _serve(session, person, task, now)


def _somebody_waits(session: Session, person: _Person) -> bool:
    if session.get_bind().dialect.name == "sqlite":
        return False
    return session.execute(_QUEUE_ANY, {"user": person.user, "project": person.project}).first() is not None


_PERSON = (
    select(
        ProfileRow.served,
        ProfileRow.blocked_at,
        ProfileRow.qualified_at,
        UserRow.disabled_at,
        ProjectRow.id.label("project"),
        ProjectRow.seed,
        ProjectRow.settings,
        select(GuidelineRow.id)
        .where(GuidelineRow.project_id == ProjectRow.id)
        .order_by(GuidelineRow.version.desc())
        .limit(1)
        .scalar_subquery()
        .label("guideline"),
        exists()
        .where(AssignmentRow.state == "open", AssignmentRow.lease_expires_at <= bindparam("now"))
        .label("expired"),
    )
    .select_from(ProfileRow)
    .join(UserRow, UserRow.id == ProfileRow.user_id)
    .join(ProjectRow, or_(ProjectRow.name == bindparam("project"), ProjectRow.id == bindparam("project")))
    .where(ProfileRow.user_id == bindparam("user"))
    .with_for_update(of=ProfileRow)
)


def _mine() -> Any:
    """Number, first and last of the tasks a person holds, and the hidden tests they have answered, and right.

    Not part of `_PERSON`: only what begins after that lock was given sees what the claim before has done.
    """
    mine = and_(AssignmentRow.annotator_id == bindparam("user"), AssignmentRow.project_id == bindparam("project"))
    held = and_(mine, AssignmentRow.state == "open", AssignmentRow.lease_expires_at > bindparam("now"))
    one = select(AssignmentRow.id).where(held).limit(1)
    first = one.order_by(AssignmentRow.served_at, AssignmentRow.id)
    last = one.order_by(AssignmentRow.served_at.desc(), AssignmentRow.id.desc())
    tests = (
        select(
            func.count(AssignmentRow.gold_right).label("gold"),
            func.count(case((AssignmentRow.gold_right.is_(True), 1))).label("right"),
        )
        .where(mine, AssignmentRow.submitted_at > bindparam("since"))
        .subquery()
    )
    return select(
        select(func.count()).where(held).scalar_subquery().label("held"),
        first.scalar_subquery().label("first"),
        last.scalar_subquery().label("last"),
        tests.c.gold,
        tests.c.right,
    )


_MINE = _mine()


def _person(session: Session, project: str, user: str, now: datetime) -> _Person:
    row = session.connection().execute(_PERSON, {"user": user, "project": project, "now": now}).first()
    if row is None:
        raise NotFound(f"there is no project {project[:60]!r}, or no such user", fix="check both names")
    if row.disabled_at is not None:
        raise NotAllowed("this account is disabled", fix="ask an administrator")
    if row.blocked_at is not None:
        raise NotAllowed("this account gets no more tasks", fix="ask an administrator")
    settings = ProjectSettings.model_validate(row.settings)
    if settings.quiz_pass is not None and row.qualified_at is None and not passed_quiz(session, row.project, user):
        raise NotAllowed("the qualification quiz comes first", fix="take the quiz")
    return _Person(
        user, row.served, row.project, row.seed, settings, row.guideline, bool(row.expired), row.qualified_at or EVER
    )


def _check_cap(session: Session, person: _Person, held: int) -> None:
    cap = person.settings.daily_cap
    if cap is None:
        return
    done = session.scalar(
        select(func.count())
        .select_from(AssignmentRow)
        .where(AssignmentRow.annotator_id == person.user, AssignmentRow.project_id == person.project)
        .where(AssignmentRow.state.in_(("submitted", "revising")), AssignmentRow.submitted_at >= today())
    )
    if (done or 0) + held >= cap:
        raise TooMany(f"the daily cap of {cap} answers is reached", fix="come back tomorrow (UTC)")


def reclaim(session: Session, now: datetime) -> int:
    """Take back leases that ran out, of any project; return how many.

    Rows somebody works on are left to the next claim, so that this never waits.
    """
    late = session.execute(
        select(AssignmentRow.id, AssignmentRow.task_id, TaskRow.lane)
        .join(TaskRow, TaskRow.id == AssignmentRow.task_id)
        .where(AssignmentRow.state == "open", AssignmentRow.lease_expires_at <= now)
        .order_by(AssignmentRow.lease_expires_at)
        .limit(RECLAIM)
        .with_for_update(skip_locked=True)
    ).all()
    if late:
        session.execute(update(AssignmentRow).where(AssignmentRow.id.in_([r.id for r in late])).values(state="expired"))
    for row in late:
        if row.lane == "queue":
            session.execute(_UNCLAIM, {"task": row.task_id})
    return len(late)


_UNCLAIM = (
    update(TaskRow.metadata.tables["task"])
    .where(TaskRow.id == bindparam("task"))
    .values(n_claimed=TaskRow.metadata.tables["task"].c.n_claimed - 1)
)
_CLAIM = (
    update(TaskRow.metadata.tables["task"])
    .where(TaskRow.id == bindparam("task"))
    .values(n_claimed=TaskRow.metadata.tables["task"].c.n_claimed + 1)
)


def _next_task(session: Session, person: _Person, tests: tuple[int, int], *, wait: bool) -> _Found | None:
    """A task for somebody who has answered so many hidden tests right, of so many."""
    stream = scheduling.draw(person.seed, person.user, person.served)
    lane = scheduling.lane(float(stream.random()), *tests, person.settings)
    connection, who = session.connection(), {"user": person.user, "project": person.project}
    if lane == "gold":
        found = connection.execute(_GOLD, who).all()
        if found:
            row = found[int(stream.integers(len(found)))]
            return _Found(row.id, len(row.candidates), row.mine)
    if lane == "repeat":
        repeat = repeat_task(session, person.project, person.user, person.served, person.settings.repeat_after, stream)
        if repeat is not None:
            return _Found(repeat.task, len(repeat.order), repeat.mine, order=repeat.order)
    row = connection.execute(_QUEUE_WAIT if wait else _QUEUE, who).first()
    return None if row is None else _Found(row.id, len(row.candidates), row.mine, counted=True)


def _unseen(lane: str) -> Any:
    """Tasks of a lane that a person may get: not seen, not written by them."""
    mine = aliased(AssignmentRow)
    earlier = (
        select(mine.id)
        .where(mine.task_id == TaskRow.id, mine.annotator_id == bindparam("user"))
        .scalar_subquery()
        .label("mine")
    )
    return select(TaskRow.id, TaskRow.candidates, earlier).where(
        TaskRow.project_id == bindparam("project"),
        TaskRow.state == "open",
        TaskRow.lane == lane,
        ~exists().where(
            AssignmentRow.task_id == TaskRow.id,
            AssignmentRow.annotator_id == bindparam("user"),
            AssignmentRow.state.in_(SEEN),
        ),
        ~exists().where(TaskAuthorRow.task_id == TaskRow.id, TaskAuthorRow.user_id == bindparam("user")),
    )


_GOLD = _unseen("gold").order_by(TaskRow.turn, TaskRow.id).limit(GOLD_CHOICE)
_ROOM = and_(TaskRow.n_claimed + TaskRow.n_done < TaskRow.overlap)
_QUEUE_ANY = _unseen("queue").where(_ROOM).limit(1)
_ORDERED = _unseen("queue").where(_ROOM).order_by(TaskRow.precedence, TaskRow.turn, TaskRow.id).limit(1)
_QUEUE = _ORDERED.with_for_update(of=TaskRow, skip_locked=True)
_QUEUE_WAIT = _ORDERED.with_for_update(of=TaskRow)


def _serve(session: Session, person: _Person, found: _Found, now: datetime) -> str:
    stream = scheduling.draw(person.seed, person.user, person.served)
    seed = int(stream.integers(2**62))
    order = found.order or [int(i) for i in scheduling.draw(seed, person.user, 0).permutation(found.candidates)]
    assignment = found.mine or new_id()
    values: dict[str, Any] = {
        "task": found.task,
        "user": person.user,
        "assignment": assignment,
        "new_state": "open",
        "new_lease_expires_at": now + timedelta(seconds=person.settings.lease_seconds),
        "new_served_at": now,
        "new_guideline_id": person.guideline,
        "new_id": assignment,
        "new_project_id": person.project,
        "new_task_id": found.task,
        "new_annotator_id": person.user,
        "new_shown_order": order,
        "new_seed": seed,
        "new_number": person.served,
    }
    _SERVE[found.mine is not None, found.counted].run(session.connection(), values)
    return assignment


_ASSIGNMENT = AssignmentRow.metadata.tables["assignment"]
_AGAIN = ("state", "lease_expires_at", "served_at", "guideline_id")
"""What changes when somebody gets a task again. Not its order: who saw a task twice must not see it in two orders."""
_NEW = insert(_ASSIGNMENT).values(
    new("id", "project_id", "task_id", "annotator_id", "shown_order", "seed", "number", *_AGAIN)
)
_OLD = update(_ASSIGNMENT).where(_ASSIGNMENT.c.id == bindparam("assignment")).values(new(*_AGAIN))
_SERVED = (
    update(ProfileRow.metadata.tables["annotator_profile"])
    .where(ProfileRow.user_id == bindparam("user"))
    .values(served=ProfileRow.metadata.tables["annotator_profile"].c.served + 1)
)
_SERVE = {
    (again, counted): AtOnce(_OLD if again else _NEW, _SERVED, *([_CLAIM] if counted else []))
    for again in (False, True)
    for counted in (False, True)
}


def _extend(session: Session, assignment: str, settings: ProjectSettings, now: datetime) -> datetime:
    until = now + timedelta(seconds=settings.lease_seconds)
    session.execute(update(AssignmentRow).where(AssignmentRow.id == assignment).values(lease_expires_at=until))
    return until


def heartbeat(store: Store, assignment: str, who: User | str) -> datetime:
    """Extend the lease of a task somebody still works on, and return its new end.

    Raises:
        NotFound: there is no such assignment.
        NotAllowed: it is somebody else's.
        Conflict: it is over: answered, skipped, given back, or somebody else has the place by now.
    """
    user = user_id(who)

    def work(session: Session) -> datetime:
        row = lock_own(session, assignment, user)
        if row.state not in ("open", "revising"):
            raise Conflict(f"the task is not held any more: it is {row.state}", fix="ask for the next one")
        return _extend(session, assignment, ProjectSettings.model_validate(row.settings), utcnow())

    return store.transact(work)


def release(store: Store, assignment: str, who: User | str) -> None:
    """Give a task back unanswered, at once rather than when its lease ends; giving back twice is harmless.

    Raises:
        NotFound: there is no such assignment.
        NotAllowed: it is somebody else's.
    """
    user = user_id(who)

    def work(session: Session) -> None:
        row = lock_own(session, assignment, user)
        if row.state not in ("open", "revising"):
            return
        # What is being revised still has its answer.
        state = "released" if row.state == "open" else "submitted"
        session.execute(update(AssignmentRow).where(AssignmentRow.id == assignment).values(state=state))
        if row.state == "open" and row.lane == "queue":
            session.execute(_UNCLAIM, {"task": row.task})

    store.transact(work)
