"""Bringing a database up to date when it is opened, by exactly one process, with a copy made before.

The lock is an advisory one on PostgreSQL and the write lock of the file on SQLite; whoever waited for it looks again
and finds nothing to do. The whole upgrade is one transaction on both.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DatabaseError

from accord.collect.database import Store
from accord.collect.schema import Row
from accord.errors import DataError

ADVISORY_LOCK = 0x4ACC_08D0
"""Key of the PostgreSQL advisory lock that upgrades hold."""
HERE = Path(__file__).parent / "migrations"


def scripts() -> ScriptDirectory:
    """Return the revisions that ship with this version."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def head() -> str:
    """Return the revision this version works with."""
    found = scripts().get_current_head()
    assert found is not None
    return found


def bring_up_to_date(store: Store, *, migrate: bool = True) -> None:
    """Upgrade the database of `store` unless it is at the newest revision.

    Args:
        store: an open store.
        migrate: False turns a database that is behind into an error.

    Raises:
        DataError: a newer version of Accord made it, it is another program's, or `migrate` is False and it is behind.
    """
    with store.reader.connect() as connection:
        current = _revision(connection, store)
    if current == head():
        return
    if not migrate:
        raise DataError(
            "the database is empty" if current is None else f"the database is at revision {current}, behind {head()}",
            where=store.describe(),
            fix="open it once with migrations on: accord collect init",
        )
    with _locked(store) as connection:
        current = _revision(connection, store)
        if current == head():
            return
        if store.dialect == "sqlite" and current is not None:
            _backup(store, current)
        move(connection, head())


def move(connection: Connection, target: str) -> None:
    """Run the revisions between where the database is and `target`, in the caller's transaction."""
    script = scripts()
    known = {revision.revision for revision in script.walk_revisions()}
    context = MigrationContext.configure(connection)
    current = context.get_current_revision()
    order = [r.revision for r in reversed(list(script.walk_revisions()))]
    down = target == "base" or (
        current in known and target in known and order.index(target) < order.index(str(current))
    )

    def steps(revision: Any, _: MigrationContext) -> Any:
        return script._downgrade_revs(target, revision) if down else script._upgrade_revs(target, revision)  # pyright: ignore[reportPrivateUsage]

    with EnvironmentContext(Config(), script, fn=steps, destination_rev=target) as environment:
        environment.configure(
            connection=connection,
            target_metadata=Row.metadata,
            render_as_batch=True,
            transactional_ddl=True,
        )
        environment.run_migrations()


def differences(store: Store) -> list[Any]:
    """Return what autogenerate would still change: empty when tables and migrations say the same (`alembic check`)."""
    with store.reader.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, Row.metadata))


def _revision(connection: Connection, store: Store) -> str | None:
    """Where the database is; None when it is empty."""
    names = set(inspect(connection).get_table_names())
    if "alembic_version" not in names:
        if names:
            raise DataError(
                f"the database belongs to something else: it has tables such as {min(names)}",
                where=store.describe(),
                fix="name another file, or another database of the server",
            )
        return None
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {r.revision for r in scripts().walk_revisions()}:
        raise DataError(
            f"the database was made by a newer version of Accord: it is at revision {current}, this version ends "
            f"at {head()}",
            where=store.describe(),
            fix="upgrade Accord, or restore the backup made before the upgrade",
        )
    return current


@contextmanager
def _locked(store: Store) -> Generator[Connection, None, None]:
    """A connection in a transaction that no other upgrade can be in at the same time."""
    with store.writer.connect() as connection:
        if store.dialect == "sqlite":
            # Outside the transaction, where it counts: batch mode drops and re-creates tables that others point at.
            connection.connection.execute("PRAGMA foreign_keys = OFF")  # pyright: ignore[reportAttributeAccessIssue]
        try:
            with _retried_begin(connection):
                if store.dialect == "postgresql":
                    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
                yield connection
                if store.dialect == "sqlite":
                    _check_references(connection, store)
        finally:
            if store.dialect == "sqlite":
                connection.invalidate()


@contextmanager
def _retried_begin(connection: Connection) -> Generator[None, None, None]:
    """Begin, waiting up to a minute for another process's upgrade to end."""
    transaction = _patient(connection.begin)
    with transaction:
        yield


def _patient(begin: Callable[[], Any]) -> Any:
    for attempt in range(12):
        try:
            return begin()
        except DatabaseError as error:
            if "locked" not in str(error.orig) or attempt == 11:
                raise
            time.sleep(0.1)
    raise AssertionError


def _check_references(connection: Connection, store: Store) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise DataError(
            f"the upgrade would leave {len(broken)} rows that point at nothing, such as one of {broken[0][0]}",
            where=store.describe(),
            fix="nothing was changed; report this with the output of PRAGMA foreign_key_check",
        )


def _backup(store: Store, revision: str) -> Path:
    """Copy the database as it is before the upgrade; a read of the same moment, so the lock does not matter."""
    source = Path(str(store.url.database))
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    target = source.with_name(f"{source.name}.{revision}.{stamp}.backup")
    raw = store.reader.raw_connection()
    try:
        raw.cursor().execute("PRAGMA query_only = OFF")
        raw.cursor().execute("VACUUM INTO ?", (str(target),))
    finally:
        raw.cursor().execute("PRAGMA query_only = ON")
        raw.close()
    return target
