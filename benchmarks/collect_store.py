"""How long claims and submits take with many annotators at once, on SQLite and PostgreSQL.

    python benchmarks/collect_store.py                                     SQLite in a temporary file
    python tests/postgres_server.py --durable -- python benchmarks/collect_store.py    PostgreSQL, too

First with a second of thinking per task, which is the load of so many people; then without, which is the limit. The
annotators are threads of `--processes` processes; a web server is one process. Counts are checked at the end: nothing
over its overlap, nothing lost, nothing twice.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, select

from accord.collect import claims, people, projects, submissions, tasks
from accord.collect.database import Store, open_store
from accord.collect.records import NewTask, ProjectSettings, Submission, Verdict
from accord.collect.schema import AnnotationRow, AssignmentRow, TaskRow
from accord.types import Candidate, Message, Prompt

SETTINGS = ProjectSettings(
    random_slice=1.0, slice_overlap=3, escalate_overlap=3, gate="off", gold_rate=0.1, gold_rate_new=0.1
)


def task(number: int, gold: bool = False) -> NewTask:
    """A pair with texts of usual length."""
    words = " ".join(f"word{number % 7}{i}" for i in range(120))
    return NewTask(
        kind="pair",
        prompt=Prompt(
            id=f"prompt-{number}", messages=(Message(role="user", content=f"Question {number}? {words[:300]}"),)
        ),
        candidates=(Candidate(text=f"A {number} {words}", model="a"), Candidate(text=f"B {number} {words}", model="b")),
        gold={"position": 0} if gold else None,
    )


def annotate(store: Store, user: str, think: float, until: float, times: dict[str, list[float]]) -> None:
    """Work like one person until nothing is left or the time is over."""
    time.sleep(think * (hash(user) % 1000) / 1000)
    while time.monotonic() < until:
        start = time.perf_counter()
        view = claims.claim(store, "default", user)
        claimed = time.perf_counter()
        times["claim"].append(claimed - start)
        if view is None:
            return
        if think:
            time.sleep(think)
        first = next(c.position for c in view.candidates if c.text.startswith("A"))
        answer = Submission(
            assignment=view.assignment,
            key=str(uuid.uuid4()),
            verdict=Verdict(kind="pair", position=first, strength=2),
            dwell_ms=1000,
        )
        start = time.perf_counter()
        submissions.submit(store, user, answer)
        times["submit"].append(time.perf_counter() - start)


def work(url: str, users: list[str], think: float, seconds: float, results: Any) -> None:
    """One process with a thread a person."""
    times: dict[str, list[float]] = {"claim": [], "submit": []}
    with open_store(url) as store:
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=annotate, args=(store, user, think, until, times)) for user in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    results.put(times)


def measure(url: str, options: argparse.Namespace, think: float) -> dict[str, Any]:
    """Make a project of its own kind of load and let people work on it."""
    with open_store(url) as store:
        projects.ensure_project(store, "default", SETTINGS)
        users = [people.create_user(store, f"u{uuid.uuid4().hex[:12]}", "annotator").id for _ in range(options.people)]
        with store.read() as session:
            before = int(session.scalar(select(func.count()).select_from(AnnotationRow)) or 0)
        tasks.add_tasks(store, "default", [task(i) for i in range(options.tasks)])
        tasks.add_tasks(store, "default", [task(10**6 + i, gold=True) for i in range(50)])
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    start = time.perf_counter()
    workers = [
        context.Process(target=work, args=(url, users[i :: options.processes], think, options.seconds, results))
        for i in range(options.processes)
    ]
    for worker in workers:
        worker.start()
    parts = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - start
    times = {name: np.concatenate([part[name] for part in parts]) * 1000 for name in ("claim", "submit")}
    with open_store(url) as store:
        after = check(store)
    stored = after - before
    assert stored == len(times["submit"]), f"{len(times['submit'])} answers were acknowledged, {stored} are there"
    return {
        "database": url.split(":")[0],
        "people": options.people,
        "processes": options.processes,
        "thinking_s": think,
        "labels": stored,
        "labels_per_s": round(stored / elapsed, 1),
        **{
            name: {f"p{q}": round(float(np.percentile(found, q)), 1) for q in (50, 95, 99)}
            | {"max": round(float(found.max()), 1)}
            for name, found in times.items()
        },
    }


def check(store: Store) -> int:
    """Check the counts of every task against the rows, and return the number of annotations."""
    with store.read() as session:
        over = session.scalar(select(func.count()).select_from(TaskRow).where(TaskRow.n_done > TaskRow.overlap))
        labels = select(AnnotationRow.task_id, func.count().label("n")).where(AnnotationRow.extra.is_(False))
        rows = {row.task_id: row.n for row in session.execute(labels.group_by(AnnotationRow.task_id))}
        for found in session.execute(select(TaskRow.id, TaskRow.n_done).where(TaskRow.lane == "queue")):
            have = rows.get(found.id, 0)
            assert have == found.n_done, f"task {found.id} counts {found.n_done} labels and has {have}"
        per_person = select(AssignmentRow.task_id).join(AnnotationRow, AnnotationRow.assignment_id == AssignmentRow.id)
        per_person = per_person.group_by(AssignmentRow.task_id, AssignmentRow.annotator_id).having(func.count() > 1)
        twice = session.execute(per_person).all()
        assert not over and not twice, f"{over} tasks over their overlap, {len(twice)} answered twice by one person"
        return int(session.scalar(select(func.count()).select_from(AnnotationRow)) or 0)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--think", type=float, default=1.0, help="seconds between claim and submit")
    parser.add_argument(
        "--limit", action=argparse.BooleanOptionalAction, default=True, help="measure without thinking, too"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        urls = [f"sqlite:///{Path(root) / 'labels.db'}"]
        if server := os.environ.get("ACCORD_TEST_POSTGRES"):
            urls.append(server)
        for url in urls:
            for think in (options.think, 0.0) if options.limit else (options.think,):
                sys.stdout.write(json.dumps(measure(url, options, think)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
