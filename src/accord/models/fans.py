"""Attention of several replies to what they share, at once: a fan.

Replies of a group see the same tokens before them and nothing of each other. One after the other they would be eight
small products each; here the queries of all of them meet the shared keys in one product a head, and their own keys in
one batch of squares, padded to the longest reply. Which row of memory belongs where is worked out once for all layers.

    scores = [q k_shared^T | q_r k_r^T + mask],    o = P_shared v_shared + P_own v_own

Legend: H heads, M query rows, N key rows, D head size; R replies, m and n, queries and own keys of the longest, s
shared keys.
"""

# ruff: noqa: N802 - names carry shape suffixes
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Fan:
    """Replies behind the tokens that all of them see; each sees itself up to the token that asks."""

    row: int
    first: int
    """Query row of the first token that asks; the others follow, reply by reply."""
    shared: slice
    """Key rows that all see."""
    own: tuple[slice, ...]
    """Key rows of each reply, one behind the other."""
    asking: tuple[slice, ...]
    """Key rows of those tokens of each reply that ask; at least one."""

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """R, m, n."""
        return len(self.own), max(map(_size, self.asking)), max(map(_size, self.own))

    @property
    def keys(self) -> int:
        """Keys that a query meets, s + n."""
        return _size(self.shared) + self.shape[2]

    @property
    def queries(self) -> slice:
        """Query rows."""
        return slice(self.first, self.first + sum(map(_size, self.asking)))

    @cached_property
    def mask_Rmn(self) -> Tensor:
        """-inf where a query does not see a key of its reply. What is put in for padding sees everything."""
        offsets = [asking.start - own.start for asking, own in zip(self.asking, self.own, strict=True)]
        _, m, n = self.shape
        last_Rm = torch.tensor(offsets)[:, None] + torch.arange(m)
        last_Rm[torch.arange(m) >= torch.tensor([_size(part) for part in self.asking])[:, None]] = n
        hidden_Rmn = torch.arange(n) > last_Rm[:, :, None]
        return torch.zeros(hidden_Rmn.shape).masked_fill_(hidden_Rmn, -torch.inf)

    @cached_property
    def _places(self) -> dict[int, tuple[Tensor, ...]]:
        return {}

    def places(self, heads: int) -> tuple[Tensor, ...]:
        """Rows of queries among [M * H] rows, their places in [H, R, m], what is none there; then of own keys."""
        if heads not in self._places:
            _, m, n = self.shape
            starts = [self.first + sum(map(_size, self.asking[:r])) for r in range(len(self.own))]
            queries = _places(starts, [_size(part) for part in self.asking], m, heads)
            keys = _places([part.start for part in self.own], [_size(part) for part in self.own], n, heads)
            self._places[heads] = (*queries, *keys)
        return self._places[heads]


def _size(part: slice) -> int:
    return part.stop - part.start


def _places(starts: Sequence[int], sizes: Sequence[int], width: int, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of memory in the order [H, R, width], the first of a reply for padding; where the rows are in that, and
    where padding."""
    column, size_R1 = torch.arange(width), torch.tensor(sizes)[:, None]
    row_RW = torch.tensor(starts)[:, None] + torch.where(column < size_R1, column, 0)
    place_RW = torch.arange(row_RW.numel()).view(row_RW.shape)[column < size_R1]
    head = torch.arange(heads)
    there = (head[:, None] + row_RW.flatten() * heads).flatten()
    here = (place_RW[:, None] + head * row_RW.numel()).flatten()
    padding = torch.ones(len(there), dtype=torch.bool).index_fill_(0, here, False)
    return there, here, padding.nonzero()[:, 0]


def fan_forward(fan: Fan, q_MHD: Tensor, k_NHD: Tensor, v_NHD: Tensor, out_MHD: Tensor) -> Tensor:
    """Write what the queries see; returns the softmax, [H, R m, s + n]."""
    softmax = fan_softmax(fan, q_MHD, k_NHD)
    heads, shared = q_MHD.shape[1], _size(fan.shared)
    _, here, _, there, *_ = fan.places(heads)
    out = torch.bmm(softmax[..., :shared], _shared(fan, v_NHD))
    _own(fan, out).baddbmm_(_own(fan, softmax[..., shared:]), _rows(fan, v_NHD, there))
    torch.index_select(out.view(-1, out.shape[-1]), 0, here, out=_of_queries(fan, out_MHD))
    return softmax


def fan_softmax(fan: Fan, q_MHD: Tensor, k_NHD: Tensor) -> Tensor:
    """Weights of the keys, those of shared ones first."""
    there, _, _, own, *_ = fan.places(q_MHD.shape[1])
    query = _picked(q_MHD, there)
    return torch.softmax(_scores(fan, query, _shared(fan, k_NHD), _rows(fan, k_NHD, own), masked=True), -1)


def fan_backward(
    fan: Fan,
    softmax: Tensor,
    given: tuple[Tensor, Tensor, Tensor],
    out_grad_MHD: Tensor,
    grads: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write gradients of queries and own keys and values, and add to those of shared ones; see `attention`."""
    (q, k, v), (dq, dk, dv) = given, grads
    heads, shared = q.shape[1], _size(fan.shared)
    there, here, padding, own, own_here, _ = fan.places(heads)
    do = _picked(out_grad_MHD, there)
    do.view(-1, q.shape[-1]).index_fill_(0, padding, 0.0)
    query, key, value = _picked(q, there), _rows(fan, k, own), _rows(fan, v, own)
    ds = torch.ops.aten._softmax_backward_data(
        _scores(fan, do, _shared(fan, v), value, masked=False), softmax, -1, softmax.dtype
    )
    of_query = torch.bmm(ds[..., :shared], _shared(fan, k))
    _own(fan, of_query).baddbmm_(_own(fan, ds[..., shared:]), key)
    torch.index_select(of_query.view(-1, q.shape[-1]), 0, here, out=_of_queries(fan, dq))
    for onto, weight, x in ((dv, softmax, do), (dk, ds, query)):
        _shared(fan, onto).add_(torch.bmm(weight[..., :shared].mT, x))
        of_own = torch.bmm(_own(fan, weight[..., shared:]).mT, _own(fan, x))
        torch.index_select(of_own.view(-1, q.shape[-1]), 0, own_here, out=_of_keys(fan, onto))


def _scores(fan: Fan, left: Tensor, shared: Tensor, own: Tensor, *, masked: bool) -> Tensor:
    """Products with shared rows and with a reply's own, next to each other: [H, R m, s + n]."""
    (heads, rows, _), (replies, m, n), number = left.shape, fan.shape, shared.shape[1]
    out = left.new_empty(heads, rows, number + n)
    torch.bmm(left, shared.mT, out=out[..., :number])
    square = torch.bmm(_own(fan, left), own.mT).view(heads, replies, m, n)
    of_own = out[..., number:].unflatten(1, (replies, m))
    if masked:
        torch.add(square, fan.mask_Rmn.to(square.dtype), out=of_own)
    else:
        of_own.copy_(square)
    return out


def _shared(fan: Fan, x_NHD: Tensor) -> Tensor:
    """Rows that all see, [H, s, D]."""
    return x_NHD[fan.shared].transpose(0, 1)


def _picked(x_MHD: Tensor, rows: Tensor) -> Tensor:
    """Rows of each head, [H, rows / H, D]."""
    heads, size = x_MHD.shape[1:]
    return x_MHD.view(-1, size).index_select(0, rows).view(heads, -1, size)


def _rows(fan: Fan, x_NHD: Tensor, rows: Tensor) -> Tensor:
    """Own rows of each reply, [H R, n, D]."""
    return x_NHD.view(-1, x_NHD.shape[-1]).index_select(0, rows).view(-1, fan.shape[2], x_NHD.shape[-1])


def _own(fan: Fan, x: Tensor) -> Tensor:
    """[H, R m, ...] as [H R, m, ...]."""
    return x.unflatten(1, (fan.shape[0], -1)).flatten(0, 1)


def _of_queries(fan: Fan, x_MHD: Tensor) -> Tensor:
    return x_MHD[fan.queries].view(-1, x_MHD.shape[-1])


def _of_keys(fan: Fan, x_NHD: Tensor) -> Tensor:
    return x_NHD[fan.own[0].start : fan.own[-1].stop].view(-1, x_NHD.shape[-1])
