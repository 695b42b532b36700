"""Many annotators at once: nothing beyond its overlap, nothing lost, nothing twice, also when processes are killed."""

from __future__ import annotations

import json
import random
import signal
import time
import uuid
from typing import Any

import pytest
from collect_concurrent import at_once
from collect_forked import start
from collect_workers import crowd, crowd_aloud
from collect_world import answer, claim, expire, pair, person, project
from sqlalchemy import func, select

from accord.collect import claims, events, submissions
from accord.collect.database import Store
from accord.collect.records import Submission
from accord.collect.schema import AnnotationRow, AssignmentRow, TaskRow


def check(store: Store, said: list[dict[str, str]], *, tasks: int, overlap: int, complete: bool = True) -> None:
    """What must hold whatever happened."""
    with store.read() as session:
        rows = session.scalars(select(AnnotationRow)).all()
        counted = [row for row in rows if not row.extra]
        per_task: dict[str, list[str]] = {}
        for row in counted:
            per_task.setdefault(row.task_id, []).append(row.annotator_id)
        assert max(map(len, per_task.values())) <= overlap, "a task is over its overlap"
        assert all(len(set(who)) == len(who) for who in per_task.values()), "one person, one task, two labels"
        found = {(row.id, row.idempotency_key, row.annotator_id) for row in rows}
        assert {(s["annotation"], s["key"], s["user"]) for s in said} <= found, "an acknowledged label is lost"
        assert len({row.idempotency_key for row in rows}) == len(rows)
        state: Any = session.execute(select(TaskRow.id, TaskRow.n_done, TaskRow.n_claimed, TaskRow.state)).all()
        assert {row.id: row.n_done for row in state if row.n_done} == {task: len(who) for task, who in per_task.items()}
        if complete:
            assert len(said) == len(rows) == tasks * overlap
            assert all((row.n_done, row.n_claimed, row.state) == (overlap, 0, "done") for row in state)
        claimed = select(AssignmentRow.task_id, func.count().label("n")).where(AssignmentRow.state == "open")
        held = {row.task_id: row.n for row in session.execute(claimed.group_by(AssignmentRow.task_id))}
        assert {row.id: row.n_claimed for row in state if row.n_claimed} == held
    assert events.verify_events(store).broken == ()


@pytest.mark.slow
def test_threads_share_a_store(store: Store) -> None:
    project(store, [pair(i, overlap=3) for i in range(60)], escalate_overlap=3, adjudicate_below=0)
    users = [person(store, f"p{i}").id for i in range(8)]
    said = crowd(address(store), users, aloud=False)
    check(store, said, tasks=60, overlap=3)


@pytest.mark.slow
def test_processes_share_a_database(store: Store) -> None:
    project(store, [pair(i, overlap=3) for i in range(100)], escalate_overlap=3, adjudicate_below=0)
    users = [person(store, f"p{i}").id for i in range(8)]
    workers = [start(crowd_aloud, address(store), users[i * 2 : i * 2 + 2]) for i in range(4)]
    said = [json.loads(line) for _, output in workers for line in output]
    for worker, output in workers:
        worker.join(60)
        output.close()
    assert [worker.exitcode for worker, _ in workers] == [0] * 4
    check(store, said, tasks=100, overlap=3)


@pytest.mark.slow
def test_kills_lose_no_acknowledged_label_and_leases_return(store: Store) -> None:
    project(store, [pair(i, overlap=3) for i in range(100)], escalate_overlap=3, adjudicate_below=0)
    users = [person(store, f"p{i}").id for i in range(8)]
    said: list[dict[str, str]] = []
    dice = random.Random(0)
    landed = 0  # a fast machine may be done before the last of them
    for _ in range(6):
        worker, output = start(crowd_aloud, address(store), users[:4])
        seen = [output.readline() for _ in range(5)]
        time.sleep(dice.random() * 0.15)
        worker.kill()
        rest = output.read()
        worker.join()
        landed += worker.exitcode == -signal.SIGKILL
        output.close()
        # The last line may be cut off in the middle; what was not said completely was not acknowledged.
        lines = [line for line in ("".join(seen) + rest).split("\n")[:-1] if line]
        said += [json.loads(line) for line in lines]
    assert landed >= 4
    check(store, said, tasks=100, overlap=3, complete=False)
    for id in held(store):
        expire(store, id)
    said += crowd(address(store), users, aloud=False)
    with store.read() as session:
        states = set(session.scalars(select(TaskRow.state)))
        total = session.scalar(select(func.count()).select_from(AnnotationRow).where(AnnotationRow.extra.is_(False)))
    assert states == {"done"} and total == 300, "every place that a killed process held was given to somebody else"
    check(store, said, tasks=100, overlap=3, complete=False)


def held(store: Store) -> list[str]:
    with store.read() as session:
        return list(session.scalars(select(AssignmentRow.id).where(AssignmentRow.state == "open")))


def address(store: Store) -> str:
    return store.url.render_as_string(hide_password=False)


def test_the_last_place_goes_to_one_of_many_and_nobody_is_sent_away_too_early(store: Store) -> None:
    project(store, [pair(1, overlap=5)])
    people = [person(store, f"p{i}") for i in range(10)]
    views = at_once(10, lambda i: claims.claim(store, "default", people[i]))
    assert [view for view in views if isinstance(view, Exception)] == []
    assert sum(view is not None for view in views) == 5


def test_one_request_sent_many_times_at_once_is_one_label(store: Store) -> None:
    project(store, [pair(1)])
    ann = person(store, "ann")
    sent = answer(claim(store, ann))
    done = at_once(8, lambda _: submissions.submit(store, ann, sent))
    assert len({d.annotation for d in done}) == 1 and sum(not d.repeated for d in done) == 1


def test_one_key_for_two_tasks_at_once_is_one_label_and_a_conflict(store: Store) -> None:
    project(store, [pair(i) for i in range(2)])
    ann = person(store, "ann")
    first, second = claim(store, ann), claim(store, ann, prefetch=True)
    sent = [answer(view, key="the same key") for view in (first, second)]
    done = at_once(2, lambda i: submissions.submit(store, ann, sent[i]))
    assert sorted(type(d).__name__ for d in done) == ["Conflict", "Submitted"]


def test_two_claims_of_one_person_at_once_do_not_break_the_limit_of_open_tasks(store: Store) -> None:
    project(store, [pair(i) for i in range(20)], max_open=2)
    ann = person(store, "ann")
    views = at_once(8, lambda _: claims.claim(store, "default", ann, prefetch=True))
    assert [view for view in views if isinstance(view, Exception)] == []
    assert len(held(store)) == 2


def test_a_late_answer_and_a_new_lease_do_not_both_take_the_place(store: Store) -> None:
    for round in range(6):
        project(store, [])
        from accord.collect import tasks

        tasks.add_tasks(store, "default", [pair(round)])
        ann, bob = person(store, f"ann{round}"), person(store, f"bob{round}")
        mine = claim(store, ann)
        expire(store, mine.assignment)
        late = Submission(assignment=mine.assignment, key=str(uuid.uuid4()), verdict=answer(mine).verdict)
        work = [lambda: submissions.submit(store, ann, late), lambda: claims.claim(store, "default", bob)]  # noqa: B023
        done, view = at_once(2, lambda i: work[i]())  # noqa: B023
        if view is not None:
            assert done.extra, "bob holds the only place"
            submissions.submit(store, bob, answer(view))
        else:
            assert not done.extra
    with store.read() as session:
        assert set(session.scalars(select(TaskRow.n_done))) == {1}
