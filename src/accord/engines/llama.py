"""One decoding step of a Llama-shaped model, written out: the model's weights and numbers in a fraction of the time.

A general forward spends much of a small decoding step around the arithmetic: many small kernels per layer, a mask
built anew, an attention kernel made for long queries. Here q, k and v are one product, and rotation is applied to
queries and keys at once. Attention belongs to whoever keeps keys and values (`accord.engines.grouped`).

The step reads copies of the weights, made when it is built (`accord.engines.weights`). A trunk that trains in bfloat16
(`accord.models.precision`) takes its steps in bfloat16, so that the sampler is the policy that is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from accord.engines.weights import Product
from accord.models.precision import runs_in_bfloat16

_FAMILIES = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})


def obstacle(model: nn.Module) -> str | None:
    """Say why `LlamaStep` cannot run this model as it is now, or None if it can.

    Args:
        model: Hugging Face causal LM, PEFT-wrapped or not.
    """
    inner = _inner(model)
    name = type(inner).__name__
    if name not in _FAMILIES or not type(inner).__module__.startswith("transformers.models."):
        return f"{name} is not one of {', '.join(sorted(_FAMILIES))}"
    projections = [inner.lm_head, *(p for layer in inner.model.layers for p in _projections(layer))]
    if odd := next((type(p).__name__ for p in projections if type(p) is not nn.Linear), None):
        return f"a projection is a {odd}, not a plain matrix"
    blocks = [block for layer in inner.model.layers for block in (layer, layer.self_attn, layer.mlp)]
    for module in (model, inner, inner.model, *blocks, *projections):  # the others are still called
        if module._forward_hooks or module._forward_pre_hooks:
            return f"a {type(module).__name__} has a forward hook, which would not be called"
    return None


class Attention(Protocol):
    """Keeps keys and values, and says what queries see among them."""

    def __call__(
        self, layer: int, query_BHD: Tensor, key_BKD: Tensor, value_BKD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Store the step's keys and values and return the mixed values, [B, H * D]."""
        ...


@dataclass(frozen=True)
class _Layer:
    """The products of one layer, and references to the rest."""

    module: Any
    qkv: Product
    out: Product
    gate_up: Product
    down: Product
    window: int | None


class LlamaStep:
    """One token per row through the model, beside keys and values kept elsewhere.

    Args:
        model: a model without `obstacle`, in eval mode. Its weights are read now: build a new step after they
            changed.
        rows: about how many rows will go through at once.
    """

    def __init__(self, model: nn.Module, rows: int) -> None:
        inner = _inner(model)
        self._trunk, config = inner.model, inner.config
        attention = self._trunk.layers[0].self_attn
        self.head_size: int = attention.head_dim
        self.key_heads: int = config.num_key_value_heads
        self.layers = len(self._trunk.layers)
        self._heads: int = config.num_attention_heads
        self._scaling: float = attention.scaling
        # Only Mistral's attention reads the window from the config; in a Llama's the entry has no effect.
        window = config.sliding_window if type(inner).__name__ == "MistralForCausalLM" else None
        dtype = torch.bfloat16 if runs_in_bfloat16(self._trunk) else None
        self._layers = [_read(layer, window, dtype, rows) for layer in self._trunk.layers]
        self._head = Product([inner.lm_head], None, rows)
        weight = inner.lm_head.weight
        self.cache_dtype: torch.dtype = weight.dtype
        """Of keys and values."""
        self.score_dtype: torch.dtype = weight.dtype
        """Of attention scores."""
        half = torch.ones(self.head_size // 2, device=weight.device, dtype=weight.dtype)
        self._sign_D = torch.cat((-half, half))

    @torch.inference_mode()
    def __call__(self, token_B: Tensor, position_B1: Tensor, attend: Attention) -> Tensor:
        """Return the logits [B, V] after `token_B`.

        Args:
            token_B: ids.
            position_B1: the token's place in its own row.
            attend: keeps the token's keys and values and attends.
        """
        batch = len(token_B)
        hidden_BH = self._trunk.embed_tokens(token_B)
        cos_B1D, sin_B1D = self._trunk.rotary_emb(hidden_BH, position_ids=position_B1)
        sin_B1D = sin_B1D * self._sign_D
        for index, layer in enumerate(self._layers):
            attention = layer.module.self_attn
            qkv = layer.qkv(layer.module.input_layernorm(hidden_BH)).view(batch, -1, self.head_size)
            qk, value = qkv.split([self._heads + self.key_heads, self.key_heads], 1)
            if hasattr(attention, "q_norm"):
                query, key = qk.split([self._heads, self.key_heads], 1)
                qk = torch.cat((attention.q_norm(query), attention.k_norm(key)), 1)
            # The sign is in the sine, so that turning by half is a roll.
            qk = torch.addcmul(qk * cos_B1D, qk.roll(self.head_size // 2, -1), sin_B1D)
            mixed_BE = attend(index, qk[:, : self._heads], qk[:, self._heads :], value, self._scaling, layer.window)
            hidden_BH = hidden_BH + layer.out(mixed_BE)
            gate, up = layer.gate_up(layer.module.post_attention_layernorm(hidden_BH)).chunk(2, -1)
            hidden_BH = hidden_BH + layer.down(layer.module.mlp.act_fn(gate) * up)
        return self._head(self._trunk.norm(hidden_BH))


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _projections(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    ]


def _read(layer: Any, window: int | None, dtype: torch.dtype | None, rows: int) -> _Layer:
    q, k, v, out, gate, up, down = _projections(layer)
    window = getattr(layer.self_attn, "sliding_window", window)
    qkv, joined = Product([q, k, v], dtype, rows), Product([gate, up], dtype, rows)
    return _Layer(layer, qkv, Product([out], dtype, rows), joined, Product([down], dtype, rows), window)
