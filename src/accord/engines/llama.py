"""Llama and the models shaped like it: rotary embedding, RMS norm, a gated MLP behind attention.

Some of them have norms elsewhere (OLMo2 and OLMo3 behind what is added, Gemma3 on both sides), numbers that multiply
what goes past (Granite), or LayerNorm and an MLP beside attention (StableLM).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from accord.engines.anatomy import Anatomy, Function, Layer, Matrix, activation, as_is, matrix, norm


def read(model: Any) -> Anatomy | str:
    """Read Llama, Mistral, Qwen2, Qwen3, SmolLM3, Phi3, OLMo (2, 3), Granite or StableLM."""
    if getattr(model.config, "clip_qkv", None) is not None:
        return "its queries, keys and values are clipped"
    if getattr(model.config, "qk_layernorm", False):
        return "every head has a norm of its own"
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
    head, scaled = matrix(model.get_output_embeddings()), getattr(config, "logits_scaling", 1)
    if scaled != 1:  # of Granite, as its other numbers
        head = Matrix(head.weight_OI / scaled, head.bias_O)
    embedded = getattr(config, "embedding_multiplier", 1)
    window = config.sliding_window if type(model).__name__ in {"MistralForCausalLM", "Phi3ForCausalLM"} else None
    return Anatomy(
        trunk=trunk,
        embed=lambda token_B, _: (
            trunk.embed_tokens(token_B) if embedded == 1 else trunk.embed_tokens(token_B) * embedded
        ),
        layers=[_layer(layer, window, shift, set(tables)) for layer in trunk.layers],
        norm=norm(trunk.norm, shift),
        head=head,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=attention.head_dim,
        rotary=tables,
    )


def _layer(layer: Any, window: int | None, shift: float, angles: set[str]) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    before, between, behind = _norms(layer, shift)
    normed = hasattr(attention, "q_norm")
    return Layer(
        attention_norm=before,
        qkv=_qkv(attention),
        attention_out=matrix(attention.o_proj),
        mlp_norm=between,
        mlp_in=[matrix(mlp.gate_up_proj)] if hasattr(mlp, "gate_up_proj") else _matrices(mlp, "gate_proj", "up_proj"),
        activation=activation(mlp.activation_fn if hasattr(mlp, "activation_fn") else mlp.act_fn),
        mlp_out=matrix(mlp.down_proj),
        scaling=attention.scaling,
        gated=True,
        window=getattr(attention, "sliding_window", window),
        rotary=_rotary(attention, angles),
        query_norm=_of_heads(attention.q_norm, attention.head_dim, shift) if normed else None,
        key_norm=_of_heads(attention.k_norm, attention.head_dim, shift) if normed else None,
        attention_end=behind[0],
        mlp_end=behind[1],
    )


def _norms(layer: Any, shift: float) -> tuple[Function, Function | None, tuple[Function | None, Function | None]]:
    """What stands before attention, before the MLP (None = it reads what attention reads) and behind both."""
    if not hasattr(layer, "post_feedforward_layernorm"):
        times = getattr(layer, "residual_multiplier", 1)
        end = None if times == 1 else partial(torch.mul, other=times)
        between = layer.post_attention_layernorm
        return norm(layer.input_layernorm, shift), None if between is None else norm(between, shift), (end, end)
    ends = norm(layer.post_attention_layernorm, shift), norm(layer.post_feedforward_layernorm, shift)
    if not hasattr(layer, "pre_feedforward_layernorm"):
        return as_is, as_is, ends
    return norm(layer.input_layernorm, shift), norm(layer.pre_feedforward_layernorm, shift), ends


def _of_heads(module: Any, size: int, shift: float) -> Function:
    """Of each head, or of all together (OLMo2)."""
    found = norm(module, shift)
    if module.weight.numel() == size:
        return found

    def together(x_BND: Tensor) -> Tensor:
        return found(x_BND.flatten(1)).view_as(x_BND)

    return together


def _rotary(attention: Any, angles: set[str]) -> str | None:
    """Gemma3 and OLMo3 turn by another angle where they see a window only; SmolLM3 does not turn in every layer."""
    if not getattr(attention, "use_rope", True):
        return None
    kind = getattr(attention, "layer_type", getattr(attention, "attention_type", None))
    return kind if kind in angles else "rotary"


def _qkv(attention: Any) -> list[Matrix]:
    if hasattr(attention, "qkv_proj"):
        return [matrix(attention.qkv_proj)]
    return _matrices(attention, "q_proj", "k_proj", "v_proj")


def _matrices(module: Any, *names: str) -> list[Matrix]:
    return [matrix(getattr(module, name)) for name in names]


FAMILIES = {
    **dict.fromkeys(("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"), read),
    **dict.fromkeys(("SmolLM3ForCausalLM", "Phi3ForCausalLM", "GraniteForCausalLM", "StableLmForCausalLM"), read),
    **dict.fromkeys(("OlmoForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM"), read),
    **dict.fromkeys(("GemmaForCausalLM", "Gemma3ForCausalLM"), read_gemma),
}
