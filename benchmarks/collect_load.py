"""Load on the labelling site: many annotators over HTTP, on SQLite or PostgreSQL, with every label counted afterwards.

The server is a process of its own, started as a user would start it. The annotators are coroutines of this process,
each with its own connection, session cookie and CSRF token: claim, think, submit, again. Times are what an annotator
sees, from the first byte sent to the last byte received.

    python benchmarks/collect_load.py                                  # SQLite in a temporary directory
    python benchmarks/collect_load.py --db postgresql+psycopg://...     # an empty database
    python benchmarks/collect_load.py --think 0 --seconds 60            # the most it can do

Afterwards it reads the database and fails unless: no task has more labels than its overlap, every acknowledged label
is there exactly once, nothing else is there, and no answer was a 5xx.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastapi
import numpy as np
import sqlalchemy
import uvicorn
from sqlalchemy import func, select

from accord.collect import people, projects, tasks
from accord.collect.database import Store, open_store
from accord.collect.passwords import csrf_token
from accord.collect.records import NewTask, ProjectSettings
from accord.collect.schema import AnnotationRow, TaskRow
from accord.types import Candidate, Message, Prompt

TEXT = "a reply to be judged has some length and says something about what was asked in words people use"
WORDS = TEXT.split()


@dataclass
class Tally:
    """What the annotators saw."""

    claim_s: list[tuple[float, float]] = field(default_factory=list)
    """(moment, duration)"""
    submit_s: list[tuple[float, float]] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    """annotation id -> idempotency key"""
    statuses: Counter[int] = field(default_factory=Counter)
    empty: int = 0


class Connection:
    """One kept-alive HTTP/1.1 connection that costs the measuring process little."""

    def __init__(self, host: str, port: int, cookie: str) -> None:
        """Remember where to, and as whom."""
        self.host, self.port = host, port
        self.headers = (
            f"Host: {host}:{port}\r\nCookie: accord_session={cookie}\r\nX-CSRF-Token: {csrf_token(cookie)}\r\n"
            "Content-Type: application/json\r\nAccept: application/json\r\n"
        )
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """(status, JSON) of a POST."""
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        content = json.dumps(body).encode()
        self.writer.write(
            f"POST {path} HTTP/1.1\r\n{self.headers}Content-Length: {len(content)}\r\n\r\n".encode() + content
        )
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"content-length: (\d+)", head, re.I)
        answer = await self.reader.readexactly(int(length[1])) if length else b""
        return int(head.split(" ", 2)[1]), json.loads(answer) if answer else None


async def annotate(connection: Connection, tally: Tally, think_s: float, until: float, number: int) -> None:
    """One annotator, until nothing is left or time is up."""
    draw = random.Random(number)
    await asyncio.sleep(think_s * draw.random())  # they do not all start in the same millisecond
    idle = 0
    while time.monotonic() < until and idle < 3:
        begun = time.monotonic()
        status, task = await connection.post("/api/v1/claim", {})
        tally.statuses[status] += 1
        if status != 200:
            tally.empty += status == 204
            idle += 1
            await asyncio.sleep(1.0)
            continue
        idle = 0
        tally.claim_s.append((begun, time.monotonic() - begun))
        if think_s:
            await asyncio.sleep(think_s * draw.uniform(0.5, 1.5))
        key = str(uuid.UUID(int=draw.getrandbits(128)))
        verdict = {"kind": "pair", "position": draw.randrange(2), "strength": 1 + draw.randrange(3)}
        body = {"assignment": task["assignment"], "key": key, "verdict": verdict, "dwell_ms": 1000, "seen_ms": 1000}
        begun = time.monotonic()
        status, done = await connection.post("/api/v1/submit", body)
        tally.statuses[status] += 1
        if status == 200:
            tally.submit_s.append((begun, time.monotonic() - begun))
            tally.acknowledged[done["annotation"]] = key


def fill(store: Store, num_tasks: int, overlap: int, annotators: int) -> list[str]:
    """Make the project, its tasks and people; returns a session token each."""
    draw = random.Random(0)

    def words(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    settings = ProjectSettings(
        overlap=overlap, slice_overlap=overlap, escalate_overlap=overlap, gate="off", lease_seconds=900
    )
    projects.ensure_project(store, "default", settings)

    def new(number: int, gold: dict[str, Any] | None) -> NewTask:
        prompt = Prompt(id=f"p{number}", messages=(Message(role="user", content=words(10, 60)),))
        replies = (Candidate(text=words(50, 200), model="a"), Candidate(text=words(50, 200), model="b"))
        return NewTask(kind="pair", prompt=prompt, candidates=replies, gold=gold, key=f"task-{number}")

    items = [new(n, None) for n in range(num_tasks)]
    items += [new(num_tasks + n, {"kind": "pair", "position": n % 2}) for n in range(100)]
    tasks.add_tasks(store, "default", items)
    tokens = []
    for number in range(annotators):
        user = people.create_user(store, f"annotator-{number}", "annotator")
        tokens.append(people.start_session(store, user.id))
    return tokens


def serve(url: str, log: Path) -> tuple[subprocess.Popen[str], int]:
    """Start the site on a free port."""
    command = [sys.executable, "-m", "accord", "collect", "serve", "--db", url, "--port", "0", "--no-rate-limit"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log.open("w"), text=True)
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found:
            return process, int(found[1])
    raise SystemExit(f"the server did not start: {log.read_text()}")


def check(store: Store, tally: Tally, overlap: int) -> list[str]:
    """What is wrong in the database, nothing if all is well."""
    wrong = [f"{n} answers with status {s}" for s, n in tally.statuses.items() if s not in (200, 204)]
    with store.read() as session:
        over = session.scalar(
            select(func.count()).select_from(TaskRow).where(TaskRow.lane == "queue", TaskRow.n_done > overlap)
        )
        counted = session.execute(
            select(AnnotationRow.task_id, func.count(func.distinct(AnnotationRow.annotator_id)), func.count())
            .join(TaskRow, TaskRow.id == AnnotationRow.task_id)
            .where(TaskRow.lane == "queue")
            .group_by(AnnotationRow.task_id)
        ).all()
        stored = {row.id: row.idempotency_key for row in session.scalars(select(AnnotationRow))}
    wrong += [f"{over} tasks say they have more than {overlap} labels"] if over else []
    many = [task for task, who, labels in counted if labels > overlap or who != labels]
    wrong += [f"{len(many)} tasks have too many labels, or two of one person"] if many else []
    lost = tally.acknowledged.keys() - stored.keys()
    unknown = stored.keys() - tally.acknowledged.keys()
    wrong += [f"{len(lost)} acknowledged labels are lost"] if lost else []
    wrong += [f"{len(unknown)} labels nobody was told of"] if unknown else []
    wrong += ["a key was stored twice"] if len(set(stored.values())) != len(stored) else []
    return wrong


def row(name: str, samples: list[tuple[float, float]], parts: int = 3) -> str:
    """p50, p99, maximum, and the spread of p99 over parts of the run."""
    samples = sorted(samples)
    ms = np.array([duration for _, duration in samples]) * 1000
    thirds = [np.percentile(part, 99) for part in np.array_split(ms, parts) if len(part)]
    spread = ", ".join(f"{value:.0f}" for value in thirds)
    p50, p99 = np.percentile(ms, [50, 99])
    return f"| {name} | {len(ms)} | {p50:.1f} | {p99:.1f} | {ms.max():.0f} | {spread} |"


def environment(url: str, store: Store) -> str:
    """What it ran on."""
    database = f"SQLite {sqlite3.sqlite_version}"
    if store.dialect == "postgresql":
        with store.read() as session:
            database = f"PostgreSQL {session.scalar(select(func.current_setting('server_version')))}"
    del url
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, {database}, "
        f"SQLAlchemy {sqlalchemy.__version__}, FastAPI {fastapi.__version__}, uvicorn {uvicorn.__version__}"
    )


def processor_s(pid: int) -> float:
    """Seconds of processor time a process has used, all its threads, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(arguments: argparse.Namespace, port: int, tokens: list[str]) -> tuple[Tally, float]:
    """Everybody at once; returns what they saw and how long it took."""
    tally = Tally()
    begun = time.monotonic()
    people_at_work = [
        annotate(Connection("127.0.0.1", port, token), tally, arguments.think, begun + arguments.seconds, number)
        for number, token in enumerate(tokens)
    ]
    await asyncio.gather(*people_at_work)
    return tally, time.monotonic() - begun


def main() -> None:
    """Fill, serve, load, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", help="an empty database; default: SQLite in a temporary directory")
    parser.add_argument("--annotators", type=int, default=32)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--overlap", type=int, default=3)
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds between claim and submit")
    parser.add_argument("--seconds", type=float, default=3600.0, help="stop after this long")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.db or str(Path(folder) / "labels.db")
        with open_store(url) as store:
            begun = time.monotonic()
            tokens = fill(store, arguments.tasks, arguments.overlap, arguments.annotators)
            filled_s = time.monotonic() - begun
        log = Path(folder) / "server.log"
        process, port = serve(url, log)
        before = "load average " + ", ".join(f"{value:.1f}" for value in os.getloadavg())
        try:
            started, mine = processor_s(process.pid), time.process_time()
            tally, seconds = asyncio.run(load(arguments, port, tokens))
            each = 1000 / max(1, len(tally.acknowledged))
            cpu_ms, own_ms = (processor_s(process.pid) - started) * each, (time.process_time() - mine) * each
        finally:
            process.terminate()
            process.wait(30)
        busy = f"{before} before, " + ", ".join(f"{value:.1f}" for value in os.getloadavg())
        with open_store(url) as store:
            wrong = check(store, tally, arguments.overlap)
            print(environment(url, store))
    labels = len(tally.acknowledged)
    print(
        f"{arguments.annotators} annotators, {arguments.tasks} tasks, overlap {arguments.overlap}, thinking "
        f"{arguments.think} s; filled in {filled_s:.1f} s; {labels} labels in {seconds:.0f} s = "
        f"{labels / seconds:.1f} labels/s; "
        f"server {cpu_ms:.1f} ms of CPU a label, this process {own_ms:.1f}; {busy}; answers {dict(tally.statuses)}\n"
    )
    print("| request | number | p50 ms | p99 ms | max ms | p99 by thirds |\n|---|---|---|---|---|---|")
    print(row("claim", tally.claim_s))
    print(row("submit", tally.submit_s))
    print("\nchecks: " + ("; ".join(wrong) or "no task over its overlap, every label once, no error"))
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
