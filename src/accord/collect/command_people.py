"""`accord collect user ...`, `accord collect key ...` and `accord collect invitation ...`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from accord.collect.command_options import SYSTEM, Database, FromStdin, Groups, Role, group_of_commands, open_database

users = group_of_commands("People and programs with access.")
keys = group_of_commands("API keys.")
invitations = group_of_commands("Links that `accord collect invite` made.")


@users.command("add")
def add_user(
    handle: str,
    db: Database = "labels.db",
    role: Role = "annotator",
    group: Groups = None,
    password_stdin: FromStdin = False,
) -> None:
    """Add a person or a program; without a password it can use keys only."""
    from accord.collect import people

    password = sys.stdin.readline().rstrip("\n") if password_stdin else None
    with open_database(db) as store:
        user = people.create_user(store, handle, role, password=password, groups=group or ())
        typer.echo(f"{user.handle}: {user.role}")


@users.command("list")
def list_users(db: Database = "labels.db") -> None:
    """Print everybody with access."""
    from accord.collect import people

    with open_database(db) as store:
        for user in people.list_users(store):
            typer.echo(f"{user.handle}\t{user.role}\t{','.join(user.groups)}\t{'disabled' if user.disabled else ''}")


@users.command("disable")
def disable_user(
    handle: str,
    db: Database = "labels.db",
    undo: Annotated[bool, typer.Option("--undo", help="let the person in again")] = False,
) -> None:
    """Keep a person out; sessions and keys stop working at once, labels stay."""
    from accord.collect import people

    with open_database(db) as store:
        people.update_user(store, people.get_user(store, handle).id, actor=SYSTEM, disabled=not undo)


@users.command("password")
def set_password(handle: str, db: Database = "labels.db") -> None:
    """Set a password, read from standard input; the person's sessions end."""
    from accord.collect import people

    password = sys.stdin.readline().rstrip("\n")
    with open_database(db) as store:
        people.set_password(store, people.get_user(store, handle).id, password, actor=SYSTEM)


@keys.command("make")
def make_key(
    handle: str,
    scope: Annotated[
        list[str], typer.Option("--scope", help="annotate, read, import, export or admin; may be repeated")
    ],
    db: Database = "labels.db",
    name: Annotated[str, typer.Option(help="what it is for")] = "key",
    days: Annotated[float, typer.Option(min=0.01, help="days it is good for")] = 365.0,
) -> None:
    """Make a key for a user and print its secret, once."""
    from datetime import timedelta

    from accord.collect import people
    from accord.collect.columns import utcnow

    with open_database(db) as store:
        expires = utcnow() + timedelta(days=days)
        _, secret = people.make_api_key(store, people.get_user(store, handle).id, scope, name=name, expires_at=expires)
        typer.echo(secret)


@keys.command("list")
def list_keys(db: Database = "labels.db") -> None:
    """Print keys without their secrets."""
    from accord.collect import people

    with open_database(db) as store:
        for user in people.list_users(store):
            for key in people.list_keys(store, user.id):
                state = "revoked" if key.revoked_at else f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else ""
                typer.echo(f"{key.id}\t{key.prefix}\t{','.join(key.scopes)}\t{state}\t{user.handle}\t{key.name}")


@keys.command("revoke")
def revoke_key(key: str, db: Database = "labels.db") -> None:
    """End a key at once; named by its id or prefix."""
    from accord.collect import people

    with open_database(db) as store:
        found = next((known.id for known in people.list_keys(store) if key in (known.id, known.prefix)), key)
        people.revoke_key(store, found, actor=SYSTEM)


@invitations.command("list")
def list_invitations(db: Database = "labels.db") -> None:
    """Print invitations, newest first; the links themselves are stored nowhere."""
    from accord.collect import people
    from accord.collect.columns import utcnow

    with open_database(db) as store:
        handles = {user.id: user.handle for user in people.list_users(store)}
        for one in people.list_invitations(store):
            until = f"until {one.expires_at:%Y-%m-%d %H:%M}" if one.expires_at > utcnow() else "ended"
            state = f"used by {handles.get(one.used_by, one.used_by)}" if one.used_by else until
            typer.echo(f"{one.id}\t{one.role}\t{','.join(one.groups)}\t{state}")


@invitations.command("revoke")
def revoke_invitation(
    invitation: Annotated[str, typer.Argument(help="its id, or the link itself")], db: Database = "labels.db"
) -> None:
    """Make a link that nobody has used stop working."""
    from accord.collect import people

    with open_database(db) as store:
        found = people.read_invitation(store, invitation.rsplit("/", 1)[-1])
        people.revoke_invitation(store, found.id if found else invitation, actor=SYSTEM)
