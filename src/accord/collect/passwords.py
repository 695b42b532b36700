"""Secrets: passwords under scrypt, tokens and keys under SHA-256 (they are random, so a slow hash adds nothing)."""

# pyright: strict
from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

COST = (2**14, 8, 5)
"""scrypt's N, r, p: 16 MiB, and about a tenth of a second (OWASP's table of equivalents)."""
SHORTEST = 10
LONGEST = 200


def hash_password(password: str) -> str:
    """Return what to store of a password: parameters, salt and hash, so that the cost can rise later."""
    n, r, p = COST
    salt = secrets.token_bytes(16)
    return f"scrypt${n}${r}${p}${_b64(salt)}${_b64(_scrypt(password, salt, n, r, p))}"


def check_password(password: str, stored: str | None) -> bool:
    """Return whether the password fits; takes as long for an account without one, so time tells nothing."""
    if stored is None:
        _scrypt(password, b"0" * 16, *COST)
        return False
    _, n, r, p, salt, wanted = stored.split("$")
    found = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(wanted))


def new_token() -> str:
    """Return 256 random bits for a link, a cookie or a key."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return what to store of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def csrf_token(session_token: str) -> str:
    """Return the value that proves a request comes from our own page: only who holds the cookie can have it."""
    return hmac.new(session_token.encode("utf-8", "replace"), b"accord csrf", hashlib.sha256).hexdigest()


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    data = password.encode("utf-8", "replace")
    need = 128 * r * (n + p + 2)
    return hashlib.scrypt(data, salt=salt, n=n, r=r, p=p, maxmem=need + 2**20, dklen=32)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
