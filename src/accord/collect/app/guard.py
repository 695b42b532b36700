"""What surrounds every request: size of the body, rate by address, headers that make a browser strict."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accord.collect.app.answers import ErrorDetail, error_json
from accord.collect.app.limits import TokenBuckets, retry_after
from accord.collect.app.settings import AppSettings

log = logging.getLogger("accord.collect")

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
"""Nothing inline, nothing from elsewhere, no text that turns into elements."""

HEADERS: dict[str, str] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: browsers would then send `Origin: null` with forms, and the check of Origin could not work.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "cache-control": "no-store",
}
"""Headers of every answer, unless the route sets its own."""
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

UPLOADS = ("/api/v1/admin/tasks/upload",)
"""Paths whose body is a file; they authenticate before they read it."""


class BodyTooLargeError(HTTPException):
    """More bytes came than allowed; an HTTPException, because that is what FastAPI's reading of bodies lets through."""

    def __init__(self) -> None:
        """With its status."""
        super().__init__(413, headers={"Connection": "close"})


class Guard:
    """The outermost ASGI layer."""

    def __init__(self, app: ASGIApp, settings: AppSettings, addresses: TokenBuckets) -> None:
        """Wrap the app.

        Args:
            app: what answers.
            settings: limits.
            addresses: one bucket an address.
        """
        self.app = app
        self.settings = settings
        self.addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        state = _Answer(send, secure=scope.get("scheme") == "https")
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, state.send)
            return
        try:
            await self.app(scope, _counted(receive, self._limit(scope)), state.send)
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            if state.started:
                raise
            detail = ErrorDetail(
                message="the server made a mistake", fix="try again; the server's log has the details", code="failed"
            )
            await error_json(500, detail)(scope, receive, state.send)

    def _limit(self, scope: Scope) -> int:
        return self.settings.max_upload if scope["path"] in UPLOADS else self.settings.max_body

    def _refusal(self, request: Request) -> ASGIApp | None:
        wait = self.addresses.take(address(request))
        if wait:
            detail = ErrorDetail(message="too many requests from this address", fix="wait", code="too_many")
            return error_json(429, detail, {"Retry-After": retry_after(wait)})
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal():
            return error_json(400, ErrorDetail(message="Content-Length is not a number", code="bad_request"))
        if int(declared) > self._limit(request.scope):
            return _too_large(self._limit(request.scope))
        return None


def address(request: Request) -> str:
    """The peer's address; behind a proxy, what the server was told to trust (`--proxy`)."""
    return request.client.host if request.client else "unknown"


def _too_large(limit: int) -> ASGIApp:
    detail = ErrorDetail(message=f"the body has more than {limit} bytes", fix="send less", code="too_large")
    return error_json(413, detail, {"Connection": "close"})


def _counted(receive: Receive, limit: int) -> Receive:
    """Stop reading where a body without a declared length becomes too large."""
    seen = 0

    async def count() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise BodyTooLargeError
        return message

    return count


class _Answer:
    """Adds the headers on the way out and remembers whether an answer has begun."""

    def __init__(self, send: Send, *, secure: bool) -> None:
        self._send = send
        self._secure = secure
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            have: Iterable[tuple[bytes, bytes]] = message.get("headers", [])
            names = {name.lower() for name, _ in have}
            added = [(name, value) for name, value in _HEADERS if name not in names]
            if self._secure:
                added.append((b"strict-transport-security", b"max-age=31536000"))
            message = {**message, "headers": [*have, *added]}
        await self._send(message)
