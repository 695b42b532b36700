"""Attention on a processor: of plain rows, and of rows that share a prompt without a mask of all their tokens.

In a joined row (`accord.models.sharing`) a token sees what its reply shares with others, and its reply up to itself. A
mask over the whole row would also compute, and throw away, what replies would say to each other: three quarters of the
work for eight replies behind a prompt of twice their length. Here at most some hundred queries at a time meet the keys
that they see, put next to each other, in plain products; what is thrown away is half of a square of those queries. The
softmax is kept for the backward pass, or computed again where there are many keys. With P = softmax(q k^T), o = P v:

    dv = P^T do,    dP = do v^T,    dS = P (dP - sum over keys of P dP),    dq = dS k,    dk = dS^T q

torch's own kernel computes all of a causal square of up to 512 tokens, and one product more in its backward pass.

Under bfloat16 autocast attention stays in float32: torch's bfloat16 kernel takes two to five times as long in its
backward pass, and rounded scores would move probabilities by per cents. That holds without gradients too, or the
reference and the old policy would say something else than the policy they are copies of.

Legend: U joined rows, H heads, L their positions, M queries, D head size; m and n, queries and keys of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from accord.microbatches import FLAT_FROM
from accord.models.fans import Fan, fan_backward, fan_forward, fan_softmax
from accord.models.sharing import Joined, Unit

KERNEL = "accord_sdpa"
"""Name of this kernel among transformers' attention implementations."""
PARTS_FROM = FLAT_FROM
"""Tokens of a joined row from which on parts are worth their calls; shorter rows take a mask."""
_QUERIES = 128
"""Queries of a part at most."""
_KEPT_KEYS = 512
"""Keys of a part up to which its softmax is kept: memory for it grows with the square of a row."""
_FAN = 3
"""Replies of a group from which on they ask together; two by themselves have nothing to pad."""
_FAN_SPARE = 0.75
"""Share of a fan's own tokens that is no padding, at least."""
_FAN_QUERIES = 1024
"""Queries of a fan at most."""
_JOINED = "accord_joined"
"""Attribute of the tensor that stands for the mask: the rows it would be the mask of."""


def use_attention(model: nn.Module, device: torch.device) -> None:
    """Let a transformers model that runs on a processor with torch's attention use this kernel instead.

    Others are left alone.
    """
    if not isinstance(model, PreTrainedModel) or device.type != "cpu" or model.config._attn_implementation != "sdpa":
        return
    changeable = getattr(type(model), "_can_set_attn_implementation", lambda: True)
    if changeable():  # Falcon, Bloom and others of an older form warn at every attempt, and nothing happens
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
    keys: tuple[slice, ...]
    """The last of them, as many as there are queries, are the queries' own tokens: each sees them up to itself."""


def runs_of(unit: Unit) -> Iterator[tuple[slice, slice | None]]:
    """Columns of tokens that follow each other in one text, and those of what is before them.

    The first reply follows what it shares with others, so both are one run, unless replies ask together.
    """
    shared, first, *others = unit.sequences
    if _fans(unit):
        yield shared, None
        others.insert(0, first)
    else:
        yield slice(shared.start, first.stop), None
    for own in others:
        yield own, shared if unit.shared else None


def _fans(unit: Unit) -> bool:
    longest, number = max(unit.own), len(unit.own)
    return (
        unit.shared > 0
        and number >= _FAN
        and longest <= _QUERIES
        and unit.shared + longest <= _KEPT_KEYS
        and sum(unit.own) >= _FAN_SPARE * longest * number
    )


def parts_of(units: Sequence[Unit]) -> Iterator[Part | Fan]:
    """What sees what in joined rows, all tokens asking."""
    for unit in units:
        yield from parts_of_unit(unit, lambda run: run, at=unit.start)


def parts_of_unit(unit: Unit, asking: Callable[[slice], slice | None], *, at: int) -> Iterator[Part | Fan]:
    """What the tokens of a group see that `asking` names of each run; the first of them is query `at`."""
    together: list[list[tuple[slice, slice]]] = []
    most = max(1, _FAN_QUERIES // max(unit.own))
    for run, before in runs_of(unit):
        if (stretch := asking(run)) is None:
            continue
        if before is None or not _fans(unit):
            yield from _parts_of_run(unit.row, run, before, stretch, at=at)
            at += stretch.stop - stretch.start
        elif together and together[-1][-1][0].stop == run.start and len(together[-1]) < most:
            together[-1].append((run, stretch))
        else:
            together.append([(run, stretch)])
    for replies in together:
        own, asks = zip(*replies, strict=True)
        yield (fan := Fan(unit.row, at, unit.sequences[0], own, asks))
        at = fan.queries.stop


def _parts_of_run(row: int, run: slice, before: slice | None, asking: slice, *, at: int) -> Iterator[Part]:
    """What the tokens `asking` of a run see of it and of what is before it."""
    size = asking.stop - asking.start
    number = -(-size // _QUERIES)
    for i in range(number):
        first, end = size * i // number, size * (i + 1) // number
        own = slice(run.start, asking.start + end)
        yield Part(row, slice(at + first, at + end), (own,) if before is None else (before, own))


class AttentionInParts(torch.autograd.Function):
    """softmax(scale q k^T) v over what each query sees; zero where nothing is seen."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: Sequence[Part | Fan], scale: float
    ) -> Tensor:
        """Queries of shape [U, H, M, D], keys and values [U, H, L, D]; computed in float32 at least."""
        exact = torch.promote_types(query.dtype, torch.float32)
        # Tokens before heads: rows of memory lie as the trunk has them.
        q, k, v = (t.transpose(1, 2).to(exact) for t in (query, key, value))
        q, k, v = (q * scale).contiguous(), k.contiguous(), v.contiguous()
        out, kept = _for_queries(q, parts), list[Tensor | None]()
        for part in parts:
            if isinstance(part, Fan):
                softmax, keys = fan_forward(part, q[part.row], k[part.row], v[part.row], out[part.row]), part.keys
            else:
                softmax = _softmax(q, k, part)
                keys = softmax.shape[2]
                _tokens(out, part.row, part.queries).copy_(torch.bmm(softmax, _seen(v, part)))
            kept.append(softmax if keys <= _KEPT_KEYS else None)
        ctx.save_for_backward(q, k, v, *(kept if any(ctx.needs_input_grad) else ()))
        ctx.parts, ctx.scale, ctx.dtype = parts, scale, query.dtype
        return out.transpose(1, 2).to(query.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        """Gradients of query, key and value."""
        q, k, v, *kept = ctx.saved_tensors
        dq, dk, dv = _for_queries(q, ctx.parts), torch.zeros_like(k), torch.zeros_like(v)
        out_grad = grads[0].transpose(1, 2).to(q.dtype).contiguous()
        for part, softmax in zip(ctx.parts, kept, strict=True):
            if isinstance(part, Fan):
                given, own = [(x[0][part.row], x[1][part.row], x[2][part.row]) for x in ((q, k, v), (dq, dk, dv))]
                p = fan_softmax(part, *given[:2]) if softmax is None else softmax
                fan_backward(part, p, given, out_grad[part.row], own)
                continue
            do = _tokens(out_grad, part.row, part.queries)
            p = _softmax(q, k, part) if softmax is None else softmax
            _add_seen(dv, part, torch.bmm(p.mT, do))
            ds = torch.ops.aten._softmax_backward_data(torch.bmm(do, _seen(v, part).mT), p, -1, p.dtype)
            _tokens(dq, part.row, part.queries).copy_(torch.bmm(ds, _seen(k, part)))
            _add_seen(dk, part, torch.bmm(ds.mT, _tokens(q, part.row, part.queries)))
        return *(t.transpose(1, 2).to(ctx.dtype) for t in (dq.mul_(ctx.scale), dk, dv)), None, None


def _for_queries(q: Tensor, parts: Sequence[Part | Fan]) -> Tensor:
    """Memory for what each query gets; zero only where a token does not ask."""
    asked = sum(part.queries.stop - part.queries.start for part in parts)
    return torch.empty_like(q) if asked == q.shape[0] * q.shape[1] else torch.zeros_like(q)


def _tokens(x: Tensor, row: int, place: slice) -> Tensor:
    """Some tokens of a row of [U, L, H, D], as [H, l, D]."""
    return x[row].narrow(0, place.start, place.stop - place.start).transpose(0, 1)


def _seen(x: Tensor, part: Part) -> Tensor:
    """Keys or values of a part next to each other, [H, n, D]."""
    found = [_tokens(x, part.row, place) for place in part.keys]
    return found[0] if len(found) == 1 else torch.cat(found, 1)


def _add_seen(onto: Tensor, part: Part, change_HnD: Tensor) -> None:
    """Add to keys or values of a part."""
    start = 0
    for place in part.keys:
        size = place.stop - place.start
        _tokens(onto, part.row, place).add_(change_HnD.narrow(1, start, size))
        start += size


def _softmax(query: Tensor, key: Tensor, part: Part) -> Tensor:
    """Weights of the keys of a part, [H, m, n]."""
    q = _tokens(query, part.row, part.queries)
    score, size = torch.bmm(q, _seen(key, part).mT), q.shape[1]
    score[..., -size:].add_(_later(size, q.dtype))
    return torch.softmax(score, -1)


@cache
def _later_than(dtype: torch.dtype, size: int) -> Tensor:
    return torch.full((size, size), -torch.inf, dtype=dtype).triu_(1)


def _later(size: int, dtype: torch.dtype) -> Tensor:
    """-inf where a key comes after the query."""
    return _later_than(dtype, max(size, _QUERIES))[:size, :size]


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
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            whole: Any = AttentionInParts.apply(query, repeat_kv(key, groups), repeat_kv(value, groups), parts, scale)
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
