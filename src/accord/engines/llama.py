"""One decoding step of a Llama-shaped model, written out: the model's weights and numbers in a fraction of the time.

A general forward spends much of a small decoding step around the arithmetic: many small kernels per layer, a mask
built anew, an attention kernel made for long queries. Here q, k and v are one product, rotation is applied to
queries and keys at once, and attention is two batched products in which the query heads that share a key head are
rows of one matrix.

The step reads copies of the weights, made when it is built. On a CPU they lie [inputs, outputs]: torch multiplies a
few rows by that 1.1 to 2 times as fast as by its own [outputs, inputs].
"""

# ruff: noqa: N815 - fields carry shape suffixes
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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


@dataclass(frozen=True)
class _Layer:
    """Copies of one layer's matrices, each [inputs, outputs], and references to the rest."""

    module: Any
    qkv_HE: Tensor
    qkv_bias_E: Tensor | None
    out_EH: Tensor
    out_bias_H: Tensor | None
    gate_up_HF: Tensor
    gate_up_bias_F: Tensor | None
    down_FH: Tensor
    down_bias_H: Tensor | None
    window: int | None


class LlamaStep:
    """One token per row through the model, beside keys and values kept elsewhere.

    Args:
        model: a model without `obstacle`, in eval mode. Its weights are read now: build a new step after they
            changed.
    """

    def __init__(self, model: nn.Module) -> None:
        inner = _inner(model)
        self._trunk, config = inner.model, inner.config
        attention = self._trunk.layers[0].self_attn
        self._head_dim: int = attention.head_dim
        self._heads: int = config.num_attention_heads
        self._kv_heads: int = config.num_key_value_heads
        self._scaling: float = attention.scaling
        # Only Mistral's attention reads the window from the config; in a Llama's the entry has no effect.
        window = config.sliding_window if type(inner).__name__ == "MistralForCausalLM" else None
        self._layers = [_read(layer, window) for layer in self._trunk.layers]
        self._head_HV, self._head_bias_V = _matrix(inner.lm_head)
        half = torch.ones(self._head_dim // 2, device=self._head_HV.device, dtype=self._head_HV.dtype)
        self._sign_D = torch.cat((-half, half))

    @torch.inference_mode()
    def __call__(
        self,
        token_B: Tensor,
        position_B1: Tensor,
        visible_BC: Tensor,
        caches: Sequence[tuple[Tensor, Tensor]],
        columns: slice,
    ) -> Tensor:
        """Return the logits [B, V] after `token_B`, whose keys and values are stored in the last column.

        Args:
            token_B: ids.
            position_B1: the token's place in its own row.
            visible_BC: 1 where a column belongs to the row; C = the length of `columns`.
            caches: per layer keys and values, [slots, key heads, all columns, head dim]; rows are the first B.
            columns: the columns to look at; the last is the token's own.
        """
        batch, end = len(token_B), columns.stop
        hidden_BH = self._trunk.embed_tokens(token_B)
        cos_B1D, sin_B1D = self._trunk.rotary_emb(hidden_BH, position_ids=position_B1)
        sin_B1D = sin_B1D * self._sign_D
        hide_BC = torch.zeros_like(visible_BC, dtype=hidden_BH.dtype).masked_fill_(visible_BC == 0, -torch.inf)
        # One copy per key head, in the order of the batched product.
        hide_N1C = hide_BC.repeat_interleave(self._kv_heads, 0)[:, None]
        for layer, (keys, values) in zip(self._layers, caches, strict=True):
            attention = layer.module.self_attn
            x_BH = layer.module.input_layernorm(hidden_BH)
            qkv = _affine(x_BH, layer.qkv_HE, layer.qkv_bias_E).view(batch, -1, self._head_dim)
            qk, value = qkv.split([self._heads + self._kv_heads, self._kv_heads], 1)
            if hasattr(attention, "q_norm"):
                query, key = qk.split([self._heads, self._kv_heads], 1)
                qk = torch.cat((attention.q_norm(query), attention.k_norm(key)), 1)
            # The sign is in the sine, so that turning by half is a roll.
            qk = torch.addcmul(qk * cos_B1D, qk.roll(self._head_dim // 2, -1), sin_B1D)
            keys[:batch, :, end - 1] = qk[:, self._heads :]
            values[:batch, :, end - 1] = value
            first = columns.start if layer.window is None else max(columns.start, end - layer.window)
            keys_NCD = keys[:batch].flatten(0, 1)[:, first:end]
            values_NCD = values[:batch].flatten(0, 1)[:, first:end]
            query_NGD = qk[:, : self._heads].reshape(batch * self._kv_heads, -1, self._head_dim)
            score_NGC = torch.baddbmm(
                hide_N1C[..., first - columns.start :], query_NGD, keys_NCD.mT, alpha=self._scaling
            )
            # Half precision is softened in float32, as the model's own attention does.
            weight_NGC = score_NGC.softmax(-1, dtype=torch.float32 if score_NGC.itemsize < 4 else None)
            mixed_NGD = torch.bmm(weight_NGC.to(values.dtype), values_NCD)
            hidden_BH = _affine(mixed_NGD.view(batch, -1), layer.out_EH, layer.out_bias_H, onto=hidden_BH)
            x_BH = layer.module.post_attention_layernorm(hidden_BH)
            gate, up = _affine(x_BH, layer.gate_up_HF, layer.gate_up_bias_F).chunk(2, -1)
            hidden_BH = _affine(layer.module.mlp.act_fn(gate) * up, layer.down_FH, layer.down_bias_H, onto=hidden_BH)
        return _affine(self._trunk.norm(hidden_BH), self._head_HV, self._head_bias_V)


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _projections(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    ]


def _read(layer: Any, window: int | None) -> _Layer:
    q, k, v, out, gate, up, down = _projections(layer)
    window = getattr(layer.self_attn, "sliding_window", window)
    return _Layer(layer, *_matrix(q, k, v), *_matrix(out), *_matrix(gate, up), *_matrix(down), window)


def _matrix(first: Any, *others: Any) -> tuple[Tensor, Tensor | None]:
    """Return projections side by side as one [inputs, outputs] matrix, and their biases."""
    weight = torch.cat([first.weight, *(other.weight for other in others)]) if others else first.weight
    bias = None if first.bias is None else torch.cat([first.bias, *(other.bias for other in others)])
    return (weight.t().contiguous() if weight.device.type == "cpu" else weight.t()), bias


def _affine(x_BI: Tensor, weight_IO: Tensor, bias_O: Tensor | None, *, onto: Tensor | None = None) -> Tensor:
    if bias_O is not None:
        onto = bias_O if onto is None else onto + bias_O
    return torch.mm(x_BI, weight_IO) if onto is None else torch.addmm(onto, x_BI, weight_IO)
