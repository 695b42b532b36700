"""Checkpoints: atomic publication, damage found, crashes at every step."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accord import checkpoints
from accord.checkpoints import latest_checkpoint, write_checkpoint
from accord.errors import ArtifactError


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


def writer(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / "state.bin").write_text(text)
        (path / "model").mkdir()
        (path / "model" / "weights.bin").write_text(text * 3)

    return write


def write(directory: Path, step: int, text: str | None = None, keep: int = 2) -> Path:
    return write_checkpoint(directory, step, writer(text or f"step {step}"), keep=keep)


def newest(directory: Path) -> int | None:
    found, _ = latest_checkpoint(directory)
    return found.step if found else None


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_nothing_there(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "absent") == (None, [])
    assert latest_checkpoint(tmp_path) == (None, [])


def test_the_newest_is_found_and_older_ones_are_retired(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "checkpoints"
    for step in (0, 5, 10, 123456789):
        assert write(directory, step) == directory / f"ckpt-{step:08d}"
    assert names(directory) == ["ckpt-00000010", "ckpt-123456789"]
    found, skipped = latest_checkpoint(directory)
    assert found is not None
    assert found.step == 123456789
    assert (found.path / "model" / "weights.bin").read_text() == "step 123456789" * 3
    assert skipped == []


def test_steps_of_an_abandoned_future_are_retired(tmp_path: Path) -> None:
    write(tmp_path, 10)
    bad = write(tmp_path, 20)
    (bad / "state.bin").write_text("torn")
    write(tmp_path, 15, keep=1)
    assert names(tmp_path) == ["ckpt-00000015"]


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, 3, "old")
    write(tmp_path, 3, "new")
    assert names(tmp_path) == ["ckpt-00000003"]
    assert (tmp_path / "ckpt-00000003" / "state.bin").read_text() == "new"


def test_arguments_are_checked(tmp_path: Path) -> None:
    for step, keep in ((-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="step must be"):
            write(tmp_path, step, keep=keep)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda p: (p / "state.bin").write_text("step"), "state.bin has 4 bytes instead of 6"),
        (lambda p: (p / "state.bin").write_text("step 9"), "state.bin has changed content"),
        (lambda p: (p / "model" / "weights.bin").unlink(), "model/weights.bin is missing"),
        (lambda p: (p / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest.json is not readable"),
        (lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe"), "manifest.json is not readable"),
        (lambda p: (p / "manifest.json").write_text('{"step": 2}'), "manifest.json is not readable"),
        (lambda p: p.rename(p.with_name("ckpt-00000009")), "manifest.json says step 2"),
    ],
)
def test_a_damaged_newest_is_passed_over_and_named(tmp_path: Path, damage: Callable[[Path], Any], reason: str) -> None:
    write(tmp_path, 1)
    damage(write(tmp_path, 2))
    found, skipped = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert [item.reason.startswith(reason) for item in skipped] == [True]
    assert skipped[0].path.name in {"ckpt-00000002", "ckpt-00000009"}


def test_when_all_are_damaged_all_are_named(tmp_path: Path) -> None:
    for step in (1, 2):
        (write(tmp_path, step) / "state.bin").unlink()
    found, skipped = latest_checkpoint(tmp_path)
    assert found is None
    assert [item.path.name for item in skipped] == ["ckpt-00000002", "ckpt-00000001"]


def test_other_entries_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, 1)
    for name in ("ckpt-00000007.tmp.abcd", ".trash-ckpt-00000008-abcd", "ckpt-x", "ckpt-12"):
        (tmp_path / name).mkdir()
    (tmp_path / "ckpt-00000099").write_text("a file")
    assert latest_checkpoint(tmp_path)[0] == (1, tmp_path / "ckpt-00000001")
    write(tmp_path, 2)
    assert names(tmp_path) == ["ckpt-00000001", "ckpt-00000002", "ckpt-00000099", "ckpt-12", "ckpt-x"]


@pytest.mark.parametrize("crash", [Killed(), RuntimeError("bug"), KeyboardInterrupt()])
def test_what_the_writer_raises_is_passed_on(tmp_path: Path, crash: BaseException) -> None:
    write(tmp_path, 1)

    def half(path: Path) -> None:
        (path / "state.bin").write_text("half")
        raise crash

    with pytest.raises(type(crash)):
        write_checkpoint(tmp_path, 2, half)
    assert names(tmp_path) == ["ckpt-00000001"]


def test_a_full_disk_is_an_artifact_error_and_keeps_the_old(tmp_path: Path) -> None:
    write(tmp_path, 1)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path / "state.bin"))

    with pytest.raises(ArtifactError, match="cannot write the checkpoint: No space left") as caught:
        write_checkpoint(tmp_path, 2, full)
    assert "free some space" in (caught.value.fix or "")
    assert newest(tmp_path) == 1


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write the checkpoint"):
        write(tmp_path / "file", 1)
    with pytest.raises(ArtifactError, match="cannot read the checkpoints"):
        latest_checkpoint(tmp_path / "file")


def test_kill_at_every_disk_operation(tmp_path: Path, monkeypatch) -> None:
    """Whatever the moment, the newest usable checkpoint is the old or the new one; the next write works."""
    operations = 0
    fatal = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal operations
            operations += 1
            if operations >= fatal:  # a dead process does nothing any more, tidying included
                raise Killed
            return real(*args, **kwargs)

        return call

    seen = set()
    for fatal in range(1, 60):
        directory = tmp_path / str(fatal)
        write(directory, 1)
        write(directory, 2)
        operations = 0
        with monkeypatch.context() as patch:
            for name in ("replace", "fsync", "open", "mkdir", "rmdir", "unlink"):
                patch.setattr(os, name, dying(getattr(os, name)))
            patch.setattr(checkpoints.shutil, "rmtree", dying(checkpoints.shutil.rmtree))
            try:
                write(directory, 3)
                survived = True
            except Killed:
                survived = False
        found = newest(directory)
        assert found in ({3} if survived else {2, 3})
        seen.add((survived, found))
        write(directory, 4)
        assert newest(directory) == 4
        assert all(".tmp" not in name and ".trash" not in name for name in names(directory))
        if survived:
            break
    assert seen == {(False, 2), (False, 3), (True, 3)}
    assert fatal > 12
