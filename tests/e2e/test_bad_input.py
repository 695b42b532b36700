"""Bad input through the command line: one clear message, the documented exit code, nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_input_cases import COMMANDS, CONFIGS, DATA
from bad_input_models import DISKS, HELD, MODELS, STAGES_MISUSED
from bad_input_site import (
    DEMONSTRATIONS,
    PAIRS,
    TRAIN,
    Case,
    Site,
    accord,
    assert_nothing_half_written,
    finished,
)

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
    from accord.cli import load
    from accord.pipeline import run_pipeline
    from accord.stages import STAGES

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
