"""GPT-2 and OPT: learned positions, LayerNorm, a plain MLP behind attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from accord.engines.anatomy import Anatomy, Layer, activation, matrix, norm


def read(model: Any) -> Anatomy | str:
    """Read GPT-2; scalings of attention by its size or its layer are in the layers' own numbers."""
    trunk, config = model.transformer, model.config
    if config.add_cross_attention:
        return "it has cross-attention"

    def embed(token_B: Tensor, position_B: Tensor) -> Tensor:
        return trunk.wte(token_B) + trunk.wpe(position_B)

    return Anatomy(
        trunk=trunk,
        embed=embed,
        layers=[_layer(block) for block in trunk.h],
        norm=norm(trunk.ln_f),
        head=matrix(model.get_output_embeddings()),
        heads=config.n_head,
        key_heads=config.n_head,
        head_size=config.n_embd // config.n_head,
    )


def _layer(block: Any) -> Layer:
    return Layer(
        attention_norm=norm(block.ln_1),
        qkv=[matrix(block.attn.c_attn)],
        attention_out=matrix(block.attn.c_proj),
        mlp_norm=norm(block.ln_2),
        mlp_in=[matrix(block.mlp.c_fc)],
        activation=activation(block.mlp.act),
        mlp_out=matrix(block.mlp.c_proj),
        scaling=block.attn.scaling,
        rotary=None,
    )


def read_opt(model: Any) -> Anatomy | str:
    """Read OPT, but for its 350 M model, which takes norms behind what it adds."""
    trunk, config = model.model.decoder, model.config
    if trunk.final_layer_norm is None or not config.do_layer_norm_before:
        return "its norms follow attention"
    if trunk.project_in is not None or trunk.project_out is not None:
        return "its embeddings are projected"

    def embed(token_B: Tensor, position_B: Tensor) -> Tensor:
        place_B1 = position_B[:, None]
        return trunk.embed_tokens(token_B) + trunk.embed_positions(None, position_ids=place_B1)[:, 0]

    return Anatomy(
        trunk=trunk,
        embed=embed,
        layers=[_opt_layer(layer) for layer in trunk.layers],
        norm=norm(trunk.final_layer_norm),
        head=matrix(model.get_output_embeddings()),
        heads=config.num_attention_heads,
        key_heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
    )


def _opt_layer(layer: Any) -> Layer:
    attention = layer.self_attn
    return Layer(
        attention_norm=norm(layer.self_attn_layer_norm),
        qkv=[matrix(attention.q_proj), matrix(attention.k_proj), matrix(attention.v_proj)],
        attention_out=matrix(attention.out_proj),
        mlp_norm=norm(layer.final_layer_norm),
        mlp_in=[matrix(layer.fc1)],
        activation=activation(layer.activation_fn),
        mlp_out=matrix(layer.fc2),
        scaling=attention.scaling,
        rotary=None,
    )


FAMILIES = {"GPT2LMHeadModel": read, "OPTForCausalLM": read_opt}
