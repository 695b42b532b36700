"""The admin API for people: users, invitations, keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import select

from accord.collect import people
from accord.collect.app import passwords
from accord.collect.app.answers import documented
from accord.collect.app.routes_annotator import ALWAYS
from accord.collect.app.security import Caller, allow, settings_of, store_of
from accord.collect.app.shapes import (
    Disable,
    Done,
    InvitationEntry,
    InvitationLink,
    KeyEntry,
    KeySecret,
    NewInvitation,
    NewKey,
    NewUser,
    People,
    Qualify,
    UserEntry,
)
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.schema import ApiKeyRow, InvitationRow, UserRow

router = APIRouter(prefix="/api/v1/admin", tags=["people"])

Admin = Annotated[Caller, Depends(allow("admin", scope="admin"))]
CHANGED = {**ALWAYS, **documented(404, 409)}


@router.get("/users", response_model=People, responses=ALWAYS)
def users(request: Request, caller: Admin) -> People:
    """Everybody with access, invitations that were sent, keys without their secrets."""
    del caller
    store = store_of(request)
    accounts = people.list_users(store)
    return People(
        users=tuple(UserEntry.model_validate(row, from_attributes=True) for row in accounts),
        invitations=_invitations(store),
        keys=_keys(store, {user.id: user.handle for user in accounts}),
    )


def _invitations(store: Store) -> tuple[InvitationEntry, ...]:
    query = (
        select(InvitationRow, UserRow.handle)
        .outerjoin(UserRow, UserRow.id == InvitationRow.used_by)
        .order_by(InvitationRow.id.desc())
        .limit(1000)
    )
    with store.read() as session:
        return tuple(
            InvitationEntry.model_validate(
                {"id": row.id, "role": row.role, "groups": row.groups, "expires_at": row.expires_at, "used_by": handle}
            )
            for row, handle in session.execute(query)
        )


def _keys(store: Store, handles: dict[str, str]) -> tuple[KeyEntry, ...]:
    with store.read() as session:
        owner = {key: user for key, user in session.execute(select(ApiKeyRow.id, ApiKeyRow.user_id))}
    return tuple(
        KeyEntry(
            id=key.id,
            handle=handles.get(owner.get(key.id, ""), ""),
            name=key.name,
            prefix=key.prefix,
            scopes=key.scopes,
            expires_at=key.expires_at,
            revoked=key.revoked_at is not None,
        )
        for key in people.list_keys(store)
    )


@router.post("/users", response_model=UserEntry, status_code=201, responses=CHANGED)
def add_user(request: Request, body: NewUser, caller: Admin) -> UserEntry:
    """Add a person or a program."""
    store = store_of(request)
    with passwords.turn(request):
        user = people.create_user(
            store, body.handle, body.role, password=body.password, groups=body.groups, actor=caller.user.id
        )
    return UserEntry.model_validate(user, from_attributes=True)


@router.post("/users/{user}/disable", response_model=Done, responses=CHANGED)
def disable(request: Request, user: str, body: Disable, caller: Admin) -> Done:
    """Keep a person out from now on, or let them in again; their labels stay."""
    people.update_user(store_of(request), user, actor=caller.user.id, disabled=body.disabled)
    return Done()


@router.post("/users/{user}/qualify", response_model=Done, responses=CHANGED)
def qualify(request: Request, user: str, body: Qualify, caller: Admin) -> Done:
    """Let a person label whom the quiz or the hidden tests stopped, or stop one."""
    blocked = None if body.qualified else "stopped by an administrator"
    people.update_user(store_of(request), user, actor=caller.user.id, qualified=body.qualified, blocked=blocked)
    return Done()


@router.post("/invitations", response_model=InvitationLink, status_code=201, responses=CHANGED)
def invite(request: Request, body: NewInvitation, caller: Admin) -> InvitationLink:
    """Make a link that makes one account."""
    token = people.invite(
        store_of(request),
        body.role,
        groups=body.groups,
        expires=timedelta(hours=body.expires_hours),
        actor=caller.user.id,
    )
    base = settings_of(request).base_url or str(request.base_url)
    return InvitationLink(url=f"{base.rstrip('/')}/join/{token}")


@router.post("/invitations/{invitation}/revoke", response_model=Done, responses=CHANGED)
def revoke_invitation(request: Request, invitation: str, caller: Admin) -> Done:
    """Make a link stop working that nobody has used."""
    people.revoke_invitation(store_of(request), invitation, actor=caller.user.id)
    return Done()


@router.post("/keys", response_model=KeySecret, status_code=201, responses=CHANGED)
def make_key(request: Request, body: NewKey, caller: Admin) -> KeySecret:
    """Make an API key; its secret is in this answer and nowhere else."""
    store = store_of(request)
    owner = people.get_user(store, body.handle)
    expires = utcnow() + timedelta(days=body.expires_days) if body.expires_days else None
    info, secret = people.make_api_key(
        store, owner.id, body.scopes, name=body.name, expires_at=expires, actor=caller.user.id
    )
    return KeySecret(id=info.id, secret=secret, prefix=info.prefix)


@router.post("/keys/{key}/revoke", response_model=Done, responses=CHANGED)
def revoke_key(request: Request, key: str, caller: Admin) -> Done:
    """End a key at once."""
    people.revoke_key(store_of(request), key, actor=caller.user.id)
    return Done()
