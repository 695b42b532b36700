"""Running the server: the port is taken first, the model loads behind it, and being told to stop ends it politely."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import uvicorn

from accord.errors import ConfigError, EngineError
from accord.listening import address_of, listen, signals_end_here
from accord.serve.app import Settings, create_app
from accord.serve.model import Place, ServedModel, load_model
from accord.serve.worker import Worker

KEY_VARIABLE = "ACCORD_SERVE_API_KEY"
"""Environment variable of the key unless another one is named."""
GRACE_S = 10
"""Seconds that requests under way are given when the server is told to stop."""
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


@dataclass(frozen=True)
class Capacity:
    """How much the server takes on."""

    max_batch: int = 32
    """Replies decoded at a time."""
    max_queue: int = 256
    """Replies that wait; more are refused with 429."""
    default_limit: int = 512
    """Most tokens of a chat reply when the request has no limit."""


@dataclass(frozen=True)
class Weights:
    """How the model is loaded."""

    dtype: str = "float32"
    pad_token: str | None = None


def key_of(variable: str | None) -> str:
    """The key that clients have to send; empty = none is asked for.

    Args:
        variable: environment variable that holds it; None takes `ACCORD_SERVE_API_KEY`, if that is set.

    Raises:
        ConfigError: the named variable is not set, or its value cannot stand in a header.
    """
    name = variable or KEY_VARIABLE
    key = os.environ.get(name, "").strip()
    if variable is not None and not key:
        raise ConfigError(f"the environment variable {variable} is not set", fix=f"export {variable}=...")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the environment variable {name} is no key: it has spaces, or other than ASCII")
    return key


def new_key() -> str:
    """A key nobody can guess."""
    return f"sk-accord-{secrets.token_urlsafe(32)}"


def check_reach(host: str, key: str, *, open_to_all: bool) -> frozenset[str] | None:
    """Refuse to let everybody on the network use the model by accident.

    Args:
        host: address to listen at.
        key: that clients send; empty = none.
        open_to_all: the user wants it so.

    Returns:
        Host names that requests may be addressed to; None = any.

    Raises:
        ConfigError: other machines could use the model, and no key is asked for.
    """
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if key or (open_to_all and not local):
        return None
    if not local:
        raise ConfigError(
            "other machines could use this server, and it asks for no key",
            where=f"--host {host}",
            fix=f"--new-key makes one, {KEY_VARIABLE} (or --api-key-env NAME) holds one; --no-key if all may use it",
        )
    return _LOCAL | {host}


def run(
    place: Place,
    taken: socket.socket,
    settings: Settings,
    *,
    capacity: Capacity,
    weights: Weights,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are given some seconds to finish.

    Args:
        place: where the model lies.
        taken: the socket from `accord.listening.listen`.
        settings: of the app.
        capacity: of the worker.
        weights: how the model is loaded.
        on_ready: called when the model is loaded.

    Raises:
        ModelError: the model cannot be loaded.
    """
    worker, server = _prepare(place, settings, capacity, weights, on_ready)
    try:
        with signals_end_here():
            server.run(sockets=[taken])
    finally:
        worker.close()
    if worker.error is not None:
        raise worker.error


@contextmanager
def serving(
    place: Place, settings: Settings, *, capacity: Capacity | None = None, weights: Weights | None = None
) -> Generator[str]:
    """A server in this process, on a free port of this machine, for as long as the block runs; its address.

    Args:
        place: where the model lies.
        settings: of the app.
        capacity: of the worker.
        weights: how the model is loaded.

    Raises:
        ModelError: the model cannot be loaded.
        EngineError: the server does not start.
    """
    ready = threading.Event()
    taken = listen("127.0.0.1", 0)
    worker, server = _prepare(place, settings, capacity or Capacity(), weights or Weights(), ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    try:
        while not (ready.wait(0.05) and server.started):
            if worker.error is not None:
                raise worker.error
            if not thread.is_alive():
                raise EngineError("the server did not start", fix="start `accord serve` to see why")
        yield f"{address_of(taken)}/v1"
    finally:
        server.should_exit = True
        thread.join()
        worker.close()
        taken.close()


def _prepare(
    place: Place, settings: Settings, capacity: Capacity, weights: Weights, on_ready: Callable[[], None]
) -> tuple[Worker, uvicorn.Server]:
    def load() -> ServedModel:
        return load_model(
            place.location, max_batch=capacity.max_batch, dtype=weights.dtype, pad_token=weights.pad_token
        )

    def stop() -> None:
        server.should_exit = True

    worker = Worker(load, max_batch=capacity.max_batch, max_queue=capacity.max_queue, on_ready=on_ready, on_failed=stop)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(worker, settings),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=64 * 1024,
            limit_concurrency=2048,
            lifespan="on",
            ws="none",
        )
    )
    worker.start()
    return worker, server
