"""How much memory a model needs, from its sizes alone: plain arithmetic, nothing is loaded.

Legend: N parameters, D width, L blocks, A width of all query heads, K width of all key heads, I width of the MLP,
V vocabulary, b bytes a number. The formulas are those of a Llama block (rotary attention without stored scores, gated
MLP) trained without recomputation; other architectures differ by some ten per cent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, cast

from accord.microbatches import FLAT_FROM
from accord.stages.configs import PretrainConfig

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2}
CHUNK_ELEMENTS = 2**24
"""Numbers in one chunk of logits; `accord.models.policy` chooses its chunks so."""
BYTES_4BIT = 0.5 + 1 / 64 + 4 / (64 * 256)
"""A weight in 4-bit NormalFloat: half a byte, a constant of 8 bits for 64 of them, one of 32 for 256 constants."""
LOGITS_SCORED = 3.0
"""Copies of a chunk of logits that is only scored: logits, the same at the temperature, log-probabilities."""
LOGITS_TRAINED = 3.0
"""With a backward pass: logits or their gradient, log-probabilities, gradient of these."""
LOGITS_WITH_ENTROPY = 5.0
"""Scored, with entropies."""
LOGITS_TRAINED_WITH_ENTROPY = 7.25
"""Both; a quarter is the mask of tokens that cannot be sampled."""
PART_QUERIES, PART_KEYS = 128, 512
"""Queries of a part of attention and keys up to which its softmax is kept, as in `accord.models.attention`."""
_WRITTEN_OUT = ("llama", "mistral", "qwen2")
"""Types of models that `accord.models.llama_trunk` runs on a processor."""
_LINEAR = {"q_proj": "DA", "k_proj": "DK", "v_proj": "DK", "o_proj": "AD"} | {
    "gate_proj": "DI",
    "up_proj": "DI",
    "down_proj": "ID",
}
_HEADER_LIMIT = 100_000_000


@dataclass(frozen=True)
class Lora:
    """The sizes of an adapter."""

    rank: int
    """r."""
    targets: tuple[str, ...] | None
    """Names of the adapted layers; None = all in the blocks."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a language model."""

    vocab: int
    """V."""
    width: int
    """D."""
    blocks: int
    """L."""
    queries: int
    """A, query heads times head size."""
    keys: int
    """K, key/value heads times head size."""
    mlp: int
    """I."""
    positions: int
    """Longest context, tokens."""
    tied: bool = True
    """Embeddings and output head are one matrix."""
    counted: int | None = None
    """N as counted in the weight files; None = by formula."""
    heads: int = 1
    """Query heads."""
    written_out: bool = False
    """On a processor `accord.models.blocks` runs the blocks."""

    @property
    def parameters(self) -> int:
        """N of the causal language model."""
        if self.counted is not None:
            return self.counted
        block = 2 * self.width * (self.queries + self.keys) + 3 * self.width * self.mlp + 2 * self.width
        return self.blocks * block + self.width + self.vocab * self.width * (1 if self.tied else 2)

    @property
    def trunk_parameters(self) -> int:
        """N of a reward model or critic made of it: no output head, one scalar head."""
        return self.parameters - (0 if self.tied else self.vocab * self.width) + self.width

    def lora_parameters(self, lora: Lora) -> int:
        """Adapter weights: rank x (inputs + outputs) of every adapted layer."""
        width = {"D": self.width, "A": self.queries, "K": self.keys, "I": self.mlp}
        pairs = [pair for name, pair in _LINEAR.items() if lora.targets is None or name in lora.targets]
        return self.blocks * lora.rank * sum(width[a] + width[b] for a, b in pairs)

    def activation_bytes(self, tokens: int, size: int, lora: Lora | None = None) -> int:
        """What the backward pass keeps of `tokens` padded tokens in all blocks.

        Full: tokens x L x (6D + 2A + 2K + 4I + 6) x b. A block keeps the input, the normalised and the scaled input of
        both norms (6D), queries and attention output (2A), keys and values (2K), four tensors of the gated MLP. Frozen
        weights need neither the scaled input of a norm nor the input of a layer unless an adapter reads it; an adapter
        keeps its r inner values.
        """
        a_token = 6 * self.width + 2 * self.queries + 2 * self.keys + 4 * self.mlp + 6
        if lora is not None:
            adapted = [name for name in _LINEAR if lora.targets is None or name in lora.targets]
            inputs = ("q_proj" in adapted or "k_proj" in adapted or "v_proj" in adapted) + (
                "gate_proj" in adapted or "up_proj" in adapted
            )
            a_token -= (4 - inputs) * self.width + ("down_proj" not in adapted) * self.mlp - lora.rank * len(adapted)
        return tokens * self.blocks * a_token * size

    def mixed_bytes(self, tokens: int, lora: Lora | None = None) -> int:
        """`activation_bytes` under bfloat16 autocast: tokens x L x (26D + 10A + 8K + 8I), and 2N for cast weights.

        The stream between blocks and both of what a norm keeps stay in float32 (8D + 8D); every layer keeps a
        bfloat16 copy of its input (2D five times, 2A). Attention runs in float32 (8A + 8K), the gated MLP keeps its
        four tensors in 2I each. Matrices are cast once a micro-batch and kept.
        """
        a_token = 26 * self.width + 10 * self.queries + 8 * self.keys + 8 * self.mlp
        if lora is not None:
            a_token -= 8 * self.width - 2 * lora.rank * len(_LINEAR)
        return tokens * self.blocks * a_token + 2 * self.matrices

    def written_bytes(self, tokens: int, size: int, length: int, *, mixed: bool) -> int:
        """`activation_bytes` of blocks that are written out: tokens x L x (2D + 4A + 2I + H S) x b.

        Kept are the inputs of both halves of a block (2D), queries, keys and values with as many heads, the attention
        output (4A), gate and up (2I), and what attention in parts keeps of its softmax. Under autocast the products'
        results are in bfloat16 (half of 2I), with a second copy of the attention output, and 2N for cast weights.

        Args:
            tokens: of the micro-batch.
            size: bytes a number.
            length: tokens of a row.
            mixed: under autocast.
        """
        softmax = int(self.heads * _kept_keys(length))
        if not mixed:
            return tokens * self.blocks * (2 * self.width + 4 * self.queries + 2 * self.mlp + softmax) * size
        # torch's kernel, which shorter rows take, keeps what it returned; elsewhere only the copy in bfloat16 stays.
        outputs = 6 if length < FLAT_FROM else 2
        a_token = 8 * self.width + (12 + outputs) * self.queries + 4 * self.mlp + 4 * softmax
        return tokens * self.blocks * a_token + 2 * self.matrices

    @property
    def matrices(self) -> int:
        """Numbers in the matrices of all blocks."""
        return self.blocks * (2 * self.width * (self.queries + self.keys) + 3 * self.width * self.mlp)

    def recomputed_bytes(self, tokens: int, size: int, whole: int) -> int:
        """Under gradient checkpointing: the input of every block, the last norm, one block at a time of `whole`."""
        return tokens * (self.blocks + 2) * self.width * size + whole // self.blocks

    def forward_bytes(self, tokens: int, size: int) -> int:
        """What one block holds while `tokens` tokens pass through: tokens x (4D + max(3I, 3A + 3K)) x b."""
        return tokens * size * (4 * self.width + 3 * max(self.mlp, self.queries + self.keys))

    def cache_bytes(self, rows: int, columns: int, size: int) -> int:
        """Keys and values of `rows` sequences of `columns` tokens: rows x columns x L x 2K x b."""
        return rows * columns * self.blocks * 2 * self.keys * size

    def decoding_bytes(self, size: int, *, gpu: bool) -> int:
        """Copies of weights for the fused decoding step: on a GPU q, k and v and both halves of the MLP, joined; on a
        processor all matrices of the blocks and the head, in the order in which few rows are multiplied fastest."""
        joined = self.width * (self.queries + 2 * self.keys) + 2 * self.width * self.mlp
        if gpu:
            return self.blocks * joined * size
        return (
            self.blocks * (joined + self.queries * self.width + self.mlp * self.width) + self.vocab * self.width
        ) * size

    def logit_bytes(self, tokens: int, copies: float) -> int:
        """Logits of one chunk, float32, in `copies`; never more than `tokens` at once."""
        return int(min(tokens, max(64, CHUNK_ELEMENTS // self.vocab)) * self.vocab * 4 * copies)

    def weight_bytes(self, size: int, *, four_bits: bool = False) -> int:
        """Weights of the causal language model; in 4 bits the matrices of the blocks are (with their constants)."""
        if not four_bits:
            return self.parameters * size
        return int(self.matrices * BYTES_4BIT) + (self.parameters - self.matrices) * size


def _kept_keys(length: int) -> float:
    """Keys a query whose weights are kept, on average over a row."""
    if length < FLAT_FROM:
        return 0.0
    number = ceil(length / PART_QUERIES)
    ends = [length * i // number for i in range(number + 1)]
    return sum((end - start) * end for start, end in pairwise(ends) if end <= PART_KEYS) / length


def sizes_of_pretrain(cfg: PretrainConfig) -> Sizes:
    """Sizes of the model that a `pretrain` section makes; V is the most the tokenizer may have."""
    head = cfg.hidden_size // cfg.num_attention_heads
    return Sizes(
        vocab=cfg.vocab_size,
        width=cfg.hidden_size,
        blocks=cfg.num_hidden_layers,
        queries=cfg.hidden_size,
        keys=head * (cfg.num_key_value_heads or cfg.num_attention_heads),
        mlp=cfg.intermediate_size or 8 * ceil(cfg.hidden_size / 3),
        positions=cfg.max_position_embeddings,
        heads=cfg.num_attention_heads,
        written_out=True,
    )


def sizes_of_directory(directory: Path) -> Sizes | None:
    """Sizes of a local Hugging Face model, from `config.json` and the headers of its safetensors files.

    Returns:
        The sizes, or None when the directory has no readable `config.json` or one without the usual names.
    """
    config = _read_object(directory / "config.json")
    if config is None:
        return None
    config = _object(config.get("text_config")) or config
    width, blocks = _int(config, "hidden_size", "n_embd"), _int(config, "num_hidden_layers", "n_layer")
    heads, vocab = _int(config, "num_attention_heads", "n_head"), _int(config, "vocab_size")
    if not (width and blocks and heads and vocab):
        return None
    head = _int(config, "head_dim") or width // heads
    tied = bool(config.get("tie_word_embeddings", True))
    return Sizes(
        vocab=vocab,
        width=width,
        blocks=blocks,
        queries=heads * head,
        keys=(_int(config, "num_key_value_heads") or heads) * head,
        mlp=_int(config, "intermediate_size", "n_inner") or 4 * width,
        positions=_int(config, "max_position_embeddings", "n_positions") or 2048,
        tied=tied,
        counted=_count(directory),
        heads=heads,
        written_out=config.get("model_type") in _WRITTEN_OUT,
    )


def _count(directory: Path) -> int | None:
    """Numbers in all safetensors files of a directory, read from their headers."""
    total = 0
    for path in sorted(directory.glob("model*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= _HEADER_LIMIT:
                return None
            try:
                header = json.loads(file.read(length))
                shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
            except (ValueError, KeyError, TypeError, AttributeError):
                return None
        for shape in shapes:
            count = 1
            for side in shape:
                count *= int(side)
            total += count
    return total or None


def _read_object(path: Path) -> Mapping[str, Any] | None:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _object(found)


def _object(value: Any) -> Mapping[str, Any] | None:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else None


def _int(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None
