"""Errors as every client gets them: one shape, the right status, what happened and what to do about it.

    {"error": {"message": "...", "where": null, "fix": "...", "code": "conflict"}}

People who asked for a page get a page with the same words.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import DataError as DatabaseDataError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from accord.collect import failures
from accord.errors import AccordError
from accord.types import Record

log = logging.getLogger("accord.collect")


class ErrorDetail(Record):
    """What went wrong."""

    message: str
    where: str | None = None
    fix: str | None = None
    code: str


class ErrorBody(Record):
    """Body of every answer that is not a success."""

    error: ErrorDetail


class ApiError(AccordError):
    """A refusal with its HTTP status."""

    def __init__(
        self, status: int, what: str, *, code: str, fix: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Build it.

        Args:
            status: HTTP status, 4xx.
            what: what happened.
            code: one word for programs.
            fix: what the client can do about it.
            headers: further headers of the answer.
        """
        super().__init__(what, fix=fix)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


class GoTo(Exception):  # noqa: N818  (nothing went wrong)
    """The person must go to another page first."""

    def __init__(self, url: str) -> None:
        """Name the page by its path on this site."""
        super().__init__(url)
        self.url = url


STATUS_OF: dict[type[failures.StoreError], int] = {
    failures.NotFound: 404,
    failures.NotAllowed: 403,
    failures.Conflict: 409,
    failures.Invalid: 422,
    failures.TooMany: 429,
    failures.Busy: 503,
}
"""HTTP status of what the store refuses."""

_MEANING = {
    400: "the request is not HTTP or JSON as it should be",
    401: "no session or key, or it has ended",
    403: "not allowed to this person or key, or the CSRF token is missing",
    404: "there is no such thing",
    409: "it contradicts what is stored",
    413: "the body is too large",
    422: "a field is missing, unknown or out of range",
    429: "too many requests; the header Retry-After says when to come back",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of error answers, for the `responses` of a route."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        found[status] = {"model": ErrorBody, "description": _MEANING[status]}
        if status == 429:
            found[status]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return found


def error_json(status: int, detail: ErrorDetail, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer a program gets."""
    return JSONResponse(ErrorBody(error=detail).model_dump(), status, dict(headers or {}))


def answer(record: Record) -> Response:
    """The answer of a route whose model it is, written in the route's own thread.

    FastAPI would go to another thread for it, which costs more than the writing.
    """
    return Response(record.model_dump_json(by_alias=True), media_type="application/json")


def wants_page(request: Request) -> bool:
    """Whether a person with a browser asked, rather than a program."""
    return not request.url.path.startswith(("/api/", "/health/", "/static/")) and "text/html" in request.headers.get(
        "accept", ""
    )


def respond(request: Request, status: int, detail: ErrorDetail, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a failed request, as a page or as JSON."""
    if not wants_page(request):
        return error_json(status, detail, headers)
    from accord.collect.app.pages import error_page

    return error_page(request, status, detail, headers)


def of_error(error: AccordError) -> tuple[int, ErrorDetail, dict[str, str]]:
    """Status, body and headers of an error raised on purpose."""
    headers: dict[str, str] = {}
    if isinstance(error, ApiError):
        status, code, headers = error.status, error.code, error.headers
    elif isinstance(error, failures.StoreError):
        status = next((s for kind, s in STATUS_OF.items() if isinstance(error, kind)), 422)
        code = error.code
    else:
        status, code = 422, "invalid"
    if status in (429, 503):
        headers = {"Retry-After": "60" if status == 429 else "5", **headers}
    return status, ErrorDetail(message=error.what, where=error.where, fix=error.fix, code=code), headers


def of_invalid(error: RequestValidationError) -> tuple[int, ErrorDetail]:
    """Status and body for a request that does not fit its schema; 400 when it is not JSON at all."""
    first = error.errors()[0] if error.errors() else {"type": "unknown", "loc": (), "msg": "it does not fit"}
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return 400, ErrorDetail(message="the body is not JSON", where=where, fix="send valid JSON", code="bad_json")
    more = len(error.errors()) - 1
    message = f"{first['msg']}{f' (and {more} more)' if more > 0 else ''}"
    return 422, ErrorDetail(message=message, where=where, fix="see /api/v1/openapi.json", code="invalid")


def install(app: FastAPI) -> None:
    """Make every error of the app come out in this shape."""

    async def accord_error(request: Request, error: Exception) -> Response:
        return respond(request, *of_error(cast(AccordError, error)))

    async def invalid(request: Request, error: Exception) -> Response:
        return respond(request, *of_invalid(cast(RequestValidationError, error)))

    async def http(request: Request, error: Exception) -> Response:
        error = cast(HTTPException, error)
        status = error.status_code
        code = {400: "bad_request", 404: "not_found", 405: "not_allowed_here"}.get(status, "refused")
        phrase = HTTPStatus(status).phrase.lower()
        detail = ErrorDetail(message=phrase, where=None, fix=None, code=code)
        return respond(request, status, detail, error.headers)

    async def unstorable(request: Request, error: Exception) -> Response:
        # What no record's own check refused, and the database cannot hold: NUL in a query, integers beyond 64 bits.
        log.info("%s %s: %s", request.method, request.url.path, error)
        what = "a value cannot be stored or looked up"
        return respond(request, 422, ErrorDetail(message=what, fix="send ordinary text and numbers", code="invalid"))

    async def no_database(request: Request, error: Exception) -> Response:
        log.error("%s %s: %s", request.method, request.url.path, error)
        detail = ErrorDetail(message="the database does not answer", fix="send it again", code="unavailable")
        return respond(request, 503, detail, {"Retry-After": "5"})

    async def go(request: Request, error: Exception) -> Response:
        del request
        return RedirectResponse(cast(GoTo, error).url, 303)

    app.add_exception_handler(AccordError, accord_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(GoTo, go)
    for kind in (DatabaseDataError, OverflowError):
        app.add_exception_handler(kind, unstorable)
    for kind in (OperationalError, PoolTimeout):
        app.add_exception_handler(kind, no_database)
