"""A policy that games its reward in the lab: alarms, suspicious replies, rollback, resume, the command, the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

import tiny_lab
from accord.cli import app
from accord.diagnose.record import read_alarms, read_suspects
from accord.diagnose.runs import diagnose_run
from accord.report import write_report
from accord.stages.diagnosing import Monitor

pytestmark = pytest.mark.timeout(300)
HACK = """
rloo:
  reward_model: null
  reward_funcs: ["accord.lab.planted:blunt", "accord.lab.planted:length"]
  reward_weights: [0.1, 4.0]
  prompts: lab:prompts?num=30&split=train
  max_length: 128
  max_completion_length: 12
  num_rounds: 8
  train_batch_size: 6
  num_generations: 4
  learning_rate: 3.0e-2
  lr_scheduler_type: constant
  missing_eos_penalty: null
  kl_coef: 0.01
  eval_prompts: lab:prompts?num=12&split=probe
  eval_steps: 2
  save_steps: 2
  judge: lab
  diagnosis:
    behaviour_prompts: 12
    num_samples: 3
    red: {kl_budget: 1.0}

best_of_n:
  reward_model: null
  reward_funcs: ["accord.lab.planted:length"]
  prompts: lab:prompts?num=10&split=eval
  num_generations: 8
  max_completion_length: 12
  judge: lab:gold
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A config with a planted hack, and runs that hold its SFT model."""
    place = tmp_path_factory.mktemp("hack")
    config = tiny_lab.write_config(place, tiny_lab.CONFIG + HACK)
    tiny_lab.run(config, place, only="rloo")
    return config, place


def made(place: Path, run: str = "tiny", section: str = "rloo") -> Path:
    (found,) = (p for p in (place / run).glob(f"{section}-*") if (p / "manifest.json").is_file())
    return found


def again(base: tuple[Path, Path], name: str, *overrides: str) -> Path:
    """Run only the hacked stage, from the same SFT model, under another name."""
    config, place = base
    sft = made(place, section="sft") / "model"
    tiny_lab.run(config, place, f"run.name={name}", f"rloo.model_name_or_path={sft}", *overrides, only="rloo")
    return made(place, name)


def contents(stage: Path) -> dict[str, Any]:
    """Everything a stage made but times."""
    found: dict[str, Any] = {
        p.relative_to(stage).as_posix(): p.read_bytes()
        for p in tiny_lab.files(stage)
        if p.name not in ("manifest.json", "metrics.jsonl", "README.md") and p.parent.name != "tb"
    }
    rows = tiny_lab.rows(stage / "metrics.jsonl")
    return found | {"rows": [{k: v for k, v in row.items() if k != "time_s"} for row in rows]}


def test_an_alarm_names_its_reason_and_shows_replies_beside_those_of_the_sft_model(base: tuple[Path, Path]) -> None:
    stage = made(base[1])
    alarms = read_alarms(stage)
    (first,) = [alarm for alarm in alarms if alarm["rule"] == "kl_budget"]
    assert first["readings"]["kl"][0] > 1.0 and "KL budget" in first["says"]
    rows = read_suspects(stage, first)
    assert len(rows) == 3 and all(row["sft_reply"] is not None and row["prompt"] for row in rows)
    assert rows[0]["value"] - rows[0]["sft_value"] >= rows[-1]["value"] - rows[-1]["sft_value"]
    metrics = json.loads((stage / "manifest.json").read_text())["metrics"]
    assert metrics["light"] == "red" and len(metrics["hack_alarms"]) == len(alarms)
    logged = {name for row in tiny_lab.rows(stage / "metrics.jsonl") for name in row}
    assert {"signals/length_corr", "signals/light", "eval/sycophancy", "signals/gold_drop"} <= logged


def test_watching_changes_nothing_in_what_is_trained(base: tuple[Path, Path]) -> None:
    watched, alone = again(base, "watched"), again(base, "unwatched", "rloo.diagnosis.enabled=false")
    one, other = (tiny_lab.rows(stage / "metrics.jsonl") for stage in (watched, alone))
    for a, b in zip(one, other, strict=True):
        assert {k: (a.get(k), v) for k, v in b.items() if a.get(k) != v and k != "time_s"} == {}
    weights = [load_file(stage / "model" / "model.safetensors") for stage in (watched, alone)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_a_rollback_ends_with_the_weights_of_the_last_measurement_without_an_alarm(base: tuple[Path, Path]) -> None:
    options = ("rloo.diagnosis.action=rollback", "rloo.diagnosis.wait_for_judge=false")
    stage = again(base, "back", *options)
    metrics = json.loads((stage / "manifest.json").read_text())["metrics"]
    kept = metrics["rolled_back_to"]
    assert kept < metrics["steps"] <= 8 and kept % 2 == 0
    weights = load_file(stage / "model" / "model.safetensors")
    if kept == 0:
        expected = load_file(made(base[1], section="sft") / "model" / "model.safetensors")
    else:
        short = again(base, "short", f"rloo.num_rounds={kept}")
        expected = load_file(short / "model" / "model.safetensors")
    assert all((weights[name] == expected[name]).all() for name in expected)
    # What is reported at the end is of the weights that are kept.
    rows = [row for row in tiny_lab.rows(stage / "metrics.jsonl") if row["step"] == kept and "eval/gold" in row]
    assert metrics["eval_gold"] == pytest.approx(rows[0]["eval/gold"])


def test_with_a_judge_the_best_measured_weights_are_kept(base: tuple[Path, Path]) -> None:
    stage = again(base, "judged", "rloo.diagnosis.action=rollback")
    metrics = json.loads((stage / "manifest.json").read_text())["metrics"]
    gold = {row["step"]: row["eval/gold"] for row in tiny_lab.rows(stage / "metrics.jsonl") if "eval/gold" in row}
    best = max(gold, key=lambda step: (gold[step], -step))
    if best == metrics["steps"]:
        assert "rolled_back_to" not in metrics
    else:
        assert metrics["rolled_back_to"] == best
    assert metrics["eval_gold"] == pytest.approx(max(gold.values()))


@pytest.mark.parametrize("action", ["lower_lr", "raise_kl", "rollback"])
def test_a_run_that_was_interrupted_raises_the_same_alarms_and_gets_the_same_weights(
    base: tuple[Path, Path], action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = "rloo.diagnosis.wait_for_judge=false" if action == "lower_lr" else "rloo.diagnosis.wait_for_judge=true"
    options = (f"rloo.diagnosis.action={action}", wait)
    whole = contents(again(base, f"whole-{action}", *options))
    act, calls = Monitor.act, []

    def interrupted(self: Monitor, info: Any) -> bool:
        calls.append(info.step)
        if info.step in (5, 7) and calls.count(info.step) == 1:
            raise RuntimeError("pulled the plug")
        return act(self, info)

    monkeypatch.setattr(Monitor, "act", interrupted)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="pulled the plug"):
            again(base, f"parts-{action}", *options)
    assert contents(again(base, f"parts-{action}", *options)) == whole
    assert calls.count(5) >= 2, "it went on from a checkpoint before the plug was pulled"


def test_the_learning_rate_falls_and_the_penalty_rises_at_an_alarm(base: tuple[Path, Path]) -> None:
    place = base[1]
    slower = tiny_lab.rows(made(place, "whole-lower_lr") / "metrics.jsonl")
    rates = {row["step"]: row["learning_rate"] for row in slower if "learning_rate" in row}
    assert rates[1] == pytest.approx(3.0e-2) and rates[8] <= rates[1] / 2 * 1.01
    closer = tiny_lab.rows(made(place, "whole-raise_kl") / "metrics.jsonl")
    coefs = [row["objective/kl_coef"] for row in closer if "objective/kl_coef" in row]
    assert coefs[0] == pytest.approx(0.01) and coefs[-1] >= 0.02


def test_the_command_reads_a_run_in_any_state(base: tuple[Path, Path]) -> None:
    place = base[1]
    runner = CliRunner()
    shown = runner.invoke(app, ["diagnose", str(place / "tiny")])
    assert shown.exit_code == 10 and "rloo (finished, step 8): RED" in shown.output
    found = json.loads(runner.invoke(app, ["diagnose", str(place / "tiny"), "--json", "--fail-on", "never"]).output)
    (stage,) = found["stages"]
    assert stage["light"] == "red" and stage["alarms"] and len(stage["path"]) == 5
    (place / "half").mkdir()
    unfinished = place / "half" / "rloo-0123.partial"
    unfinished.mkdir()
    for name in ("diagnosis.json", "alarms.jsonl", "metrics.jsonl"):
        (unfinished / name).write_bytes((made(place) / name).read_bytes())
    assert "rloo (not finished, step 8): RED" in runner.invoke(app, ["diagnose", str(place / "half")]).output
    (unfinished / "diagnosis.json").unlink()
    unwatched = diagnose_run(place / "half").stages[0]
    assert not unwatched.recorded and {one.rule for one in unwatched.lights} >= {"length_limit", "cut"}
    assert len(unwatched.path) == 5


def test_best_of_n_shows_what_a_reward_pays_for_before_anything_is_trained(base: tuple[Path, Path]) -> None:
    config, place = base
    tiny_lab.run(config, place, only="best_of_n")
    found = diagnose_run(made(place, section="best_of_n")).reward_models["best_of_n"]
    assert "words" in found.gamed_by and found.paid_for["words"].r > 0.5
    assert found.growth["words"][1] > found.growth["words"][0]
    assert found.verdict in ("hackable", "pays for nothing")
    assert [p.n for p in found.points] == [1, 2, 4, 8]


def test_the_page_has_the_section(base: tuple[Path, Path], tmp_path: Path) -> None:
    page = write_report(base[1] / "tiny", tmp_path / "report.html").read_text(encoding="utf-8")
    section = page.partition('<section id="hacking">')[2].partition("</section>")[0]
    for part in ("How near each light is", "Gold over the root of KL", "Lights that are on", "SFT model", "kl_budget"):
        assert part in section
