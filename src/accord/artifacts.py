"""Artifacts: directories whose `manifest.json`, written last, makes them complete.

A run is a directory of artifacts. Work on `<stage>-<fp8>` happens in `<stage>-<fp8>.partial`. A manifest
means "done", a partial directory "continue here", nothing "start". The fingerprint covers the stage, its
version, its config, the seed and the fingerprints of its inputs; the code's version is recorded, not hashed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ValidationError

from accord.errors import ArtifactError
from accord.manifest import InputRef, Manifest, current_versions
from accord.memory import peak_memory_mb, reset_peak_memory
from accord.storage import (
    MANIFEST,
    first_difference,
    fsync_path,
    hash_tree,
    io_errors,
    remove_leftovers,
    write_atomic,
)

CHECKPOINTS = "checkpoints"
STAGE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Artifact:
    """A finished directory and its manifest."""

    dir: Path
    """Where it lies."""
    manifest: Manifest
    """What it says about itself."""

    @property
    def stage(self) -> str:
        """Name of the stage that made it."""
        return self.manifest.stage

    @property
    def kind(self) -> str:
        """What it can be an input for."""
        return self.manifest.kind

    @property
    def fingerprint(self) -> str:
        """Its full fingerprint."""
        return self.manifest.fingerprint

    def path(self, name: str) -> Path:
        """Return the path of the file or directory `name` in it.

        Raises:
            ArtifactError: when the artifact has no such file or directory.
        """
        path = self.dir / name
        if not path.exists():
            raise ArtifactError(f"the {self.stage} artifact has no {name}", where=str(self.dir))
        return path


@dataclass(frozen=True)
class Workspace:
    """The directory a stage works in until its output is committed."""

    dir: Path
    """The `.partial` directory; it exists."""
    run_dir: Path
    """The run it belongs to."""
    stage: str
    """Name of the stage."""
    fingerprint: str
    """Full fingerprint of what will be committed."""
    resumed: bool
    """True when an earlier attempt left something here."""
    started: float = field(default_factory=time.monotonic)
    """Monotonic clock when this attempt began, seconds."""

    @property
    def checkpoints(self) -> Path:
        """Directory for checkpoints; may not exist yet, and is removed by `commit`."""
        return self.dir / CHECKPOINTS

    def path(self, name: str) -> Path:
        """Return where to write the output `name`, with its parent directories made.

        Raises:
            ArtifactError: when `name` leaves the directory or is reserved, or the disk refuses.
        """
        parts = PurePosixPath(name).parts
        if not parts or parts[0] in {"/", MANIFEST, CHECKPOINTS} or ".." in parts:
            raise ArtifactError(f"{name!r} is not a usable output name", where=str(self.dir))
        path = self.dir / name
        with io_errors("create a directory", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path


def fingerprint(
    stage: str, version: int, config: BaseModel | Mapping[str, Any], seed: int, inputs: Mapping[str, str]
) -> str:
    """Return the SHA-256 that names what a stage would produce.

    Args:
        stage: name of the stage.
        version: version of the meaning of its output.
        config: its resolved config.
        seed: the run's seed.
        inputs: full fingerprint of each input, by the stage's name for it.

    Returns:
        64 hexadecimal digits; equal arguments give equal digits on every machine.
    """
    what = {
        "stage": stage,
        "version": version,
        "config": _plain(config),
        "seed": seed,
        "inputs": dict(inputs),
    }
    text = json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def open_workspace(run_dir: Path, stage: str, fingerprint: str) -> Artifact | Workspace:
    """Return the finished artifact, or a workspace to start or continue in.

    The caller holds `lock_run(run_dir)`.

    Args:
        run_dir: directory of the run; created when missing.
        stage: name of the stage.
        fingerprint: of what the stage would produce now.

    Returns:
        Artifact when a manifest is there (the stage is skipped), else Workspace.

    Raises:
        ArtifactError: when the artifact there is damaged or is another one, or the disk refuses.
    """
    final = run_dir / artifact_name(stage, fingerprint)
    partial = final.with_name(f"{final.name}.partial")
    if not final.exists() and (partial / MANIFEST).exists():
        _finish_commit(partial, final, fingerprint)
    if final.exists():
        artifact = load_artifact(final)
        if artifact.fingerprint != fingerprint:
            raise ArtifactError(
                f"the artifact has fingerprint {artifact.fingerprint}, expected {fingerprint}",
                where=str(final / MANIFEST),
                fix="move this directory away and run again",
            )
        return artifact
    with io_errors("create the working directory", partial):
        run_dir.mkdir(parents=True, exist_ok=True)
        remove_leftovers(run_dir, ".trash-*")
        resumed = partial.is_dir() and any(partial.iterdir())
        partial.mkdir(exist_ok=True)
        for torn in [path for path in partial.rglob("*.tmp") if path.is_file()]:
            torn.unlink()  # of an atomic write that was killed before its rename; `commit` would list it as output
    reset_peak_memory()
    return Workspace(partial, run_dir, stage, fingerprint, resumed)


def artifact_name(stage: str, fingerprint: str) -> str:
    """Return the directory name `<stage>-<fp8>`.

    Raises:
        ValueError: when `stage` is not a plain word or `fingerprint` is not a SHA-256.
    """
    if not STAGE_NAME.fullmatch(stage) or not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise ValueError(f"not a stage name and a fingerprint: {stage!r}, {fingerprint!r}")
    return f"{stage}-{fingerprint[:8]}"


def commit(
    workspace: Workspace,
    *,
    kind: str,
    version: int,
    config: BaseModel | Mapping[str, Any],
    seed: int,
    inputs: Mapping[str, Artifact | InputRef],
    metrics: Mapping[str, Any],
) -> Artifact:
    """Turn a workspace into an artifact: hash and flush its files, write the manifest last, rename.

    Checkpoints are left out and removed. A crash at any point leaves either a workspace that continues from
    its last checkpoint or one whose manifest is complete, which the next `open_workspace` renames.

    Args:
        workspace: what `open_workspace` returned; unusable afterwards.
        kind: kind of the output.
        version: version of the stage.
        config: resolved config of the stage.
        seed: the run's seed.
        inputs: what it was made from, by the stage's name for it: artifacts, or references to outside files.
        metrics: final numbers of the stage, JSON values.

    Returns:
        The finished artifact.

    Raises:
        ArtifactError: when the workspace is empty or holds a link, metrics are not JSON, or the disk refuses.
    """
    final = workspace.run_dir / artifact_name(workspace.stage, workspace.fingerprint)
    with io_errors("finish the artifact", workspace.dir):
        files = hash_tree(workspace.dir, skip=frozenset({CHECKPOINTS, MANIFEST}), flush=True)
        if not files:
            raise ArtifactError(f"stage {workspace.stage} wrote no file", where=str(workspace.dir))
        manifest = Manifest(
            stage=workspace.stage,
            version=version,
            kind=kind,
            fingerprint=workspace.fingerprint,
            config=_plain(config),
            seed=seed,
            inputs={name: _reference(artifact, workspace.run_dir) for name, artifact in inputs.items()},
            files=files,
            metrics=dict(metrics),
            seconds=round(time.monotonic() - workspace.started, 3),
            peak_memory_mb=round(peak_memory_mb(), 1),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=current_versions(),
        )
        try:
            text = json.dumps(manifest.model_dump(), indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ArtifactError(
                f"the metrics of stage {workspace.stage} are not plain finite JSON: {error}",
                where=str(workspace.dir),
                fix="put None where a number is not finite",
            ) from error
        write_atomic(workspace.dir / MANIFEST, text.encode())
    _publish(workspace.dir, final)
    return load_artifact(final)


def load_artifact(directory: Path, verify: bool = False) -> Artifact:
    """Read an artifact and check that its files have the listed sizes.

    Args:
        directory: the finished directory.
        verify: also compare the SHA-256 of every file.

    Raises:
        ArtifactError: when it is missing, unfinished, or differs from its manifest.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        raise ArtifactError("there is no such artifact", where=str(directory), fix="check the path")
    if not path.is_file():
        raise ArtifactError(
            f"this directory has no {MANIFEST}: it is not a finished artifact",
            where=str(directory),
            fix="move this directory away and run its stage again",
        )
    with io_errors("read the manifest", path):
        data = path.read_bytes()
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(
            f"the manifest is damaged: {key + ': ' if key else ''}{first['msg']}",
            where=str(path),
            fix="move this directory away and run again",
        ) from error
    artifact = Artifact(directory, manifest)
    _check(artifact, content=verify)
    return artifact


def verify(artifact: Artifact) -> None:
    """Compare size and SHA-256 of every file with the manifest.

    Raises:
        ArtifactError: naming the first file that is missing or differs.
    """
    _check(artifact, content=True)


def list_artifacts(run_dir: Path) -> list[Artifact]:
    """Return the finished artifacts of a run, oldest first.

    Raises:
        ArtifactError: when the run directory is missing or one of the artifacts is damaged.
    """
    with io_errors("read the run directory", run_dir):
        found = [path.parent for path in run_dir.glob(f"*/{MANIFEST}") if path.parent.suffix != ".partial"]
        if not found and not run_dir.is_dir():
            raise ArtifactError("there is no such run", where=str(run_dir), fix="check the path")
    artifacts = [load_artifact(path) for path in sorted(found)]
    return sorted(artifacts, key=lambda artifact: artifact.manifest.created)


def _check(artifact: Artifact, *, content: bool) -> None:
    with io_errors("read the artifact", artifact.dir):
        difference = first_difference(artifact.dir, artifact.manifest.files, content=content)
    if difference:
        raise ArtifactError(
            f"the {artifact.stage} artifact is damaged: {difference}",
            where=str(artifact.dir),
            fix="restore the file, or move this directory away and run its stage again",
        )


def _finish_commit(partial: Path, final: Path, fingerprint: str) -> None:
    """Complete a commit that was interrupted between writing the manifest and renaming the directory."""
    artifact = load_artifact(partial, verify=True)
    if artifact.fingerprint != fingerprint:
        raise ArtifactError(
            "the unfinished directory belongs to another fingerprint",
            where=str(partial),
            fix="move this directory away and run again",
        )
    _publish(partial, final)


def _publish(partial: Path, final: Path) -> None:
    with io_errors("finish the artifact", partial):
        # The checkpoints leave before the directory gets its final name, and only once the manifest exists:
        # until then they are what a killed attempt continues from.
        checkpoints = partial / CHECKPOINTS
        if checkpoints.exists():
            os.replace(checkpoints, final.with_name(f".trash-{final.name}-{secrets.token_hex(4)}"))
        os.replace(partial, final)
        fsync_path(final.parent)
        remove_leftovers(final.parent, ".trash-*")


def _reference(artifact: Artifact | InputRef, run_dir: Path) -> InputRef:
    if isinstance(artifact, InputRef):
        return artifact
    path, run = artifact.dir.resolve(), run_dir.resolve()
    name = path.relative_to(run) if path.is_relative_to(run) else path
    return InputRef(stage=artifact.stage, fingerprint=artifact.fingerprint, path=name.as_posix())


def _plain(config: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    return config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config)
