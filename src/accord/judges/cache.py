"""Replies of a model kept by the hash of the whole request, so that what was paid for once is never asked again.

SQLite in its default journal mode with full synchronisation: a stored reply survives kill -9 and a power cut, several
processes may share a file, and the file may lie on a network file system (where write-ahead logs may not).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accord.errors import ArtifactError
from accord.storage import io_errors

_WAIT_S = 60.0
"""How long one process waits for another one's write."""


def request_key(request: Mapping[str, Any]) -> str:
    """SHA-256 of a request as canonical JSON: equal requests, equal keys, whatever the order of their fields."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class ReplyCache:
    """Request hash -> reply; safe to share between threads and processes."""

    def __init__(self, path: Path | None) -> None:
        """Open or create it.

        Args:
            path: SQLite file; None keeps replies in memory, for this object only.

        Raises:
            ArtifactError: the file cannot be opened, or is no cache of replies.
        """
        self.path = path
        self._lock = threading.Lock()
        where = str(path or ":memory:")
        if path is not None:
            with io_errors("open the cache of replies", path):
                path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._db = sqlite3.connect(where, timeout=_WAIT_S, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS reply (key TEXT PRIMARY KEY, request TEXT NOT NULL, reply TEXT NOT NULL)"
            )

    def get(self, key: str) -> dict[str, Any] | None:
        """The stored reply, or None."""
        with self._lock, self._errors():
            row = self._db.execute("SELECT reply FROM reply WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, request: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
        """Store a reply; on the disk when this returns. One that is there already stays.

        Args:
            key: `request_key(request)`.
            request: what was asked, kept to be looked at.
            reply: what came back.
        """
        row = (key, json.dumps(request, ensure_ascii=True), json.dumps(reply, ensure_ascii=True))
        with self._lock, self._errors():
            self._db.execute("INSERT OR IGNORE INTO reply VALUES (?, ?, ?)", row)

    def __len__(self) -> int:
        """Replies stored."""
        with self._lock, self._errors():
            return int(self._db.execute("SELECT count(*) FROM reply").fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ArtifactError(
                f"the cache of replies cannot be used: {error}",
                where=str(self.path or "memory"),
                fix="free some space or give another file; a damaged file can be deleted, its replies are asked again",
            ) from error
