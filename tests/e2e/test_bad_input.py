"""Bad input through the command line: one clear message, the documented exit code, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_input_cases import COMMANDS, CONFIGS, DATA
from bad_input_models import MODELS
from bad_input_site import (
    DEMONSTRATIONS,
    PAIRS,
    PROMPTS,
    TRAIN,
    Case,
    Outcome,
    Site,
    accord,
    assert_nothing_half_written,
    finished,
    jsonl,
)
from bad_input_stages import DISKS, HELD, STAGES_MISUSED, one_question, refuse
from safetensors.torch import save_file

from accord.checkpoints import latest_checkpoint
from accord.cli import load
from accord.errors import AccordError, ArtifactError, ConfigError, DataError, Waiting
from accord.pipeline import run_pipeline
from accord.stages import STAGES

CASES = [*CONFIGS, *COMMANDS, *DATA, *MODELS, *STAGES_MISUSED, *DISKS]


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model directories `base`, `sft` and `reward`, each one step of training old."""
    home = tmp_path_factory.mktemp("kit")
    site = Site(home, home, pytest.MonkeyPatch())
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 160}
    config = {
        "pretrain": {"dataset": "lab:corpus?num=60", "vocab_size": 400, **sizes, **TRAIN},
        "sft": {"dataset": site.rows("demos.jsonl", *DEMONSTRATIONS), **TRAIN},
        "reward": {"dataset": site.rows("pairs.jsonl", *PAIRS), **TRAIN},
    }
    made = run_pipeline(load(Path(site.config(config)), ()), STAGES, say=lambda _: None)
    for section, name in (("pretrain", "base"), ("sft", "sft"), ("reward", "reward")):
        shutil.copytree(made[section].path("model"), home / name)
    return home


@pytest.fixture
def site(tmp_path: Path, kit: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    yield Site(tmp_path, kit, monkeypatch)
    while HELD:
        HELD.pop().__exit__(None, None, None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(case: Case, site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = accord(case.make(site), capsys, monkeypatch)
    assert outcome.code == case.error.exit_code, outcome.out + outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    for part in case.says:
        assert part in outcome.message
    assert ("\n  where: " in outcome.message) or not case.where, outcome.message
    assert ("\n  to do: " in outcome.message) or not case.fix, outcome.message
    done = finished(site.dir / "runs" / "bad")
    assert case.section not in done and (case.section is not None or done == set())
    assert_nothing_half_written(site.dir)


def refused(outcome: Outcome, error: type[AccordError], *parts: str) -> None:
    assert outcome.code == error.exit_code, outcome.out + outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    for part in parts:
        assert part in outcome.message


def test_mended_data_is_used(site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jsonl(*DEMONSTRATIONS)
    argv = site.sft(dataset=site.file("d.jsonl", whole[:-9]))
    refused(accord(argv, capsys, monkeypatch), DataError, "d.jsonl:4")
    site.file("d.jsonl", whole)
    assert accord(argv, capsys, monkeypatch).code == 0
    assert finished(site.dir / "runs" / "bad") == {"sft"}


def test_bad_rows_may_be_left_out(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*DEMONSTRATIONS, {"prompt": "Q?", "completion": ""}]
    assert accord(site.sft(dataset=site.rows("d.jsonl", *rows), max_bad_rows=1), capsys, monkeypatch).code == 0
    (rejects,) = (site.dir / "runs" / "bad").glob("sft-*/rejects-dataset.jsonl")
    assert "'completion' is empty" in rejects.read_text()


def test_bad_prompts_may_be_left_out(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = site.rows("prompts.jsonl", *PROMPTS, {"prompt": ""})
    refused(accord(site.ppo(prompts=prompts), capsys, monkeypatch), DataError, "max_bad_rows to at least 1")
    assert accord(site.ppo(prompts=prompts, max_bad_rows=1), capsys, monkeypatch).code == 0
    assert list((site.dir / "runs" / "bad").glob("ppo-*/rejects-prompts.jsonl"))


@pytest.mark.parametrize("name", ["samples.jsonl", "manifest.json.tmp", "config.yaml.tmp"])
def test_space_on_the_disk_again(
    name: str, site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = site.sample()
    with monkeypatch.context() as patch:
        refuse(Site(site.dir, site.kit, patch), name)
        refused(accord(argv, capsys, patch), ArtifactError, "No space left")
    assert finished(site.dir / "runs" / "bad") == set()
    assert accord(argv, capsys, monkeypatch).code == 0
    assert finished(site.dir / "runs" / "bad") == {"sample"}


def stopped_at_the_end(site: Site, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[Path]]:
    """A run with checkpoints of steps 2 and 3 that could not be finished; its arguments and those checkpoints."""
    argv = site.sft(max_steps=4, save_steps=1)
    with pytest.MonkeyPatch.context() as patch:
        refuse(Site(site.dir, site.kit, patch), "README.md")
        refused(accord(argv, capsys, patch), ArtifactError, "No space left")
    found = sorted((site.dir / "runs").glob("bad/sft-*.partial/checkpoints/ckpt-*"))
    assert [path.name for path in found] == ["ckpt-00000002", "ckpt-00000003"]
    return argv, found


def test_damaged_checkpoint_falls_back(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, checkpoints = stopped_at_the_end(site, capsys)
    os.truncate(checkpoints[1] / "state.safetensors", 100)
    outcome = accord(argv, capsys, monkeypatch)
    assert outcome.code == 0
    assert "ckpt-00000003 is damaged and not used: state.safetensors has 100 bytes" in outcome.out
    assert "continuing from step 2 of 4" in outcome.out


def test_damaged_checkpoints_start_again(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, checkpoints = stopped_at_the_end(site, capsys)
    (checkpoints[0] / "manifest.json").unlink()
    (checkpoints[1] / "manifest.json").write_text("{")
    outcome = accord(argv, capsys, monkeypatch)
    assert outcome.code == 0
    assert "no checkpoint can be used: starting again" in outcome.out
    assert "continuing" not in outcome.out.replace("sft: continuing", "")
    rows = next((site.dir / "runs").glob("bad/sft-*/metrics.jsonl")).read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 4


def test_checkpoint_when_the_disk_fills_up(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was saved before stays, and the next attempt continues from there."""
    argv = site.sft(max_steps=4, save_steps=1)
    calls = [0]

    def save(*args: Any, **keys: Any) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_file(*args, **keys)

    with monkeypatch.context() as patch:
        patch.setattr("accord.models.state.save_file", save)
        refused(accord(argv, capsys, patch), ArtifactError, "No space left")
    assert_nothing_half_written(site.dir)
    outcome = accord(argv, capsys, monkeypatch)
    assert outcome.code == 0 and "continuing from step 2 of 4" in outcome.out


def test_labels_arrive(site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    argv = site.collect(site.rows("samples.jsonl", one_question("a", "b")), min_labels=1)
    refused(accord(argv, capsys, monkeypatch), Waiting, "0 of 1 labels", "collect-labels.jsonl", "collect-tasks.jsonl")
    run_dir = site.dir / "runs" / "bad"
    task = json.loads((run_dir / "collect-tasks.jsonl").read_text())
    (run_dir / "collect-labels.jsonl").write_bytes(jsonl({**task, "choice": 0, "annotator": "ann"}))
    assert accord(argv, capsys, monkeypatch).code == 0
    assert finished(run_dir) == {"collect"}


@pytest.mark.parametrize("argv", [["fly"], ["run"], ["sft"], ["demo", "--seed", "x"]], ids=" ".join)
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = accord(argv, capsys, monkeypatch)
    assert outcome.code == 2 and "Usage: accord" in outcome.err and "Traceback" not in outcome.err


def test_another_process(tmp_path: Path) -> None:
    """The entry point as the shell starts it."""
    config = tmp_path / "run.yaml"
    config.write_text("sft: {dataset: a, max_step: 3}\nrun: {threads: many}\n")
    done = subprocess.run(
        [sys.executable, "-m", "accord", "run", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == ConfigError.exit_code and done.stdout == ""
    assert done.stderr.startswith("error: 2 problems in the config\n") and "Traceback" not in done.stderr
    assert "did you mean 'max_steps'?" in done.stderr


def test_in_use_and_interrupted(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that another process works on is refused; Ctrl-C there is answered with a hint, and nothing is lost."""
    argv = site.sft(max_steps=1_000_000, save_steps=1)
    # Whoever runs the tests in the background of a script has Ctrl-C ignored, and programs inherit that.
    heard = "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", heard + "runpy.run_module('accord', run_name='__main__')", *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            runs = site.dir / "runs" / "bad"
            end = time.monotonic() + 120
            while not list(runs.glob("sft-*.partial/checkpoints/ckpt-0*/manifest.json")):
                assert process.poll() is None and time.monotonic() < end, process.communicate()
                time.sleep(0.05)
            outcome = accord(argv, capsys, monkeypatch)
            refused(outcome, ArtifactError, f"in use by process {process.pid}", "run.name")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.rstrip().endswith("interrupted: run the same command again to continue") and "Traceback" not in err
    assert finished(runs) == set()
    assert_nothing_half_written(runs)
    assert latest_checkpoint(next(runs.glob("sft-*.partial")) / "checkpoints")[0] is not None
