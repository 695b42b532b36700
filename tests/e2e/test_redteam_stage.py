"""The stages `redteam` and `attacker` in a run of the smallest size: what they leave, and that the loop closes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny_lab
from accord.artifacts import load_artifact
from accord.models.checkpoint import load_causal
from accord.redteam.attempts import read_attempts
from accord.redteam.findings import PLAIN
from accord.report import write_report
from accord.report.attacks import read_attacks
from accord.report.runfiles import read_run
from accord.types import Preference
from tiny_lab import Ran

pytestmark = pytest.mark.slow

SECTIONS = """
redteam:
  model_name_or_path: sft
  seeds: lab:seeds?num=3&split=held_out
  transforms: [game, story]
  judge: refusal
  hold_out: [story]
  k: 2
  max_completion_length: 8

dpo:
  dataset: redteam
  max_length: 128
  max_steps: 2
  train_batch_size: 4
  learning_rate: 1.0e-3
  eval_fraction: 0.0

attacker:
  model_name_or_path: sft
  target: sft
  prompts: lab:requests?num=8&split=train
  target_judge: lab
  max_length: 128
  max_completion_length: 6
  target_max_completion_length: 6
  num_rounds: 2
  train_batch_size: 4
  num_ppo_epochs: 1
  learning_rate: 1.0e-3
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    directory = tmp_path_factory.mktemp("redteam")
    wanted = tiny_lab.CONFIG.split("\nsample:")[0].replace(
        "lab:demonstrations?num=60", "lab:weak_demonstrations?num=60&weak=game,story"
    )
    return tiny_lab.run(tiny_lab.write_config(directory, wanted + SECTIONS), directory)


def test_a_red_team_leaves_attempts_a_page_and_preferences(ran: Ran) -> None:
    made = ran.made["redteam"]
    names = {"redteam.jsonl", "redteam.json", "redteam.md", "redteam.html", "pairs.jsonl", "journal.jsonl"}
    assert names <= set(load_artifact(made.dir, verify=True).manifest.files)
    header, rows = read_attempts(made.path("redteam.jsonl"))
    assert {a.family for a in rows} == {PLAIN, "game", "story"} and {a.number for a in rows} == {0, 1}
    assert header["judge"] == "refusal rules" and header["judge_error"]["true_positives"] > 0
    summary = json.loads(made.path("redteam.json").read_text())
    assert made.manifest.metrics["asr"] == summary["all"]["asr1"]["value"] > 0, "babble is no refusal to the rules"
    pairs = [Preference.model_validate_json(line) for line in made.path("pairs.jsonl").read_text().splitlines()]
    assert len(pairs) == made.manifest.metrics["pairs"] > 0
    assert "story" not in {p.meta["family"] for p in pairs}


def test_the_preferences_train_the_next_policy(ran: Ran) -> None:
    inputs = ran.made["dpo"].manifest.inputs
    assert inputs["dataset"].stage == "redteam" and ran.made["dpo"].manifest.metrics["pairs"] > 0


def test_an_attacker_is_trained_and_measured_before_and_after(ran: Ran) -> None:
    metrics = ran.made["attacker"].manifest.metrics
    assert metrics["rounds"] == 2
    for when in ("before", "after"):
        assert metrics[f"asr_low_{when}"] <= metrics[f"asr_{when}"] <= metrics[f"asr_high_{when}"]
        assert 0 <= metrics[f"self_bleu_{when}"] <= 1
    load_causal(str(ran.made["attacker"].path("model")))


def test_the_report_of_the_run_has_the_red_team(ran: Ran, tmp_path: Path) -> None:
    made = ran.made["redteam"]
    run = read_run(made.dir.parent)
    (found,) = read_attacks(run)
    assert (found.section, found.target, found.compared) == ("redteam", "sft", 2)
    assert (made.dir.parent / found.page).is_file()
    plain, whole, worst, _ = found.cells
    assert "%" in plain.shown and "to" in whole.interval and worst.shown >= "0"
    text = write_report(made.dir.parent, tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="redteam"' in text and found.page in text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("redteam.seeds=lab:seeds?num=x", "are no seeds"),
        ("redteam.seeds=lab:seeds?split=moon", "no part"),
        ("redteam.transforms=[translation]", "no transform"),
        ("redteam.hold_out=[moon]", "cannot be held out"),
    ],
)
def test_wrong_settings_are_named(ran: Ran, override: str, words: str) -> None:
    from accord.errors import ConfigError

    runs = ran.made["redteam"].dir.parent
    with pytest.raises(ConfigError, match=words):
        tiny_lab.run(runs.parent / "tiny.yaml", runs.parent, override, only="redteam")
