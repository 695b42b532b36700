"""Stages used for what they cannot do, damaged runs, and disks that refuse."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_input_site import PAIRS, REPLIES, TRAIN, Case, Site

from accord.cli import load
from accord.errors import ArtifactError, ConfigError, DataError, EngineError, Waiting
from accord.pipeline import run_pipeline
from accord.runlock import lock_run
from accord.stages import STAGES


def refuse(site: Site, name: str, code: int = errno.ENOSPC) -> None:
    """Let the disk refuse whatever opens a file of this name for writing."""
    real = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **keys: Any) -> Any:
        if self.name == name and mode[0] in "wax":
            raise OSError(code, os.strerror(code), str(self))
        return real(self, mode, *args, **keys)

    site.patch.setattr(Path, "open", opened)


def full_disk(name: str, stage: Callable[[Site], list[str]], code: int = errno.ENOSPC) -> Callable[[Site], list[str]]:
    """The disk is full when this file is written."""

    def make(site: Site) -> list[str]:
        argv = stage(site)
        refuse(site, name, code)
        return argv

    return make


def unwritable(site: Site) -> list[str]:
    """Permissions do not bind root, so the call itself is made to fail."""
    real = os.mkdir

    def mkdir(path: Any, *args: Any, **keys: Any) -> None:
        if Path(path).name == "runs":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real(path, *args, **keys)

    argv = site.sft()
    site.patch.setattr(os, "mkdir", mkdir)
    return argv


def unreadable(site: Site) -> list[str]:
    argv = site.sft()
    real = Path.open

    def opened(self: Path, *args: Any, **keys: Any) -> Any:
        if self.name == "demos.jsonl":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, *args, **keys)

    site.patch.setattr(Path, "open", opened)
    return argv


def failing_weights(site: Site, argv: list[str], module: str) -> list[str]:
    """The disk fills up while tensors are written."""

    def save(*args: Any, **keys: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    site.patch.setattr(module, save)
    return argv


def held_lock(site: Site) -> list[str]:
    argv = site.sft()
    held = lock_run(site.dir / "runs" / "bad")
    held.__enter__()
    HELD.append(held)
    return argv


HELD: list[Any] = []
"""Locks that stay taken until the test is over."""


def samples(*rows: Any, **keys: Any) -> Callable[[Site], list[str]]:
    """Ask for judgements about these samples."""
    return lambda site: site.collect(site.rows("samples.jsonl", *rows), **keys)


def one_question(*replies: str) -> dict[str, Any]:
    """A row of the sample stage."""
    prompt = {"id": "p", "messages": [{"role": "user", "content": "Name a fish."}]}
    made = [{"text": text, "token_ids": [1], "logps": [0.0], "finish": "stop", "model": "sft"} for text in replies]
    return {"prompt": prompt, "candidates": made}


def broken_labels(site: Site) -> list[str]:
    labels = site.file("labels.jsonl", '{"prompt": "Q?", "cho')
    return site.collect(site.rows("samples.jsonl", one_question("a", "b")), labels=labels, min_labels=1)


def changed_artifact(size: bool) -> Callable[[Site], list[str]]:
    """A run whose split was changed after it was made; the reward model would be trained on it."""

    def make(site: Site) -> list[str]:
        data = site.rows("pairs.jsonl", *PAIRS, *[{**p, "prompt": f"{p['prompt']} Now."} for p in PAIRS])
        split = {"dataset": data, "test_fraction": 0.3}
        made = run_pipeline(load(Path(site.config({"split": split})), ()), STAGES, say=lambda _: None)
        path = made["split"].path("train.jsonl")
        content = path.read_bytes()
        path.write_bytes(content + b"\n" if size else content.replace(b"Good", b"Evil"))
        reward = {"model_name_or_path": str(site.kit / "sft"), "dataset": "split", **TRAIN}
        return site.run({"split": split, "reward": reward})

    return make


def corrupt_manifest(site: Site) -> list[str]:
    argv = changed_artifact(True)(site)
    next((site.dir / "runs").glob("bad/split-*/manifest.json")).write_text('{"stage": "split"')
    return argv


def lost_manifest(site: Site) -> list[str]:
    argv = changed_artifact(True)(site)
    next((site.dir / "runs").glob("bad/split-*/manifest.json")).unlink()
    return argv


LAB_SFT = {"prompts": "lab:prompts?num=2&split=eval"}
LONG = {"prompt": "Name a fish. " * 100}

STAGES_MISUSED = [
    Case(
        "prompt too long",
        EngineError,
        ("positions", "shorten", "run.yaml: sample, prompt 0"),
        lambda s: s.sample(prompts=s.rows("p.jsonl", LONG)),
        "sample",
    ),
    Case(
        "prompt too long to judge",
        DataError,
        ("no prompt leaves room",),
        lambda s: s.evaluate(prompts=s.rows("p.jsonl", LONG)),
        "evaluate",
    ),
    Case(
        "prompts too long for PPO",
        DataError,
        ("no prompt leaves room", "ppo.prompts"),
        lambda s: s.ppo(prompts=s.rows("p.jsonl", LONG)),
        "ppo",
    ),
    Case(
        "probe too long",
        DataError,
        ("no prompt leaves room",),
        lambda s: s.dpo(eval_prompts=s.rows("p.jsonl", LONG), **REPLIES),
        "dpo",
    ),
    Case(
        "the same reply twice",
        DataError,
        ("two different replies", "temperature"),
        lambda s: s.sample(temperature=0.0),
        "sample",
    ),
    Case("lab judge elsewhere", ConfigError, ("lab prompts only",), lambda s: s.evaluate(judge="lab:gold"), "evaluate"),
    Case(
        "lab judge in the probe",
        ConfigError,
        ("lab prompts only",),
        lambda s: s.dpo(judge="lab", eval_prompts=s.rows("p.jsonl", {"prompt": "Q?"})),
        "dpo",
    ),
    Case(
        "unknown lab judge",
        ConfigError,
        ("'lab:silver'", "lab:gold"),
        lambda s: s.evaluate(judge="lab:silver", **LAB_SFT),
        "evaluate",
    ),
    Case(
        "samples of another form",
        DataError,
        ("samples.jsonl:1", "candidates"),
        samples({"prompt": "Q?"}, annotators="lab"),
        "collect",
    ),
    Case(
        "samples cut",
        DataError,
        ("samples.jsonl:2",),
        lambda s: s.collect(s.file("samples.jsonl", json.dumps(one_question("a", "b")) + '\n{"pro'), annotators="lab"),
        "collect",
    ),
    Case(
        "samples not UTF-8",
        DataError,
        ("samples.jsonl",),
        lambda s: s.collect(s.file("samples.jsonl", b"\xff\xfe{"), annotators="lab"),
        "collect",
    ),
    Case(
        "samples empty",
        DataError,
        ("samples.jsonl",),
        lambda s: s.collect(s.file("samples.jsonl", ""), annotators="lab"),
        "collect",
    ),
    Case(
        "samples a directory",
        DataError,
        ("cannot be read",),
        lambda s: s.collect(str(s.kit / "sft"), annotators="lab"),
        "collect",
    ),
    Case(
        "samples of the lab",
        DataError,
        ("lab:prompts",),
        lambda s: s.collect("lab:prompts", annotators="lab"),
        "collect",
    ),
    Case("single replies", DataError, ("nothing to compare",), samples(one_question("a"), annotators="lab"), "collect"),
    Case(
        "lab annotators elsewhere",
        ConfigError,
        ("lab prompts only",),
        samples(one_question("a", "b"), annotators="lab"),
        "collect",
    ),
    Case("labels missing", Waiting, ("0 of 500 labels", "tasks.jsonl"), samples(one_question("a", "b")), "collect"),
    Case("labels broken", DataError, ("labels.jsonl:1",), broken_labels, "collect"),
]

DISKS = [
    Case("not permitted", ArtifactError, ("Permission denied", "run.dir"), unwritable),
    Case("input not permitted", ArtifactError, ("Permission denied", "demos.jsonl"), unreadable),
    Case("run in use", ArtifactError, ("in use by process",), held_lock),
    Case("changed size", ArtifactError, ("train.jsonl has", "bytes instead of"), changed_artifact(True), "reward"),
    Case("changed content", ArtifactError, ("train.jsonl has changed content",), changed_artifact(False), "reward"),
    Case("damaged manifest", ArtifactError, ("manifest is damaged",), corrupt_manifest, "reward"),
    Case("lost manifest", ArtifactError, ("not a finished artifact",), lost_manifest, "reward"),
    Case(
        "disk full at a checkpoint",
        ArtifactError,
        ("No space left", "free some space"),
        lambda s: failing_weights(s, s.sft(max_steps=2, save_steps=1), "accord.models.state.save_file"),
        "sft",
    ),
    Case(
        "disk full at the metrics",
        ArtifactError,
        ("No space left",),
        full_disk("metrics.jsonl", lambda s: s.sft()),
        "sft",
    ),
    Case(
        "disk full at the samples",
        ArtifactError,
        ("No space left", "samples.jsonl"),
        full_disk("samples.jsonl", lambda s: s.sample()),
        "sample",
    ),
    Case("disk full at the card", ArtifactError, ("No space left",), full_disk("README.md", lambda s: s.sft()), "sft"),
    Case(
        "disk full at the results",
        ArtifactError,
        ("No space left", "results.json"),
        full_disk("results.json", lambda s: s.evaluate()),
        "evaluate",
    ),
    Case(
        "disk full at the config",
        ArtifactError,
        ("No space left",),
        full_disk("config.yaml.tmp", lambda s: s.sft()),
        "sft",
    ),
    Case(
        "disk full at the manifest",
        ArtifactError,
        ("No space left", "manifest.json"),
        full_disk("manifest.json.tmp", lambda s: s.sft()),
        "sft",
    ),
    Case(
        "report in a file",
        ArtifactError,
        ("cannot be written", "a.txt"),
        lambda s: ["report", str(s.kit / "runs" / "bad"), "--out", s.file("a.txt", "") + "/report.html"],
    ),
]
