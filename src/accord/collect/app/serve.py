"""Running the site: one process with uvicorn, stopped politely, ready without configuration."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from accord.collect import people, projects
from accord.collect.app import create_app
from accord.collect.app.settings import AppSettings
from accord.collect.database import Store
from accord.collect.records import ProjectSettings
from accord.errors import ConfigError
from accord.listening import signals_end_here
from accord.storage import io_errors

GRACE_S = 10
"""Seconds that requests under way are given when the server is told to stop."""


def first_link(store: Store, base: str, settings: AppSettings) -> str | None:
    """Make the project if it is missing; the address at which the first admin makes an account, if there is none yet.

    Args:
        store: the database.
        base: address of the site, without a final slash.
        settings: name of the project.
    """
    projects.ensure_project(store, settings.project, ProjectSettings())
    token = people.admin_link(store)
    return f"{base}/join/{token}" if token else None


@contextmanager
def only_server(store: Store) -> Generator[None]:
    """Hold an SQLite file for this server; released even by kill -9. PostgreSQL is made for several.

    A second server on the file would have rate limits and a queue of writers of its own, and the two would wait for
    each other by sleeping.

    Raises:
        ConfigError: another server has it; its process is named.
    """
    if store.dialect != "sqlite":
        yield
        return
    path = Path(f"{store.url.database}.lock")
    with io_errors("open the lock of the database", path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
            raise ConfigError(
                f"{holder} serves this database already",
                where=store.describe(),
                fix="stop it, use its site, or put the labels into PostgreSQL",
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def shared_note(store: Store) -> str | None:
    """What an operator has to know where several servers may use one database; None where only one may."""
    if store.dialect == "sqlite":
        return None
    return (
        "note: several servers may use this database; each counts requests and failed logins for itself, "
        "so that n servers let n times as many through"
    )


def run(store: Store, taken: socket.socket, settings: AppSettings, *, trusted_proxies: str | None = None) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are finished, then the store is closed.

    Args:
        store: the opened database.
        taken: the socket from `accord.listening.listen`.
        settings: of the app.
        trusted_proxies: addresses whose X-Forwarded-For and -Proto are believed, comma-separated; None believes nobody.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    config = uvicorn.Config(
        create_app(store, settings),
        log_level="warning",
        # Addresses hold the tokens of invitations, so they are not logged.
        access_log=False,
        server_header=False,
        proxy_headers=trusted_proxies is not None,
        forwarded_allow_ips=trusted_proxies or "",
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 * 1024,
        limit_concurrency=1000,
        lifespan="on",
    )
    with signals_end_here():
        uvicorn.Server(config).run(sockets=[taken])
