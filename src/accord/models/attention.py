"""Attention on a processor: of plain rows, and of rows that share a prompt without a mask of all their tokens.

A joined row (`accord.models.sharing`) needs attention in three parts: the shared tokens see each other, every reply
sees the shared tokens, and every reply sees itself. A mask over the whole row would also compute, and throw away,
what replies would say to each other: three quarters of the work for eight replies behind a prompt of twice their
length. Softmax over two sets of keys is put together from the softmax over each, as in ring attention (Liu et al.
2023, 2310.01889): with o_i the output over set i and l_i its log-sum-exp,

    l = log(exp l_1 + exp l_2),    o = sum_i exp(l_i - l) o_i

and the gradient of each part is that of flash attention (Dao 2023, 2307.08691, algorithm 2) given o and l of the whole.

Under bfloat16 autocast attention stays in float32: the backward pass of torch's bfloat16 kernel takes two to five
times as long (docs/results/speed.md). That holds without gradients too, or the reference and the old policy would say
something else than the policy they are copies of.

Legend: U joined rows, H heads, L their positions, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from accord.models.sharing import Joined, Unit

KERNEL = "accord_sdpa"
"""Name of this kernel among transformers' attention implementations."""
_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
PARTS_FROM = 128
"""Tokens of a joined row from which on parts are worth their calls; shorter rows take a mask."""
_JOINED = "accord_joined"
"""Attribute of the tensor that stands for the mask: the rows it would be the mask of."""


def use_attention(model: nn.Module, device: torch.device) -> None:
    """Let a transformers model that runs on a processor with torch's attention use this kernel instead.

    Others are left alone.
    """
    if isinstance(model, PreTrainedModel) and device.type == "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(KERNEL)


def mask_of(joined: Joined) -> Tensor:
    """A stand-in for the mask of joined rows, which transformers hands through to this kernel as it is."""
    stand_in = joined.ids_UL.new_zeros(1, 1, 1, 1, dtype=torch.bool)
    setattr(stand_in, _JOINED, joined)
    return stand_in


class Part(NamedTuple):
    """Queries and the keys they see."""

    row: int
    queries: slice
    keys: slice
    causal: bool
    """Whether a query sees only keys up to its own place; both are equally many then."""


def parts_of(units: Sequence[Unit]) -> Iterator[Part]:
    """What sees what: the shared tokens themselves, replies the shared tokens, each reply itself."""
    for unit in units:
        shared, *replies = unit.sequences
        if unit.shared:
            yield Part(unit.row, shared, shared, True)
            yield Part(unit.row, slice(shared.stop, unit.end), shared, False)
        for own in replies:
            yield Part(unit.row, own, own, True)


class AttentionInParts(torch.autograd.Function):
    """softmax(scale q k^T) v over what each query sees; zero where nothing is seen."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: Sequence[Part], scale: float | None
    ) -> Tensor:
        """Queries of shape [U, H, M, D], keys and values [U, H, L, D]."""
        # Parts are added in float32; each part alone is rounded to 16 bits by torch's kernel.
        exact = torch.promote_types(query.dtype, torch.float32)
        out, total = torch.zeros_like(query, dtype=exact), query.new_full(query.shape[:3], -torch.inf, dtype=exact)
        for row, queries, keys, causal in parts:
            q, k, v = query[row, None, :, queries], key[row, None, :, keys], value[row, None, :, keys]
            part, size = _FLASH(q, k, v, 0.0, causal, scale=scale)
            before = total[row, None, :, queries]
            both = torch.logaddexp(before, size)
            weight = (before - both).exp()[..., None]
            out[row, None, :, queries].mul_(weight).addcmul_(part.to(exact), (size - both).exp()[..., None])
            before.copy_(both)
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, total)
        ctx.parts, ctx.scale = parts, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Gradients of query, key and value."""
        query, key, value, out, total = ctx.saved_tensors
        found = [torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)]
        for row, queries, keys, causal in ctx.parts:
            q, k, v = query[row, None, :, queries], key[row, None, :, keys], value[row, None, :, keys]
            o, size = out[row, None, :, queries], total[row, None, :, queries]
            gradient = grads[0][row, None, :, queries]
            parts = _FLASH_BACKWARD(gradient, q, k, v, o, size, 0.0, causal, scale=ctx.scale)
            for whole, part, at in zip(found, parts, (queries, keys, keys), strict=True):
                whole[row, None, :, at] += part
        return *found, None, None


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer; query [U, H, L, D], key and value with as many heads or fewer."""
    on_cpu = query.device.type == "cpu"
    in_float32 = on_cpu and torch.is_autocast_enabled("cpu")
    if in_float32:
        query, key, value = query.float(), key.float(), value.float()
    joined: Joined | None = getattr(attention_mask, _JOINED, None)
    # What changes scores by more than a mask is torch's business; it knows it or refuses.
    usual = not dropout and kwargs.get("position_bias") is None and kwargs.get("softcap") is None
    with torch.autocast("cpu", enabled=False) if in_float32 else nullcontext():
        if usual and joined is not None and joined.ids_UL.shape[1] >= PARTS_FROM:
            groups = query.shape[1] // key.shape[1]
            parts = tuple(parts_of(joined.units))
            whole: Any = AttentionInParts.apply(query, repeat_kv(key, groups), repeat_kv(value, groups), parts, scaling)
            return whole.transpose(1, 2).contiguous(), None
        if usual and on_cpu and joined is None and query.shape[2] == 1 and kwargs.get("cache") is None:
            return _of_one_token(query, key, value, attention_mask, scaling), None
        if joined is not None:
            attention_mask = joined.visible_ULL[:, None]
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )


def _of_one_token(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Attention of a decoding step, [U, 1, H, D], as two products; torch's kernel is made for long queries.

    Args:
        query: [U, H, 1, D].
        key: [U, K, C, D], H a multiple of K.
        value: as `key`.
        mask: True = sees, or what is added to scores; [U, 1, 1, C] or with H in place of the first 1.
        scale: of the scores; None = 1 / sqrt(D).
    """
    rows, heads, _, size = query.shape
    key_heads, columns = key.shape[1:3]
    query = query.reshape(rows * key_heads, -1, size) * (size**-0.5 if scale is None else scale)
    score = torch.bmm(query, key.flatten(0, 1).mT).view(rows, heads, 1, columns)
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else score + mask
    weight = score.softmax(-1, dtype=torch.float32 if score.itemsize < 4 else None).to(value.dtype)
    mixed = torch.bmm(weight.view(rows * key_heads, -1, columns), value.flatten(0, 1))
    return mixed.view(rows, 1, heads, -1)


AttentionInterface.register(KERNEL, _attention)
AttentionMaskInterface.register(KERNEL, sdpa_mask)
