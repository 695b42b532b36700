"""Which model it is that judges or answers: a hash of its files. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from accord.storage import hash_tree


def identity_of(location: str) -> str:
    """First 12 hex digits of a SHA-256 of a directory's files, or of a hub id as it is written."""
    path = Path(location)
    entries = hash_tree(path.resolve()) if path.is_dir() else {}
    text = "\n".join(f"{name} {entry.sha256}" for name, entry in entries.items()) or location
    return hashlib.sha256(text.encode()).hexdigest()[:12]
