"""The records in an artifact's `manifest.json`."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from accord import __version__
from accord.storage import FileEntry

_RECORDED = ("torch", "transformers", "tokenizers", "safetensors", "peft", "numpy")


class InputRef(BaseModel):
    """One input of an artifact: its lineage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    """Stage that made it."""
    fingerprint: str
    """Its full fingerprint."""
    path: str
    """Its directory: relative to the run directory when inside it, else absolute."""


class Manifest(BaseModel):
    """What an artifact is, how it was made, and the hash of each of its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    """Name of the stage that made it."""
    version: int
    """Version of the meaning of that stage's output."""
    kind: str
    """What it can be an input for: policy, reward_model, preferences, ..."""
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 over everything that determines the content."""
    config: dict[str, Any]
    """The stage's resolved config."""
    seed: int
    """The run's seed."""
    inputs: dict[str, InputRef]
    """Where it came from, by the stage's name for each input."""
    files: dict[str, FileEntry]
    """Every file but the manifest, by relative POSIX path."""
    metrics: dict[str, Any]
    """The stage's final numbers."""
    seconds: float
    """Wall-clock of the attempt that finished; what earlier, killed attempts spent is not in it."""
    peak_memory_mb: float
    """Peak resident memory of the process during that attempt, MiB."""
    created: str
    """When it was committed, ISO 8601, UTC."""
    versions: dict[str, str]
    """Versions of Accord, Python and the libraries that matter for the numbers."""


def current_versions() -> dict[str, str]:
    """Return the versions of Accord, Python and the installed libraries that matter for the numbers."""
    versions = {"accord": __version__, "python": platform.python_version()}
    for name in _RECORDED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # not needed for this stage, or it could not have run
    return versions
