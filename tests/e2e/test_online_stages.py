"""Every on-policy stage through the pipeline, at the smallest size at which it still trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from accord.cli import load
from accord.errors import AccordError
from accord.models import trunk
from accord.stages import STAGES
from accord.stages.configs import OnPolicyConfig
from tiny_lab import CONFIG, Ran, rows, run, write_config

EXTRA: dict[str, dict[str, Any]] = {
    "ppo_shared": {
        "critic": "shared",
        "critic_learning_rate": 0.003,
        "dual_clip": 3.0,
        "ptx_coef": 0.5,
        "ptx_dataset": "'lab:demonstrations?num=20'",
        "ptx_format": "demonstrations",
        "ptx_batch_size": 3,
        "reward_funcs": "[test_online_stages:shorter]",
        "reward_weights": "[1.0, 0.5]",
    },
    "reinforce": {"ptx_coef": 0.2, "ptx_dataset": "'lab:corpus?num=20'", "ptx_batch_size": 3},
    "reinforce_pp": {"num_iterations": 2},
    "remax": {},
    "rloo": {"num_iterations": 2, "num_mini_batches": 2, "async_steps": 1},
    "opo": {"num_generations": 3},
    "grpo": {"reward_model": "null", "reward_funcs": "[test_online_stages:shorter]", "missing_eos_mode": "replace"},
    "dr_grpo": {"num_generations": 3, "kl_coef": 0.1},
    "dapo": {"reward_model": "null", "reward_funcs": "[test_online_stages:rarely]", "overlong_cache": "null"},
    "gspo": {"num_generations": 3, "old_logps": "sampler", "old_logps_check_rounds": 1, "measure_kl": "false"},
    "cispo": {"num_generations": 3, "sampler_correction": "token_truncate"},
    "sapo": {"num_generations": 3, "num_iterations": 2},
}
COMMON = {
    "prompts": "'lab:prompts?num=30&split=train'",
    "max_length": 128,
    "max_completion_length": 8,
    "num_rounds": 2,
    "train_batch_size": 6,
    "learning_rate": 0.001,
    "logging_steps": 1,
}


def shorter(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """Fewer letters are better."""
    return [-len(text) / 20 for text in completions]


def rarely(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """Mostly 0: most groups have equal scores."""
    return [float(len(text) % 7 == 0) for text in completions]


def sections() -> str:
    base = CONFIG.split("\nppo:", 1)[0]
    parts = [
        f"{name}:\n" + "".join(f"  {key}: {value}\n" for key, value in {**COMMON, **extra}.items())
        for name, extra in EXTRA.items()
    ]
    return base + "\n" + "\n".join(parts)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    directory = tmp_path_factory.mktemp("online")
    return run(write_config(directory, sections()), directory / "runs")


def test_every_on_policy_stage_is_here() -> None:
    stages = {name for name, stage in STAGES.items() if issubclass(stage.config, OnPolicyConfig)}
    # The attacker has a reward of its own and is tried with it: tests/e2e/test_redteam_stage.py.
    assert stages - {"ppo", "attacker"} == set(EXTRA) - {"ppo_shared"}


@pytest.mark.parametrize("name", EXTRA)
def test_a_stage_trains_and_logs(ran: Ran, name: str) -> None:
    artifact = ran.made[name]
    logged = rows(artifact.dir / "metrics.jsonl")
    assert artifact.manifest.metrics["rounds"] == 2
    assert (artifact.dir / "model" / "config.json").is_file()
    first = logged[0]
    assert abs(first["val/ratio"] - 1) < 1e-5
    assert first["grad_norm"] > 0 and all(math.isfinite(row["loss"]) for row in logged)
    assert abs(first["objective/kl"]) < 1e-4 if "measure_kl" not in EXTRA[name] else "objective/kl" not in first
    assert first["policy/approxkl_avg"] < 1e-5


def test_what_single_stages_log(ran: Ran) -> None:
    logged = {name: rows(ran.made[name].dir / "metrics.jsonl") for name in EXTRA}
    assert logged["ppo_shared"][0]["loss/ptx_avg"] > 1 and logged["reinforce"][0]["loss/ptx_avg"] > 1
    assert logged["ppo_shared"][0]["rewards/shorter/mean"] < 0
    parts = logged["ppo_shared"][0]
    total = parts["rewards/reward_model/mean"] + 0.5 * parts["rewards/shorter/mean"]
    assert parts["objective/scores"] == pytest.approx(total, abs=1e-5)
    assert {"kl", "reward_std", "frac_reward_zero_std", "clip_ratio/region_mean"} <= set(logged["grpo"][0])
    assert sum(row["sampling/resampled_groups"] for row in logged["dapo"]) > 0
    assert abs(logged["cispo"][0]["sampler/weight"] - 1) < 1e-4
    assert "reward_std" not in logged["reinforce"][0]
    assert [row["sampler/staleness"] for row in logged["rloo"] if "sampler/staleness" in row] == [0, 1]
    reused = {name: [row["sampler/reused"] for row in of if "sampler/reused" in row] for name, of in logged.items()}
    assert reused.pop("cispo") == [] and all(values == [0, 1] for values in reused.values())
    assert all("sampler/mean_abs_dlogp" in row for row in logged["gspo"] if "round" in row)


WRONG = {
    "ppo.critic=shared ppo.reward_model=null": "nothing scores",
    "ppo.reward_model=null ppo.reward_funcs=[a:b]": "critic: separate starts as a copy",
    "ppo.reward_weights=[1,2]": "2 numbers for 1 rewards",
    "ppo.ptx_coef=1": "go together",
    "ppo.kl_coef=0": "kl_target multiplies",
    "ppo.overlong_cache=9": "larger than max_completion_length",
    "reinforce.num_mini_batches=2": "no ratio",
    "grpo.num_generations=1": "greater than or equal to 2",
    "grpo.reward_model=null grpo.reward_funcs=[a:b] grpo.offload_frozen=true": "offload_frozen needs a reward_model",
    "grpo.delta=1.2": "limit beyond the clip",
    "grpo.missing_eos_mode=replace grpo.missing_eos_penalty=null": "replace needs missing_eos_penalty",
    "grpo.sampler_correction=token_truncate grpo.sampler_correction_floor=0.5": "for the mask modes",
    "grpo.sampler_correction=token_mask grpo.sampler_correction_floor=4": "no weight would be left",
    "grpo.old_logps=sampler grpo.sampler_correction=token_mask": "nothing to correct",
    "grpo.async_steps=1 grpo.dynamic_sampling=2": "replies that depend on scores",
    "grpo.measure_kl=false": "need the reference",
    "grpo.measure_kl=false grpo.beta=0 grpo.max_kl=5": "need the reference",
    "reinforce.async_steps=1": "needs a sampler_correction",
    "grpo.beta=0.1 grpo.kl_estimator=k1 grpo.use_bias_correction_kl=false": "no expected gradient",
}


@pytest.mark.parametrize("overrides", WRONG)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, overrides: str) -> None:
    text = CONFIG.replace(
        "\nreport: {}", "\nreinforce:\n  prompts: lab:prompts\n\ngrpo:\n  prompts: lab:prompts\n\nreport: {}"
    )
    with pytest.raises(AccordError, match=WRONG[overrides]):
        load(write_config(tmp_path, text), overrides.split())


def test_share_prompts_holds_for_the_reward_model_too(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ran.made["rloo"].dir.parents[1]
    joined: list[bool] = []
    right = trunk._joined
    monkeypatch.setattr(trunk, "_joined", lambda *a, **k: joined.append(right(*a, **k) is not None) or right(*a, **k))
    for on, seed in (("true", 7), ("false", 8)):
        joined.clear()
        run(runs.parent / "tiny.yaml", runs, f"rloo.share_prompts={on}", f"rloo.learning_rate=1e-{seed}", only="rloo")
        assert any(joined) == (on == "true")
