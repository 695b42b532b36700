"""A port to listen at, taken before anything is said, and stopping politely: what every server of Accord does alike."""

from __future__ import annotations

import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from accord.errors import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is said, so that what is printed is true; port 0 takes a free one.

    Raises:
        ConfigError: the port is taken or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio turns off Nagle's algorithm only then, and every answer takes 40 ms otherwise.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen(2048)  # now, so that who connects before the server runs waits instead of being refused
    except (OSError, OverflowError) as error:
        taken.close()
        raise ConfigError(
            f"cannot listen: {error}", where=f"{host}:{port}", fix="choose another --port, or stop what uses it"
        ) from error
    return taken


def address_of(taken: socket.socket) -> str:
    """The address as a client on this machine writes it."""
    name, port = taken.getsockname()[:2]
    host = str({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def signals_end_here() -> Generator[None]:
    """Being told to stop is no failure: uvicorn stops, then sends itself the signal again, which must find nobody."""
    stops = (signal.SIGINT, signal.SIGTERM)

    def nothing(_number: int, _frame: FrameType | None) -> None:
        return

    before = [signal.signal(number, nothing) for number in stops]
    try:
        yield
    finally:
        for number, handler in zip(stops, before, strict=True):
            signal.signal(number, handler)
