"""Checkpoint directories that survive kill -9, a full disk and a power cut.

Protocol: write `ckpt-<step>.tmp.<nonce>`, list sizes and hashes in its `manifest.json`, flush files and
directories, rename to `ckpt-<step>`, flush the parent, then retire older ones through `.trash-*`. A directory
under its final name is therefore complete; the manifest finds what the disk damaged later. What is inside is
the caller's business.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from accord.storage import (
    MANIFEST,
    FileEntry,
    first_difference,
    fsync_path,
    hash_tree,
    io_errors,
    remove_leftovers,
    to_trash,
    write_atomic,
)

_NAME = re.compile(r"ckpt-(\d{8,})")


class Checkpoint(NamedTuple):
    """A complete, undamaged checkpoint."""

    step: int
    path: Path


class Skipped(NamedTuple):
    """A checkpoint that cannot be used, and why."""

    path: Path
    reason: str


class _Listing(BaseModel):
    """The manifest inside a checkpoint directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = Field(ge=0)
    files: dict[str, FileEntry]


def write_checkpoint(directory: Path, step: int, writer: Callable[[Path], None], keep: int = 2) -> Path:
    """Publish one checkpoint atomically and retire older ones.

    Checkpoints of later steps are retired too: they belong to a future abandoned by resuming earlier.

    Args:
        directory: holds all checkpoints of the stage; created when missing.
        step: counter of the checkpoint, >= 0; an existing checkpoint of the same step is replaced.
        writer: fills the (empty) directory it is given; what it raises is passed on and nothing is published.
        keep: how many checkpoints remain, this one included, >= 1.

    Returns:
        The published directory.

    Raises:
        ArtifactError: when the disk refuses; earlier checkpoints are untouched then.
        ValueError: when `step` or `keep` is out of range.
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step must be >= 0 and keep >= 1, got {step} and {keep}")
    final = directory / f"ckpt-{step:08d}"
    nonce = secrets.token_hex(4)
    temporary = directory / f"{final.name}.tmp.{nonce}"
    with io_errors("write the checkpoint", final):
        directory.mkdir(parents=True, exist_ok=True)
        remove_leftovers(directory, "ckpt-*.tmp.*", ".trash-*")
        temporary.mkdir()
        try:
            writer(temporary)
            listing = _Listing(step=step, files=hash_tree(temporary, flush=True))
            write_atomic(temporary / MANIFEST, listing.model_dump_json(indent=1).encode())
            to_trash(final, nonce)
            os.replace(temporary, final)
        finally:
            # After success there is nothing under this name; after a failure the half-written one goes.
            shutil.rmtree(temporary, ignore_errors=True)
        fsync_path(directory)
        kept = 0
        for found in _published(directory):
            kept += found.step <= step
            if found.step > step or kept > keep:
                to_trash(found.path, nonce)
        remove_leftovers(directory, ".trash-*")
    return final


def latest_checkpoint(directory: Path) -> tuple[Checkpoint | None, list[Skipped]]:
    """Find the newest checkpoint whose every file has the size and SHA-256 its manifest lists.

    Args:
        directory: where `write_checkpoint` published; may be missing.

    Returns:
        The checkpoint, or None when there is no usable one; and the newer ones passed over as damaged.

    Raises:
        ArtifactError: when the directory cannot be read.
    """
    skipped: list[Skipped] = []
    with io_errors("read the checkpoints", directory):
        if not directory.exists():
            return None, skipped
        for found in _published(directory):
            reason = _damage(found)
            if reason is None:
                return found, skipped
            skipped.append(Skipped(found.path, reason))
    return None, skipped


def _published(directory: Path) -> list[Checkpoint]:
    """All directories under their final name, newest first, damaged or not."""
    matches = [(path, _NAME.fullmatch(path.name)) for path in directory.iterdir() if path.is_dir()]
    found = [Checkpoint(int(match.group(1)), path) for path, match in matches if match]
    return sorted(found, reverse=True)


def _damage(checkpoint: Checkpoint) -> str | None:
    manifest = checkpoint.path / MANIFEST
    if not manifest.is_file():
        return f"{MANIFEST} is missing"
    try:
        listing = _Listing.model_validate(json.loads(manifest.read_bytes()))
    except ValueError:
        return f"{MANIFEST} is not readable"
    if listing.step != checkpoint.step:
        return f"{MANIFEST} says step {listing.step}"
    return first_difference(checkpoint.path, listing.files, content=True)
