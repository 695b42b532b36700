"""Llama and the models shaped like it: rotary embedding, RMS norm, a gated MLP behind attention."""

from __future__ import annotations

from functools import partial
from typing import Any

from accord.engines.anatomy import Anatomy, Layer, Matrix, activation, matrix, norm


def read(model: Any) -> Anatomy:
    """Read Llama, Mistral, Qwen2, Qwen3, SmolLM3 or Phi3."""
    return _read(model, shift=0.0)


def read_gemma(model: Any) -> Anatomy | str:
    """Read Gemma or Gemma3, whose norms multiply by 1 + weight; what Gemma3's norms do more is in `_layer`."""
    if getattr(model.config, "final_logit_softcapping", None) or getattr(model.config, "attn_logit_softcapping", None):
        return "its logits are soft-capped"
    if getattr(model.config, "use_bidirectional_attention", None):
        return "its attention looks both ways"
    return _read(model, shift=1.0)


def _read(model: Any, shift: float) -> Anatomy:
    trunk, config = model.model, model.config
    attention = trunk.layers[0].self_attn
    rotary = trunk.rotary_emb
    kinds = rotary.rope_type
    if isinstance(kinds, dict):  # Gemma3 turns by another angle where it sees a window only
        tables = {kind: (partial(rotary, layer_type=kind), rope) for kind, rope in kinds.items()}
    else:
        tables = {"rotary": (rotary, kinds)}
    # A Llama's attention does not read the window that its config may name.
    window = config.sliding_window if type(model).__name__ in {"MistralForCausalLM", "Phi3ForCausalLM"} else None
    return Anatomy(
        trunk=trunk,
        embed=lambda token_B, _: trunk.embed_tokens(token_B),
        layers=[_layer(layer, window, shift) for layer in trunk.layers],
        norm=norm(trunk.norm, shift),
        head=matrix(model.get_output_embeddings()),
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=attention.head_dim,
        rotary=tables,
    )


def _layer(layer: Any, window: int | None, shift: float) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    # Gemma3 has norms on both sides of attention and MLP, and turns by another angle where it sees a window only.
    sandwiched = hasattr(layer, "pre_feedforward_layernorm")
    before_mlp = layer.pre_feedforward_layernorm if sandwiched else layer.post_attention_layernorm
    rotary = attention.layer_type if sandwiched else "rotary"
    normed = hasattr(attention, "q_norm")
    return Layer(
        attention_norm=norm(layer.input_layernorm, shift),
        qkv=_qkv(attention),
        attention_out=matrix(attention.o_proj),
        mlp_norm=norm(before_mlp, shift),
        mlp_in=[matrix(mlp.gate_up_proj)] if hasattr(mlp, "gate_up_proj") else _matrices(mlp, "gate_proj", "up_proj"),
        activation=activation(mlp.activation_fn if hasattr(mlp, "activation_fn") else mlp.act_fn),
        mlp_out=matrix(mlp.down_proj),
        scaling=attention.scaling,
        gated=True,
        window=getattr(attention, "sliding_window", window),
        rotary=rotary if getattr(attention, "use_rope", True) else None,  # SmolLM3 does not turn in every layer
        query_norm=norm(attention.q_norm, shift) if normed else None,
        key_norm=norm(attention.k_norm, shift) if normed else None,
        attention_end=norm(layer.post_attention_layernorm, shift) if sandwiched else None,
        mlp_end=norm(layer.post_feedforward_layernorm, shift) if sandwiched else None,
    )


def _qkv(attention: Any) -> list[Matrix]:
    if hasattr(attention, "qkv_proj"):
        return [matrix(attention.qkv_proj)]
    return _matrices(attention, "q_proj", "k_proj", "v_proj")


def _matrices(module: Any, *names: str) -> list[Matrix]:
    return [matrix(getattr(module, name)) for name in names]


FAMILIES = {
    **dict.fromkeys(("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"), read),
    **dict.fromkeys(("SmolLM3ForCausalLM", "Phi3ForCausalLM"), read),
    **dict.fromkeys(("GemmaForCausalLM", "Gemma3ForCausalLM"), read_gemma),
}
