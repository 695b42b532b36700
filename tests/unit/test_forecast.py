"""Predicted memory: against what torch really keeps, and phase by phase."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from accord import footprint, forecast
from accord.batch import collate
from accord.config import RunConfig, load_run_config
from accord.footprint import Lora, Sizes, sizes_of_directory
from accord.microbatches import FLAT_FROM
from accord.models import attention, llama_trunk
from accord.models.attention import use_attention
from accord.models.lora import ATTENTION, add_lora, unwrap
from accord.models.precision import mixed_precision
from accord.models.recompute import recompute_activations
from accord.models.trunk import hidden_states, states_at
from accord.pipeline import section_types
from accord.stages import STAGES
from accord.stages.configs import PPOConfig, SFTConfig

SMALL = """
run: {name: small, dir: DIR}
pretrain: {dataset: "lab:corpus?num=50", vocab_size: 300, hidden_size: 64, num_hidden_layers: 2,
           num_attention_heads: 4, num_key_value_heads: 2, intermediate_size: 128, max_length: 32, max_steps: 5}
sft: {dataset: demos.jsonl, max_length: 32, train_batch_size: 4}
reward: {dataset: "lab:demonstrations?num=100", max_length: 32, train_batch_size: 8}
ppo: {prompts: "lab:prompts", train_batch_size: 64, num_rounds: 60, max_length: 64, max_completion_length: 16}
report: {}
"""
SIZES = Sizes(vocab=300, width=64, blocks=2, queries=64, keys=32, mlp=128, positions=2048, heads=4, written_out=True)
N, HEAD = SIZES.parameters, 64


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("DIR", str(tmp_path / "runs")))
    (tmp_path / "demos.jsonl").write_text("{}\n" * 40)
    return path


def config(path: Path, *overrides: str) -> RunConfig:
    return load_run_config(path, list(overrides), section_types(["ppo", *STAGES], STAGES))


def found(path: Path, section: str, *overrides: str) -> forecast.Memory:
    memory = forecast.memory(config(path, *overrides))[section]
    assert memory is not None
    return memory


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


def kept_bytes(model: torch.nn.Module, rows: int, columns: int) -> int:
    """Bytes that autograd keeps of a forward through the trunk, weights left out."""
    batch = collate([[5] * columns] * rows, [[False] + [True] * (columns - 1)] * rows, pad_id=0)
    return kept_by(lambda: hidden_states(unwrap(model).base_model, batch), model)


def kept_by(forward: Callable[[], torch.Tensor], model: torch.nn.Module) -> int:
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = forward()
    assert hidden.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("targets", [None, ATTENTION, ("q_proj", "v_proj"), "full"])
def test_activations_are_what_the_backward_pass_keeps(targets: tuple[str, ...] | str | None) -> None:
    sizes = replace(SIZES, blocks=6, width=96, queries=96, keys=48)
    model, lora = model_of(sizes), None
    if targets != "full":
        assert not isinstance(targets, str)
        model, lora = add_lora(model, r=4, targets=targets), Lora(4, targets)
    assert sizes.activation_bytes(4 * 48, 4, lora) == pytest.approx(kept_bytes(model, 4, 48), rel=0.05)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("length", [40, 130, 300, 700])
def test_blocks_that_are_written_out_keep_less(length: int, mixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "PARTS_FROM", FLAT_FROM)
    sizes = replace(SIZES, blocks=6, width=96, queries=96, keys=48, mlp=320)
    model = model_of(sizes).eval()
    use_attention(model, torch.device("cpu"))
    mixed_precision(model, on=mixed)
    rows = 16 if length < FLAT_FROM else 3  # numbers of tokens that bfloat16 hardly fills up
    batch = collate([[5] * length] * rows, [[False] + [True] * (length - 1)] * rows, pad_id=0)
    everywhere = batch.token_mask_BT
    states_at(model.model, batch, everywhere)  # the probe keeps nothing
    found = kept_by(lambda: states_at(model.model, batch, everywhere), model)
    wanted = sizes.written_bytes(rows * length, 4, length, mixed=mixed)
    assert wanted == pytest.approx(found, rel=0.08)
    if length < 300:  # a softmax of four heads is large beside a width of 96
        assert wanted < (sizes.mixed_bytes(rows * length) if mixed else sizes.activation_bytes(rows * length, 4))


def test_parts_of_attention_are_those_of_the_model() -> None:
    assert (attention._QUERIES, attention._KEPT_KEYS) == (footprint.PART_QUERIES, footprint.PART_KEYS)
    assert {f"{name.removesuffix('Model').lower()}" for name in llama_trunk._FAMILIES} == set(footprint._WRITTEN_OUT)


@pytest.mark.parametrize(
    "other", ["sft.use_peft=true", "sft.attn_implementation=eager", "sft.dtype=bfloat16", "sft.packing=true", "gpu"]
)
def test_what_runs_its_own_forward(config_file: Path, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(Sizes, "written_bytes", lambda *_, **__: called.append(True) or 0)
    found(config_file, "sft")
    usual = len(called)
    monkeypatch.setattr(forecast, "has_gpu", lambda: other == "gpu")
    found(config_file, "sft", *([] if other == "gpu" else [other]))
    assert len(called) - usual == (0 if other == "gpu" else usual - 1)  # the other stages' models are as they were


def test_recomputed_activations_are_the_inputs_of_the_blocks() -> None:
    model = model_of(SIZES)
    recompute_activations(model)
    assert SIZES.recomputed_bytes(4 * 48, 4, 0) == pytest.approx(kept_bytes(model, 4, 48), rel=0.1)
    whole = SIZES.activation_bytes(4 * 48, 4)
    assert SIZES.recomputed_bytes(4 * 48, 4, 0) < SIZES.recomputed_bytes(4 * 48, 4, whole) < whole


def test_supervised_training_adds_up(config_file: Path) -> None:
    sft = found(config_file, "sft")
    assert (sft.parameters, sft.weights, sft.optimiser) == (N, 4 * N, 12 * N)
    assert set(sft.phases) == {"load", "update", "save"}
    assert sft.phases["save"] == 16 * N and sft.peak == max(sft.phases.values())
    tokens = 4 * 32  # a step is smaller than the budget: one micro-batch, whose activations come before any gradient
    transient = max(SIZES.logit_bytes(tokens, 3), SIZES.forward_bytes(tokens, 4))
    assert sft.phases["update"] == 12 * N + max(
        SIZES.written_bytes(tokens, 4, 32, mixed=False) + transient, 4 * N + transient // 3
    )
    cut = found(config_file, "sft", "sft.token_budget=64")
    tokens = 2 * 32
    transient = max(SIZES.logit_bytes(tokens, 3), SIZES.forward_bytes(tokens, 4))
    assert cut.phases["update"] == 16 * N + SIZES.written_bytes(tokens, 4, 32, mixed=False) + transient
    assert found(config_file, "report").peak == 0


def test_ppo_holds_four_models_or_one(config_file: Path) -> None:
    ppo = found(config_file, "ppo")
    critic = N + HEAD
    assert ppo.weights == 4 * (2 * N + 2 * critic)
    assert ppo.optimiser == 12 * (N + critic)
    assert ppo.phases["save"] == ppo.weights + ppo.optimiser
    assert ppo.phases["rollout"] > ppo.phases["save"] + SIZES.cache_bytes(64, 64, 4)

    lora = Lora(4, None)
    adapter = 4 * SIZES.lora_parameters(lora)
    assert adapter == 4 * 2 * 4 * ((64 + 64) * 2 + (64 + 32) * 2 + (64 + 128) * 3)
    assert SIZES.lora_parameters(Lora(4, ("q_proj",))) == 2 * 4 * 128
    with_lora = ("ppo.use_peft=true", "ppo.lora_r=4")
    separate = found(config_file, "ppo", *with_lora)
    assert separate.weights == adapter + 4 * N + 8 * critic  # no reference: the base is it
    both = (*with_lora, "reward.use_peft=true", "reward.lora_r=4", "ppo.arrangement=shared_base")
    shared = found(config_file, "ppo", *both)
    assert shared.weights == 4 * N + 3 * adapter
    assert shared.optimiser == 3 * 2 * adapter
    few = "ppo.token_budget=64"  # with many tokens activations decide, of which adapters keep more
    peaks = [found(config_file, "ppo", few, *which).peak for which in (both, with_lora, ())]
    assert peaks == sorted(peaks) and len(set(peaks)) == 3


def test_what_makes_a_phase_smaller(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = found(config_file, "ppo")
    again = found(config_file, "ppo", "ppo.gradient_checkpointing=true")
    assert again.phases["update"] < plain.phases["update"]
    assert again.phases["rollout"] == plain.phases["rollout"]
    away = 4 * N + 4 * (N + HEAD)
    for gpu, saved in ((False, 0), (True, away)):
        monkeypatch.setattr(forecast, "has_gpu", lambda gpu=gpu: gpu)
        plain, offloaded = (found(config_file, "ppo", f"ppo.offload_frozen={on}") for on in ("false", "true"))
        assert plain.phases["update"] - offloaded.phases["update"] == saved
        assert plain.phases["scoring"] == offloaded.phases["scoring"]
    four = found(config_file, "sft", "sft.use_peft=true", "sft.load_in_4bit=true")
    assert four.phases["load"] < 0.5 * found(config_file, "sft", "sft.use_peft=true").phases["load"]


def test_the_engine_copies_weights_for_its_fast_step(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for gpu in (False, True):
        monkeypatch.setattr(forecast, "has_gpu", lambda gpu=gpu: gpu)
        fast, plain = (found(config_file, "ppo", f"ppo.fast_decode={on}").phases for on in ("true", "false"))
        joined = 2 * (64 * (64 + 2 * 32) + 2 * 64 * 128)  # two blocks: q, k and v, both halves of the MLP
        copies = 4 * (joined if gpu else joined + 2 * (64 * 64 + 128 * 64) + 300 * 64)
        assert {name: fast[name] - plain[name] for name in fast if fast[name] != plain[name]} == {
            "load": copies,
            "rollout": copies,
        }


def test_contradicting_arrangements_are_errors() -> None:
    for bad, reason in (
        ({"arrangement": "shared_base"}, "needs use_peft"),
        ({"arrangement": "shared_base", "use_peft": True, "offload_frozen": True}, "nothing to move"),
        ({"load_in_4bit": True}, "needs use_peft"),
    ):
        with pytest.raises(ValidationError, match=reason):
            PPOConfig.model_validate({"prompts": "x", **bad})
    assert SFTConfig(dataset="x", use_peft=True, load_in_4bit=True).load_in_4bit


def test_sizes_of_a_local_model_and_of_a_hub_id(config_file: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    names = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
    (model / "config.json").write_text(json.dumps({**names, "num_key_value_heads": 2, "intermediate_size": 128}))
    assert sizes_of_directory(model) == Sizes(300, 64, 2, 64, 32, 128, 2048, heads=4)
    header = json.dumps({"__metadata__": {}, "w": {"shape": [30, 7]}, "b": {"shape": [5]}}).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    sizes = sizes_of_directory(model)
    assert sizes is not None and sizes.parameters == 215
    (model / "model.safetensors").write_bytes(b"\xff" * 20)
    sizes = sizes_of_directory(model)
    assert sizes is not None and sizes.counted is None

    assert forecast.model_sizes("reward", config(config_file, "sft.model_name_or_path=model")) == sizes
    from_hub = forecast.memory(config(config_file, "sft.model_name_or_path=org/model-7b"))
    assert from_hub["sft"] is None and from_hub["ppo"] is None and from_hub["pretrain"] is not None
