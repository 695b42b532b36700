"""Everything about who has access: accounts, sessions, keys, invitations."""

from accord.collect.access import (
    SCOPES,
    SESSION_LIFETIME,
    end_session,
    key_user,
    list_keys,
    make_api_key,
    revoke_key,
    session_user,
    start_session,
)
from accord.collect.accounts import (
    authenticate,
    create_user,
    disable_user,
    get_user,
    list_users,
    set_password,
    update_user,
)
from accord.collect.invitations import (
    Invitation,
    accept_invitation,
    admin_link,
    has_admin,
    invite,
    list_invitations,
    read_invitation,
    revoke_invitation,
)
from accord.collect.passwords import csrf_token

__all__ = [
    "SCOPES",
    "SESSION_LIFETIME",
    "Invitation",
    "accept_invitation",
    "admin_link",
    "authenticate",
    "create_user",
    "csrf_token",
    "disable_user",
    "end_session",
    "get_user",
    "has_admin",
    "invite",
    "key_user",
    "list_invitations",
    "list_keys",
    "list_users",
    "make_api_key",
    "read_invitation",
    "revoke_invitation",
    "revoke_key",
    "session_user",
    "set_password",
    "start_session",
    "update_user",
]
