"""GPT-J, CodeGen, Cohere, Cohere2, GLM and GLM-4: rotary embeddings that turn neighbouring numbers of a head.

A step turns number i with number i + R / 2, these models turn 2i with 2i + 1 (Su et al. 2021, 2104.09864). A score is a
sum over the numbers of a head, in any order, if only queries and keys have the same one. So the rows that make queries
and keys are put in another order when a model is read (first numbers of all pairs, then second ones, then what is not
turned), and the step runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.engines import llama
from accord.engines.anatomy import Anatomy, Function, Layer, Matrix, activation, matrix, norm


def read_gptj(model: Any) -> Anatomy:
    """Read GPT-J or CodeGen: one norm for attention and MLP, a part of each head turned, a head with a bias."""
    trunk, config = model.transformer, model.config
    heads = config.n_head
    order_D = _order(config.n_embd // heads, config.rotary_dim).to(trunk.wte.weight.device)

    def angles(states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        # A table may be asked for more places than any row may come to.
        table = trunk.h[0].attn.embed_positions.to(states)
        sin, cos = table[position_ids.clamp(max=len(table) - 1)].chunk(2, -1)
        return torch.cat((cos, cos), -1), torch.cat((sin, sin), -1)

    return Anatomy(
        trunk=trunk,
        embed=lambda token_B, _: trunk.wte(token_B),
        layers=[_gptj_layer(block, order_D) for block in trunk.h],
        norm=norm(trunk.ln_f),
        head=matrix(model.get_output_embeddings()),
        heads=heads,
        key_heads=heads,
        head_size=len(order_D),
        parallel=True,
        rotary={"rotary": (angles, "default")},
        key_order_D=order_D,
    )


def _gptj_layer(block: Any, order_D: Tensor) -> Layer:
    attention, mlp = block.attn, block.mlp
    if hasattr(attention, "qkv_proj"):  # CodeGen: four parts, of queries, values and keys each
        joined = attention.qkv_proj.weight.detach().unflatten(0, (4, 3, -1))
        query, value, key = (Matrix(part.flatten(0, 1), None) for part in joined.unbind(1))
    else:
        query, key, value = (matrix(part) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    return Layer(
        attention_norm=norm(block.ln_1),
        qkv=_reordered([query, key, value], order_D),
        attention_out=matrix(attention.out_proj),
        mlp_norm=None,
        mlp_in=[matrix(mlp.fc_in)],
        activation=activation(mlp.act),
        mlp_out=matrix(mlp.fc_out),
        scaling=1 / float(attention.scale_attn),
    )


def read_cohere(model: Any) -> Anatomy:
    """Read Cohere, or Cohere2, which turns where it sees a window only."""
    trunk, config = model.model, model.config
    size = trunk.layers[0].self_attn.head_dim
    order_D = _order(size, size).to(trunk.embed_tokens.weight.device)

    def angles(states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = trunk.rotary_emb(states, position_ids=position_ids)
        return cos[..., order_D], sin[..., order_D]

    weight_VH, bias_V = matrix(model.get_output_embeddings())
    return Anatomy(
        trunk=trunk,
        embed=lambda token_B, _: trunk.embed_tokens(token_B),
        layers=[_cohere_layer(layer, order_D) for layer in trunk.layers],
        norm=_layer_norm(trunk.norm),
        head=Matrix(weight_VH * model.logit_scale, None if bias_V is None else bias_V * model.logit_scale),
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=size,
        parallel=True,
        rotary={"rotary": (angles, trunk.rotary_emb.rope_type)},
        key_order_D=order_D,
    )


def _cohere_layer(layer: Any, order_D: Tensor) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    window = getattr(attention, "sliding_window", None)
    turned = window is not None or not hasattr(attention, "sliding_window")
    normed = getattr(attention, "use_qk_norm", False)
    return Layer(
        attention_norm=_layer_norm(layer.input_layernorm),
        qkv=_reordered([matrix(part) for part in (attention.q_proj, attention.k_proj, attention.v_proj)], order_D),
        attention_out=matrix(attention.o_proj),
        mlp_norm=None,
        mlp_in=[matrix(mlp.gate_proj), matrix(mlp.up_proj)],
        activation=activation(mlp.act_fn),
        mlp_out=matrix(mlp.down_proj),
        scaling=attention.scaling,
        gated=True,
        window=window,
        rotary="rotary" if turned else None,
        query_norm=_of_heads(attention.q_norm, order_D) if normed else None,
        key_norm=_of_heads(attention.k_norm, order_D) if normed else None,
    )


def _layer_norm(module: Any) -> Function:
    """Cohere's norm, which has no bias and is taken in float32 whatever the weights are."""
    weight = module.weight
    if weight.dtype != torch.float32:
        return module
    return partial(F.layer_norm, normalized_shape=weight.shape, weight=weight, eps=module.variance_epsilon)


def _of_heads(module: Any, order_D: Tensor) -> Function:
    """Of each head, whose numbers are in another order than the norm's weights."""
    weight_ND = module.weight.detach()[:, order_D]

    def normed(x_BND: Tensor) -> Tensor:
        return F.layer_norm(x_BND.float(), order_D.shape, eps=module.variance_epsilon) * weight_ND

    return normed


def read_glm(model: Any) -> Anatomy | str:
    """Read GLM or GLM-4: a Llama but for the part of each head that is turned; GLM-4 has norms behind both, too."""
    found, trunk = llama.read(model), model.model
    if isinstance(found, str):
        return found
    order_D = _order(found.head_size, 2 * len(trunk.rotary_emb.inv_freq)).to(trunk.embed_tokens.weight.device)
    layers = [replace(layer, qkv=_reordered(layer.qkv, order_D)) for layer in found.layers]
    if hasattr(trunk.layers[0], "post_mlp_layernorm"):
        layers = [
            replace(layer, attention_end=norm(own.post_self_attn_layernorm), mlp_end=norm(own.post_mlp_layernorm))
            for layer, own in zip(layers, trunk.layers, strict=True)
        ]
    return replace(found, layers=layers, key_order_D=order_D)


def _order(size: int, turned: int) -> Tensor:
    """Which number of a head comes where, [D]."""
    number_D = torch.arange(size)
    return torch.cat((number_D[:turned:2], number_D[1:turned:2], number_D[turned:]))


def _reordered(qkv: Sequence[Matrix], order_D: Tensor) -> list[Matrix]:
    def sort(x: Tensor) -> Tensor:
        return x.unflatten(0, (-1, len(order_D)))[:, order_D].flatten(0, 1)

    query, key, value = qkv
    return [*(Matrix(sort(x.weight_OI), None if x.bias_O is None else sort(x.bias_O)) for x in (query, key)), value]


FAMILIES: dict[str, Callable[[Any], Anatomy | str]] = {
    **dict.fromkeys(("GPTJForCausalLM", "CodeGenForCausalLM"), read_gptj),
    **dict.fromkeys(("CohereForCausalLM", "Cohere2ForCausalLM"), read_cohere),
    **dict.fromkeys(("GlmForCausalLM", "Glm4ForCausalLM"), read_glm),
}
