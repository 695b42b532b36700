"""Checking passwords without letting anybody guess them, or keep the server busy with guessing.

scrypt takes 50 ms of a processor and 16 MiB on purpose, so only a few checks run at a time; who waits too long is told
to come back. Failed attempts cost tokens of the name and of the address; a success fills the name's bucket again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager

from fastapi import Request

from accord.collect import people
from accord.collect.app.answers import ApiError
from accord.collect.app.guard import address
from accord.collect.app.security import gate_of, settings_of, slow_down, store_of
from accord.collect.records import User


@contextmanager
def turn(request: Request) -> Generator[None]:
    """Wait for one of the few places in which passwords are hashed.

    Raises:
        ApiError: 429 when none became free in time.
    """
    places = request.app.state.password_places
    if not places.acquire(timeout=settings_of(request).password_wait_s):
        raise ApiError(
            429, "too many logins at the moment", code="too_many", fix="try again", headers={"Retry-After": "5"}
        )
    try:
        yield
    finally:
        places.release()


def may_try(request: Request) -> None:
    """Refuse an address that has failed too often.

    Raises:
        ApiError: 429.
    """
    slow_down(gate_of(request).failures, address(request), take=False)


def failed(request: Request) -> None:
    """Count a failure of this address."""
    gate_of(request).failures.take(address(request))


def check(request: Request, handle: str, password: str) -> User | None:
    """The person with this name and password, or None.

    Raises:
        ApiError: 429 when name or address failed too often, whatever the password is.
    """
    gate = gate_of(request)
    may_try(request)
    # Hashed, so that a long name costs no more memory than a short one.
    name = hashlib.sha256(handle.strip().casefold().encode("utf-8", "replace")).hexdigest()
    # Taken before the check: many guesses at the same moment must not all see a full bucket.
    slow_down(gate.names, name)
    with turn(request):
        user = people.authenticate(store_of(request), handle, password)
    if user is None:
        failed(request)
        return None
    gate.names.forget(name)
    return user
