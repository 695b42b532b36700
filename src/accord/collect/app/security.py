"""Who is asking, and whether they may: sessions in cookies, API keys, CSRF, roles and scopes.

A browser shows a session cookie: HttpOnly, SameSite=Lax, for HTTPS only where the site is reached by HTTPS. A new
token is made at every login, so a token planted before it is worth nothing. Each request that changes something must
also carry the session's CSRF token, which is an HMAC of the session token and never stored, and must not come from
another origin. Programs show an API key in `Authorization: Bearer`; browsers do not add that by themselves, so it
needs no CSRF token. A key may do what its owner's role may, and of that only what its scopes name.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, cast
from urllib.parse import quote, urlsplit

from fastapi import Request, Response

from accord.collect import people
from accord.collect.app.answers import ApiError, GoTo
from accord.collect.app.guard import address
from accord.collect.app.limits import TokenBuckets, retry_after
from accord.collect.app.settings import AppSettings
from accord.collect.database import Store
from accord.collect.passwords import csrf_token
from accord.collect.records import User

Scope = Literal["annotate", "read", "export", "import", "admin"]
"""annotate: claim, submit. read: numbers. export: download. import: tasks, gold, guidelines. admin: people, rules."""

ANYONE = ("admin", "adjudicator", "annotator", "service")
LABELLERS = ("admin", "adjudicator", "annotator")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """The person or program behind a request."""

    user: User
    scopes: frozenset[str] | None
    """Of the key; None with a session, which may do all its role may."""
    session: str | None
    """Session token; None with a key."""

    @property
    def csrf(self) -> str:
        """CSRF token of the session, or nothing for a key."""
        return csrf_token(self.session) if self.session else ""


@dataclass(slots=True)
class Gate:
    """State of the checks, one per app."""

    settings: AppSettings
    callers: TokenBuckets
    names: TokenBuckets
    failures: TokenBuckets

    @classmethod
    def of(cls, settings: AppSettings) -> Gate:
        """Make it from the settings."""
        return cls(
            settings,
            TokenBuckets(settings.per_caller),
            TokenBuckets(settings.logins_per_name),
            TokenBuckets(settings.logins_per_address),
        )


def is_secure(request: Request) -> bool:
    """Whether cookies of this answer are for HTTPS only."""
    chosen = settings_of(request).secure_cookies
    return request.url.scheme == "https" if chosen is None else chosen


def cookie_name(request: Request, kind: Literal["session", "form"]) -> str:
    """Name of a cookie; with HTTPS the prefix __Host- keeps other hosts of the domain from setting it."""
    return f"{'__Host-' if is_secure(request) else ''}accord_{kind}"


def set_cookie(request: Request, response: Response, kind: Literal["session", "form"], value: str) -> None:
    """Set a cookie that scripts cannot read."""
    seconds = int(settings_of(request).session_hours * 3600) if kind == "session" else 3600
    response.set_cookie(
        cookie_name(request, kind),
        value,
        max_age=seconds,
        httponly=True,
        samesite="lax",
        secure=is_secure(request),
        path="/",
    )


def clear_cookie(request: Request, response: Response, kind: Literal["session", "form"]) -> None:
    """Make the browser forget a cookie."""
    response.delete_cookie(cookie_name(request, kind), path="/", secure=is_secure(request), httponly=True)


def store_of(request: Request) -> Store:
    """The app's store."""
    return cast(Store, request.app.state.store)


def settings_of(request: Request) -> AppSettings:
    """The app's settings."""
    return cast(AppSettings, request.app.state.settings)


def gate_of(request: Request) -> Gate:
    """The app's state of checks."""
    return cast(Gate, request.app.state.gate)


def identify(request: Request) -> Caller | None:
    """The caller by key or session; None when neither is shown or it has ended.

    Raises:
        ApiError: a key was shown and is not valid (401), or too many invalid ones came from this address (429).
    """
    store = store_of(request)
    authorization = request.headers.get("authorization", "")
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() == "bearer":
        found = people.key_user(store, secret.strip())
        if found is None:
            # Only invalid keys wait: one broken program must not lock out the others of its office.
            slow_down(gate_of(request).failures, address(request))
            raise unauthenticated("the API key is not valid")
        user, scopes = found
        return Caller(user, frozenset(scopes), None)
    token = request.cookies.get(cookie_name(request, "session"))
    user = people.session_user(store, token) if token else None
    return Caller(user, None, token) if user is not None else None


def slow_down(buckets: TokenBuckets, key: str, *, take: bool = True) -> None:
    """Refuse when a bucket is empty.

    Raises:
        ApiError: 429 with Retry-After.
    """
    wait = buckets.take(key) if take else buckets.wait(key)
    if wait:
        raise ApiError(
            429, "too many requests", code="too_many", fix="wait", headers={"Retry-After": retry_after(wait)}
        )


def unauthenticated(what: str = "not logged in") -> ApiError:
    """The 401 of this site."""
    return ApiError(
        401,
        what,
        code="unauthenticated",
        fix="log in at /login, or send Authorization: Bearer with a valid key",
        headers={"WWW-Authenticate": 'Bearer realm="accord"'},
    )


def check_origin(request: Request) -> None:
    """Refuse requests that another site made.

    Raises:
        ApiError: 403.
    """
    source = request.headers.get("origin") or request.headers.get("referer")
    allowed = {request.headers.get("host", "")}
    base = settings_of(request).base_url
    if base:
        allowed.add(urlsplit(base).netloc)
    foreign = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if foreign or (source is not None and _netloc(source) not in allowed):
        raise ApiError(403, "the request came from another site", code="csrf", fix="use the pages of this site")


def _netloc(source: str) -> str:
    try:
        return urlsplit(source).netloc
    except ValueError:
        return "?"


def check_csrf(request: Request, secret: str | None, given: str | None) -> None:
    """Refuse a change that does not carry the token of its cookie.

    Args:
        request: the request.
        secret: value of the cookie the token belongs to.
        given: the token that was sent.

    Raises:
        ApiError: 403.
    """
    check_origin(request)
    expected = csrf_token(secret) if secret else ""
    sent = (given or "").encode("utf-8", "replace")
    if not expected or not hmac.compare_digest(expected.encode(), sent):
        raise ApiError(403, "the CSRF token is missing or wrong", code="csrf", fix="load the page again")


def authorise(request: Request, roles: tuple[str, ...], scope: Scope, *, csrf: bool = True) -> Caller:
    """The caller, if they may do this.

    Raises:
        ApiError: 401, 403 or 429.
    """
    caller = identify(request)
    if caller is None:
        raise unauthenticated()
    slow_down(gate_of(request).callers, str(caller.user.id))
    if caller.session and csrf and request.method not in SAFE:
        check_csrf(request, caller.session, request.headers.get("x-csrf-token"))
    if caller.user.role not in roles:
        raise ApiError(403, f"this is not for the role {caller.user.role}", code="not_allowed", fix="ask an admin")
    if caller.scopes is not None and scope not in caller.scopes:
        raise ApiError(403, f"the key lacks the scope '{scope}'", code="scope", fix="make a key that has it")
    return caller


def allow(*roles: str, scope: Scope, csrf: bool = True) -> Callable[[Request], Caller]:
    """A dependency that lets these roles in.

    Args:
        roles: who may.
        scope: what a key needs.
        csrf: False where the route checks the token itself, because it comes in the body.
    """

    def check(request: Request) -> Caller:
        return authorise(request, roles, scope, csrf=csrf)

    return check


def allow_page(*roles: str) -> Callable[[Request], Caller]:
    """A dependency for pages: who is not logged in goes to the login first."""

    def check(request: Request) -> Caller:
        caller = identify(request) if "authorization" not in request.headers else None
        if caller is None:
            raise GoTo(f"/login?next={quote(request.url.path)}")
        slow_down(gate_of(request).callers, str(caller.user.id))
        if caller.user.role not in roles:
            raise ApiError(403, f"this page is not for the role {caller.user.role}", code="not_allowed")
        return caller

    return check


def local_path(path: str | None) -> str:
    """Where to go after the login: a path of this site, or its start."""
    ok = path and path.isascii() and path.isprintable() and path.startswith("/") and path[1:2] not in ("/", "\\")
    return path if path and ok and "\\" not in path else "/"


def new_session(request: Request, response: Response, user: User) -> str:
    """Start a session under a new token, in the database and the browser; the one the browser came with ends."""
    old = request.cookies.get(cookie_name(request, "session"))
    lifetime = timedelta(hours=settings_of(request).session_hours)
    token = people.start_session(store_of(request), user.id, lifetime=lifetime, previous=old)
    set_cookie(request, response, "session", token)
    return token


def new_form_secret() -> str:
    """Value of the cookie that protects forms before there is a session."""
    return secrets.token_urlsafe(24)
