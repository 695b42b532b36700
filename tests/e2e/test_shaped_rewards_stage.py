"""PPO on bounded scores, with a held-out judge, and a reward model that knows what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny_lab
from accord.diagnose.features import FILE, load_space

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose PPO stage has PAR and a reward model as judge."""
    place = tmp_path_factory.mktemp("shaped")
    options = [
        "sample.prompts=lab:prompts?num=80&split=train",
        "ppo.reward_shaping=par",
        "ppo.par_references=2",
        "ppo.length_penalty=0.01",
        "ppo.judge=none",
        "ppo.judge_model=reward",
        "ppo.missing_eos_penalty=null",
        "ppo.diagnosis.behaviour_prompts=12",
    ]
    tiny_lab.run(tiny_lab.write_config(place), place, *options, only="ppo")
    return place / "tiny"


def made(run: Path, section: str) -> Path:
    (found,) = (p for p in run.glob(f"{section}-*") if (p / "manifest.json").is_file())
    return found


def logged(run: Path, name: str) -> list[Any]:
    return [row[name] for row in tiny_lab.rows(made(run, "ppo") / "metrics.jsonl") if name in row]


def test_the_reward_stage_leaves_where_its_training_replies_lie(ran: Path) -> None:
    space = load_space(made(ran, "reward") / "model" / FILE)
    assert space.rows >= 64 and space.mean.shape == (32,) and space.q99 > 0
    listed = json.loads((made(ran, "reward") / "manifest.json").read_text())["files"]
    assert f"model/{FILE}" in listed


def test_inputs_unlike_the_training_of_the_reward_model_are_counted(ran: Path) -> None:
    # Of replies that ended: the reward model was trained on whole ones, so that those that were cut are strange anyway.
    some_ended = [cut < 1 for cut in logged(ran, "completions/clipped_ratio")]
    assert len(some_ended) == 4 and any(some_ended)
    assert len(logged(ran, "signals/outside")) == sum(some_ended)
    assert all(0 <= share <= 1 for share in logged(ran, "signals/outside"))
    assert all(distance > 0 for distance in logged(ran, "signals/distance"))


def test_what_is_optimised_is_bounded_and_what_is_reported_is_the_score(ran: Path) -> None:
    rewards, scores = logged(ran, "objective/rlhf_reward"), logged(ran, "objective/scores")
    penalties = [c * k for c, k in zip(logged(ran, "objective/kl_coef"), logged(ran, "objective/kl"), strict=True)]
    shaped = [r + p for r, p in zip(rewards, penalties, strict=True)]
    assert all(-0.09 <= value <= 1 for value in shaped)  # 8 tokens at most, 0.01 each
    assert rewards != scores
    assert logged(ran, "signals/saturation")


def test_the_held_out_judge_is_what_gold_is_measured_by(ran: Path) -> None:
    # The judge here is the model that is optimised, so both are the same number.
    assert logged(ran, "eval/gold") == pytest.approx(logged(ran, "eval/proxy"))
    assert logged(ran, "signals/gold_drop") and logged(ran, "signals/win_rate")
