"""Opening a store: addresses, migrations under a lock, backups, versions, transactions."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from collect_forked import FORKS, start
from collect_world import answer, claim, label, pair, person, project
from sqlalchemy import create_engine, event, func, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from accord.collect import database, migrate
from accord.collect.columns import UtcTime, utcnow
from accord.collect.database import Store, open_store, parse_url
from accord.collect.failures import Busy
from accord.collect.ids import new_id
from accord.collect.schema import ProjectRow, UserRow
from accord.collect.submissions import submit
from accord.errors import AccordError, ConfigError, DataError


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("labels.db", "sqlite:///labels.db"),
        ("/tmp/x y.db", "sqlite:////tmp/x y.db"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg://u@h:5/d", "postgresql+psycopg://u@h:5/d"),
    ],
)
def test_addresses(given: str, wanted: str) -> None:
    assert parse_url(given).render_as_string(hide_password=False) == wanted


@pytest.mark.parametrize("given", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "mysql://h/d", "http://[x"])
def test_addresses_of_anything_else_are_refused(given: str) -> None:
    with pytest.raises(ConfigError):
        parse_url(given)


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(ConfigError) as error:
        open_store("postgresql+psycopg://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(error.value) and "127.0.0.1:1" in str(error.value)


def test_tables_and_migrations_say_the_same(store: Store) -> None:
    assert migrate.differences(store) == [], "alembic check"


def test_differences_are_noticed(store: Store) -> None:
    with store.write() as session:
        session.execute(text("CREATE TABLE more (id INTEGER)"))
    assert len(migrate.differences(store)) == 1


def revisions() -> list[str]:
    return [r.revision for r in reversed(list(migrate.scripts().walk_revisions()))]


def test_every_revision_upgrades_with_data_in_it_and_goes_back(store_url: str) -> None:
    with open_store(store_url) as store:
        order = revisions()
        # Down to nothing and up again, one step at a time.
        for target in [*reversed(order[:-1]), "base", *order]:
            with migrate._locked(store) as connection:
                migrate.move(connection, target)
            with store.reader.connect() as connection:
                assert migrate._revision(connection, store) == (None if target == "base" else target)
            if target == order[0]:
                with store.write() as session:
                    row = {"id": new_id(), "name": "first", "settings": {}, "seed": 1, "created_at": utcnow()}
                    session.execute(insert(ProjectRow).values(**row))
        assert migrate.differences(store) == []
        with store.read() as session:
            assert session.scalar(select(func.count()).select_from(ProjectRow)) == 1, "the row of the way up"
        project(store, [pair(1)])
        label(store, person(store, "ann"))
        with pytest.raises(DBAPIError, match="never changed"), store.write() as session:
            session.execute(text("DELETE FROM annotation"))


def test_an_older_sqlite_database_is_copied_before_it_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    with open_store(path) as store:
        project(store)
        with migrate._locked(store) as connection:
            migrate.move(connection, revisions()[-2])
    assert list(tmp_path.glob("*.backup")) == []
    with pytest.raises(DataError, match="behind"):
        open_store(path, migrate=False)
    open_store(path).close()
    (backup,) = tmp_path.glob("labels.db.*.backup")
    assert revisions()[-2] in backup.name
    copy = sqlite3.connect(backup)
    assert copy.execute("SELECT version_num FROM alembic_version").fetchone()[0] == revisions()[-2]
    assert copy.execute("SELECT count(*) FROM project").fetchone()[0] == 1
    copy.close()
    open_store(path).close()
    assert len(list(tmp_path.glob("*.backup"))) == 1, "nothing to upgrade, nothing to copy"


def test_an_upgrade_that_fails_changes_nothing(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(store_url) as store, migrate._locked(store) as connection:
        migrate.move(connection, revisions()[0])

    def broken(connection, target) -> None:
        connection.exec_driver_sql("CREATE TABLE half (id INTEGER)")
        raise DataError("the upgrade broke")

    monkeypatch.setattr(migrate, "move", broken)
    with pytest.raises(DataError, match="broke"):
        open_store(store_url)
    engine = create_engine(parse_url(store_url))
    with engine.connect() as connection:
        assert "half" not in inspect(connection).get_table_names()
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == revisions()[0]
    engine.dispose()


def test_rows_that_point_at_nothing_stop_an_upgrade(tmp_path: Path) -> None:
    with open_store(tmp_path / "labels.db") as store, pytest.raises(DataError, match="point at nothing"):  # noqa: SIM117
        with migrate._locked(store) as connection:
            connection.exec_driver_sql("INSERT INTO task_author VALUES ('no task', 'no user')")


def test_a_newer_database_is_refused(store_url: str) -> None:
    with open_store(store_url) as store, store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(AccordError, match="newer version of Accord") as error:
        open_store(store_url)
    assert "9999" in str(error.value) and "upgrade Accord" in str(error.value)


def test_databases_of_other_programs_are_left_alone(store_url: str) -> None:
    engine = create_engine(parse_url(store_url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE invoices (id INTEGER)"))
    engine.dispose()
    with pytest.raises(DataError, match="invoices"):
        open_store(store_url)


def test_files_that_are_no_database_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes " * 100)
    with pytest.raises(AccordError, match=r"not an SQLite database|cannot be opened"):
        open_store(path)
    assert path.read_text() == "my notes " * 100


def _open(url: str, ready) -> None:
    ready.wait()
    try:
        open_store(url).close()
        print("opened")
    except BaseException as error:
        print(repr(error))


@pytest.mark.slow
def test_processes_that_open_a_new_database_at_once_upgrade_it_once(store_url: str) -> None:
    ready = FORKS.Barrier(4)
    workers = [start(_open, store_url, ready) for _ in range(4)]
    assert [output.read() for _, output in workers] == ["opened\n"] * 4
    for worker, output in workers:
        worker.join()
        output.close()


def test_readers_cannot_write_on_sqlite(tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "labels.db") as store,
        pytest.raises(OperationalError, match="readonly"),
        store.read() as session,
    ):
        session.execute(text("DELETE FROM project"))


def test_a_snapshot_does_not_see_what_comes_later(store: Store) -> None:
    project(store)
    count = select(func.count()).select_from(UserRow)
    with store.read(snapshot=True) as session:
        assert session.scalar(count) == 0
        person(store, "ann")
        assert session.scalar(count) == 0
    with store.read() as session:
        assert session.scalar(count) == 1


def test_transact_tries_again_when_two_transactions_block_each_other(store: Store) -> None:
    if store.dialect == "sqlite":
        tries = []

        def busy(session) -> int:
            tries.append(1)
            if len(tries) < 3:
                raise OperationalError("x", {}, sqlite3.OperationalError("database is locked"))
            return 7

        assert store.transact(busy) == 7 and len(tries) == 3
        return
    project(store)
    users = [person(store, name).id for name in ("ann", "bob")]
    barrier = threading.Barrier(2)
    tries, done = [], []

    def swap(first: str, second: str):
        def work(session):
            tries.append(1)
            session.execute(text('UPDATE "user" SET role = role WHERE id = :id'), {"id": first})
            if len(tries) <= 2:
                barrier.wait()
            session.execute(text('UPDATE "user" SET role = role WHERE id = :id'), {"id": second})
            done.append(1)

        return work

    threads = [threading.Thread(target=store.transact, args=(swap(*pair),)) for pair in (users, users[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2 and len(tries) == 3, "a deadlock, and one of the two again"


def test_a_database_that_stays_busy_is_an_error_with_a_remedy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database.time, "sleep", lambda _: None)

    def busy(session) -> None:
        raise OperationalError("x", {}, sqlite3.OperationalError("database is locked"))

    with pytest.raises(Busy, match="too busy"):
        store.transact(busy)


def test_a_lock_that_lasts_is_reported_after_one_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_MS", 20)
    monkeypatch.setattr(database, "PATIENCE_S", 0.01)
    with open_store(tmp_path / "labels.db") as store:
        other = sqlite3.connect(tmp_path / "labels.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asked: list[str] = []
        event.listen(store.writer, "before_cursor_execute", lambda c, cursor, statement, *rest: asked.append(statement))
        with pytest.raises(Busy, match="locked"):
            store.transact(lambda session: session.execute(text("SELECT 1")))
        assert asked == ["BEGIN IMMEDIATE"], "the wait was the busy timeout; five of them are too many"
        other.close()


ON_POSTGRES = pytest.mark.parametrize(
    "store_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
"""SQLite has no connections that end."""


def _end_connections(url: str) -> None:
    """What a restart of the server or a firewall does."""
    engine = create_engine(parse_url(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        mine = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"))
    engine.dispose()


@ON_POSTGRES
def test_connections_that_ended_while_they_lay_idle_are_replaced(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(store)
    _end_connections(store_url)
    with pytest.raises(DBAPIError), store.read() as session:
        session.execute(text("SELECT 1"))
    project(store)
    _end_connections(store_url)
    monkeypatch.setattr(database, "IDLE_S", 0.0)
    with store.read() as session:
        assert session.scalar(text("SELECT 1")) == 1
    with store.write() as session:
        assert session.scalar(text("SELECT 1")) == 1


@ON_POSTGRES
def test_what_a_lost_connection_did_not_commit_is_done_again(store: Store, store_url: str) -> None:
    project(store)
    tries: list[int] = []

    def work(session) -> int:
        tries.append(1)
        session.execute(insert(UserRow).values(id="u", handle="u", role="admin", created_at=utcnow()))
        if len(tries) == 1:
            _end_connections(store_url)
        return session.scalar(select(func.count()).select_from(UserRow))

    assert store.transact(work) == 1 and len(tries) == 2

    def lost_in_commit(session) -> None:
        tries.append(1)
        session.execute(text("UPDATE \"user\" SET role = 'annotator'"))
        _end_connections(store_url)

    with pytest.raises(DBAPIError):
        store.transact(lost_in_commit)
    assert len(tries) == 3, "nobody knows whether it was stored: not again without being asked"


def test_times_are_aware_and_utc_on_both(store: Store) -> None:
    project(store)
    now = utcnow()
    with store.write() as session:
        session.execute(text("SELECT 1"))
        session.execute(insert(UserRow).values(id="u", handle="u", role="admin", created_at=now))
    with store.read() as session:
        assert session.scalar(select(UserRow.created_at)) == now
    with pytest.raises(ValueError, match="no zone"):
        UtcTime().process_bind_param(now.replace(tzinfo=None), store.writer.dialect)


def test_network_file_systems_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_file_system", lambda _: "nfs4")
    with open_store(tmp_path / "labels.db") as store:
        assert len(store.warnings) == 1 and "nfs4" in store.warnings[0]


def test_sqlite_runs_in_wal_mode_with_foreign_keys(tmp_path: Path) -> None:
    with open_store(tmp_path / "labels.db") as store, store.read() as session:
        session.execute(text("SELECT count(*) FROM project"))
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert session.scalar(text("PRAGMA busy_timeout")) == 5000


def test_large_counts_may_be_old_and_small_ones_are_not(store: Store) -> None:
    counts = iter([5, 6, database.LARGE + 1, 7])
    found = [store.remembered(("x",), lambda: next(counts)) for _ in range(4)]
    assert found == [5, 6, database.LARGE + 1, database.LARGE + 1]
    assert store.remembered(("x",), lambda: next(counts), seconds=-1) == 7


def test_ids_sort_by_time_and_are_unique() -> None:
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(made) and len(set(made)) == len(made)
    assert {i[14] for i in made} == {"7"} and {i[19] for i in made} <= set("89ab")


def test_a_claim_and_a_submit_ask_the_database_seldom(store: Store) -> None:
    """Every statement is a way to the server and back, and most of what a label costs the site."""
    project(store, [pair(i, overlap=2) for i in range(4)])
    ann, bob = person(store, "ann"), person(store, "bob")
    asked: list[str] = []
    for engine in (store.writer, store.reader):
        event.listen(engine, "before_cursor_execute", lambda c, cursor, statement, *rest: asked.append(statement))
    counts = []
    for who in (ann, bob):
        asked.clear()
        view = claim(store, who)
        counts.append(len([one for one in asked if not one.startswith("BEGIN")]))
        asked.clear()
        submit(store, who, answer(view))
        counts.append(len([one for one in asked if not one.startswith("BEGIN")]))
    apart = 2 if store.dialect == "sqlite" else 0
    # The second label is the last of its task, which reads the verdicts.
    assert counts == [8 + apart, 5 + apart, 8 + apart, 6 + apart]


def test_claims_and_submits_scan_no_table(tmp_path: Path) -> None:
    """Every query of theirs finds its rows by an index; only the few projects may be looked through."""
    with open_store(tmp_path / "labels.db") as store:
        project(store, [pair(i, gold={"position": 0} if i % 3 == 0 else None) for i in range(30)], gold_rate=0.5)
        seen: dict[str, tuple] = {}

        def note(connection, cursor, statement, parameters, context, executemany) -> None:
            if statement.lstrip().startswith(("SELECT", "UPDATE")) and not executemany:
                seen[statement] = parameters

        for engine in (store.writer, store.reader):
            event.listen(engine, "before_cursor_execute", note)
        ann = person(store, "ann")
        seen.clear()
        for _ in range(8):
            label(store, ann)
        assert len(seen) >= 10
        raw = sqlite3.connect(tmp_path / "labels.db")
        plans = {
            sql: [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {sql}", values)] for sql, values in seen.items()
        }
        raw.close()
    scans = [(step, sql) for sql, steps in plans.items() for step in steps if step.startswith("SCAN ")]
    # The last event is the first step of a walk from the index's end.
    allowed = ("SCAN project", "SCAN CONSTANT ROW", "SCAN anon", "SCAN (subquery", "SCAN event USING INDEX")
    assert [found for found in scans if not found[0].startswith(allowed)] == []
