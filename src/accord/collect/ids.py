"""Ids that sort by the time they were made: UUID version 7 (RFC 9562) as text."""

from __future__ import annotations

import secrets
import threading
import time
import uuid

_LOCK = threading.Lock()
_LAST = 0


def new_id() -> str:
    """Return a fresh UUIDv7, greater than every one this process made before.

    48 bits of milliseconds, then 12 bits that count within one (they start anywhere in the lower half, so that two
    processes rarely agree), then 62 random bits. Nobody can guess an id from another one.
    """
    global _LAST
    with _LOCK:
        now = (time.time_ns() // 1_000_000) << 12 | secrets.randbits(11)
        _LAST = max(_LAST + 1, now)
        stamp = _LAST
    milliseconds, counter = stamp >> 12, stamp & 0xFFF
    value = milliseconds << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))
