"""What a model says about a row does not depend on padding, company, order, chunking or micro-batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    Qwen2Config,
)

from accord.batch import Batch, collate, concat
from accord.models.build import critic_from_causal, no_dropout, reward_from_causal, seeded, zero_head
from accord.models.policy import ActorCritic, CausalModel, ScoreModel

torch.set_num_threads(1)

VOCAB, PAD = 61, 0
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SMALL, tie_word_embeddings=True, max_position_embeddings=64),
    "qwen2": lambda: Qwen2Config(**SMALL, tie_word_embeddings=False, max_position_embeddings=64),
    "gemma2": lambda: Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=2.0, sliding_window=64),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB, n_embd=24, n_layer=2, n_head=4, n_positions=64, pad_token_id=PAD, eos_token_id=2
    ),
}
EXACT = {torch.float32: 1e-5, torch.float64: 1e-10}
SINGLE_ATTENTION = ("gemma2",)  # its attention softmax is float32 whatever the model's type is


def make(name: str, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    with seeded(0, name):
        model = AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=dtype)
        for parameter in model.parameters():  # away from the near-uniform distributions of a fresh model
            parameter.data.add_(torch.randn_like(parameter) * 0.15)
    no_dropout(model)
    return model


ROWS = [[1, 5, 9, 13, 22, 2], [1, 7, 8, 2], [1, 30, 31, 32, 33, 34, 35, 36, 37, 2], [1, 4, 50, 51, 52, 2]]
STARTS = [3, 2, 4, 2]


def rows(*indices: int) -> Batch:
    return collate(
        [ROWS[i] for i in indices],
        [[t >= STARTS[i] for t in range(len(ROWS[i]))] for i in indices],
        pad_id=PAD,
    )


ALL = rows(0, 1, 2, 3)


def widen(batch: Batch, extra: int, fill: int) -> Batch:
    pad = torch.nn.functional.pad
    return Batch(
        ids_BT=pad(batch.ids_BT, (0, extra), value=fill),
        lengths_B=batch.lengths_B,
        response_mask_BT=pad(batch.response_mask_BT, (0, extra)),
    )


def full_logits(hf: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """One row at a time, without any padding, through the model's own forward."""
    out = torch.zeros(*batch.ids_BT.shape, VOCAB, dtype=torch.promote_types(hf.dtype, torch.float32))
    for row, length in enumerate(batch.lengths_B.tolist()):
        out[row, :length] = hf(input_ids=batch.ids_BT[row : row + 1, :length]).logits[0].to(out.dtype)
    return out


def full_logp(hf: PreTrainedModel, batch: Batch, temperature: float = 1.0) -> torch.Tensor:
    logp = (full_logits(hf, batch)[:, :-1] / temperature).log_softmax(-1)
    picked = logp.gather(-1, batch.ids_BT[:, 1:, None]).squeeze(-1)
    picked = torch.nn.functional.pad(picked, (1, 0))
    return torch.where(batch.response_mask_BT, picked, torch.zeros_like(picked))


def precision(name: str, dtype: torch.dtype) -> float:
    return EXACT[torch.float32 if name in SINGLE_ATTENTION else dtype]


def close(a: torch.Tensor | None, b: torch.Tensor | None, tolerance: float) -> None:
    assert a is not None
    assert b is not None
    width = max(a.shape[-1], b.shape[-1])
    if a.dim() == 2:
        a, b = (torch.nn.functional.pad(x, (0, width - x.shape[-1])) for x in (a, b))
    assert (a - b).abs().max().item() < tolerance


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", EXACT)
def test_logp_equals_log_softmax_of_full_logits(name, dtype) -> None:
    hf = make(name, dtype)
    with torch.no_grad():
        got = CausalModel(hf, logit_chunk=5)(ALL)
        assert got.logp_BT.dtype == dtype
        close(got.logp_BT, full_logp(hf, ALL), precision(name, dtype))
    assert got.logp_BT[ALL.response_mask_BT].max() < -0.01
    assert not got.logp_BT[~ALL.response_mask_BT].any()
    assert got.entropy_BT is None
    assert got.value_BT is None


def variants() -> dict[str, Callable[[Callable[[Batch], torch.Tensor]], torch.Tensor]]:
    order = [2, 0, 3, 1]

    def permuted(f: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        out = f(rows(*order))
        return out[torch.tensor(order).argsort()]

    def apart(f: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        parts = [f(ALL.select([i])) for i in range(4)]
        if parts[0].dim() == 1:
            return torch.cat(parts)
        width = ALL.ids_BT.shape[1]
        return torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[1])) for p in parts])

    def joined(f: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        return f(concat([rows(0, 1), rows(2, 3)]))

    return {
        "padded with pad": lambda f: f(widen(ALL, 7, PAD)),
        "padded with eos": lambda f: f(widen(ALL, 3, 2)),
        "padded with a word": lambda f: f(widen(ALL, 20, 33)),
        "another order": permuted,
        "one row at a time": apart,
        "joined": joined,
    }


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("dtype", EXACT)
def test_logp_entropy_and_value_do_not_depend_on_the_batch(name, dtype, variant) -> None:
    hf = make(name, dtype)
    head = zero_head(hf)
    with torch.no_grad(), seeded(1, "head"):
        head.weight.normal_()
        model = CausalModel(hf, value_head=head)
        for field in ("logp_BT", "entropy_BT", "value_BT"):

            def say(batch: Batch, field: str = field) -> torch.Tensor:
                return getattr(model(batch, entropy=True, values=True), field)

            close(variants()[variant](say), say(ALL), precision(name, dtype))


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("name", CONFIGS)
def test_scores_do_not_depend_on_the_batch(name, variant) -> None:
    for dtype in EXACT:
        model = reward_from_causal(make(name, dtype), 0)
        with torch.no_grad():
            say: Callable[[Batch], torch.Tensor] = lambda batch, m=model: m(batch).score_B  # noqa: E731
            scores = say(ALL)
            close(variants()[variant](say), scores, precision(name, dtype))
            assert scores.std() > 0.01


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("extra", [0, 1, 9])
def test_scores_are_those_of_transformers_whatever_the_padding(name, side, extra) -> None:
    model = reward_from_causal(make(name, torch.float32), 0)
    hf = model.inner
    assert type(hf).__name__.endswith("ForSequenceClassification")
    width = ALL.ids_BT.shape[1] + extra
    ids = torch.full((4, width), PAD)
    mask = torch.zeros(4, width, dtype=torch.long)
    for row, sequence in enumerate(ROWS):
        place = slice(width - len(sequence), width) if side == "left" else slice(0, len(sequence))
        ids[row, place] = torch.tensor(sequence)
        mask[row, place] = 1
    with torch.no_grad():
        theirs = hf(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits.squeeze(
            -1
        )
        assert (theirs - model(ALL).score_B).abs().max() < EXACT[torch.float32]


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_equal_those_of_full_logits(name) -> None:
    hf = make(name)
    weights = torch.linspace(-1, 2, ALL.ids_BT.numel(), dtype=torch.float64).view(ALL.ids_BT.shape)
    (full_logp(hf, ALL, 0.7) * weights).sum().backward()
    wanted = gradients(hf)
    for chunk in (1, 4, 1000):
        hf.zero_grad()
        (CausalModel(hf, logit_chunk=chunk)(ALL, temperature=0.7).logp_BT * weights).sum().backward()
        got = gradients(hf)
        assert got.keys() == wanted.keys()
        for key, grad in wanted.items():
            assert (got[key] - grad).abs().max() < (1e-5 if name in SINGLE_ATTENTION else 1e-9), key


def test_gradients_add_up_over_micro_batches() -> None:
    model = CausalModel(make("llama"))
    model(ALL).logp_BT.sum().backward()
    wanted = gradients(model)
    model.zero_grad()
    parts = ALL.split(12)
    assert len(parts) > 1
    for part in parts:
        model(part).logp_BT.sum().backward()
    for key, grad in gradients(model).items():
        assert (grad - wanted[key]).abs().max() < 1e-10, key


@pytest.mark.parametrize("chunk", [1, 2, 5, 1000])
def test_chunk_size_changes_nothing(chunk) -> None:
    hf = make("llama", torch.float32)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            one = CausalModel(hf)(ALL, entropy=True)
            other = CausalModel(hf, logit_chunk=chunk)(ALL, entropy=True)
        close(other.logp_BT, one.logp_BT, 1e-5)
        close(other.entropy_BT, one.entropy_BT, 1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_and_entropy(temperature) -> None:
    hf = make("llama")
    with torch.no_grad():
        got = CausalModel(hf, logit_chunk=3)(ALL, temperature=temperature, entropy=True)
        close(got.logp_BT, full_logp(hf, ALL, temperature), 1e-10)
        logp = (full_logits(hf, ALL)[:, :-1] / temperature).log_softmax(-1)
        entropy = torch.nn.functional.pad(-(logp.exp() * logp).sum(-1), (1, 0))
        close(got.entropy_BT, entropy * ALL.response_mask_BT, 1e-10)


def test_entropy_has_a_gradient() -> None:
    hf = make("llama")
    CausalModel(hf, logit_chunk=3)(ALL, entropy=True).entropy_BT.sum().backward()
    got = gradients(hf)
    hf.zero_grad()
    logp = full_logits(hf, ALL)[:, :-1].log_softmax(-1)
    (-(logp.exp() * logp).sum(-1) * ALL.response_mask_BT[:, 1:]).sum().backward()
    for key, grad in gradients(hf).items():
        assert (got[key] - grad).abs().max() < 1e-9, key


def test_an_entropy_that_is_only_watched_has_none() -> None:
    hf = make("llama")
    model = CausalModel(hf, logit_chunk=3)
    watched, trained = model(ALL, entropy=True, entropy_gradient=False), model(ALL, entropy=True)
    assert torch.equal(watched.entropy_BT, trained.entropy_BT)
    assert trained.entropy_BT.requires_grad and not watched.entropy_BT.requires_grad
    watched.logp_BT.sum().backward()
    assert gradients(hf)


def test_the_stop_token_is_learned() -> None:
    model = CausalModel(make("qwen2"))
    for row, length in enumerate(ALL.lengths_B.tolist()):
        model.zero_grad()
        model(ALL).logp_BT[row, length - 1].backward()
        grad = model.inner.get_output_embeddings().weight.grad
        assert grad[2].abs().max() > 1e-6
        assert grad[2].norm() > grad[50].norm()


def test_training_mode_changes_nothing() -> None:
    with seeded(0, "dropout"):
        config = GPT2Config(vocab_size=VOCAB, n_embd=24, n_layer=2, n_head=4, n_positions=64, pad_token_id=PAD)
        assert config.resid_pdrop > 0
        hf = AutoModelForCausalLM.from_config(config)
    no_dropout(hf)
    model = CausalModel(hf)
    assert torch.equal(model.train()(ALL).logp_BT, model.eval()(ALL).logp_BT)
    assert config.resid_pdrop == config.attn_pdrop == config.embd_pdrop == 0


def test_values_are_those_of_the_state_before_the_token() -> None:
    hf = make("llama")
    critic = critic_from_causal(hf)
    with seeded(2, "head"), torch.no_grad():
        critic.head.weight.normal_()
        changed = ALL.ids_BT.clone()
        changed[2, 6] = 3
        before = critic(ALL).value_BT
        after = critic(ALL.replace(ids_BT=changed)).value_BT
    assert torch.equal(before[2, :7], after[2, :7])
    assert (before[2, 7:] - after[2, 7:]).abs().min() > 0
    assert not before[~ALL.response_mask_BT].any()


def test_actor_critic_says_what_its_parts_say() -> None:
    hf = make("llama", torch.float32)
    policy, critic = CausalModel(hf), critic_from_causal(hf)
    torch.nn.init.constant_(critic.head.weight, 0.1)
    out = ActorCritic(policy, critic)(ALL, entropy=True)
    assert torch.equal(out.logp_BT, policy(ALL).logp_BT)
    assert torch.equal(out.value_BT, critic(ALL).value_BT)
    assert ActorCritic(policy, critic)(ALL, values=False).value_BT is None
    shared = ActorCritic(CausalModel(hf, value_head=zero_head(hf)))(ALL)
    assert not shared.value_BT.any()
    (shared.logp_BT.sum() + shared.value_BT.sum()).backward()


def test_bfloat16_is_scored_in_float32() -> None:
    hf = make("llama", torch.bfloat16)
    with torch.no_grad():
        logp = CausalModel(hf)(ALL).logp_BT
        assert logp.dtype == torch.float32
        assert (logp - full_logp(hf, ALL)).abs().max() < 0.05


def test_a_batch_without_responses_is_all_zeros() -> None:
    empty = ALL.replace(response_mask_BT=torch.zeros_like(ALL.response_mask_BT))
    model = CausalModel(make("llama", torch.float32))
    out = model(empty, entropy=True)
    assert not out.logp_BT.any()
    (out.logp_BT.sum() + out.entropy_BT.sum()).backward()


def test_score_model_takes_what_transformers_made() -> None:
    with seeded(0, "classifier"):
        hf = AutoModelForSequenceClassification.from_config(LlamaConfig(**SMALL, num_labels=1))
    with torch.no_grad():
        assert ScoreModel(hf)(ALL).score_B.shape == (4,)
