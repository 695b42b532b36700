"""Bloom and Falcon: LayerNorm, a plain MLP, and queries, keys and values of a head or a group of heads together.

Bloom knows where tokens are by a bias on its scores, Falcon by a rotary embedding, as far as it is read here.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.engines.anatomy import Activation, Anatomy, Layer, Matrix, activation, by_kind, matrix, norm


def read(model: Any) -> Anatomy | str:
    """Read Bloom."""
    trunk, config = model.transformer, model.config
    if config.apply_residual_connection_post_layernorm:
        return "what goes past is normed"
    heads = config.n_head
    two_tokens = torch.ones(1, 2, dtype=torch.long, device=trunk.word_embeddings.weight.device)
    first = norm(trunk.word_embeddings_layernorm)
    return Anatomy(
        trunk=trunk,
        embed=lambda token_B, _: first(trunk.word_embeddings(token_B)),
        layers=[_bloom_layer(block, heads) for block in trunk.h],
        norm=norm(trunk.ln_f),
        head=matrix(model.get_output_embeddings()),
        heads=heads,
        key_heads=heads,
        head_size=config.hidden_size // heads,
        slopes_N=trunk.build_alibi_tensor(two_tokens, heads, torch.float32)[:, 0, 1],
    )


def _bloom_layer(block: Any, heads: int) -> Layer:
    attention, mlp = block.self_attention, block.mlp
    return Layer(
        attention_norm=norm(block.input_layernorm),
        qkv=[by_kind(matrix(attention.query_key_value), heads)],
        attention_out=matrix(attention.dense),
        mlp_norm=norm(block.post_attention_layernorm),
        mlp_in=[matrix(mlp.dense_h_to_4h)],
        activation=Activation(partial(F.gelu, approximate="tanh"), "tanh"),
        mlp_out=matrix(mlp.dense_4h_to_h),
        scaling=attention.inv_norm_factor,
        rotary=None,
    )


def read_falcon(model: Any) -> Anatomy | str:
    """Read Falcon's old and new decoder, but for the models with biases on positions (1 B)."""
    trunk, config = model.transformer, model.config
    if config.alibi:
        return "its scores have a bias by position"
    attention = trunk.h[0].self_attention
    return Anatomy(
        trunk=trunk,
        embed=lambda token_B, _: trunk.word_embeddings(token_B),
        layers=[_falcon_layer(block) for block in trunk.h],
        norm=norm(trunk.ln_f),
        head=matrix(model.get_output_embeddings()),
        heads=attention.num_heads,
        key_heads=attention.num_kv_heads,
        head_size=attention.head_dim,
        parallel=config.parallel_attn,
        rotary={"rotary": (trunk.rotary_emb, trunk.rotary_emb.rope_type)},
    )


def _falcon_layer(block: Any) -> Layer:
    attention, mlp = block.self_attention, block.mlp
    first, second = (getattr(block, name, None) for name in ("ln_attn", "ln_mlp"))
    if first is None:
        first, second = block.input_layernorm, getattr(block, "post_attention_layernorm", None)
    return Layer(
        attention_norm=norm(first),
        qkv=[_falcon_qkv(attention)],
        attention_out=matrix(attention.dense),
        mlp_norm=None if second is None else norm(second),
        mlp_in=[matrix(mlp.dense_h_to_4h)],
        activation=activation(mlp.act),
        mlp_out=matrix(mlp.dense_4h_to_h),
        scaling=1 / math.sqrt(attention.head_dim),
    )


def _falcon_qkv(attention: Any) -> Matrix:
    """Queries, keys and values of all heads, in this order; the model keeps a key head's queries with it."""
    joined, groups, size = matrix(attention.query_key_value), attention.num_kv_heads, attention.head_dim

    def sort(x: Tensor) -> Tensor:
        x_GNDI = x.unflatten(0, (groups, -1, size))
        return _joined(x_GNDI[:, :-2], x_GNDI[:, -2:-1], x_GNDI[:, -1:])

    return Matrix(sort(joined.weight_OI), None if joined.bias_O is None else sort(joined.bias_O))


def _joined(*parts: Tensor) -> Tensor:
    return torch.cat([part.flatten(0, 2) for part in parts])


FAMILIES = {"BloomForCausalLM": read, "FalconForCausalLM": read_falcon}
