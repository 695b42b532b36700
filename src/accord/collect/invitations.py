"""Links that make an account: invitations, and the one that is printed at the very first start."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import get_args

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from accord.collect import events
from accord.collect.accounts import hash_or_refuse, insert_user
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.failures import Conflict, Invalid, NotFound
from accord.collect.ids import new_id
from accord.collect.passwords import hash_token, new_token
from accord.collect.records import User, UserRole
from accord.collect.schema import InvitationRow, UserRow
from accord.types import Record

INVITATION_LIFETIME = timedelta(days=7)
ADMIN_LIFETIME = timedelta(hours=24)


class Invitation(Record):
    """What an invitation makes, without its token."""

    id: str
    role: UserRole
    groups: tuple[str, ...]
    expires_at: datetime
    first_admin: bool
    used_by: str | None
    """User id."""


def invite(
    store: Store,
    role: UserRole,
    *,
    groups: Iterable[str] = (),
    expires: timedelta = INVITATION_LIFETIME,
    actor: str = events.SYSTEM,
) -> str:
    """Return the token of a new link that makes one account.

    Args:
        store: an open store.
        role: of the account.
        groups: of the account.
        expires: how long the link works.
        actor: id of who invites.

    Raises:
        Invalid: no such role.
    """
    if role not in get_args(UserRole):
        raise Invalid(f"there is no role {role}", fix=f"use one of {', '.join(get_args(UserRole))}")
    token = new_token()
    store.transact(lambda session: _add(session, token, role, sorted(set(groups)), expires, actor))
    return token


def read_invitation(store: Store, token: str) -> Invitation | None:
    """Return what a link would make; None when it is unknown, used, or too old."""
    with store.read() as session:
        row = session.scalar(select(InvitationRow).where(InvitationRow.token_sha256 == hash_token(token)))
        if row is None or row.used_at is not None or row.expires_at <= utcnow():
            return None
        if row.first_admin and _has_admin(session):
            return None
        return _view(row)


def list_invitations(store: Store) -> list[Invitation]:
    """Return all invitations, newest first."""
    with store.read() as session:
        return [_view(row) for row in session.scalars(select(InvitationRow).order_by(InvitationRow.id.desc()))]


def revoke_invitation(store: Store, invitation: str, *, actor: str) -> None:
    """Make a link stop working before anybody has used it; one that is too old already is left as it is.

    Raises:
        NotFound: no such invitation.
        Conflict: somebody has used it.
    """

    def work(session: Session) -> None:
        row = session.scalar(select(InvitationRow).where(InvitationRow.id == invitation).with_for_update())
        if row is None:
            raise NotFound(f"there is no invitation {invitation[:60]}", fix="see the list of invitations")
        if row.used_at is not None:
            raise Conflict("this invitation was used", fix="disable the account instead")
        now = utcnow()
        if row.expires_at > now:
            session.execute(update(InvitationRow).where(InvitationRow.id == invitation).values(expires_at=now))
            events.record(session, actor, "revoke", ("invitation", invitation))

    store.transact(work)


def _view(row: InvitationRow) -> Invitation:
    return Invitation(
        id=row.id,
        role=row.role,  # pyright: ignore[reportArgumentType]
        groups=tuple(row.groups),
        expires_at=row.expires_at,
        first_admin=row.first_admin,
        used_by=row.used_by,
    )


def accept_invitation(store: Store, token: str, handle: str, password: str) -> User:
    """Make the account an invitation is for; the link works once.

    Raises:
        NotFound: the link is unknown, used, or too old.
        Invalid: handle or password are not usable.
        Conflict: the handle is taken.
    """
    hashed = hash_or_refuse(password)

    def work(session: Session) -> User:
        now = utcnow()
        query = select(InvitationRow).where(InvitationRow.token_sha256 == hash_token(token)).with_for_update()
        row = session.scalar(query)
        stale = row is None or row.used_at is not None or row.expires_at <= now
        if row is None or stale or (row.first_admin and _has_admin(session)):
            raise NotFound("this invitation is unknown, used, revoked, or too old", fix="ask for a new one")
        actor = row.created_by or events.SYSTEM
        user = insert_user(session, handle, row.role, hashed, row.groups, actor)
        session.execute(update(InvitationRow).where(InvitationRow.id == row.id).values(used_at=now, used_by=user.id))
        return user

    return store.transact(work)


def admin_link(store: Store) -> str | None:
    """Return a fresh one-time token for the first administrator; None when there is one already.

    Links made by earlier calls stop working, so only the one printed last does.
    """
    token = new_token()

    def work(session: Session) -> str | None:
        if _has_admin(session):
            return None
        now = utcnow()
        session.execute(
            update(InvitationRow)
            .where(InvitationRow.first_admin.is_(True), InvitationRow.used_at.is_(None))
            .values(expires_at=now)
        )
        _add(session, token, "admin", [], ADMIN_LIFETIME, events.SYSTEM, first_admin=True)
        return token

    return store.transact(work)


def has_admin(store: Store) -> bool:
    """Return whether somebody can administer this store."""
    with store.read() as session:
        return _has_admin(session)


def _has_admin(session: Session) -> bool:
    query = select(func.count()).select_from(UserRow).where(UserRow.role == "admin", UserRow.disabled_at.is_(None))
    return bool(session.scalar(query))


def _add(
    session: Session,
    token: str,
    role: str,
    groups: list[str],
    expires: timedelta,
    actor: str,
    *,
    first_admin: bool = False,
) -> None:
    now = utcnow()
    row = InvitationRow(
        id=new_id(),
        token_sha256=hash_token(token),
        role=role,
        groups=groups,
        first_admin=first_admin,
        created_by=None if actor == events.SYSTEM else actor,
        created_at=now,
        expires_at=now + expires,
    )
    session.add(row)
    session.flush()
    after = {"role": role, "groups": groups, "first_admin": first_admin}
    events.record(session, actor, "invite", ("invitation", row.id), after=after)
