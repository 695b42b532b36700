"""Models and groups of rows for the tests of shared prompts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
)

from accord.batch import Batch, collate
from accord.models import llama_trunk, trunk
from accord.models.build import no_dropout, seeded
from accord.models.lora import add_lora
from accord.models.policy import CausalModel
from accord.models.sharing import Joined
from accord.models.trunk import share_prompts, write_out

VOCAB, PAD, WIDTH = 61, 0, 24
TOKENS = {"vocab_size": VOCAB, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
BLOCKS = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
SMALL = {**TOKENS, **BLOCKS, "intermediate_size": 40}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SMALL, num_key_value_heads=2),
    "mistral": lambda: MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=24),
    "qwen2": lambda: Qwen2Config(**SMALL, num_key_value_heads=4),
    "gpt2": lambda: GPT2Config(**TOKENS, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64),
    "gpt_neox": lambda: GPTNeoXConfig(**SMALL),
    "mistral, narrow": lambda: MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=8),
    "bloom": lambda: BloomConfig(**TOKENS, hidden_size=WIDTH, n_layer=2, n_head=4),
}
SHARING = ("llama", "mistral", "qwen2", "gpt2", "gpt_neox")
EXACT = {torch.float64: 1e-9, torch.float32: 1e-5}


@cache
def made(name: str, dtype: torch.dtype, kernel: str) -> PreTrainedModel:
    with seeded(0, name):
        model = AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=dtype, attn_implementation=kernel)
        for parameter in model.parameters():  # away from the near-uniform distributions of a fresh model
            parameter.data.add_(torch.randn_like(parameter) * 0.15)
    no_dropout(model)
    if dtype == torch.float64:
        exact_norms(model)
    return model


def exact_norms(model: nn.Module) -> None:
    """transformers rounds to float32 in these norms, and sums of rounded gradients depend on their order."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm).__name__.endswith("RMSNorm") and not isinstance(norm, nn.RMSNorm):
                exact = nn.RMSNorm(WIDTH, eps=norm.variance_epsilon, dtype=torch.float64)
                exact.weight = norm.weight
                setattr(parent, name, exact)


def make(name: str = "llama", dtype: torch.dtype = torch.float64, kernel: str = "sdpa") -> PreTrainedModel:
    """A model of its own; it has not been tried yet."""
    return copy.deepcopy(made(name, dtype, kernel))


def tokens(size: int, seed: int) -> list[int]:
    return torch.randint(3, VOCAB, (size,), generator=torch.Generator().manual_seed(seed)).tolist()


PROMPTS = [tokens(size, seed=size) for size in (14, 9, 12)]
ALIKE = tokens(4, seed=99)


def group(prompt: list[int], *replies: int, after: list[int] | None = None) -> list[list[int]]:
    """A prompt with replies of these lengths, which may begin with the same tokens."""
    return [[*prompt, *(after or []), *tokens(size, seed=100 + k)] for k, size in enumerate(replies)]


def batch(*groups: list[list[int]], dtype: torch.dtype = torch.float64) -> Batch:
    """Rows whose response starts at position 5, with what the objectives want to know."""
    rows = [row for one in groups for row in one]
    numbers = [number for number, one in enumerate(groups) for _ in one]
    made = collate(rows, [[t >= 5 for t in range(len(row))] for row in rows], pad_id=PAD, group=numbers)
    rand = torch.Generator().manual_seed(1)

    def noise(mean: float) -> torch.Tensor:
        values = mean + 0.5 * torch.randn(made.ids_BT.shape, generator=rand, dtype=torch.float64)
        return torch.where(made.response_mask_BT, values, 0.0).to(dtype)

    names = {"old_logp_BT": -4, "ref_logp_BT": -4, "advantage_BT": 0, "return_BT": 0, "old_value_BT": 0}
    return made.replace(**{name: noise(mean) for name, mean in names.items()})


PAIRS = [group(PROMPTS[0], 3, 6), group(PROMPTS[1], 4, 1), group(PROMPTS[2], 2, 5)]
FIVES = [group(PROMPTS[0], 3, 6, 1, 2, 6), group(PROMPTS[2], 4, 4, 1, 5, 3)]
BATCHES = {
    "pairs": PAIRS,
    "groups of five": FIVES,
    "groups of all sizes": [group(PROMPTS[1], 5), *FIVES, group(PROMPTS[1], 2, 3, 1), *PAIRS[:1]],
    "beside a group that shares nothing": [FIVES[0], [tokens(7, 5), tokens(9, 6)], PAIRS[1]],
    "a row inside another": [[PROMPTS[0], *group(PROMPTS[0], 4, 1)], [*group(PROMPTS[1], 3), PROMPTS[1]]],
    "identical rows": [group(PROMPTS[0], 5) * 3, group(PROMPTS[1], 1) * 2],
    "replies that begin alike": [group(PROMPTS[0], 2, 3, after=ALIKE), group(PROMPTS[1], 1, 2, after=ALIKE)],
}


PROBE = [(7 * i + 1) % VOCAB for i in range(6)]
"""How the rows begin on which a model is tried."""


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> list[Joined]:
    """What was run joined, by the model's own forward or written out; probes excepted."""
    seen: list[Joined] = []
    run, states = trunk._run, llama_trunk.states

    def note(joined: Joined) -> None:
        if joined.ids_UL[0, : len(PROBE)].tolist() != PROBE and any(unit.shared for unit in joined.units):
            seen.append(joined)

    def spy(backbone: nn.Module, joined: Joined) -> torch.Tensor:
        note(joined)
        return run(backbone, joined)

    def spy_states(backbone: nn.Module, joined: Joined, where_BT: torch.Tensor, **how: Any) -> torch.Tensor:
        note(joined)
        return states(backbone, joined, where_BT, **how)

    monkeypatch.setattr(trunk, "_run", spy)
    monkeypatch.setattr(llama_trunk, "states", spy_states)
    return seen


def apart(module: nn.Module) -> Any:
    """A copy that encodes every row by itself, by the model's own forward."""
    other = copy.deepcopy(module)
    share_prompts(other, on=False)
    write_out(other, on=False)
    return other


def lora(hf: PreTrainedModel) -> CausalModel:
    model = CausalModel(add_lora(hf, r=2, targets=None))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    return model
