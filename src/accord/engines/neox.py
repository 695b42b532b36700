"""GPT-NeoX (Pythia), Phi and StarCoder2: rotary embedding of a part of each head, LayerNorm, a plain MLP.

In the first two the MLP reads what attention reads.
"""

from __future__ import annotations

from typing import Any

from accord.engines.anatomy import Anatomy, Layer, activation, by_kind, matrix, norm


def read(model: Any) -> Anatomy:
    """Read GPT-NeoX."""
    trunk, config = model.gpt_neox, model.config
    heads = config.num_attention_heads
    return Anatomy(
        trunk=trunk,
        embed=lambda token_B, _: trunk.embed_in(token_B),
        layers=[_layer(layer, heads) for layer in trunk.layers],
        norm=norm(trunk.final_layer_norm),
        head=matrix(model.get_output_embeddings()),
        heads=heads,
        key_heads=heads,
        head_size=config.hidden_size // heads,
        parallel=config.use_parallel_residual,
        rotary={"rotary": (trunk.rotary_emb, trunk.rotary_emb.rope_type)},
    )


def _layer(layer: Any, heads: int) -> Layer:
    return Layer(
        attention_norm=norm(layer.input_layernorm),
        qkv=[by_kind(matrix(layer.attention.query_key_value), heads)],
        attention_out=matrix(layer.attention.dense),
        mlp_norm=norm(layer.post_attention_layernorm),
        mlp_in=[matrix(layer.mlp.dense_h_to_4h)],
        activation=activation(layer.mlp.act),
        mlp_out=matrix(layer.mlp.dense_4h_to_h),
        scaling=layer.attention.scaling,
    )


def read_phi(model: Any) -> Anatomy:
    """Read Phi (1, 1.5, 2), whose MLP has no norm of its own, or StarCoder2."""
    trunk, config = model.model, model.config
    parallel = type(model).__name__ == "PhiForCausalLM"
    window = None if parallel else config.sliding_window
    return Anatomy(
        trunk=trunk,
        embed=lambda token_B, _: trunk.embed_tokens(token_B),
        layers=[_phi_layer(layer, window) for layer in trunk.layers],
        norm=norm(trunk.final_layernorm if parallel else trunk.norm),
        head=matrix(model.get_output_embeddings()),
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=trunk.layers[0].self_attn.head_dim,
        parallel=parallel,
        rotary={"rotary": (trunk.rotary_emb, trunk.rotary_emb.rope_type)},
    )


def _phi_layer(layer: Any, window: int | None) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    normed = getattr(attention, "qk_layernorm", False)
    names = ("fc1", "activation_fn", "fc2") if hasattr(mlp, "fc1") else ("c_fc", "act", "c_proj")
    first, act, last = (getattr(mlp, name) for name in names)
    own_norm = getattr(layer, "post_attention_layernorm", None)
    return Layer(
        attention_norm=norm(layer.input_layernorm),
        qkv=[matrix(attention.q_proj), matrix(attention.k_proj), matrix(attention.v_proj)],
        attention_out=matrix(attention.dense if hasattr(attention, "dense") else attention.o_proj),
        mlp_norm=None if own_norm is None else norm(own_norm),
        mlp_in=[matrix(first)],
        activation=activation(act),
        mlp_out=matrix(last),
        scaling=attention.scaling,
        window=window,
        query_norm=norm(attention.q_layernorm) if normed else None,
        key_norm=norm(attention.k_layernorm) if normed else None,
    )


FAMILIES = {"GPTNeoXForCausalLM": read, "PhiForCausalLM": read_phi, "Starcoder2ForCausalLM": read_phi}
