"""The audit trail: who did what, in one chain of hashes per database.

    hash_n = sha256(hash_{n-1}, seq, time, actor, verb, object, before, after)   in canonical JSON, hash_0 = 64 zeros

Triggers refuse changes and deletions; whoever goes around them breaks the chain, and `verify_events` names the first
row that does not fit. A chain cannot show that its end was cut off: keep `chain_head` somewhere else to notice that.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.orm import Session

from accord.collect.columns import as_text, utcnow
from accord.collect.database import Store
from accord.collect.schema import AdjudicationRow, AnnotationRow, EventRow, UserRow
from accord.types import Record

SYSTEM = "system"
FIRST = "0" * 64
CHAIN_LOCK = 0x4ACC_08D1
"""Key of the PostgreSQL advisory lock held from reading the head of the chain to the commit."""
_PAGE = 1000


class Event(Record):
    """One entry of the audit trail."""

    seq: int
    at: datetime
    actor: str
    """Handle of a user, or `SYSTEM`."""
    verb: str
    object_type: str
    object_id: str
    project_id: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    hash: str


@dataclass(frozen=True)
class Verified:
    """What a check of the chain found."""

    num_events: int
    head: str
    """Hash of the last event."""
    broken: tuple[str, ...]
    """What does not fit, the first findings; empty = nothing."""


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and without spaces: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of `canonical(value)` in hexadecimal."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def record(
    session: Session,
    actor: str,
    verb: str,
    target: tuple[str, str],
    *,
    project: str | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Append an event in the transaction of `session`.

    Call it last: from here to the commit nobody else can append, and the caller must not wait for any other lock.

    Args:
        session: of `Store.write` or `Store.transact`.
        actor: user id, or `SYSTEM`.
        verb: what was done, in the imperative ("submit", "block").
        target: type and id of what it was done to.
        project: id of the project, where there is one.
        before: what changed, as it was; JSON.
        after: what changed, as it is; JSON.
    """
    connection = session.connection()
    number, head = _locked_head(connection)
    row: dict[str, Any] = {
        "seq": number + 1,
        "at": utcnow(),
        "actor": actor,
        "verb": verb,
        "object_type": target[0],
        "object_id": target[1],
        "project_id": project,
        "before": before,
        "after": after,
        "prev_hash": head,
    }
    connection.execute(_INSERT, {**row, "hash": _hash(row)})


def _locked_head(connection: Connection) -> tuple[int, str]:
    """Number and hash of the last event, which stays the last until this transaction ends."""
    if connection.dialect.name == "postgresql":
        # Two statements in one round trip: the second one begins, and looks, when the first one has the lock.
        result = connection.exec_driver_sql(_LOCK_AND_HEAD, execution_options={"no_parameters": True})
        cursor: Any = result.cursor
        cursor.nextset()
        last = cursor.fetchone()
        result.close()
    else:
        last = connection.execute(_HEAD).first()
    return (last[0], last[1]) if last else (0, FIRST)


_HEAD = select(EventRow.seq, EventRow.hash).order_by(EventRow.seq.desc()).limit(1)
_LOCK_AND_HEAD = (
    f"SELECT pg_advisory_xact_lock({CHAIN_LOCK}); SELECT seq, hash FROM event ORDER BY event.seq DESC LIMIT 1"
)
_INSERT = insert(EventRow.metadata.tables["event"])


def _hash(row: dict[str, Any]) -> str:
    return digest({**row, "at": as_text(row["at"])})


def read_events(
    store: Store, *, before: int | None = None, limit: int = 100, verb: str | None = None, actor: str | None = None
) -> list[Event]:
    """Return events, newest first.

    Args:
        store: an open store.
        before: only events with a smaller `seq`, for the next page.
        limit: at most so many.
        verb: only these.
        actor: handle or id of a user, or "system"; only theirs.
    """
    query = (
        select(EventRow, UserRow.handle)
        .outerjoin(UserRow, UserRow.id == EventRow.actor)
        .order_by(EventRow.seq.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(EventRow.seq < before)
    if verb:
        query = query.where(EventRow.verb == verb)
    if actor:
        query = query.where((EventRow.actor == actor) | (UserRow.handle == actor.lower()))
    names = Event.model_fields.keys() - {"actor"}
    with store.read() as session:
        return [
            Event(actor=handle or row.actor, **{name: getattr(row, name) for name in names})
            for row, handle in session.execute(query)
        ]


def chain_head(store: Store) -> tuple[int, str]:
    """Return number and hash of the last event; (0, 64 zeros) when there is none."""
    with store.read() as session:
        last = session.execute(_HEAD).first()
    return (last.seq, last.hash) if last else (0, FIRST)


def verify_events(store: Store, *, most: int = 20) -> Verified:
    """Recompute the chain, and the fingerprints of the annotations its events name.

    Args:
        store: an open store.
        most: stop after so many findings.
    """
    broken: list[str] = []
    seq, head = 0, FIRST
    named: set[str] = set()
    with store.read(snapshot=True) as session:
        for row in _all_events(session):
            seq += 1
            fields = {c.name: getattr(row, c.name) for c in EventRow.__table__.columns if c.name != "hash"}
            if row.seq != seq:
                broken.append(f"event {seq} is missing: the next one is {row.seq}")
                seq = row.seq
            elif row.prev_hash != head:
                broken.append(f"event {row.seq} does not follow the one before it")
            if _hash(fields) != row.hash:
                broken.append(f"event {row.seq} ({row.verb} by {row.actor}) was changed")
            head = row.hash
            if row.object_type in ("annotation", "adjudication") and row.after:
                named.add(f"{row.object_id}:{row.after.get('sha256')}")
            if len(broken) >= most:
                break
        else:
            broken.extend(_labels_that_do_not_fit(session, named)[: most - len(broken)])
    return Verified(seq, head, tuple(broken))


def fingerprint(row: AnnotationRow | AdjudicationRow) -> str:
    """Return the hash of what a label says, which its event holds; facts about the client are no part of that."""
    return fingerprint_of({c.name: getattr(row, c.name) for c in row.__table__.columns})


def fingerprint_of(columns: Mapping[str, Any]) -> str:
    """Return the same of the columns of a label, all of them."""
    fields = {name: value for name, value in columns.items() if name != "client"}
    return digest({name: as_text(v) if isinstance(v, datetime) else v for name, v in fields.items()})


def _all_events(session: Session) -> Iterator[EventRow]:
    last = -1
    while True:
        page = session.scalars(select(EventRow).where(EventRow.seq > last).order_by(EventRow.seq).limit(_PAGE)).all()
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1].seq
        session.expunge_all()


def _labels_that_do_not_fit(session: Session, named: set[str]) -> list[str]:
    broken: list[str] = []
    left = set(named)
    for table, name in ((AnnotationRow, "annotation"), (AdjudicationRow, "adjudication")):
        last = ""
        while True:
            query = select(table).where(table.id > last).order_by(table.id).limit(_PAGE)
            page = session.scalars(query).all()
            for row in page:
                entry = f"{row.id}:{fingerprint(row)}"
                if entry not in named:
                    broken.append(f"{name} {row.id} was changed, or no event says that it was made")
                left.discard(entry)
            if len(page) < _PAGE:
                break
            last = page[-1].id
            session.expunge_all()
    if not broken:
        broken = [f"the label {entry.split(':')[0]} is gone" for entry in sorted(left)]
    return broken
