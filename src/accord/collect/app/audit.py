"""Pages of the audit trail."""

from __future__ import annotations

from accord.collect.app.shapes_admin import EventEntry, Events
from accord.collect.database import Store
from accord.collect.events import read_events


def events_page(store: Store, *, before: int | None, limit: int, verb: str | None, actor: str | None) -> Events:
    """Events, newest first.

    Args:
        store: the database.
        before: only those with a smaller number.
        limit: at most so many.
        verb: only this one.
        actor: only by this person; handle or id.
    """
    found = read_events(store, before=before, limit=limit + 1, verb=verb, actor=actor)
    page = tuple(
        EventEntry(
            id=event.seq,
            ts=event.at,
            actor=event.actor,
            verb=event.verb,
            object_type=event.object_type,
            object_id=event.object_id,
            before=event.before,
            after=event.after,
            hash=event.hash,
        )
        for event in found[:limit]
    )
    return Events(events=page, next=page[-1].id if len(found) > limit else None)
