"""A labelling site for tests: a small project, one person of each role, and clients that are logged in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from accord.collect import people, projects, tasks
from accord.collect.app import AppSettings, create_app
from accord.collect.app.settings import Rate
from accord.collect.database import Store, open_store
from accord.collect.records import NewTask, ProjectSettings, User
from accord.types import Candidate, Message, Prompt
from fresh_database import fresh_store

ROLES = ("admin", "adjudicator", "annotator", "service")
PASSWORD = "correct horse battery"
SECRET_MODELS = ("zz-secret-model-a", "zz-secret-model-b", "zz-secret-model-c", "zz-secret-model-d")
FAST = Rate(burst=10**6, per_second=10**6)
_NUMBERS = itertools.count()


def new_task(number: int, *, kind: str = "pair", replies: int = 2, **options: Any) -> NewTask:
    """A task whose texts tell which it is."""
    prompt = Prompt(id=f"prompt-{number}", messages=(Message(role="user", content=f"Question {number}?"),))
    candidates = tuple(
        Candidate(text=f"Answer {number}.{i} to it.", model=SECRET_MODELS[i % 4]) for i in range(replies)
    )
    return NewTask(kind=kind, prompt=prompt, candidates=candidates, **options)  # pyright: ignore[reportArgumentType]


@dataclass
class Site:
    """A site with people on it."""

    store: Store
    app: FastAPI
    users: dict[str, User]
    tokens: dict[str, str]
    open_clients: list[TestClient] = field(default_factory=list)

    def client(self, who: str | None = None, **options: Any) -> TestClient:
        """A browser-like client, logged in as the person of a role (or a handle), or nobody; sends the CSRF token."""
        client = TestClient(self.app, follow_redirects=False, raise_server_exceptions=False, **options)
        if who is not None:
            if who not in self.tokens:
                self.tokens[who] = people.start_session(self.store, self.users[who].id)
            client.cookies.set("accord_session", self.tokens[who])
            client.headers["X-CSRF-Token"] = people.csrf_token(self.tokens[who])
        self.open_clients.append(client)
        return client

    def key(self, who: str, *scopes: str) -> TestClient:
        """A program with a key of that person."""
        client = TestClient(self.app, follow_redirects=False, raise_server_exceptions=False)
        _, secret = people.make_api_key(self.store, self.users[who].id, scopes)
        client.headers["Authorization"] = f"Bearer {secret}"
        self.open_clients.append(client)
        return client

    def person(self, handle: str, role: str = "annotator", **options: Any) -> TestClient:
        """Somebody else, logged in."""
        self.users[handle] = people.create_user(self.store, handle, role, **options)  # pyright: ignore
        return self.client(handle)


def make_site(
    folder: Path,
    *,
    items: Sequence[NewTask] | None = None,
    rules: ProjectSettings | None = None,
    settings: AppSettings | None = None,
    url: str | None = None,
) -> Site:
    """A database with a project, its tasks and a person of each role.

    Args:
        folder: where the database goes.
        items: tasks; None makes twelve pairs.
        rules: of the project; None leaves out everything random.
        settings: of the app; None has no rate limits.
        url: another database than a new SQLite file.
    """
    store = open_store(url) if url else fresh_store(folder / f"labels-{next(_NUMBERS)}.db")
    plain = ProjectSettings(gold_rate=0, gold_rate_new=0, repeat_rate=0, random_slice=0, min_seen=False, gate="off")
    projects.ensure_project(store, "default", rules or plain)
    projects.set_guidelines(store, "default", "# Rules\n\nBe fair.")
    tasks.add_tasks(store, "default", list(items) if items is not None else [new_task(n) for n in range(12)])
    users = {role: people.create_user(store, f"the-{role}", role) for role in ROLES}  # pyright: ignore
    app = create_app(store, settings or AppSettings(per_caller=FAST, per_address=FAST))
    return Site(store, app, users, {})


def close(site: Site) -> None:
    """Let go of clients and database."""
    for client in site.open_clients:
        client.close()
    site.store.close()


def submission(task: dict[str, Any], **verdict: Any) -> dict[str, Any]:
    """A body for /submit that prefers the left reply, unless told otherwise."""
    said = {"kind": "pair", "position": 0, "strength": 2, **verdict} if task["kind"] == "pair" else verdict
    key = f"key-{next(_NUMBERS):08d}"
    return {"assignment": task["assignment"], "key": key, "verdict": said, "dwell_ms": 900, "seen_ms": 800}
