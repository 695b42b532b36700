"""The server is killed with SIGKILL again and again while people label: what was acknowledged is there."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from typing import TextIO

import httpx
import pytest
from collect_forked import command, start
from collect_site import new_task
from sqlalchemy import func, select

from accord.collect import people, projects, tasks
from accord.collect.client import Client
from accord.collect.database import open_store
from accord.collect.events import verify_events
from accord.collect.records import ProjectSettings, TaskView, Verdict
from accord.collect.schema import AnnotationRow, TaskRow
from accord.errors import DataError

KILLS, CLIENTS, TASKS, OVERLAP = 10, 8, 240, 2


class Server:
    """A server process that can be killed and started again on the same port."""

    def __init__(self, db: str) -> None:
        self.db = db
        self.port = 0
        self.process: ForkServerProcess | None = None
        self.said: TextIO | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ("--db", self.db, "--port", str(self.port), "--no-rate-limit")
        self.process, self.said = start(command, "collect", "serve", *options)
        found = None
        while found is None:
            line = self.said.readline()
            assert line, "the server did not start"
            found = re.search(r"http://127\.0\.0\.1:(\d+)  ", line)
        self.port = int(found[1])
        for _ in range(200):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=1).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def stop(self, how: signal.Signals) -> int:
        """End it and return its exit status."""
        assert self.process is not None and self.process.pid is not None and self.said is not None
        os.kill(self.process.pid, how)
        self.process.join(30)
        status = self.process.exitcode
        assert status is not None, "the server does not stop"
        self.process.close()
        self.said.close()
        return status


def label(client: Client, acknowledged: dict[str, str], stop: threading.Event, number: int) -> None:
    """One annotator who sends an answer again, under its key, until somebody confirms it."""
    for turn in range(10_000):
        if stop.is_set():
            return
        try:
            task: TaskView | None = client.claim()
        except DataError:  # the server is dead
            time.sleep(0.1)
            continue
        if task is None:
            time.sleep(0.1)
            continue
        verdict = Verdict(kind="pair", position=turn % 2, strength=1)
        key = f"client-{number}-{turn:05d}"
        while not stop.is_set():
            with contextlib.suppress(DataError):
                acknowledged[client.submit(task, verdict, key=key)["annotation"]] = key
                break
            time.sleep(0.1)


@contextlib.contextmanager
def people_at_work(port: int, keys: list[str], acknowledged: dict[str, str]) -> Iterator[None]:
    """Threads that label while the block runs."""
    stop = threading.Event()
    clients = [Client(f"http://127.0.0.1:{port}", key, retries=0, timeout_s=5) for key in keys]
    threads = [
        threading.Thread(target=label, args=(client, acknowledged, stop, number))
        for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()


def wait_until_all_is_done(db: str) -> None:
    """Wait for the last label, but not for ever."""
    deadline = time.monotonic() + 120
    with open_store(db) as store:
        while time.monotonic() < deadline:
            with store.read() as session:
                if not session.scalar(select(func.count()).select_from(TaskRow).where(TaskRow.state == "open")):
                    return
            time.sleep(0.5)


@pytest.mark.slow
def test_kill_nine_ten_times_loses_no_acknowledged_label(store_url: str) -> None:
    db = store_url
    with open_store(db) as store:
        rules = ProjectSettings(
            overlap=OVERLAP, slice_overlap=OVERLAP, escalate_overlap=OVERLAP, gold_rate=0, gold_rate_new=0,
            repeat_rate=0, min_seen=False, gate="off", lease_seconds=2,
        )  # fmt: skip
        projects.ensure_project(store, "default", rules)
        tasks.add_tasks(store, "default", [new_task(n) for n in range(TASKS)])
        keys = []
        for number in range(CLIENTS):
            user = people.create_user(store, f"annotator-{number}", "annotator")
            keys.append(people.make_api_key(store, user.id, ["annotate"])[1])
    server, acknowledged = Server(db), dict[str, str]()
    server.start()
    try:
        with people_at_work(server.port, keys, acknowledged):
            for _ in range(KILLS):
                time.sleep(0.4)
                assert server.stop(signal.SIGKILL) == -signal.SIGKILL
                server.start()
            wait_until_all_is_done(db)
    finally:
        status = server.stop(signal.SIGTERM)
    assert status == 0
    with open_store(db) as store:
        with store.read() as session:
            stored = dict(session.execute(select(AnnotationRow.id, AnnotationRow.idempotency_key)).all())
            counted = session.scalars(select(TaskRow.n_done).where(TaskRow.lane == "queue")).all()
            labels = session.execute(
                select(func.count(), func.count(func.distinct(AnnotationRow.annotator_id)))
                .where(AnnotationRow.extra.is_(False))
                .group_by(AnnotationRow.task_id)
            ).all()
        assert {name: key for name, key in stored.items() if name in acknowledged} == acknowledged
        assert len(set(stored.values())) == len(stored)
        assert counted == [OVERLAP] * TASKS, "leases of the dead server came back, and every task got its labels"
        assert all(tuple(row) == (OVERLAP, OVERLAP) for row in labels) and len(labels) == TASKS
        assert verify_events(store).broken == ()
