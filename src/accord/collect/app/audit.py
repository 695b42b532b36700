"""Pages of the audit trail with names for ids."""

from __future__ import annotations

from sqlalchemy import select

from accord.collect.app.shapes_admin import EventEntry, Events
from accord.collect.database import Store
from accord.collect.schema import EventRow, UserRow


def events_page(store: Store, *, before: int | None, limit: int, verb: str | None, actor: str | None) -> Events:
    """Events, newest first.

    Args:
        store: the database.
        before: only those with a smaller number.
        limit: at most so many.
        verb: only this one.
        actor: only by this person; handle or id.
    """
    query = (
        select(EventRow, UserRow.handle)
        .outerjoin(UserRow, UserRow.id == EventRow.actor)
        .order_by(EventRow.seq.desc())
        .limit(limit + 1)
    )
    if before is not None:
        query = query.where(EventRow.seq < before)
    if verb:
        query = query.where(EventRow.verb == verb)
    if actor:
        query = query.where((EventRow.actor == actor) | (UserRow.handle == actor.lower()))
    with store.read() as session:
        found = [
            EventEntry(
                id=row.seq,
                ts=row.at,
                actor=handle or row.actor,
                verb=row.verb,
                object_type=row.object_type,
                object_id=row.object_id,
                before=row.before,
                after=row.after,
                hash=row.hash,
            )
            for row, handle in session.execute(query)
        ]
    page = tuple(found[:limit])
    return Events(events=page, next=page[-1].id if len(found) > limit else None)
