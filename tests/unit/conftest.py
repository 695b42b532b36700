"""Stores for the tests of `accord.collect`: a fresh one a test, on SQLite and, where there is a server, PostgreSQL."""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from accord.collect.database import Store, open_store
from fresh_database import fresh_store

POSTGRES = os.environ.get("ACCORD_TEST_POSTGRES")


def _database(server: str) -> Generator[str]:
    """A database of its own on the server."""
    name = f"accord_{uuid.uuid4().hex[:16]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """Address of a database that does not exist yet or is empty."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'labels.db'}"
        return
    if POSTGRES is None:
        pytest.skip("ACCORD_TEST_POSTGRES is not set: make test-postgres")
    yield from _database(POSTGRES)


@pytest.fixture
def store(store_url: str) -> Generator[Store]:
    """An open, empty store."""
    path = make_url(store_url).database if store_url.startswith("sqlite:") else None
    with fresh_store(Path(path), pool_size=12) if path else open_store(store_url, pool_size=12) as opened:
        yield opened
