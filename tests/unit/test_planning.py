"""Plans: which stages are done, the arithmetic of batches, and memory against what torch really keeps."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from accord import planning
from accord.batch import collate
from accord.config import RunConfig, load_run_config
from accord.errors import ConfigError
from accord.footprint import Sizes, policy_bytes, sizes_of_directory, trained_bytes
from accord.models.policy import hidden_states
from accord.pipeline import run_pipeline, section_types
from accord.stages import STAGES
from accord.stages.configs import SFTConfig

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


SIZES = Sizes(vocab=300, width=64, blocks=2, queries=64, keys=32, mlp=128, positions=256)


def model_of(sizes: Sizes) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=sizes.vocab,
            hidden_size=sizes.width,
            intermediate_size=sizes.mlp,
            num_hidden_layers=sizes.blocks,
            num_attention_heads=4,
            num_key_value_heads=4 * sizes.keys // sizes.queries,
            max_position_embeddings=sizes.positions,
            tie_word_embeddings=sizes.tied,
        )
    )


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_model(tied: bool) -> None:
    sizes = replace(SIZES, tied=tied)
    assert sizes.parameters == sum(p.numel() for p in model_of(sizes).parameters())


def test_activations_are_what_the_backward_pass_keeps() -> None:
    model, rows, columns = model_of(SIZES), 4, 48
    mask = [False] + [True] * (columns - 1)
    batch = collate([[5] * columns] * rows, [mask] * rows, pad_id=0)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = hidden_states(model.base_model, batch)
    assert hidden.requires_grad
    tokens = rows * columns
    predicted = SIZES.activation_bytes(tokens, 4) - SIZES.forward_bytes(tokens, 4)
    assert predicted == pytest.approx(sum(kept.values()), rel=0.1)


def test_memory_adds_up(config_file: Path) -> None:
    found = planning.memory(load(config_file))
    num, head = SIZES.parameters, 64
    sft, ppo = found["sft"], found["ppo"]
    assert sft is not None and ppo is not None
    assert (sft.parameters, sft.trained, sft.frozen) == (num, 16 * num, 0)
    assert ppo.trained == 16 * num + 16 * (num + head)  # policy and critic
    assert ppo.frozen == 4 * num + 4 * (num + head)  # reference and reward model
    assert ppo.cache == 64 * 64 * 2 * 2 * 32 * 4
    assert ppo.peak == ppo.trained + ppo.frozen + max(ppo.cache, ppo.activations + ppo.logits)
    assert sft.activations == SIZES.activation_bytes(4 * 32, 4)  # a step is smaller than the budget
    report = found["report"]
    assert report is not None and report.peak == 0


def test_lora_trains_little_and_keeps_no_reference(config_file: Path) -> None:
    found = planning.memory(load(config_file, "ppo.use_peft=true", "ppo.lora_r=4"))["ppo"]
    assert found is not None
    adapters = 2 * 4 * ((64 + 64) * 2 + (64 + 32) * 2 + (64 + 128) * 3)
    assert SIZES.lora_parameters(4, None) == adapters
    assert SIZES.lora_parameters(4, ("q_proj",)) == 2 * 4 * 128
    assert found.trained == trained_bytes(adapters, 4) + trained_bytes(SIZES.trunk_parameters, 4)
    assert found.frozen == 4 * SIZES.parameters + 4 * SIZES.trunk_parameters
    cfg = SFTConfig(dataset="x", dtype="bfloat16")
    assert policy_bytes(SIZES, cfg) == (8 * SIZES.parameters, 0)


def test_sizes_of_a_local_model_and_of_a_hub_id(config_file: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    names = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
    (model / "config.json").write_text(json.dumps({**names, "num_key_value_heads": 2, "intermediate_size": 128}))
    assert sizes_of_directory(model) == Sizes(300, 64, 2, 64, 32, 128, 2048)
    header = json.dumps({"__metadata__": {}, "w": {"shape": [30, 7]}, "b": {"shape": [5]}}).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    sizes = sizes_of_directory(model)
    assert sizes is not None and sizes.parameters == 215
    (model / "model.safetensors").write_bytes(b"\xff" * 20)
    sizes = sizes_of_directory(model)
    assert sizes is not None and sizes.counted is None

    assert planning.model_sizes("reward", load(config_file, "sft.model_name_or_path=model")) == sizes
    from_hub = planning.memory(load(config_file, "sft.model_name_or_path=org/model-7b"))
    assert from_hub["sft"] is None and from_hub["ppo"] is None and from_hub["pretrain"] is not None


def test_the_printed_plan_is_readable_in_a_pipe(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planning.print_plan(load(config_file, "sft.model_name_or_path=org/model-7b"))
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "to do, after sft, reward" in text
    assert "  kl_coef: 0.05\n" in text
    assert "60 rounds = 240 steps" in text
    rows = {line.split()[0]: line.split() for line in text.rpartition("peak memory")[2].splitlines() if line.strip()}
    assert rows["pretrain"][1] == f"{SIZES.parameters:,}"
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
