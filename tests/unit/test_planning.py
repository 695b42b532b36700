"""Plans: which stages are done, the arithmetic of batches, and memory against what torch really keeps."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accord import planning
from accord.config import RunConfig, load_run_config
from accord.errors import ConfigError
from accord.pipeline import run_pipeline, section_types
from accord.stages import STAGES

SMALL = """
run: {name: small, dir: DIR}
pretrain: {dataset: "lab:corpus?num=50", vocab_size: 300, hidden_size: 64, num_hidden_layers: 2,
           num_attention_heads: 4, num_key_value_heads: 2, intermediate_size: 128, max_length: 32, max_steps: 5}
sft: {dataset: demos.jsonl, max_length: 32, train_batch_size: 4, num_train_epochs: 2, eval_fraction: 0.1}
reward: {dataset: "lab:demonstrations?num=100", max_length: 32, train_batch_size: 8}
ppo: {prompts: "lab:prompts", train_batch_size: 64, num_rounds: 60, max_length: 64}
report: {}
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("DIR", str(tmp_path / "runs")))
    (tmp_path / "demos.jsonl").write_text("{}\n\n" + "{}\n" * 39)
    return path


def load(path: Path, *overrides: str) -> RunConfig:
    return load_run_config(path, list(overrides), section_types(["ppo", *STAGES], STAGES))


def write_one_file(_: Any, context: Any) -> dict[str, Any]:
    for stage in STAGES.values():
        for name in stage.exports.values():
            context.work.path(name).write_text(context.work.stage)
    return {}


FAKES = {name: replace(stage, load=lambda: write_one_file) for name, stage in STAGES.items()}


def statuses(config: RunConfig) -> dict[str, str]:
    return {step.section: step.status.partition(" (")[0] for step in planning.steps(config)}


def test_nothing_done_yet(config_file: Path) -> None:
    found = planning.steps(load(config_file))
    assert [s.section for s in found] == ["pretrain", "sft", "reward", "ppo", "report"]
    assert found[0].status == "to do"
    assert found[1].inputs == ("model_name_or_path: pretrain", "dataset: demos.jsonl")
    assert found[3].status == "to do, after sft, reward"
    assert found[4].inputs == ("everything before",)


def test_done_stages_are_recognised_as_the_pipeline_would(config_file: Path) -> None:
    config = load(config_file)
    run_pipeline(config, FAKES, only="sft", say=lambda _: None)
    assert statuses(config) == {
        "pretrain": "done",
        "sft": "done",
        "reward": "to do",
        "ppo": "to do, after reward",
        "report": "to do, after reward, ppo",
    }
    run_pipeline(config, FAKES, say=lambda _: None)
    assert set(statuses(config).values()) == {"done"}


def test_a_changed_key_undoes_its_stage_and_what_follows(config_file: Path) -> None:
    run_pipeline(load(config_file), FAKES, say=lambda _: None)
    found = statuses(load(config_file, "reward.learning_rate=0.1"))
    assert found == {
        "pretrain": "done",
        "sft": "done",
        "reward": "to do",
        "ppo": "to do, after reward",
        "report": "to do, after reward, ppo",
    }


def test_a_stage_that_was_interrupted_continues(config_file: Path) -> None:
    config = load(config_file)

    def interrupted(_: Any, context: Any) -> dict[str, Any]:
        context.work.path("half").write_text("x")
        raise KeyboardInterrupt

    broken = {**FAKES, "pretrain": replace(STAGES["pretrain"], load=lambda: interrupted)}
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(config, broken, say=lambda _: None)
    assert statuses(config)["pretrain"] == "continues"


def test_a_missing_input_is_found_before_anything_runs(config_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-such\.jsonl") as caught:
        planning.steps(load(config_file, "ppo.prompts=no-such.jsonl"))
    assert str(caught.value.where).endswith("small.yaml: ppo.prompts")


def test_arithmetic(config_file: Path) -> None:
    lines = planning.arithmetic(load(config_file, "pretrain.packing=false", "ppo.num_generations=2"))
    assert lines == [
        "pretrain: 64 rows a step, 5 steps (about 6.7 epochs), micro-batches of at most 8192 tokens (256 rows of 32)",
        "sft: 4 rows a step, 2 epochs over about 36 rows = about 18 steps, "
        "micro-batches of at most 8192 tokens (256 rows of 32)",
        "reward: 8 pairs a step, 1 epochs over about 90 pairs = about 11 steps, "
        "micro-batches of at most 8192 tokens (256 rows of 32)",
        "ppo: 64 prompts x 2 replies = 128 rollouts a round, 4 epochs x 1 minibatches = 4 optimiser steps a round, "
        "60 rounds = 240 steps, micro-batches of at most 8192 tokens (128 rows of 64)",
    ]
    assert planning.arithmetic(load(config_file))[0] == (
        "pretrain: 64 windows of 32 = 2048 tokens a step, 5 steps = 0.0 million tokens, "
        "micro-batches of at most 8192 tokens (256 rows of 32)"
    )


def test_parts_of_a_split_are_followed(config_file: Path) -> None:
    config = load(
        config_file,
        "split.dataset=demos.jsonl",
        "split.test_fraction=0.25",
        "sft.dataset=split:train",
        "sft.max_steps=3",
    )
    assert planning.arithmetic(config)[1].startswith("sft: 4 rows a step, 3 steps (about 0.4 epochs)")
    found = {step.section: step.status for step in planning.steps(config)}
    assert (found["split"], found["sft"]) == ("to do", "to do, after pretrain, split")


def test_the_printed_plan_is_readable_in_a_pipe(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planning.print_plan(load(config_file, "sft.model_name_or_path=org/model-7b"))
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "to do, after sft, reward" in text
    assert "  kl_coef: 0.05\n" in text
    assert "60 rounds = 240 steps" in text
    rows = {line.split()[0]: line.split() for line in text.rpartition("peak memory")[2].splitlines() if line.strip()}
    assert rows["pretrain"][1] == "93,248"  # sizes of the section, see test_forecast
    assert rows["sft"][1] == "unknown"
    assert not config_file.with_name("runs").exists(), "a plan writes nothing"


def test_planning_needs_no_torch(config_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from accord.cli import load; from accord.planning import print_plan\n"
        f"print_plan(load(Path({str(config_file)!r}), []))\n"
        "bad = {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules); assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
