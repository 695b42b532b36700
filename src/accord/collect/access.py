"""Signing in: sessions of browsers, keys of programs. Only hashes of tokens are stored."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from accord.collect import events
from accord.collect.accounts import require_user, view
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.failures import Invalid, NotFound
from accord.collect.ids import new_id
from accord.collect.passwords import hash_token, new_token
from accord.collect.records import KeyInfo, User
from accord.collect.schema import ApiKeyRow, ProfileRow, SessionRow, UserRow

SCOPES = ("annotate", "read", "import", "export", "admin")
SESSION_LIFETIME = timedelta(hours=12)
_KEY = re.compile(r"acc_([0-9a-f]{12})_(\S{43})")


def start_session(
    store: Store, user: str, *, lifetime: timedelta = SESSION_LIFETIME, previous: str | None = None
) -> str:
    """Sign a user in and return the cookie's token, always a fresh one.

    Args:
        store: an open store.
        user: id.
        lifetime: until the token stops working.
        previous: token the browser came with; it ends, so that nobody can prepare a session for somebody else.
    """
    token, now = new_token(), utcnow()

    def work(session: Session) -> None:
        if previous:
            session.execute(delete(SessionRow).where(SessionRow.token_sha256 == hash_token(previous)))
        session.execute(delete(SessionRow).where(SessionRow.expires_at < now))
        row = SessionRow(user_id=user, token_sha256=hash_token(token), created_at=now, expires_at=now + lifetime)
        session.add(row)
        session.flush()
        events.record(session, user, "sign_in", ("user", user))

    store.transact(work)
    return token


def session_user(store: Store, token: str) -> User | None:
    """Return whose session it is; None when it ended, expired, or the account is disabled."""
    with store.look() as connection:
        row: Any = connection.execute(_SIGNED_IN, {"token": hash_token(token), "now": utcnow()}).first()
        return None if row is None else view(row, row)


# Built once, and columns instead of rows: this runs in every request.
_SIGNED_IN = (
    select(
        *(UserRow.id, UserRow.handle, UserRow.role, UserRow.created_at, UserRow.disabled_at),
        *(ProfileRow.pseudonym, ProfileRow.groups, ProfileRow.qualified_at),
        *(ProfileRow.blocked_at, ProfileRow.block_reason),
    )
    .join(SessionRow, SessionRow.user_id == UserRow.id)
    .join(ProfileRow, ProfileRow.user_id == UserRow.id)
    .where(SessionRow.token_sha256 == bindparam("token"))
    .where(SessionRow.expires_at > bindparam("now"), UserRow.disabled_at.is_(None))
)


def end_session(store: Store, token: str) -> None:
    """Sign out; unknown tokens are no error."""
    with store.write() as session:
        session.execute(delete(SessionRow).where(SessionRow.token_sha256 == hash_token(token)))


def make_api_key(
    store: Store,
    user: str,
    scopes: Sequence[str],
    *,
    name: str = "",
    expires_at: datetime | None = None,
    actor: str = events.SYSTEM,
) -> tuple[KeyInfo, str]:
    """Make a key for a program and return it with its secret, which is not kept.

    Args:
        store: an open store.
        user: id of the account it acts for.
        scopes: any of `SCOPES`.
        name: for the list of keys.
        expires_at: aware time; None = never.
        actor: id of who does it.

    Raises:
        Invalid: no scope, or an unknown one.
        NotFound: no such user.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise Invalid(f"there is no scope {unknown[0]}" if unknown else "a key needs a scope", fix=", ".join(SCOPES))
    prefix, rest = secrets.token_hex(6), new_token()
    secret = f"acc_{prefix}_{rest}"

    def work(session: Session) -> KeyInfo:
        require_user(session, user)
        row = ApiKeyRow(
            id=new_id(),
            user_id=user,
            name=name[:100],
            prefix=prefix,
            sha256=hash_token(secret),
            scopes=sorted(set(scopes)),
            created_at=utcnow(),
            expires_at=expires_at,
        )
        session.add(row)
        session.flush()
        after = {"user": user, "prefix": prefix, "scopes": row.scopes}
        events.record(session, actor, "create", ("api_key", row.id), after=after)
        return _key(row)

    return store.transact(work), secret


def key_user(store: Store, secret: str) -> tuple[User, tuple[str, ...]] | None:
    """Return whose key it is and its scopes; None when unknown, expired, revoked, or the account is disabled."""
    match = _KEY.fullmatch(secret)
    if match is None:
        return None
    with store.read() as session:
        row = session.execute(
            select(ApiKeyRow, UserRow, ProfileRow)
            .join(UserRow, UserRow.id == ApiKeyRow.user_id)
            .join(ProfileRow, ProfileRow.user_id == UserRow.id)
            .where(ApiKeyRow.prefix == match.group(1))
        ).first()
        if row is None or not hmac.compare_digest(row[0].sha256, hash_token(secret)):
            return None
        key, user = row[0], row[1]
        expired = key.expires_at is not None and key.expires_at <= utcnow()
        if expired or key.revoked_at is not None or user.disabled_at is not None:
            return None
        return view(user, row[2]), tuple(key.scopes)


def list_keys(store: Store, user: str | None = None) -> list[KeyInfo]:
    """Return keys without their secrets, of one user or of all, newest first."""
    query = select(ApiKeyRow).order_by(ApiKeyRow.id.desc())
    if user is not None:
        query = query.where(ApiKeyRow.user_id == user)
    with store.read() as session:
        return [_key(row) for row in session.scalars(query)]


def revoke_key(store: Store, key: str, *, actor: str) -> None:
    """Make a key stop working at once.

    Raises:
        NotFound: no such key.
    """

    def work(session: Session) -> None:
        row = session.get(ApiKeyRow, key)
        if row is None:
            raise NotFound(f"there is no key {key[:60]}", fix="see the list of keys")
        if row.revoked_at is None:
            session.execute(update(ApiKeyRow).where(ApiKeyRow.id == key).values(revoked_at=utcnow()))
            events.record(session, actor, "revoke", ("api_key", key))

    store.transact(work)


def _key(row: ApiKeyRow) -> KeyInfo:
    return KeyInfo(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
