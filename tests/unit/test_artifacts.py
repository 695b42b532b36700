"""Artifacts: fingerprints, workspaces, commits that survive a crash, verification, the run lock."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accord import artifacts, storage
from accord.artifacts import (
    Artifact,
    Workspace,
    commit,
    fingerprint,
    list_artifacts,
    load_artifact,
    open_workspace,
    verify,
)
from accord.errors import ArtifactError
from accord.manifest import InputRef, Manifest
from accord.runlock import lock_run
from accord.types import Message

FP = fingerprint("sft", 1, {"steps": 3}, 0, {})
NAME = f"sft-{FP[:8]}"


def opened(run: Path, fp: str = FP) -> Workspace:
    workspace = open_workspace(run, "sft", fp)
    assert isinstance(workspace, Workspace)
    return workspace


def filled(run: Path) -> Workspace:
    workspace = opened(run)
    workspace.path("model/weights.bin").write_bytes(b"\0\1\2")
    workspace.path("metrics.jsonl").write_text("{}\n")
    (workspace.checkpoints / "ckpt-00000001").mkdir(parents=True)
    (workspace.checkpoints / "ckpt-00000001" / "state").write_text("s")
    return workspace


def committed(workspace: Workspace, **changes: Any) -> Artifact:
    arguments: dict[str, Any] = {
        "kind": "policy",
        "version": 1,
        "config": {"steps": 3},
        "seed": 0,
        "inputs": {},
        "metrics": {"loss": 0.5, "by": [1, None]},
    }
    return commit(workspace, **{**arguments, **changes})


def failing(error: int, only: Callable[[Path], bool]) -> Callable[[Any, Any], None]:
    replace = os.replace

    def fake(source: Any, target: Any) -> None:
        if only(Path(target)):
            raise OSError(error, os.strerror(error), str(target))
        replace(source, target)

    return fake


def test_fingerprint_is_pinned_and_ignores_key_order() -> None:
    # Computed with sha256sum over the canonical JSON text; a change here makes every finished stage run
    # again.
    assert fingerprint("sft", 1, {"b": 1, "a": [1.5, None]}, 7, {"base": "00"}) == (
        "bed1d65fc807504410eb0f9405381920f58b97657abdb250b57282c486389bbb"
    )
    assert fingerprint("s", 1, {"a": 1, "b": 2}, 0, {}) == fingerprint("s", 1, {"b": 2, "a": 1}, 0, {})
    message = Message(role="user", content="x")
    assert fingerprint("s", 1, message, 0, {}) == fingerprint("s", 1, {"role": "user", "content": "x"}, 0, {})


def test_fingerprint_depends_on_everything() -> None:
    variants = {
        fingerprint("a", 1, {"x": 1}, 0, {"i": "0"}),
        fingerprint("b", 1, {"x": 1}, 0, {"i": "0"}),
        fingerprint("a", 2, {"x": 1}, 0, {"i": "0"}),
        fingerprint("a", 1, {"x": 2}, 0, {"i": "0"}),
        fingerprint("a", 1, {"x": 1}, 1, {"i": "0"}),
        fingerprint("a", 1, {"x": 1}, 0, {"i": "1"}),
        fingerprint("a", 1, {"x": 1}, 0, {"j": "0"}),
    }
    assert len(variants) == 7


def test_commit_writes_what_was_made_and_from_what(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "demo"
    base = committed(filled(run))
    fp = fingerprint("ppo", 2, {}, 5, {"base": base.fingerprint})
    workspace = open_workspace(run, "ppo", fp)
    assert isinstance(workspace, Workspace)
    workspace.path("out").write_text("x")
    artifact = commit(workspace, kind="policy", version=2, config={}, seed=5, inputs={"base": base}, metrics={})
    assert not workspace.dir.exists()
    assert artifact.dir == run / f"ppo-{fp[:8]}"
    written = json.loads((artifact.dir / "manifest.json").read_text())
    assert written["inputs"] == {"base": {"stage": "sft", "fingerprint": FP, "path": NAME}}
    assert written["files"] == {
        "out": {"size": 1, "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}
    }
    assert (written["stage"], written["version"], written["kind"], written["seed"]) == ("ppo", 2, "policy", 5)
    assert written["fingerprint"] == fp
    assert written["versions"].keys() >= {"accord", "python", "torch"}
    assert written["seconds"] >= 0
    assert written["peak_memory_mb"] > 1
    assert sorted(item.stage for item in list_artifacts(run)) == ["ppo", "sft"]


def test_inputs_from_another_run_are_absolute(tmp_path: Path) -> None:
    base = committed(filled(tmp_path / "a"))
    workspace = opened(tmp_path / "b")
    workspace.path("x").write_text("")
    assert committed(workspace, inputs={"base": base}).manifest.inputs["base"].path == str(base.dir.resolve())


def test_inputs_that_are_no_artifacts_are_recorded_as_given(tmp_path: Path) -> None:
    workspace = opened(tmp_path)
    workspace.path("x").write_text("")
    given = InputRef(stage="external", fingerprint="ab", path="data/x.jsonl")
    assert committed(workspace, inputs={"data": given}).manifest.inputs == {"data": given}


def test_a_finished_stage_is_returned_and_checkpoints_are_gone(tmp_path: Path) -> None:
    artifact = committed(filled(tmp_path))
    assert sorted(p.name for p in artifact.dir.iterdir()) == ["manifest.json", "metrics.jsonl", "model"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAME]
    again = open_workspace(tmp_path, "sft", FP)
    assert again == artifact
    assert artifact.path("model/weights.bin").read_bytes() == b"\0\1\2"
    assert (artifact.stage, artifact.kind, artifact.fingerprint) == ("sft", "policy", FP)
    with pytest.raises(ArtifactError, match="has no model/other"):
        artifact.path("model/other")


def test_a_partial_directory_is_continued(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert not first.resumed
    first.path("half").write_text("x")
    second = opened(tmp_path)
    assert second.resumed
    assert (second.dir / "half").read_text() == "x"
    other = opened(tmp_path, fingerprint("sft", 1, {"steps": 4}, 0, {}))
    assert not other.resumed


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "manifest.json", "checkpoints/x"])
def test_outputs_stay_inside_and_off_reserved_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="not a usable output name"):
        opened(tmp_path).path(name)


@pytest.mark.parametrize("stage, fp", [("", FP), ("-sft", FP), ("a/b", FP), ("sft", "abc"), ("sft", FP.upper())])
def test_names_are_checked(tmp_path: Path, stage: str, fp: str) -> None:
    with pytest.raises(ValueError, match="not a stage name and a fingerprint"):
        open_workspace(tmp_path, stage, fp)


def test_a_crash_before_the_manifest_keeps_the_checkpoints(tmp_path: Path, monkeypatch) -> None:
    workspace = filled(tmp_path)
    monkeypatch.setattr(os, "replace", failing(errno.ENOSPC, lambda p: p.name == "manifest.json"))
    with pytest.raises(ArtifactError, match="cannot finish the artifact: No space left") as caught:
        committed(workspace)
    assert "free some space" in (caught.value.fix or "")
    monkeypatch.undo()
    again = opened(tmp_path)
    assert again.resumed
    assert (again.checkpoints / "ckpt-00000001" / "state").exists()
    assert not (again.dir / "manifest.json.tmp").exists()
    assert committed(again).manifest.files.keys() == {"metrics.jsonl", "model/weights.bin"}


@pytest.mark.parametrize("at", [".trash", NAME])
def test_the_next_open_finishes_a_commit_killed_after_the_manifest(tmp_path: Path, monkeypatch, at: str) -> None:
    workspace = filled(tmp_path)
    monkeypatch.setattr(os, "replace", failing(errno.EIO, lambda p: p.name.startswith(at)))
    with pytest.raises(ArtifactError, match="cannot finish"):
        committed(workspace)
    monkeypatch.undo()
    assert (workspace.dir / "manifest.json").exists()
    artifact = open_workspace(tmp_path, "sft", FP)
    assert isinstance(artifact, Artifact)
    verify(artifact)
    assert not workspace.dir.exists()
    assert not (artifact.dir / "checkpoints").exists()


def test_a_crash_after_the_manifest_does_not_publish_changed_files(tmp_path: Path, monkeypatch) -> None:
    workspace = filled(tmp_path)
    monkeypatch.setattr(os, "replace", failing(errno.EIO, lambda p: p.name == NAME))
    with pytest.raises(ArtifactError, match="cannot finish"):
        committed(workspace)
    monkeypatch.undo()
    (workspace.dir / "metrics.jsonl").write_text("[]\n")
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl has changed content"):
        open_workspace(tmp_path, "sft", FP)


def test_a_partial_directory_of_another_fingerprint_is_not_published(tmp_path: Path, monkeypatch) -> None:
    workspace = filled(tmp_path)
    monkeypatch.setattr(os, "replace", failing(errno.EIO, lambda p: p.name == NAME))
    with pytest.raises(ArtifactError, match="cannot finish"):
        committed(workspace)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="belongs to another fingerprint"):
        open_workspace(tmp_path, "sft", FP[:8] + "0" * 56)


def test_an_empty_workspace_is_not_committed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="wrote no file"):
        committed(opened(tmp_path))


def test_links_are_refused(tmp_path: Path) -> None:
    workspace = filled(tmp_path)
    (workspace.dir / "link").symlink_to("/etc/hostname")
    with pytest.raises(ArtifactError, match="only plain files"):
        committed(workspace)


@pytest.mark.parametrize("metrics", [{"loss": float("nan")}, {"loss": object()}])
def test_metrics_must_be_json(tmp_path: Path, metrics: dict[str, Any]) -> None:
    workspace = filled(tmp_path)
    with pytest.raises(ArtifactError, match="not plain finite JSON"):
        committed(workspace, metrics=metrics)
    assert not (workspace.dir / "manifest.json").exists()


def test_verify_names_the_first_file_that_differs(tmp_path: Path) -> None:
    artifact = committed(filled(tmp_path))
    verify(artifact)
    weights = artifact.path("model/weights.bin")
    weights.write_bytes(b"\0\1\3")
    assert load_artifact(artifact.dir) == artifact
    for check in (lambda: verify(artifact), lambda: load_artifact(artifact.dir, verify=True)):
        with pytest.raises(ArtifactError, match=r"model/weights\.bin has changed content"):
            check()
    weights.write_bytes(b"\0\1")
    with pytest.raises(ArtifactError, match=r"model/weights\.bin has 2 bytes instead of 3"):
        load_artifact(artifact.dir)
    weights.unlink()
    with pytest.raises(ArtifactError, match=r"model/weights\.bin is missing") as caught:
        open_workspace(tmp_path, "sft", FP)
    assert caught.value.where == str(artifact.dir)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: text[: len(text) // 2], "the manifest is damaged: "),
        (lambda text: "", "the manifest is damaged: "),
        (lambda text: "[]", "the manifest is damaged: "),
        (lambda text: text.replace('"seed": 0', '"seed": "x"'), "the manifest is damaged: seed: "),
        (lambda text: text.replace('"seed": 0', '"sead": 0'), "the manifest is damaged: "),
        (lambda text: text.replace(FP[8:], "0" * 56), "the artifact has fingerprint "),
    ],
)
def test_damaged_manifests_are_explained(tmp_path: Path, damage: Callable[[str], str], message: str) -> None:
    path = committed(filled(tmp_path)).dir / "manifest.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ArtifactError) as caught:
        open_workspace(tmp_path, "sft", FP)
    assert caught.value.what.startswith(message)
    assert caught.value.where == str(path)


def test_directories_that_are_no_artifacts(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such artifact"):
        load_artifact(tmp_path / "absent")
    (tmp_path / NAME).mkdir()
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        open_workspace(tmp_path, "sft", FP)
    with pytest.raises(ArtifactError, match="no such run"):
        list_artifacts(tmp_path / "absent")
    assert list_artifacts(tmp_path) == []


def test_a_file_in_the_way_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot create the working directory") as caught:
        open_workspace(tmp_path / "file" / "run", "sft", FP)
    assert "a file stands where a directory is needed" in (caught.value.fix or "")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_disk_errors_say_what_where_and_what_to_do(tmp_path: Path, error: int) -> None:
    with pytest.raises(ArtifactError) as caught, storage.io_errors("write the answers", tmp_path):
        raise OSError(error, os.strerror(error))
    assert caught.value.what == f"cannot write the answers: {os.strerror(error)}"
    assert caught.value.where == str(tmp_path)
    assert caught.value.fix


def test_write_atomic_leaves_the_old_content_when_the_disk_is_full(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a"
    storage.write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        storage.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_everything_is_flushed_before_the_manifest_and_renamed_last(tmp_path: Path, monkeypatch) -> None:
    workspace = filled(tmp_path)
    events: list[str] = []
    replace, flush = os.replace, artifacts.fsync_path

    def note_replace(source: Any, target: Any) -> None:
        events.append(f"rename {Path(target).name}")
        replace(source, target)

    def note_flush(path: Path) -> None:
        events.append(f"flush {path.name}")
        flush(path)

    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(storage, "fsync_path", note_flush)
    monkeypatch.setattr(artifacts, "fsync_path", note_flush)
    committed(workspace)
    assert events[:4] == ["flush metrics.jsonl", "flush model", "flush weights.bin", f"flush {NAME}.partial"]
    assert events[4:6] == ["rename manifest.json", f"flush {NAME}.partial"]
    assert events[6].startswith("rename .trash-")
    assert events[7:] == [f"rename {NAME}", f"flush {tmp_path.name}"]


def test_the_manifest_schema_is_closed() -> None:
    assert set(Manifest.model_fields) == {
        "stage", "version", "kind", "fingerprint", "config", "seed", "inputs", "files", "metrics",
        "seconds", "peak_memory_mb", "created", "versions",
    }  # fmt: skip


def test_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from accord.runlock import lock_run\n"
        "with lock_run(Path(sys.argv[1])):\n  print('held', flush=True); sys.stdin.read()"
    )
    run = tmp_path / "run"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError, match=rf"in use by process {child.pid} on "), lock_run(run):
            pass
        child.kill()
    with lock_run(run):
        assert (run / ".lock").read_text().startswith(f"process {os.getpid()} on ")
        with pytest.raises(ArtifactError, match="in use"), lock_run(run):
            pass
    with lock_run(run):
        pass
