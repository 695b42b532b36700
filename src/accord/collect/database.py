"""Opening a store: SQLite in a file by default, PostgreSQL by URL, and transactions that mean the same on both.

Three things go wrong in SQLite otherwise, and each cost somebody data: a deferred transaction that reads and then
writes fails at once with "database is locked" whatever the busy timeout is; two readers of the same row both write it;
a read transaction that is still open keeps the log growing. So writes begin with BEGIN IMMEDIATE and queue inside the
process first (SQLite's own waiting is by sleeping, and not in order), and reads have connections of their own that
cannot write.

A commit in WAL mode with synchronous = NORMAL survives the end of the process at any moment; a power cut may take the
last ones. Where that matters use PostgreSQL.

On PostgreSQL writes run at READ COMMITTED and lock rows with SELECT ... FOR UPDATE; a serialization failure or a
deadlock is tried again by `Store.transact`.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import DataError as DatabaseValueError
from sqlalchemy.orm import Session

from accord.collect.failures import Invalid
from accord.errors import ConfigError, DataError
from accord.storage import io_errors

T = TypeVar("T")
BUSY_MS = 5000
ATTEMPTS = 5
LARGE = 20_000
"""Counts up to this are made anew every time (a few milliseconds at most)."""
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
        self._turn = threading.Lock() if self.dialect == "sqlite" else None
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
            DataError: when it still fails after five tries.
        """
        for attempt in range(ATTEMPTS):
            try:
                with self.write() as session:
                    return work(session)
            except DBAPIError as error:
                if not _is_transient(error):
                    raise
                if attempt == ATTEMPTS - 1:
                    raise DataError(
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
        engine = self.reader
        if self.dialect == "postgresql":
            level = "REPEATABLE READ" if snapshot else "AUTOCOMMIT"
            engine = engine.execution_options(isolation_level=level)
        with _refusing(), Session(engine, autoflush=False) as session:
            yield session

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
                with self.writer.connect() as connection:
                    connection.exec_driver_sql("PRAGMA optimize")
            except DatabaseError:
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
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=60,
        pool_pre_ping=True,
        connect_args={"application_name": "accord", "options": "-c timezone=utc -c lock_timeout=30s"},
    )
    return Store(url, engine, engine)


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
