"""The written-out decoding step gives the logits of the model's own forward, and steps back where it could not."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from engine_models import PAD, VOCAB, engine, prompts, teacher_forced, tiny
from peft import LoraConfig, get_peft_model
from step_models import CASES, UNREAD, build
from transformers import PreTrainedModel

from accord.engines import grouped, weights
from accord.engines.anatomy import Anatomy, Matrix
from accord.engines.base import Sampling
from accord.engines.cache import CachedDecoder, Decoder
from accord.engines.grouped import GroupedDecoder
from accord.engines.step import FAMILIES, DecodingStep, read
from accord.engines.weights import Product
from accord.models.precision import mixed_precision, trunk_precision


@torch.no_grad()
def logits(model: PreTrainedModel, *, fast: bool) -> torch.Tensor:
    """Rows of different lengths and ages through steps, dropped rows and latecomers."""
    decoder: Decoder = CachedDecoder(model, slots=7, columns=60, new_tokens=14, pad_id=PAD)
    if fast:
        anatomy = read(model)
        assert isinstance(anatomy, Anatomy), anatomy
        decoder = GroupedDecoder(
            DecodingStep(anatomy, 7, 31),
            prompts=7,
            longest=17,
            slots=7,
            own_columns=20,
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


# Bloom's own forward gives NaN for padded rows in float64; others' takes scores, or angles, in float32 always.
_SINGLE = ("bloom", "gpt-j", "codegen", "cohere")


@pytest.mark.parametrize(
    ("case", "dtype", "tolerance"),
    [(case, torch.float64, 1e-9) for case in CASES if not case.startswith(_SINGLE)]
    + [(case, torch.float32, 1e-5) for case in CASES],
)
def test_the_step_gives_the_logits_of_the_model_s_forward(
    case: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_WORTH_PACKING", 0)  # nothing of float64 is packed
    model = build(case, dtype)
    own, fast = logits(model, fast=False), logits(model, fast=True)
    assert own.abs().max() > 1, "the logits must differ for the test to mean anything"
    torch.testing.assert_close(fast, own, rtol=tolerance, atol=tolerance * float(own.abs().max()))


@pytest.mark.parametrize("case", ["grouped heads", "bloom", "mistral with a window"])
def test_prompts_that_are_fetched_first_give_the_same_bits(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    original = grouped._Seats.fetch

    def fetch(self: grouped._Seats, x: torch.Tensor) -> None:
        seen.append(self.far)
        original(self, x)

    monkeypatch.setattr(grouped._Seats, "fetch", fetch)
    model = build(case, torch.float32)
    near = logits(model, fast=True)
    assert seen
    assert not any(seen), "a tiny model's prompts stay in a cache"
    seen.clear()
    monkeypatch.setattr(grouped, "_CACHE", 0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        assert torch.equal(logits(model, fast=True), near)
    assert all(seen)
    assert sum(event.name == "aten::sum" for event in profiled.events() or ()) >= len(seen)


def test_matrices_of_16_bits_are_packed_when_they_are_small_and_sums_keep_the_type_of_what_goes_past() -> None:
    weight_OI = torch.randn(128, 128, generator=torch.Generator().manual_seed(0))
    x_BI, onto_BO = torch.randn(8, 128), torch.randn(8, 128) * 1000
    exact, rounded = (Product([Matrix(weight_OI, None)], dtype, 8) for dtype in (None, torch.bfloat16))
    if not weights._packs(weight_OI.bfloat16()):
        pytest.skip("this processor does not multiply in bfloat16")
    assert exact._packed is None
    assert rounded._packed is not None
    assert (exact(x_BI).dtype, rounded(x_BI).dtype) == (torch.float32, torch.bfloat16)
    for product in (exact, rounded):
        added = product.added(x_BI, onto_BO)
        assert added.dtype == torch.float32
        torch.testing.assert_close(added, onto_BO + product(x_BI).float(), rtol=1e-6, atol=1e-4)


def test_bfloat16_is_as_close_as_its_rounding() -> None:
    model = build("grouped heads", torch.bfloat16)
    own, fast = logits(model, fast=False).float(), logits(model, fast=True).float()
    assert fast.dtype == torch.float32
    assert float((own - fast).abs().mean() / own.abs().mean()) < 0.02


def test_a_trunk_that_trains_in_bfloat16_steps_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("grouped heads", torch.float32)
    exact = logits(model, fast=True)
    mixed_precision(model, on=True)
    with monkeypatch.context() as patch:  # prompts are read in float32, so that the difference is the steps'
        patch.setattr("accord.engines.grouped.reads_together", lambda _: False)
        patch.setattr("accord.engines.step.trunk_precision", lambda *_: nullcontext())
        rounded = logits(model, fast=True)
    assert rounded.dtype == torch.float32
    error = float((rounded - exact).abs().mean() / exact.abs().mean())
    assert 1e-4 < error < 0.02
    assert engine(model).fast, "the probe of the engine allows for bfloat16"


def test_a_trunk_that_trains_in_bfloat16_reads_prompts_in_bfloat16_with_a_head_in_float32() -> None:
    model: Any = build("grouped heads", torch.float32)
    exact = engine(model).generate(prompts(6), Sampling(1), seeds=range(6))
    mixed_precision(model, on=True)
    rounded = engine(model).generate(prompts(6), Sampling(1), seeds=range(6))
    errors = []
    for prompt, ours, plain in zip(prompts(6), rounded, exact, strict=True):
        with torch.no_grad():
            with trunk_precision(model.model, torch.device("cpu")):
                state = model.model(input_ids=torch.tensor([prompt]), use_cache=False).last_hidden_state[:, -1]
            logp = model.lm_head(state).log_softmax(-1)[0, ours.token_ids[0]]
        assert ours.logps is not None
        assert plain.logps is not None
        errors.append(abs(ours.logps[0] - float(logp)))
        assert plain.token_ids != ours.token_ids or plain.logps != ours.logps
    assert max(errors) < 0.02  # padding beside longer prompts is rounded otherwise
    assert sorted(errors)[2] < 1e-5


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


@pytest.mark.parametrize("case", ["opt, norms behind", "bloom, normed"])
def test_other_models_multiply_by_packed_matrices_while_they_generate(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_WORTH_PACKING", 0)
    model = build(case, torch.float32)
    head: Any = model.get_output_embeddings()
    packed: list[bool] = []
    run = engine(model, on_progress=lambda _: packed.append("forward" in vars(head)))
    assert (run.fast, run.cached) == (True, True)
    for _ in range(2):
        out = run.generate(prompts(9), Sampling(8), seeds=range(9))
        plain = engine(model, fast=False).generate(prompts(9), Sampling(8), seeds=range(9))
        assert [c.token_ids for c in out] == [c.token_ids for c in plain]
        for ours, own in zip(out, plain, strict=True):
            torch.testing.assert_close(torch.tensor(ours.logps), torch.tensor(own.logps), atol=1e-5, rtol=0)
        assert not any("forward" in vars(module) for module in model.modules())
        with torch.no_grad():
            head.weight.mul_(0.9)  # copies are made anew
    assert packed
    assert all(packed)


@pytest.mark.parametrize(
    "case", ["grouped heads", "qwen2", "qwen3", "mistral with a window", "gpt2", "neox", "gemma3", "gpt-j", "cohere2"]
)
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
    """Say whether a generation called `DecodingStep`."""
    calls: list[int] = []
    original = DecodingStep.__call__

    def counted(self: DecodingStep, *args: Any) -> torch.Tensor:
        calls.append(1)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(DecodingStep, "__call__", counted)
        engine(model, check=False, **options).generate([[3, 4]], Sampling(3, temperature=0))  # pyright: ignore
    return bool(calls)


def test_the_switch_and_other_architectures_leave_the_step_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert uses_the_step(tiny("llama"), monkeypatch)
    assert not uses_the_step(tiny("llama"), monkeypatch, fast=False)
    assert uses_the_step(tiny("gpt2"), monkeypatch)
    assert not uses_the_step(build("gpt-bigcode", torch.float32), monkeypatch)


def test_every_family_has_a_case_and_what_is_not_read_says_why() -> None:
    assert {type(build(case, torch.float32)).__name__ for case in CASES} == set(FAMILIES)
    for case, why in UNREAD.items():
        assert why in str(read(build(case, torch.float32)))


def test_a_subclass_may_compute_anything_and_is_left_out() -> None:
    model = tiny("llama")

    class Scaled(type(model)):
        pass

    model.__class__ = Scaled
    assert "Scaled is not one of" in str(read(model))


# PEFT asks transformers by a name that is deprecated there.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("target", ["q_proj", "o_proj", "down_proj", "lm_head"])
def test_adapters_are_not_skipped(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = get_peft_model(tiny("llama"), LoraConfig(r=2, target_modules=[target]))
    assert "not a plain layer" in str(read(wrapped))
    assert not uses_the_step(wrapped, monkeypatch)
    assert uses_the_step(wrapped.merge_and_unload(), monkeypatch)


def test_hooks_that_would_not_be_called_switch_it_off_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    inner: Any = model
    hook = inner.model.layers[1].mlp.up_proj.register_forward_hook(lambda _m, _a, out: out * 0.5)
    assert "hook" in str(read(model))
    assert not uses_the_step(model, monkeypatch)
    hook.remove()
    inner.enable_input_require_grads()  # what gradient checkpointing with adapters asks for: a hook on embeddings
    assert uses_the_step(model, monkeypatch)


def test_a_step_that_changes_the_logits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    original = DecodingStep.__init__

    def wrong(self: DecodingStep, anatomy: Anatomy, rows: int, positions: int) -> None:
        original(self, anatomy, rows, positions)
        self._parallel = True

    monkeypatch.setattr(DecodingStep, "__init__", wrong)
    with pytest.warns(UserWarning, match="fast decoding step changes the logits of LlamaForCausalLM"):
        run = engine(tiny("llama"))
    assert (run.fast, run.cached) == (False, True)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *(
            ("llama", name)
            for name in ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj", "norm", "lm_head", "embed"]
        ),
        *(("gpt2", name) for name in ["wpe", "c_attn", "attn.c_proj", "c_fc", "mlp.c_proj", "ln_f", "ln_1"]),
    ],
)
def test_weights_changed_in_place_are_seen_after_an_update(family: str, name: str) -> None:
    model = tiny(family)
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
