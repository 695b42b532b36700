"""QLoRA: the base in 4 bits, an honest error without bitsandbytes, an export in full numbers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from accord.errors import ModelError
from accord.models.build import seeded
from accord.models.checkpoint import load_causal
from accord.models.lora import add_lora
from accord.models.policy import CausalModel
from accord.models.quantize import four_bits, is_quantized, merged_from_4bit
from accord.train.loop import update
from accord.train.objectives import NLL
from train_models import VOCAB, make_learner, random_batch

BATCH = random_batch(4, seed=2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    config = LlamaConfig(  # the kernels of bitsandbytes want sides that are multiples of 32
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    with seeded(0, "quantize"):
        LlamaForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


def test_without_bitsandbytes_the_error_says_what_to_do(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else found(name, *a)
    )
    with pytest.raises(ModelError, match="needs bitsandbytes") as caught:
        load_causal(saved, load_in_4bit=True)
    assert "pip install bitsandbytes" in str(caught.value.fix)


@pytest.mark.bitsandbytes
@pytest.mark.filterwarnings("ignore")
def test_a_base_in_4_bits_learns_and_is_exported_in_full_numbers(saved: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="optional: bitsandbytes is not installed")
    assert four_bits(torch.float32).bnb_4bit_quant_type == "nf4"
    base = load_causal(saved, load_in_4bit=True)
    assert is_quantized(base)
    policy = CausalModel(add_lora(base, r=4, targets=None), logit_chunk=5)
    before = policy(BATCH).logp_BT.detach()
    assert (before - CausalModel(load_causal(saved))(BATCH).logp_BT).abs().max() > 1e-3, "nothing was rounded"
    learner = make_learner(policy)
    for _ in range(3):
        update(learner, BATCH, NLL())
    after = policy(BATCH).logp_BT.detach()
    assert (after - before).abs().max() > 0.01
    plain = merged_from_4bit(policy.hf, "policy")
    assert not is_quantized(plain) and {p.dtype for p in plain.parameters()} == {torch.float32}
    # Without a gradient bitsandbytes computes in bfloat16 on some processors, whatever it was told.
    assert (CausalModel(plain)(BATCH).logp_BT - after).abs().max() < 0.1
    assert (CausalModel(load_causal(saved))(BATCH).logp_BT - after).abs().max() > 0.3
