"""Tiny models for the engine tests, sharp enough that rounding never decides between two tokens."""

from __future__ import annotations

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from accord.engines.native import NativeEngine

VOCAB = 64
STOPS = (1, 5)
PAD = 0
POSITIONS = 64


def words(ids: list[int]) -> str:
    return " ".join(f"w{i}" for i in ids)


def tiny(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(3)
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.2,
        "bos_token_id": 2,
        "eos_token_id": list(STOPS),
        "pad_token_id": PAD,
    }
    rotary = {"intermediate_size": 48, "num_key_value_heads": 2}
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape, **rotary))
    elif family == "mistral":  # a window shorter than the prompts
        model = MistralForCausalLM(MistralConfig(**shape, **rotary, sliding_window=5))
    else:
        model = GPT2LMHeadModel(GPT2Config(**shape))
    return model.to(dtype).eval()


def engine(model: PreTrainedModel, **options: object) -> NativeEngine:
    settings: dict[str, object] = {"stop_ids": STOPS, "pad_id": PAD, "decode": words} | options
    return NativeEngine(model, **settings)


def prompts(count: int, longest: int = 24) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    return [torch.randint(0, VOCAB, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def teacher_forced(model: PreTrainedModel, prompt: list[int], ids: tuple[int, ...]) -> torch.Tensor:
    """Return the logits [len(ids), V] that predict `ids`, from one plain forward without padding or cache."""
    logits = model(input_ids=torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0]
    return logits[len(prompt) - 1 : -1]
