"""A new, empty database for a test: a copy of one that was migrated once, which is four times cheaper than migrating.

What migrations do is the business of `unit/test_collect_database.py`, which starts from nothing.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from accord.collect.database import Store, open_store


@cache
def _content() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "empty.db"
        open_store(path).close()
        assert [p.name for p in path.parent.iterdir()] == [path.name], "everything is in the one file"
        return path.read_bytes()


def fresh_database(path: Path) -> Path:
    """Write the file of an empty database of the newest revision to `path`, which must not exist; returns `path`."""
    with path.open("xb") as file:
        file.write(_content())
    return path


def fresh_store(path: Path, **options: Any) -> Store:
    """Open such a database."""
    return open_store(fresh_database(path), **options)
