"""Opening a store: SQLite in a file by default, PostgreSQL by URL, and transactions that mean the same on both.

Three things go wrong in SQLite otherwise, and each cost somebody data: a deferred transaction that reads and then
writes fails at once with "database is locked" whatever the busy timeout is; two readers of the same row both write it;
a read transaction that is still open keeps the log growing. So writes begin with BEGIN IMMEDIATE and queue inside the
process first (SQLite's own waiting is by sleeping, and not in order), and reads have connections of their own that
cannot write.

A commit in WAL mode with synchronous = NORMAL survives the end of the process at any moment; a power cut may take the
last ones. Where that matters use PostgreSQL.

On PostgreSQL writes run at READ COMMITTED and lock rows with SELECT ... FOR UPDATE; a serialization failure, a deadlock
or a connection lost before the commit is tried again by `Store.transact`. A connection is asked whether it still works
only after it lay idle: asking before every use would be a fifth more round trips.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import DataError as DatabaseValueError
from sqlalchemy.orm import Session

from accord.collect.failures import Busy, Invalid
from accord.errors import ConfigError, DataError
from accord.storage import io_errors

T = TypeVar("T")
BUSY_MS = 5000
ATTEMPTS = 5
PATIENCE_S = 4.5
"""After so long nothing is tried again: whoever waits wants to hear of it."""
IDLE_S = 2.0
"""A connection that lay idle for longer is asked whether the server still knows it."""
LARGE = 500
"""Counts up to this are made anew every time (a fraction of a millisecond)."""
_TRANSIENT = {"40001", "40P01"}
"""SQLSTATE: serialization failure, deadlock."""
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "glusterfs", "lustre", "ceph"}


class Store:
    """A database of collected judgements; safe to share between threads, opened anew in every process."""

    def __init__(self, url: URL, writer: Engine, reader: Engine) -> None:
        """Wrap two engines of the same database; `open_store` is the way to make one."""
        self.url = url
        self.writer = writer
        self.reader = reader
        self.warnings: list[str] = []
        """What whoever started this should know, such as a network file system."""
        self.project_ids: dict[str, str] = {}
        """Ids of the projects asked for by name."""
        self._turn = threading.Lock() if self.dialect == "sqlite" else None
        self._snapshots = reader if self._turn else writer.execution_options(isolation_level="REPEATABLE READ")
        self._remembered: dict[tuple[str, ...], tuple[float, int]] = {}

    @property
    def dialect(self) -> str:
        """Return "sqlite" or "postgresql"."""
        return self.writer.dialect.name

    @contextmanager
    def write(self) -> Generator[Session, None, None]:
        """Give a session in a write transaction; commits at the end of the block, rolls back when it raises."""
        turn: AbstractContextManager[Any] = self._turn or nullcontext()
        session = Session(self.writer, expire_on_commit=False, autoflush=False)
        with _refusing(), turn, session, session.begin():
            yield session

    def transact(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a write transaction, again when the database says the failure was bad luck.

        Args:
            work: does all its reading and writing through the session it gets; it may run several times.

        Raises:
            Busy: when it still fails after five tries or five seconds.
        """
        begun = time.monotonic()
        for attempt in range(ATTEMPTS):
            worked = False
            try:
                with self.write() as session:
                    done = work(session)
                    worked = True
                return done
            except DBAPIError as error:
                # A server forgets what a lost connection did not commit; once COMMIT was sent, nobody knows.
                lost = error.connection_invalidated and not worked
                if not lost and not _is_transient(error):
                    raise
                if attempt == ATTEMPTS - 1 or time.monotonic() - begun > PATIENCE_S:
                    raise Busy(
                        f"the database is too busy: {error.orig}",
                        where=self.describe(),
                        fix="nothing was stored; send it again",
                    ) from error
            time.sleep(0.01 * 2**attempt)
        raise AssertionError

    @contextmanager
    def read(self, *, snapshot: bool = False) -> Generator[Session, None, None]:
        """Give a session that only reads.

        Args:
            snapshot: every query of the block sees the same moment, for exports.
        """
        with _refusing(), Session(self._snapshots if snapshot else self.reader, autoflush=False) as session:
            yield session

    @contextmanager
    def look(self) -> Generator[Connection, None, None]:
        """Give a bare connection that only reads: a third of the price of a session, for what every request asks."""
        with _refusing(), self.reader.connect() as connection:
            yield connection

    def remembered(self, key: tuple[str, ...], count: Callable[[], int], *, seconds: float = 2.0) -> int:
        """Return a count; a large one, which takes a while, may be `seconds` old."""
        now = time.monotonic()
        made, value = self._remembered.get(key, (0.0, 0))
        if value <= LARGE or now - made > seconds:
            value = count()
            self._remembered[key] = (now, value)
        return value

    def describe(self) -> str:
        """Return the address without its password."""
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Let go of every connection; SQLite looks after its statistics first."""
        if self.dialect == "sqlite":
            try:
                with closing(self.writer.raw_connection()) as connection:
                    cursor = connection.cursor()
                    cursor.execute("PRAGMA busy_timeout = 0")
                    cursor.execute("PRAGMA optimize")
                    cursor.close()
            except (sqlite3.Error, DatabaseError):
                pass  # somebody else is writing, or it is no database at all; statistics can wait
        self.writer.dispose()
        self.reader.dispose()

    def __enter__(self) -> Self:
        """Return the store, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()


def open_store(url: str | Path, *, migrate: bool = True, pool_size: int = 20) -> Store:
    """Open a database, making or upgrading it first.

    Args:
        url: a file name, ``sqlite:///file.db`` or ``postgresql+psycopg://user:password@host/database``.
        migrate: bring an older or empty database up to date; otherwise such a database is an error.
        pool_size: connections kept open; twice as many are used under load.

    Raises:
        ConfigError: the URL is not one of these, or the server cannot be reached.
        DataError: the database belongs to a newer version of Accord, or is something else.
    """
    from accord.collect.migrate import bring_up_to_date

    parsed = parse_url(url)
    store = _sqlite(parsed, pool_size) if parsed.get_backend_name() == "sqlite" else _postgres(parsed, pool_size)
    try:
        bring_up_to_date(store, migrate=migrate)
    except OperationalError as error:
        store.close()
        raise ConfigError(
            f"the database cannot be opened: {' '.join(str(error.orig).split())[:300]}",
            where=store.describe(),
            fix="check the address, and that the server runs and lets you in",
        ) from error
    except DatabaseError as error:
        store.close()
        if not any(words in str(error.orig) for words in ("not a database", "malformed")):
            raise
        raise DataError(
            f"the file is not an SQLite database: {error.orig}",
            where=store.describe(),
            fix="name another file, or restore a backup",
        ) from error
    except BaseException:
        store.close()
        raise
    return store


def parse_url(url: str | Path) -> URL:
    """Return the URL of a database given as file name or URL.

    Raises:
        ConfigError: neither SQLite in a file nor PostgreSQL.
    """
    text = str(url)
    if "://" not in text:
        if text in ("", ":memory:"):
            raise ConfigError(
                "a store needs a file or a server", where=text or "--db", fix="give a path such as labels.db"
            )
        return URL.create("sqlite", database=text)
    try:
        parsed = make_url(text)
    except ArgumentError as error:
        raise ConfigError(f"not a database URL: {error}", where=text, fix="see sqlite:///labels.db") from error
    backend = parsed.get_backend_name()
    if backend == "postgres" or (backend == "postgresql" and parsed.drivername == "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    elif backend not in ("sqlite", "postgresql"):
        raise ConfigError(
            f"databases of type {backend} are not supported",
            where=parsed.render_as_string(),
            fix="use sqlite:///file.db or postgresql+psycopg://user@host/database",
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("a store needs a file: several connections share it", where=text, fix="sqlite:///labels.db")
    return parsed


def _sqlite(url: URL, pool_size: int) -> Store:
    path = Path(str(url.database))
    with io_errors("make the directory of the database", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    writer = create_engine(url, pool_size=2, max_overflow=pool_size, pool_timeout=60)
    reader = create_engine(url, pool_size=pool_size, max_overflow=pool_size, pool_timeout=60)
    for engine, begin in ((writer, "BEGIN IMMEDIATE"), (reader, "BEGIN")):
        event.listen(engine, "connect", _pragmas(reads_only=engine is reader))
        event.listen(engine, "begin", _begin(begin))
    store = Store(url, writer, reader)
    if (kind := _file_system(path.parent)) in _NETWORK:
        store.warnings.append(
            f"{path} is on a network file system ({kind}), where SQLite's locks are not reliable: "
            "use a local disk, or PostgreSQL"
        )
    return store


def _pragmas(*, reads_only: bool) -> Callable[[Any, Any], None]:
    def on_connect(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None  # the driver must not begin transactions by itself
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.execute("PRAGMA cache_size = -32768")
        if reads_only:
            cursor.execute("PRAGMA query_only = ON")
        else:
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()

    return on_connect


def _begin(statement: str) -> Callable[[Any], None]:
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(statement)

    return on_begin


def _postgres(url: URL, pool_size: int) -> Store:
    options: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": pool_size,
        "pool_timeout": 60,
        # The one used last first: its statements are prepared.
        "pool_use_lifo": True,
        "connect_args": {"application_name": "accord", "options": "-c timezone=utc -c lock_timeout=30s"},
    }
    writer = create_engine(url, **options)
    # Each query of a read is a transaction of its own, without BEGIN and COMMIT.
    reader = create_engine(url, isolation_level="AUTOCOMMIT", **options)
    for engine in (writer, reader):
        _ask_after_idling(engine)
    return Store(url, writer, reader)


def _ask_after_idling(engine: Engine) -> None:
    def checkin(connection: Any, record: Any) -> None:
        del connection
        record.info["idle_since"] = time.monotonic()

    def checkout(connection: Any, record: Any, fairy: Any) -> None:
        del fairy
        since = record.info.get("idle_since")  # a new connection has none
        if since is None or time.monotonic() - since <= IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error  # the pool throws them all away and opens another

    event.listen(engine, "checkin", checkin)
    event.listen(engine, "checkout", checkout)


@contextmanager
def _refusing() -> Generator[None, None, None]:
    """Text no database takes (NUL, half a surrogate pair) is a mistake of whoever sent it, also in an id."""
    try:
        yield
    except (DatabaseValueError, UnicodeEncodeError) as error:
        raise Invalid("a text has characters that cannot be stored or looked up", fix="remove them") from error


def _is_transient(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state in _TRANSIENT or "database is locked" in str(error.orig)


def _file_system(path: Path) -> str:
    """Type of the file system `path` is on; empty where the kernel does not tell."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    where = str(path.resolve())
    for line in mounts.splitlines():
        parts = line.split()
        if len(parts) < 3:
            continue
        mount = parts[1].rstrip("/") or "/"
        if (where == mount or where.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, parts[2]
    return kind
