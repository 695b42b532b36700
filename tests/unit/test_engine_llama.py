"""The written-out decoding step gives the logits of the model's own forward, and steps back where it could not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_models import PAD, POSITIONS, STOPS, VOCAB, engine, prompts, teacher_forced, tiny
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from accord.engines.base import Sampling
from accord.engines.cache import CachedDecoder, Decoder
from accord.engines.grouped import GroupedDecoder
from accord.engines.llama import LlamaStep, obstacle
from accord.models.precision import mixed_precision

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CASES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "tied": (LlamaConfig, {"tie_word_embeddings": True}),
    "grouped heads": (LlamaConfig, {"num_key_value_heads": 2}),
    "one key head, wide heads": (LlamaConfig, {"num_key_value_heads": 1, "head_dim": 16}),
    "biases everywhere": (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "a window that Llama ignores": (LlamaConfig, {"sliding_window": 3}),
    "llama3 rope": (LlamaConfig, {"rope_parameters": LLAMA3}),
    "yarn rope": (LlamaConfig, {"rope_parameters": YARN}),
    "qwen2": (Qwen2Config, {"num_key_value_heads": 2}),
    "qwen2 with windows": (
        Qwen2Config,
        {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}),
    "mistral": (MistralConfig, {"num_key_value_heads": 2, "sliding_window": None}),
    "mistral with a window": (MistralConfig, {"num_key_value_heads": 2, "sliding_window": 5}),
}


def build(case: str, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(3)
    kind, options = CASES[case]
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.2,
        "bos_token_id": 2,
        "eos_token_id": list(STOPS),
        "pad_token_id": PAD,
    }
    model = AutoModelForCausalLM.from_config(kind(**(shape | options)))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        # Biases start as zeros and norms as ones: either would hide that it is not read.
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
        assert torch.isfinite(parameter).all(), name
    return model.to(dtype).eval()


@torch.no_grad()
def logits(model: PreTrainedModel, *, fast: bool) -> torch.Tensor:
    """Rows of different lengths and ages through steps, dropped rows and latecomers."""
    decoder: Decoder = CachedDecoder(model, slots=7, columns=60, new_tokens=14, pad_id=PAD)
    if fast:
        decoder = GroupedDecoder(
            model,
            LlamaStep(model, 7),
            prompts=7,
            longest=17,
            slots=7,
            own_columns=20,
            new_tokens=14,
            pad_id=PAD,
        )
    early = decoder.prefill([list(range(3, 20)), [7, 8], list(range(30, 39))])
    decoder.admit(early, torch.tensor([0, 0, 1, 2, 2]))
    seen = []
    for number in range(14):
        token_B = (torch.arange(decoder.rows) * 11 + number * 5) % VOCAB
        live_B = torch.ones(decoder.rows, dtype=torch.bool)
        live_B[1] = number < 4
        seen.append(decoder.step(token_B, live_B))
        if number == 6:
            decoder.keep(torch.tensor([0, 4, 2]))
            decoder.admit(decoder.prefill([[9, 1, 4], [5] * 12]), torch.tensor([1, 0, 0]))
    return torch.cat(seen)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_the_step_gives_the_logits_of_the_model_s_forward(case: str, dtype: torch.dtype, tolerance: float) -> None:
    model = build(case, dtype)
    assert obstacle(model) is None
    own, fast = logits(model, fast=False), logits(model, fast=True)
    assert own.abs().max() > 1, "the logits must differ for the test to mean anything"
    torch.testing.assert_close(fast, own, rtol=tolerance, atol=tolerance * float(own.abs().max()))


def test_bfloat16_is_as_close_as_its_rounding() -> None:
    model = build("grouped heads", torch.bfloat16)
    own, fast = logits(model, fast=False).float(), logits(model, fast=True).float()
    assert fast.dtype == torch.float32
    assert float((own - fast).abs().mean() / own.abs().mean()) < 0.02


def test_a_trunk_that_trains_in_bfloat16_steps_in_bfloat16() -> None:
    model = build("grouped heads", torch.float32)
    exact = logits(model, fast=True)
    mixed_precision(model, on=True)
    rounded = logits(model, fast=True)
    assert rounded.dtype == torch.float32
    error = float((rounded - exact).abs().mean() / exact.abs().mean())
    assert 1e-4 < error < 0.02
    assert engine(model).fast, "the probe of the engine allows for bfloat16"


@pytest.mark.parametrize("n", [1, 5])
def test_prompts_that_come_and_go_at_different_times(n: int) -> None:
    """More prompts than slots, samples of one prompt that do not all fit, prompts twice in the batch."""
    model = build("grouped heads", torch.float64)
    batch = [*prompts(9), prompts(9)[2]]
    sampling = Sampling(24, n=n)
    whole = engine(model, max_batch=64).generate(batch, sampling, seeds=range(10))
    few = engine(model, max_batch=6).generate(batch, sampling, seeds=range(10))
    slow = engine(model, max_batch=6, fast=False).generate(batch, sampling, seeds=range(10))
    assert [c.token_ids for c in few] == [c.token_ids for c in whole] == [c.token_ids for c in slow]
    assert len({len(c.token_ids) for c in few}) > 2, "rows must leave at different times"


def test_a_prompt_whose_samples_come_in_turns_is_kept_once() -> None:
    """There is room for one prompt only."""
    model = build("grouped heads", torch.float64)
    few = engine(model, max_batch=4).generate(prompts(1), Sampling(12, n=9))
    whole = engine(model, max_batch=9).generate(prompts(1), Sampling(12, n=9))
    assert [c.token_ids for c in few] == [c.token_ids for c in whole]


@pytest.mark.parametrize("case", ["grouped heads", "qwen2", "qwen3", "mistral with a window"])
def test_completions_are_those_of_plain_forwards(case: str) -> None:
    model = build(case, torch.float32)
    run = engine(model, max_batch=7)
    assert run.fast
    batch = prompts(12)
    out = run.generate(batch, Sampling(12, n=2), seeds=range(12))
    slow = engine(model, max_batch=7, fast=False).generate(batch, Sampling(12, n=2), seeds=range(12))
    assert [c.token_ids for c in out] == [c.token_ids for c in slow]
    for index, completion in enumerate(out):
        logp = teacher_forced(model, batch[index // 2], completion.token_ids).log_softmax(-1)
        expected = logp[range(len(logp)), list(completion.token_ids)]
        torch.testing.assert_close(torch.tensor(completion.logps), expected, atol=1e-4, rtol=0)


def uses_the_step(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, **options: object) -> bool:
    """Say whether a generation called `LlamaStep`."""
    calls: list[int] = []
    original = LlamaStep.__call__

    def counted(self: LlamaStep, *args: Any) -> torch.Tensor:
        calls.append(1)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(LlamaStep, "__call__", counted)
        engine(model, check=False, **options).generate([[3, 4]], Sampling(3, temperature=0))  # pyright: ignore
    return bool(calls)


def test_the_switch_and_other_architectures_leave_the_step_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert uses_the_step(tiny("llama"), monkeypatch)
    assert not uses_the_step(tiny("llama"), monkeypatch, fast=False)
    assert not uses_the_step(tiny("gpt2"), monkeypatch)
    assert "GPT2LMHeadModel is not one of" in (obstacle(tiny("gpt2")) or "")


def test_a_subclass_may_compute_anything_and_is_left_out() -> None:
    model = tiny("llama")

    class Scaled(type(model)):
        pass

    model.__class__ = Scaled
    assert "Scaled is not one of" in (obstacle(model) or "")


# PEFT asks transformers by a name that is deprecated there.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("target", ["q_proj", "o_proj", "down_proj", "lm_head"])
def test_adapters_are_not_skipped(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = get_peft_model(tiny("llama"), LoraConfig(r=2, target_modules=[target]))
    assert "not a plain matrix" in (obstacle(wrapped) or "")
    assert not uses_the_step(wrapped, monkeypatch)
    assert uses_the_step(wrapped.merge_and_unload(), monkeypatch)


def test_hooks_that_would_not_be_called_switch_it_off_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    inner: Any = model
    hook = inner.model.layers[1].mlp.up_proj.register_forward_hook(lambda _m, _a, out: out * 0.5)
    assert "hook" in (obstacle(model) or "")
    assert not uses_the_step(model, monkeypatch)
    hook.remove()
    inner.enable_input_require_grads()  # what gradient checkpointing with adapters asks for: a hook on embeddings
    assert uses_the_step(model, monkeypatch)


def test_a_step_that_changes_the_logits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    original = LlamaStep.__init__

    def wrong(self: LlamaStep, model: torch.nn.Module, rows: int) -> None:
        original(self, model, rows)
        self._scaling *= 1.5

    monkeypatch.setattr(LlamaStep, "__init__", wrong)
    with pytest.warns(UserWarning, match="fast decoding step changes the logits of LlamaForCausalLM"):
        run = engine(tiny("llama"))
    assert (run.fast, run.cached) == (False, True)


@pytest.mark.parametrize("name", ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj", "norm", "lm_head", "embed"])
def test_weights_changed_in_place_are_seen_after_an_update(name: str) -> None:
    model = tiny("llama")
    run = engine(model)
    before = run.generate(prompts(4), Sampling(6, temperature=0))
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if name in path:
                parameter.copy_(parameter.flip(0) * 1.5)
    run.update_weights(model, 1)
    after = run.generate(prompts(4), Sampling(6, temperature=0))
    assert after == engine(model).generate(prompts(4), Sampling(6, temperature=0))
    assert [c.logps for c in after] != [c.logps for c in before]


def test_the_learner_s_weights_stay_ordinary_tensors() -> None:
    model = tiny("llama")
    engine(model).generate(prompts(4), Sampling(6))
    model(input_ids=torch.tensor([[3, 4]]), use_cache=False).logits.sum().backward()
    assert all(parameter.grad is not None and not parameter.is_inference() for parameter in model.parameters())
    assert not any(buffer.is_inference() for buffer in model.buffers())
