"""What `accord show` says about finished, older, damaged and unfinished stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.artifacts import Workspace, commit, fingerprint, open_workspace
from accord.errors import ArtifactError
from accord.overview import lines, print_run
from accord.tracking import Tracker


def work(run: Path, stage: str, **config: Any) -> Workspace:
    found = open_workspace(run, stage, fingerprint(stage, 1, config, 0, {}))
    assert isinstance(found, Workspace)
    return found


def make(run: Path, stage: str, metrics: dict[str, Any], kind: str = "policy", **config: Any) -> str:
    space = work(run, stage, **config)
    space.path("report.html" if kind == "report" else "out").write_text("x")
    done = commit(space, kind=kind, version=1, config=config, seed=0, inputs={}, metrics=metrics)
    return done.dir.name


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "mine"
    old = make(path, "reward", {"accuracy": 0.61, "pairs": 12}, "reward_model", old=True)
    new = make(path, "reward", {"accuracy": 0.70499, "pairs": 12, "steps": 9}, "reward_model")
    base = make(path, "pretrain", {"eval_loss": 1.25, "steps": 7})
    assert old != new
    (path / "run.json").write_text(json.dumps({"stages": {"pretrain": base, "reward": new}}))
    return path


def test_newest_invocation_comes_first_and_in_its_order(run: Path) -> None:
    found = lines(run)
    assert [(line.directory.split("-")[0], line.state) for line in found] == [
        ("pretrain", "current"),
        ("reward", "current"),
        ("reward", "older"),
    ]
    assert found[1].numbers == "accuracy 0.705, pairs 12"
    assert found[1].kind == "reward_model" and found[1].memory_mb and found[1].seconds is not None


def test_without_an_index_everything_is_current(run: Path) -> None:
    (run / "run.json").unlink()
    assert {line.state for line in lines(run)} == {"current"}


def test_an_unfinished_stage_says_where_it_stands(run: Path) -> None:
    space = work(run, "ppo_long")
    assert lines(run)[-1].numbers == "no checkpoint yet"
    for step in (50, 100):
        (space.checkpoints / f"ckpt-{step:08d}").mkdir(parents=True)
    (space.checkpoints / "ckpt-00000150.tmp.ab12").mkdir()
    with Tracker(space.dir) as tracker:
        tracker.log(120, {"loss": 1.0})
    line = lines(run)[-1]
    assert (line.state, line.numbers) == ("in progress", "checkpoint at step 100, last logged step 120")


def test_evaluation_and_second_stages_show_their_main_numbers(run: Path) -> None:
    agreement = {"value": 0.73123, "low": 0.7, "high": 0.76, "n": 90}
    make(run, "evaluate", {"utility_sft": -0.5, "win_rate_ppo": 0.75, "prompts": 9}, "results")
    make(run, "collect_b", {"num": 90, "ties": 3, "agreement": agreement}, "preferences")
    make(run, "mystery", {"a": 1, "text": "x", "deep": {"b": 1}}, "other")
    numbers = {line.directory.split("-")[0]: line.numbers for line in lines(run)}
    assert numbers["evaluate"] == "win_rate_ppo 0.750, utility_sft -0.500"
    assert numbers["collect_b"] == "num 90, agreement 0.731 [0.700, 0.760]"
    assert numbers["mystery"] == "a 1"


def test_damage_is_shown_and_does_not_hide_the_rest(run: Path) -> None:
    broken = next(run.glob("pretrain-*"))
    (broken / "out").write_text("changed")
    found = {line.directory: line for line in lines(run)}
    assert found[broken.name].state == "damaged" and "out" in found[broken.name].numbers
    assert len(found) == 3


def test_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = make(run, "report", {"bytes": 10}, "report")
    print_run(run)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert text.startswith(f"run mine: {run}\n")
    assert f"report: {run / report / 'report.html'}\n" in text
    assert "eval_loss 1.250, steps 7" in text
    assert "run the same command again" not in text
    work(run, "sft")
    print_run(run)
    assert "run the same command again" in capsys.readouterr().out


def test_no_such_run(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ArtifactError, match="no such run"):
        print_run(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="not a run"):
        print_run(tmp_path)
    (run / "run.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"run\.json is damaged"):
        print_run(run)


def test_a_run_that_has_just_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("run: {}")
    print_run(tmp_path)
    assert "nothing is finished yet" in capsys.readouterr().out
