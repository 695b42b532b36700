"""Durable files: hashing, fsync, atomic replacement, and disk errors turned into ArtifactError.

A rename is atomic but not durable: after a power cut a renamed file may be empty unless its content and its
directory were flushed first. Whatever claims to be complete (manifests, checkpoints) goes through here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from accord.errors import ArtifactError

MANIFEST = "manifest.json"

_FIXES = {
    errno.ENOSPC: "free some space on this disk, then run the same command again: finished work is kept",
    errno.EDQUOT: "your quota is used up; free some space, then run the same command again",
    errno.EACCES: "give yourself permission there, or choose another directory with run.dir",
    errno.EPERM: "give yourself permission there, or choose another directory with run.dir",
    errno.EROFS: "this file system is read-only; choose another directory with run.dir",
    errno.ENOTDIR: "a file stands where a directory is needed; move it away or choose another run.dir",
    errno.EEXIST: "a file stands where a directory is needed; move it away or choose another run.dir",
    errno.ENAMETOOLONG: "choose a shorter run.name or run.dir",
}


class FileEntry(BaseModel):
    """Size and content hash of one file, as a manifest lists it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    """Bytes."""
    sha256: str
    """Lower-case hexadecimal digest of the content."""


@contextmanager
def io_errors(doing: str, path: Path) -> Generator[None, None, None]:
    """Turn any OSError of the block into an ArtifactError.

    Args:
        doing: what was being done, as it follows "cannot", e.g. ``"write the checkpoint"``.
        path: where, unless the error itself names a file.

    Raises:
        ArtifactError: when the block raises OSError: disk full, no permission, not a directory, ...
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = str(error.filename) if error.filename else str(path)
        fix = _FIXES.get(error.errno or 0, "check that the disk works and the path is right, then run again")
        raise ArtifactError(f"cannot {doing}: {reason}", where=where, fix=fix) from error


def fsync_path(path: Path) -> None:
    """Flush one file, or the entries of one directory, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new one, also after a power cut.

    Raises:
        OSError: when the disk refuses; nothing but the old content is left then.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def hash_file(path: Path) -> FileEntry:
    """Return size and SHA-256 of one file."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256")
        return FileEntry(size=handle.tell(), sha256=digest.hexdigest())


def hash_tree(root: Path, *, skip: frozenset[str] = frozenset(), flush: bool = False) -> dict[str, FileEntry]:
    """Return the entry of each file under `root`, by relative POSIX path, sorted.

    Args:
        root: the directory to walk.
        skip: names directly under `root` that are left out.
        flush: also fsync every file and directory that is hashed.

    Raises:
        ArtifactError: when the tree holds something that is neither file nor directory (a link would make the
            artifact depend on what lies outside it).
        OSError: when a file cannot be read.
    """
    entries: dict[str, FileEntry] = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] in skip:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ArtifactError(
                "an artifact may hold only plain files and directories",
                where=str(path),
                fix="write a copy instead of a link",
            )
        if path.is_file():
            entries[relative.as_posix()] = hash_file(path)
        if flush:
            fsync_path(path)
    if flush:
        fsync_path(root)
    return entries


def first_difference(root: Path, files: Mapping[str, FileEntry], *, content: bool) -> str | None:
    """Say which listed file under `root` is missing or changed, or None when all are as listed.

    Args:
        root: the directory the names are relative to.
        files: what the manifest lists.
        content: also compare SHA-256; otherwise only presence and size, which costs no reading.

    Raises:
        OSError: when a file cannot be read.
    """
    for name, entry in files.items():
        path = root / name
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != entry.size:
            return f"{name} has {size} bytes instead of {entry.size}"
        if content and hash_file(path).sha256 != entry.sha256:
            return f"{name} has changed content (SHA-256 differs)"
    return None


def to_trash(path: Path, nonce: str) -> None:
    """Rename a directory out of the way; `remove_leftovers` deletes it, now or after a crash.

    Deleting under the old name would leave a half-deleted directory there if the process died meanwhile.

    Args:
        path: the directory; nothing happens when it is missing.
        nonce: makes the trash name unique.

    Raises:
        OSError: when it cannot be renamed.
    """
    if path.exists():
        os.replace(path, path.with_name(f".trash-{path.name}-{nonce}"))


def remove_leftovers(directory: Path, *patterns: str) -> None:
    """Remove directories matching `patterns` under `directory` that an earlier crash left behind."""
    for pattern in patterns:
        for path in directory.glob(pattern):
            shutil.rmtree(path)
