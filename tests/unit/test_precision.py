"""Mixed precision: the trunk in bfloat16, all else in float32, and nothing left of it afterwards."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaForCausalLM,
    OPTConfig,
)

from accord.artifacts import Workspace
from accord.batch import Batch
from accord.config import RunSettings
from accord.errors import ConfigError
from accord.models import attention, trunk
from accord.models.build import copy_frozen, critic_from_causal, no_dropout, reward_from_causal, seeded
from accord.models.policy import ActorCritic, CausalModel
from accord.models.precision import mixed_precision
from accord.models.recompute import recompute_activations
from accord.models.score_heads import with_heads
from accord.models.trunk import share_prompts, write_out
from accord.pipeline import Context
from accord.stages import training
from accord.stages.configs import Training
from accord.train.loop import update
from accord.train.objectives import DPO, NLL, PolicyGradient
from accord.train.reference import whole_logp
from train_models import VOCAB, ListSource, causal, make_learner, random_batch, same_weights, tiny_llama, weights

BATCH = random_batch(4, seed=2)
BATCH.ids_BT[1::2, :7] = BATCH.ids_BT[::2, :7]  # pairs with a prompt
TOKENS: dict[str, Any] = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32}


def in_bfloat16(module: Any, on: bool = True) -> Any:
    """A copy that runs in mixed precision, or in float32."""
    other = copy.deepcopy(module)
    mixed_precision(other, on)
    return other


def gradients(module: nn.Module, objective: Any = None, batch: Batch = BATCH) -> dict[str, Tensor]:
    update(make_learner(module, max_grad_norm=0.0), batch, objective or DPO(beta=0.3))
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def error(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Length of the difference, relative."""
    assert found.keys() == wanted.keys()
    apart = sum(float((found[name] - wanted[name]).square().sum()) for name in wanted)
    return math.sqrt(apart / sum(float(g.square().sum()) for g in wanted.values()))


@pytest.mark.parametrize("shared", [True, False])
def test_everything_is_close_to_float32_and_in_float32(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run, joined = trunk._run, []
    monkeypatch.setattr(trunk, "_run", lambda *given: joined.append(given) or run(*given))
    policy = causal(layers=2)
    scorer = reward_from_causal(policy.inner, seed=1)
    modules = {
        "logp_BT": policy,
        "value_BT": critic_from_causal(policy.inner),
        "score_B": scorer,
        "scores_BK": with_heads(scorer, 3, 5),
    }
    nn.init.normal_(modules["value_BT"].head.weight)
    for name, module in modules.items():
        share_prompts(module, shared)
        with torch.no_grad():
            found = getattr(in_bfloat16(module)(BATCH), name)
            wanted = getattr(module(BATCH), name)
        assert found.dtype == torch.float32
        assert 1e-4 < (found - wanted).abs().max() < 0.03 * wanted.abs().max(), name
    assert bool(joined) == shared


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(**TOKENS, n_embd=16, n_layer=2, n_head=2, n_positions=32),
        GPTNeoXConfig(**TOKENS, **SMALL, hidden_size=16, intermediate_size=24),
        # Its trunk ends in a matrix product.
        OPTConfig(**TOKENS, **SMALL, hidden_size=16, ffn_dim=24, word_embed_proj_dim=8),
    ],
    ids=lambda config: config.model_type,
)
def test_other_families(config: Any) -> None:
    with seeded(0, "family"):
        hf = AutoModelForCausalLM.from_config(config)
        for parameter in hf.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.15)
    no_dropout(hf)
    model = CausalModel(hf)
    with torch.no_grad():
        wanted, found = model(BATCH).logp_BT, in_bfloat16(model)(BATCH).logp_BT
    assert found.dtype == torch.float32
    assert 1e-4 < (found - wanted).abs().max() < 0.1


def test_products_of_the_trunk_are_in_bfloat16_and_those_of_the_heads_are_not() -> None:
    policy, critic = causal(), critic_from_causal(tiny_llama())
    module = in_bfloat16(ActorCritic(policy, critic))
    seen: dict[str, tuple[torch.dtype, torch.dtype]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):

            def note(_: nn.Module, given: tuple[Tensor], out: Tensor, name: str = name) -> None:
                seen[name] = (given[0].dtype, out.dtype)

            layer.register_forward_hook(note)
    module(BATCH, entropy=True)
    heads = {name for name in seen if name.endswith(("lm_head", "head"))}
    assert heads == {"policy.hf.lm_head", "critic.head"}
    assert len(seen) == 2 + 2 * 7
    for name, (given, out) in seen.items():
        assert (given if name in heads else out) == (torch.float32 if name in heads else torch.bfloat16)
        assert name not in heads or out == torch.float32


def test_gradients_are_in_float32_and_close() -> None:
    model = causal(layers=2)
    wanted, found = gradients(copy.deepcopy(model)), gradients(in_bfloat16(model))
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in found.values())
    assert 1e-4 < error(found, wanted) < 0.05


def test_switched_off_it_is_as_if_it_had_never_been_on() -> None:
    model = causal(layers=2)
    back = in_bfloat16(in_bfloat16(model), on=False)
    for module in (back, in_bfloat16(model, on=False)):
        assert torch.equal(module(BATCH).logp_BT, model(BATCH).logp_BT)
        assert same_weights(gradients(copy.deepcopy(module)), gradients(copy.deepcopy(model)))


def test_copies_do_the_same() -> None:
    model = in_bfloat16(causal(layers=2))
    with torch.no_grad():
        assert torch.equal(copy_frozen(model)(BATCH).logp_BT, model(BATCH).logp_BT)


@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_attention_is_in_float32_on_a_processor(
    shared: bool, grad: bool, written_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without gradients too: the reference and the policy it is a copy of must say the same."""
    seen: list[set[Any]] = []
    plain, joined = attention.sdpa_attention_forward, attention.AttentionInParts.apply
    model = in_bfloat16(causal(layers=2))
    write_out(model, on=written_out)
    model(BATCH)  # probes

    def spy(inner: Any) -> Any:
        def spied(*args: Any, **options: Any) -> Any:
            tensors = [x for x in args if isinstance(x, torch.Tensor) and x.is_floating_point()]
            seen.append({x.dtype for x in tensors} | {torch.is_autocast_enabled("cpu")})
            return inner(*args, **options)

        return spied

    monkeypatch.setattr(attention, "sdpa_attention_forward", spy(plain))
    monkeypatch.setattr(attention.AttentionInParts, "apply", spy(joined))
    with torch.set_grad_enabled(grad):
        model(BATCH if shared else BATCH.replace(group_B=None))
    assert seen == [{torch.float32, False}] * 2


def test_blocks_that_are_run_again_give_the_same_gradients() -> None:
    model = in_bfloat16(causal(layers=2))
    again = copy.deepcopy(model)
    recompute_activations(again.hf)
    assert same_weights(gradients(again), gradients(model))


def test_the_first_step_starts_at_the_reference_exactly() -> None:
    model = in_bfloat16(causal(layers=2))
    for budget in (10_000, 60):
        ref_BT = whole_logp(BATCH, copy_frozen(model), budget)
        rows = BATCH.replace(ref_logp_BT=ref_BT, old_logp_BT=ref_BT, target_B=None)
        learner = make_learner(copy.deepcopy(model), token_budget=10_000)
        assert abs(update(learner, rows, DPO(beta=0.3))["loss"] - math.log(2)) < 1e-6
        learner = make_learner(copy.deepcopy(model), token_budget=10_000)
        assert abs(update(learner, rows, PolicyGradient(beta=0.1))["policy/approxkl_avg"]) < 1e-10


def test_training_learns() -> None:
    learner = make_learner(in_bfloat16(causal()))
    losses = [update(learner, BATCH, NLL())["loss"] for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("on", [True, False])
def test_a_saved_model_is_one_like_others(on: bool, tmp_path: Path) -> None:
    model = in_bfloat16(in_bfloat16(causal()), on)
    model.inner.save_pretrained(tmp_path)
    text = "".join(path.read_text() for path in tmp_path.glob("*.json"))
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"
    assert "accord" not in text
    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"
    # Not to the bit: products depend on how weights lie in memory, and those of a file lie otherwise.
    gap = CausalModel(loaded)(BATCH).logp_BT - in_bfloat16(model, on=False)(BATCH).logp_BT
    assert gap.abs().max() < 1e-6


def test_eager_attention_stays_eager() -> None:
    hf = tiny_llama()
    hf.set_attn_implementation("eager")
    model = in_bfloat16(CausalModel(hf))
    assert model.inner.config._attn_implementation == "eager"
    assert (model(BATCH).logp_BT - CausalModel(hf)(BATCH).logp_BT).abs().max() < 0.1


def test_a_processor_without_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(training, "device", lambda: torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"(?s)no bfloat16 instructions.*set bf16: false"):
        training.set_speed(causal(), Training(bf16=True))
    training.set_speed(causal(), Training())


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_weights_of_another_type_are_refused(dtype: Any) -> None:
    with pytest.raises(ValidationError, match=f"bf16 keeps the weights in float32, and dtype is {dtype}: drop one"):
        Training(bf16=True, dtype=dtype)
    assert Training(dtype=dtype).bf16 is False


def test_a_stage_trains_with_both_switches_as_configured_and_leaves_bfloat16_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "cpu_has_bfloat16", lambda: True)
    joined: list[bool] = []
    flat: list[bool] = []

    def during(module: CausalModel) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            joined.append(getattr(module.inner.base_model, "accord_shares_prompts", None) is not False)
            with torch.no_grad():
                return {"logp": float(module(BATCH).logp_BT.sum())}

        return measure

    def found(**fields: Any) -> tuple[float, CausalModel]:
        model = causal()
        name = "-".join(f"{key}{value}" for key, value in fields.items())
        work = Workspace(tmp_path / name, tmp_path, "sft", "f", resumed=False)
        work.dir.mkdir()
        numbers = training.train(
            Context(RunSettings(name="r"), {}, work, lambda _: None),
            Training(train_batch_size=1, **fields),
            module=model,
            forward=model,
            source=ListSource([BATCH]),
            objective=NLL(),
            steps=1,
            measure=during(model),
            guards=[lambda info: flat.append(info.learner.flat)],
        )
        return numbers["eval_logp"], model

    (plain, reference), (mixed, model) = found(share_prompts=False), found(bf16=True)
    assert joined == [False, False, True, True]
    assert flat == [False, trunk.lays_flat(model)] == [False, True]
    assert mixed != plain
    assert abs(mixed - plain) < 0.1 * abs(plain)
    with torch.no_grad():
        after = float(model(BATCH).logp_BT.sum())
        fresh = causal()
        fresh.load_state_dict(model.state_dict())
        assert after == float(fresh(BATCH).logp_BT.sum())
    assert after != mixed
    assert not same_weights(weights(model), weights(reference))
