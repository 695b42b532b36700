"""The routes: models, chat completions, completions, health; who may use them, and how they refuse."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from accord.serve.asked import Asked, read_chat, read_text
from accord.serve.errors import ApiError
from accord.serve.exchange import ClientGone, Exchange, text_of_prompt
from accord.serve.model import ServedModel
from accord.serve.replies import Form
from accord.serve.streaming import HEADERS, stream
from accord.serve.worker import Worker

_log = logging.getLogger(__name__)
MAX_BODY = 16 * 2**20
"""Bytes of a request."""
CLOSED = 499
"""Status of a request whose client has gone; nobody sees it."""


@dataclass(frozen=True)
class Settings:
    """What the server is told."""

    name: str
    """What clients call the model."""
    default_limit: int = 512
    """Most tokens of a chat reply when the request has no limit."""
    key: str = ""
    """Key that clients send; empty = everybody may use it."""
    hosts: frozenset[str] | None = None
    """Host names that requests may be addressed to; None = any. A page in somebody's browser can have its own name
    point to this machine, and would otherwise be free to use a server that asks for no key."""


def create_app(worker: Worker, settings: Settings) -> FastAPI:
    """The application.

    Args:
        worker: has the model.
        settings: name, key, limits.
    """
    # One thread: see `ServedModel.encode`.
    reading = ThreadPoolExecutor(1, thread_name_prefix="accord-encode")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        reading.shutdown()

    app = FastAPI(title="Accord", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.started = int(time.time())
    guarded = APIRouter(prefix="/v1", dependencies=[Depends(_guard(settings))])

    def card() -> dict[str, Any]:
        model = {"id": settings.name, "object": "model", "created": app.state.started, "owned_by": "accord"}
        return model | ({"max_model_len": worker.model.max_length} if worker.model else {})

    @guarded.get("/")
    @guarded.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card()]}

    @guarded.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        _check_name(name, settings)
        return card()

    @guarded.post("/chat/completions")
    async def chat(request: Request) -> Response:
        return await answer(request, read_chat)

    @guarded.post("/completions")
    async def text(request: Request) -> Response:
        return await answer(request, read_text)

    async def answer(request: Request, read: Callable[[object], Asked]) -> Response:
        asked = read(await _body(request))
        _check_name(asked.model, settings)
        served = worker.ready()
        worker.check_size(len(asked.prompts) * asked.n)  # before all of them are encoded
        ids = await asyncio.wrap_future(reading.submit(_encode, asked, served))
        exchange = Exchange(asked, ids, served, settings.default_limit)
        given = [text_of_prompt(prompt, served) if asked.echo else "" for prompt in asked.prompts]
        worker.submit(exchange.jobs)
        form = Form(asked.kind, settings.name, served.spelling, asked.include_usage)
        if asked.stream:
            events = stream(exchange, form, request, given)
            return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS)
        try:
            choices = await exchange.whole(request, given)
        except ClientGone:
            return Response(status_code=CLOSED)
        return JSONResponse(form.whole(choices, exchange.usage))

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        return JSONResponse({"status": worker.state}, 200 if worker.state == "ready" else 503)

    app.include_router(guarded)
    _refusals(app)
    return app


def _encode(asked: Asked, model: ServedModel) -> list[tuple[int, ...]]:
    return [model.encode(prompt, asked.param) for prompt in asked.prompts]


def _check_name(name: str, settings: Settings) -> None:
    if name != settings.name:
        message = f"there is no model {name[:200]!r} here: this server has {settings.name!r}"
        raise ApiError(404, message, param="model", code="model_not_found")


def _guard(settings: Settings) -> Callable[[Request], Any]:
    """Who may use the API."""
    wanted = hashlib.sha256(settings.key.encode()).digest()

    async def check(request: Request) -> None:
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if settings.hosts is not None and name.lower() not in settings.hosts:
            raise ApiError(403, f"this server is not known as {name[:200]!r}: use its address, or start it with a key")
        if not settings.key:
            return
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        # Of equal length whatever is sent, and compared in constant time.
        if not hmac.compare_digest(given, wanted) or kind.lower() != "bearer":
            message = "the API key is wrong" if key else "no API key was sent: send Authorization: Bearer KEY"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    return check


async def _body(request: Request) -> object:
    """The parsed body, which is bounded.

    Raises:
        ApiError: 415, 413 or 400.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a page in a browser may send other types without asking first
        raise ApiError(415, "the body must be JSON: send Content-Type: application/json")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
            raise ApiError(413, f"the body is larger than {MAX_BODY} bytes", headers={"Connection": "close"})
    try:
        return json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {error}") from error


def _refusals(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> JSONResponse:
        said = ApiError(error.status_code, f"{request.method} {request.url.path[:200]}: {error.detail}")
        return JSONResponse(said.body(), error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        _log.error("a request failed", exc_info=error)
        return JSONResponse(ApiError(500, "internal error", code="internal_error").body(), 500)
