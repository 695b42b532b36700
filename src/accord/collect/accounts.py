"""Accounts: users, what they may do, what is known of them."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any, get_args

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from accord.collect import events
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.failures import Conflict, Invalid, NotFound
from accord.collect.ids import new_id
from accord.collect.passwords import LONGEST, SHORTEST, check_password, hash_password
from accord.collect.records import User, UserRole
from accord.collect.schema import ProfileRow, SessionRow, UserRow

_HANDLE = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


def create_user(
    store: Store,
    handle: str,
    role: UserRole,
    *,
    password: str | None = None,
    groups: Iterable[str] = (),
    actor: str = events.SYSTEM,
) -> User:
    """Make an account.

    Args:
        store: an open store.
        handle: unique whatever its case; stored in lower case.
        role: what it may do.
        password: None = no sign-in by password (services, simulated people).
        groups: for statistics and aggregation by group.
        actor: id of who does it.

    Raises:
        Invalid: handle or password are not usable.
        Conflict: the handle is taken.
    """
    hashed = None if password is None else hash_or_refuse(password)
    return store.transact(lambda s: insert_user(s, handle, role, hashed, groups, actor))


def insert_user(
    session: Session, handle: str, role: str, hashed: str | None, groups: Iterable[str], actor: str
) -> User:
    """Make an account in a transaction that is open; `create_user` has the arguments."""
    name = _handle(handle)
    if role not in get_args(UserRole):
        raise Invalid(f"there is no role {role}", fix=f"use one of {', '.join(get_args(UserRole))}")
    now = utcnow()
    user = UserRow(id=new_id(), handle=name, role=role, password_hash=hashed, created_at=now)
    pseudonym = f"annotator-{secrets.token_hex(5)}"
    profile = ProfileRow(user_id=user.id, pseudonym=pseudonym, groups=_groups(groups), weight=1.0, served=0)
    if session.scalar(select(UserRow.id).where(UserRow.handle == name)) is not None:
        raise Conflict(f"the handle {name} is taken", fix="choose another one")
    try:
        session.add(user)
        session.flush()
        session.add(profile)
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"the handle {name} is taken", fix="choose another one") from error
    after = {"handle": name, "role": role, "groups": profile.groups, "pseudonym": pseudonym}
    events.record(session, actor, "create", ("user", user.id), after=after)
    return view(user, profile)


def authenticate(store: Store, handle: str, password: str) -> User | None:
    """Return who signs in, or None; it takes equally long for unknown, disabled and wrong."""
    with store.read() as session:
        found = _find(session, UserRow.handle == handle.strip().lower()[:100])
    fits = check_password(password[: LONGEST + 1], found[0].password_hash if found else None)
    if not fits or found is None or found[0].disabled_at is not None:
        return None
    return view(*found)


def set_password(store: Store, user: str, password: str, *, actor: str) -> None:
    """Change a password and end every session of the account.

    Raises:
        NotFound: no such user.
        Invalid: the password is too short or too long.
    """
    hashed = hash_or_refuse(password)

    def work(session: Session) -> None:
        require_user(session, user)
        session.execute(update(UserRow).where(UserRow.id == user).values(password_hash=hashed))
        session.execute(delete(SessionRow).where(SessionRow.user_id == user))
        events.record(session, actor, "set_password", ("user", user))

    store.transact(work)


def get_user(store: Store, user: str) -> User:
    """Return an account by id or handle.

    Raises:
        NotFound: no such user.
    """
    with store.read() as session:
        found = _find(session, (UserRow.id == user) | (UserRow.handle == user.lower()))
    if found is None:
        raise NotFound(f"there is no user {user[:60]}", fix="see the list of users")
    return view(*found)


def list_users(store: Store) -> list[User]:
    """Return every account, by handle."""
    with store.read() as session:
        rows = session.execute(
            select(UserRow, ProfileRow).join(ProfileRow, ProfileRow.user_id == UserRow.id).order_by(UserRow.handle)
        ).all()
        return [view(row[0], row[1]) for row in rows]


def update_user(store: Store, user: str, *, actor: str, **changes: Any) -> User:
    """Change an account.

    Args:
        store: an open store.
        user: id.
        actor: id of who does it.
        changes: any of role (str), groups (strings), disabled (bool), qualified (bool), blocked (reason or None).

    Raises:
        NotFound: no such user.
        Invalid: no such role.
        Conflict: it would leave no administrator.
    """
    return store.transact(lambda session: _update(session, user, actor, changes))


def _update(session: Session, user: str, actor: str, changes: dict[str, Any]) -> User:
    row, profile = require_user(session, user, lock=True)
    old = view(row, profile)
    now = utcnow()
    if "role" in changes and changes["role"] not in get_args(UserRole):
        raise Invalid(f"there is no role {changes['role']}", fix=f"use one of {', '.join(get_args(UserRole))}")
    values: dict[str, Any] = {"role": changes["role"]} if "role" in changes else {}
    if "disabled" in changes:
        values["disabled_at"] = (row.disabled_at or now) if changes["disabled"] else None
    mine = _profile_changes(profile, changes, now)
    loses_power = old.role == "admin" and not old.disabled
    if loses_power and (values.get("role", "admin") != "admin" or values.get("disabled_at") is not None):
        _another_admin(session, user)
    if values:
        session.execute(update(UserRow).where(UserRow.id == user).values(**values))
    if mine:
        session.execute(update(ProfileRow).where(ProfileRow.user_id == user).values(**mine))
    if values.get("disabled_at") is not None or "role" in values:
        session.execute(delete(SessionRow).where(SessionRow.user_id == user))
    session.expire_all()
    new = view(*require_user(session, user))
    changed = [n for n in ("role", "groups", "disabled", "qualified", "blocked") if getattr(old, n) != getattr(new, n)]
    if changed:
        before, after = (view.model_dump(mode="json", include=set(changed)) for view in (old, new))
        events.record(session, actor, "update", ("user", user), before=before, after=after)
    return new


def _profile_changes(profile: ProfileRow, changes: dict[str, Any], now: datetime) -> dict[str, Any]:
    mine: dict[str, Any] = {}
    if "groups" in changes:
        mine["groups"] = _groups(changes["groups"])
    if "qualified" in changes:
        mine["qualified_at"] = now if changes["qualified"] else None
    if "blocked" in changes:
        mine["blocked_at"] = now if changes["blocked"] else None
        mine["block_reason"] = changes["blocked"] or None
        if profile.blocked_at is not None and not changes["blocked"]:
            mine.setdefault("qualified_at", now)  # the gate starts anew, or the next hidden test would block again
    return mine


def disable_user(store: Store, user: str, *, actor: str) -> User:
    """Close an account: no sign-in, no keys, no tasks. Its labels stay."""
    return update_user(store, user, actor=actor, disabled=True)


def _another_admin(session: Session, user: str) -> None:
    # Locks them all, so that two administrators cannot remove each other at the same moment.
    admins = session.scalars(
        select(UserRow.id).where(UserRow.role == "admin", UserRow.disabled_at.is_(None)).with_for_update()
    ).all()
    if set(admins) <= {user}:
        raise Conflict("this is the last administrator", fix="make another user an administrator first")


def require_user(session: Session, user: str, *, lock: bool = False) -> tuple[UserRow, ProfileRow]:
    """Return the rows of a user.

    Raises:
        NotFound: no such user.
    """
    found = _find(session, UserRow.id == user, lock=lock)
    if found is None:
        raise NotFound(f"there is no user {user[:60]}", fix="see the list of users")
    return found


def view(user: UserRow, profile: ProfileRow) -> User:
    """Return the record of a user's rows."""
    blocked = None if profile.blocked_at is None else profile.block_reason or "blocked"
    return User(
        id=user.id,
        handle=user.handle,
        role=user.role,  # pyright: ignore[reportArgumentType]
        pseudonym=profile.pseudonym,
        groups=tuple(profile.groups),
        disabled=user.disabled_at is not None,
        blocked=blocked,
        qualified=profile.qualified_at is not None,
        created_at=user.created_at,
    )


def hash_or_refuse(password: str) -> str:
    """Return the hash of a password that is long enough.

    Raises:
        Invalid: it is too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(
            f"a password has {SHORTEST} to {LONGEST} characters, this one {len(password)}", fix="choose another"
        )
    return hash_password(password)


def _find(session: Session, condition: ColumnElement[bool], *, lock: bool = False) -> tuple[UserRow, ProfileRow] | None:
    query = select(UserRow, ProfileRow).join(ProfileRow, ProfileRow.user_id == UserRow.id).where(condition)
    row = session.execute(query.with_for_update() if lock else query).first()
    return None if row is None else (row[0], row[1])


def _handle(handle: str) -> str:
    name = handle.strip().lower()
    if not _HANDLE.fullmatch(name):
        raise Invalid(
            f"{handle[:40]!r} cannot be a handle",
            fix="use 1 to 64 letters, digits and . _ @ + -, beginning with a letter or digit",
        )
    return name


def _groups(groups: Iterable[str]) -> list[str]:
    names = sorted({group.strip() for group in groups} - {""})
    if any(len(name) > 100 or "\x00" in name for name in names) or len(names) > 50:
        raise Invalid("groups are at most 50 names of at most 100 characters", fix="shorten them")
    return names
