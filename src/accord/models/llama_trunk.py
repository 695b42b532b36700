"""The trunk of a Llama-shaped model on a processor, written out: fewer passes through memory, no padding, less to do.

The blocks are those of `accord.models.blocks`. Two things are left out that a general forward has to do:

- The last block's queries, output and MLP where nobody reads the result. Scores are read at the last token of a row,
  log-probabilities at its reply; the prompt is needed there as keys and values only.
- Padding, where attention is computed in parts: everything else of a block treats each token by itself.

Legend: U rows after joining, L their positions, N = U L, M tokens whose states are wanted, D hidden size, H heads,
E head size.
"""

# ruff: noqa: N815 - fields carry shape suffixes
from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from accord.models.attention import KERNEL, AttentionInParts, Part, parts_of, parts_of_unit, runs_of
from accord.models.blocks import Norm, Projection, added, gated_mlp, projected
from accord.models.fans import Fan
from accord.models.products import filled
from accord.models.sharing import Joined

_FAMILIES = frozenset({"LlamaModel", "MistralModel", "Qwen2Model"})
_SPARE = 0.9
"""Share of the tokens from which on the last block runs on all of them."""


def obstacle(backbone: nn.Module) -> str | None:
    """Why `states` cannot run this model as it is now; None if it can."""
    model: Any = backbone
    if type(model).__name__ not in _FAMILIES or not type(model).__module__.startswith("transformers.models."):
        return f"{type(model).__name__} is not one of {', '.join(sorted(_FAMILIES))}"
    config, weight = model.config, model.embed_tokens.weight
    if config._attn_implementation != KERNEL or weight.device.type != "cpu":
        return "it does not run on a processor with torch's attention"
    if weight.dtype not in (torch.float32, torch.float64):
        return f"its weights are {weight.dtype}"
    if config.hidden_act not in ("silu", "swish") or config.attention_dropout:
        return "its activation or dropout is another one"
    for layer in model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        free = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        products = (attention.q_proj, attention.k_proj, attention.v_proj, *free)
        norms = (layer.input_layernorm, layer.post_attention_layernorm)
        if any(type(p) is not nn.Linear for p in products) or any(p.bias is not None for p in free):
            return "a projection is not a plain matrix"
        if any(not type(norm).__name__.endswith("RMSNorm") for norm in norms):
            return "a norm is another one"
        if any(isinstance(norm, nn.RMSNorm) and norm.eps is None for norm in norms):
            return "a norm leaves its epsilon to the type of its input"
        if weight.dtype == torch.float64 and any(not isinstance(norm, nn.RMSNorm) for norm in norms):
            return "its norms are in float32 and would be in float64"
        if any(m._forward_hooks or m._forward_pre_hooks for m in (layer, attention, mlp, *products, *norms)):
            return "a forward hook would not be called"
    return None


@dataclass(frozen=True)
class Wanted:
    """Tokens whose states are computed by the last block: all that are wanted, and maybe a few more."""

    place_M: Tensor
    """Where they are among all [U * L]."""
    of_N: Tensor
    """Where the token of a place is among them; meaningless for others."""
    parts: tuple[Part | Fan, ...] | None
    """What they see; None = a mask says it, and M = U * Q for Q queries a row."""


@dataclass(frozen=True)
class _Pass:
    """What the blocks of a pass have in common; the last one may have fewer queries."""

    joined: Joined
    turn: tuple[Tensor, Tensor]
    """Cosines and sines of the rotary embedding."""
    parts: tuple[Part | Fan, ...] | None
    """What queries see; None = a mask says it."""
    low: torch.dtype
    """Type of the products."""
    chosen_M: Tensor | None = None
    """Tokens that ask; None = all."""


def states(backbone: nn.Module, joined: Joined, where_BT: Tensor, *, flat: bool, low: torch.dtype) -> Tensor:
    """Last hidden states at the tokens where `where_BT` is True, row by row.

    Args:
        backbone: a model without `obstacle`.
        joined: the rows.
        where_BT: tokens of the rows as they were.
        flat: `joined` is one row without padding, for attention in parts.
        low: type of the products.
    """
    model: Any = backbone
    place = joined.place_BT[where_BT]
    wanted = _wanted(joined, place, flat=flat)
    x_ND = model.embed_tokens(_filled(joined.ids_UL.flatten(), low))
    position_N = _filled(joined.position_UL.flatten(), low)
    cos, sin = model.rotary_emb(x_ND[None], position_ids=position_N[None])
    turn = (cos[0].to(x_ND.dtype), sin[0].to(x_ND.dtype))
    every = last = _Pass(joined, turn, tuple(parts_of(joined.units)) if flat else None, low)
    if wanted is not None:
        last = replace(every, parts=wanted.parts, chosen_M=wanted.place_M)
    again = model.gradient_checkpointing and model.training and torch.is_grad_enabled()
    for layer in model.layers[:-1]:
        x_ND = _run(again, layer, x_ND, every)
    x_MD = _run(again, model.layers[-1], x_ND, last)
    return model.norm(x_MD[place]) if wanted is None else model.norm(x_MD)[wanted.of_N[place]]


def _filled(x: Tensor, low: torch.dtype) -> Tensor:
    """In bfloat16 up to a number of rows that comes again."""
    return filled(x) if low == torch.bfloat16 else x


def _run(again: bool, layer: Any, x_ND: Tensor, about: _Pass) -> Tensor:
    """A block, which is run again in the backward pass where the model says so (`accord.models.recompute`)."""
    made: Any = checkpoint(_block, layer, x_ND, about, use_reentrant=False) if again else _block(layer, x_ND, about)
    return made


def _block(layer: Any, x_ND: Tensor, about: _Pass) -> Tensor:
    x_MD = _attended(layer, x_ND, about)
    norm, mlp = _norm(layer.post_attention_layernorm), layer.mlp
    return gated_mlp(x_MD, norm, mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight, about.low)


def _attended(layer: Any, x_ND: Tensor, about: _Pass) -> Tensor:
    """The first half of a block; what it makes is gone when the second begins, unless a backward pass needs it."""
    attention, low = layer.self_attn, about.low
    asking = None if about.chosen_M is None else _filled(about.chosen_M, low)
    asks, keys, values = (Projection(p.weight, p.bias) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    q, k, v = projected(x_ND, _norm(layer.input_layernorm), (asks, keys, values), about.turn, asking, low)
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    mixed = _filled(_attend(q, k, v, about, attention.scaling), low)
    return added(x_ND if asking is None else x_ND[asking], mixed, attention.o_proj.weight, low)


def _norm(norm: Any) -> Norm:
    eps: Any = norm.eps if isinstance(norm, nn.RMSNorm) else norm.variance_epsilon
    return Norm(norm.weight, eps)


def _attend(q_MHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, about: _Pass, scale: float) -> Tensor:
    """What the queries see, [M, H * E]; with a mask, without what fills up behind the queries."""
    joined, chosen_M = about.joined, about.chosen_M
    units, length = joined.ids_UL.shape
    if about.parts is None:
        asked = units * length if chosen_M is None else len(chosen_M)
        q_MHE, k_NHE, v_NHE = q_MHE[:asked], k_NHE[: units * length], v_NHE[: units * length]
    q, k, v = (t.unflatten(0, (units, -1)).transpose(1, 2) for t in (q_MHE, k_NHE, v_NHE))
    if about.parts is not None:
        out: Any = AttentionInParts.apply(q, k, v, about.parts, scale)
    elif chosen_M is None and all(len(unit.own) == 1 for unit in joined.units):
        out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    else:
        visible = joined.visible_ULL
        if chosen_M is not None:
            visible = visible.flatten(0, 1)[chosen_M].view(units, -1, length)
        out = scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None], scale=scale)
    return out.transpose(1, 2).reshape(len(q_MHE), -1)


def _wanted(joined: Joined, place: Tensor, *, flat: bool) -> Wanted | None:
    """What the last block has to compute; None = as good as everything."""
    units, length = joined.ids_UL.shape
    read_N = torch.zeros(units * length, dtype=torch.bool)
    read_N[place] = True
    parts = None
    if flat:
        parts, chosen = _hulls(joined, read_N)
    else:
        read_UL = read_N.view(units, length)
        queries = int(read_UL.sum(1).max())
        column_UQ = read_UL.long().argsort(dim=1, descending=True, stable=True)[:, :queries]
        chosen = (torch.arange(units)[:, None] * length + column_UQ).flatten()
    if len(chosen) >= _SPARE * units * length:
        return None
    of_N = torch.zeros(units * length, dtype=torch.long)
    of_N[chosen] = torch.arange(len(chosen))
    return Wanted(chosen, of_N, parts)


def _hulls(joined: Joined, read_N: Tensor) -> tuple[tuple[Part | Fan, ...], Tensor]:
    """Of each run of tokens the stretch from the first to the last that is read, and what it sees."""
    read: list[int] = read_N.nonzero()[:, 0].tolist()

    def stretch(run: slice) -> slice | None:
        first, end = bisect_left(read, run.start), bisect_left(read, run.stop)
        return slice(read[first], read[end - 1] + 1) if first < end else None

    parts: list[Part | Fan] = []
    chosen: list[Tensor] = []
    size = 0
    for unit in joined.units:
        parts += parts_of_unit(unit, stretch, at=size)
        for run, _ in runs_of(unit):
            if (found := stretch(run)) is not None:
                chosen.append(torch.arange(found.start, found.stop))
                size += found.stop - found.start
    return tuple(parts), torch.cat(chosen)
