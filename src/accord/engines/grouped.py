"""Decoding by written-out steps: a prompt's keys and values are kept, and read, once for all of its samples.

At a step every sample attends to its prompt and to its own tokens. Kept apart, the prompt's keys are the right-hand
side of one product with the queries of all samples, instead of being copied to, and read for, each of them: eight
samples read an eighth of the memory. The scores of both parts share one softmax, so the result is that of attention
over the whole row.

Prompts are right-aligned and numbered 0..S-1. Rows write the column of the step among their own tokens; a mask hides
what lies left of a row's first, which only rows that joined later need. What stays the same over the layers of a step,
or over the steps between two changes of the rows, is worked out once: masks, views of the cache, orders of rows.

Legend: B rows, S prompts, G samples of a prompt, L layers, N heads (queries, keys and values), H query heads, K key
heads, Q query heads a key head, D head size, C prompt columns, W own columns.
"""

# ruff: noqa: N815 - fields carry shape suffixes
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.engines.cache import Prefilled, prefill
from accord.engines.own import OwnCache
from accord.engines.reading import read_together, reads_together
from accord.engines.step import DecodingStep

_CACHE = 2**22
"""Bytes that stay in a processor's cache from one step to the next, beside weights."""


@dataclass(frozen=True)
class _Seats:
    """Which samples belong to which prompt, and what they see of it; made anew when rows come or go.

    A prompt with fewer samples than others repeats one.
    """

    size: int
    """G."""
    row_SG: Tensor
    """Row of each seat."""
    seat_R: Tensor
    """Row and key head of each seat, [S * K * G], among [B * K]."""
    stand_R: Tensor
    """Seat of each row and key head, [B * K], among [S * K * G]."""
    keys: tuple[Tensor, ...]
    """Of the prompts, [S * K, D, C] per layer."""
    values: tuple[Tensor, ...]
    """Of the prompts, [S * K, C, D] per layer."""
    place_SC: Tensor
    """Position of each column's token in its prompt; negative left of the first."""
    added_R1C: Tensor | None
    """To scores, [S * K, 1, C]; None = nothing, all prompts are equally long."""
    slopes_K: Tensor | None
    """Of biases on positions."""
    length_B1: Tensor
    """Tokens of each row's prompt."""
    far: bool
    """Whether a processor has to fetch the prompts from memory in every step."""

    def fetch(self, x: Tensor) -> None:
        """Read keys or values from end to end before a product of a few rows reads them, which waits for each piece.

        13 M parameters, four prompts of 120 tokens: 25 us, and the product takes 60 instead of 150.
        """
        if self.far:
            x.sum()


class GroupedDecoder:
    """Rows over a store of prompts and a cache of their own tokens.

    Args:
        step: runs everything but attention.
        prompts: most different prompts at once.
        longest: tokens of the longest.
        slots: most rows at once.
        own_columns: tokens a row receives, and room for rows of different age beside each other.
        pad_id: any valid id; stands where no token is.
    """

    def __init__(
        self,
        step: DecodingStep,
        *,
        prompts: int,
        longest: int,
        slots: int,
        own_columns: int,
        pad_id: int,
    ) -> None:
        self.rows = 0
        self._step, self._pad_id = step, pad_id
        self._device = step.device

        shape = (step.layers, 2, prompts, step.key_heads, longest, step.head_size)
        # Zeros, not empty: a masked NaN would still spread through 0 * NaN.
        self._prompt_cache = torch.zeros(shape, dtype=step.dtype, device=self._device)
        self._own = OwnCache(
            layers=step.layers,
            slots=slots,
            heads=step.key_heads,
            size=step.head_size,
            columns=own_columns,
            dtype=step.dtype,
            device=self._device,
        )
        self._longest = longest
        self._prompts: list[tuple[int, ...]] = []
        """Prompts in the store."""
        self._slot: list[int] = []
        """Prompt of each row."""
        self._start: list[int] = []
        """Own column of each row's first token."""
        self._column = 0
        self._length_B = torch.zeros(0, dtype=torch.long, device=self._device)
        self._seats: _Seats | None = None
        self._own_views: _OwnViews | None = None

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Prefilled:
        """Run the prompts once."""
        if reads_together(self._device):
            return read_together(self._step, prompts)
        return prefill(self._step.read_prompts, prompts, pad_id=self._pad_id, device=self._device)

    def admit(self, prefilled: Prefilled, source: Tensor) -> None:
        """Append one row per entry of `source`, reading that prefilled prompt."""
        place = {ids: slot for slot, ids in enumerate(self._prompts)}
        chosen: list[int] = source.tolist()
        width = prefilled.keys[0].shape[2]
        for index in dict.fromkeys(chosen):
            ids = prefilled.prompts[index]
            if ids in place:
                continue
            slot = place[ids] = len(self._prompts)
            self._prompts.append(ids)
            for both, *fresh in zip(self._prompt_cache, prefilled.keys, prefilled.values, strict=True):
                for cache, tensor in zip(both, fresh, strict=True):
                    heads = slice(None, None, tensor.shape[1] // cache.shape[1])  # Falcon's own keep one a query head
                    cache[slot, :, self._longest - len(ids) :] = tensor[index, heads, width - len(ids) :]
        slots = [place[prefilled.prompts[index]] for index in chosen]
        self._slot += slots
        self._start += [self._column] * len(chosen)
        lengths = torch.tensor([len(self._prompts[slot]) for slot in slots], device=self._device)
        self._length_B = torch.cat((self._length_B, lengths))
        self.rows += len(chosen)
        self._seat()

    def step(self, token_B: Tensor, live_B: Tensor) -> Tensor:
        """Append a token to every row and return the next logits [B, V]; rows not live do not advance."""
        assert self._seats is not None
        if self._column == self._own.columns:
            first = min(self._start)
            self._own.make_room(first, self._column, self.rows)
            self._start = [start - first for start in self._start]
            self._column -= first
            self._own_views = None
        if self._own_views is None:
            self._own_views = _OwnViews.of(self._own, self.rows)
        attention = _Attention(self._own_views, self._column, self._start, self._length_B, self._seats)
        logits_BV = self._step(token_B, self._length_B, attention)
        self._column += 1
        self._length_B = self._length_B + live_B
        return logits_BV

    def keep(self, source: Tensor) -> None:
        """Make row r what row source[r] was, for r < len(source), and drop the others; source[r] >= r."""
        kept: list[int] = source.tolist()
        moved = [(to, row) for to, row in enumerate(kept) if to != row]
        if moved:
            to, row = (torch.tensor(side, device=self._device) for side in zip(*moved, strict=True))
            for cache in self._own.layers:
                cache[:, to, :, : self._column] = cache[:, row, :, : self._column]
        self._slot, self._start = [self._slot[row] for row in kept], [self._start[row] for row in kept]
        self._length_B = self._length_B[source]
        self.rows = len(kept)
        if not kept:
            self._column = 0
        self._drop_prompts()
        self._seat()

    def _drop_prompts(self) -> None:
        """Forget prompts without rows; the last ones take their places."""
        used = sorted(set(self._slot))
        free = [slot for slot in range(len(used)) if slot not in set(used)]
        target = {slot: slot for slot in used if slot < len(used)}
        target |= dict(zip([slot for slot in used if slot >= len(used)], free, strict=True))
        for old, new in target.items():
            if old != new:
                self._prompts[new] = self._prompts[old]
                self._prompt_cache[:, :, new] = self._prompt_cache[:, :, old]
        del self._prompts[len(used) :]
        self._slot = [target[slot] for slot in self._slot]

    def _seat(self) -> None:
        """Work out which rows read which prompt, and what hides where prompts are shorter than the longest."""
        self._own_views = None
        if not self.rows:
            self._seats = None
            return
        rows_of: list[list[int]] = [[] for _ in self._prompts]
        place: list[int] = []
        for row, slot in enumerate(self._slot):
            place.append(len(rows_of[slot]))
            rows_of[slot].append(row)
        size, heads = max(map(len, rows_of)), self._step.key_heads
        row_SG = torch.tensor([rows + rows[-1:] * (size - len(rows)) for rows in rows_of], device=self._device)
        slot_B, place_B = torch.tensor([self._slot, place], device=self._device)
        head_K1 = torch.arange(heads, device=self._device)[:, None]
        lengths = [len(ids) for ids in self._prompts]
        width = max(lengths)
        column_C = torch.arange(width, device=self._device)
        place_SC = column_C - (width - torch.tensor(lengths, device=self._device))[:, None]
        slopes_K = self._step.slopes_N
        needed = min(lengths) < width or slopes_K is not None
        store = self._prompt_cache[:, :, : len(lengths), :, self._longest - width :].flatten(2, 3)
        self._seats = _Seats(
            size=size,
            row_SG=row_SG,
            seat_R=(row_SG[:, None] * heads + head_K1).flatten(),
            stand_R=((slot_B[:, None] * heads + head_K1[:, 0]) * size + place_B[:, None]).flatten(),
            keys=store[:, 0].mT.unbind(),
            values=store[:, 1].unbind(),
            place_SC=place_SC,
            added_R1C=_added(place_SC < 0, place_SC, slopes_K, heads, store.dtype) if needed else None,
            slopes_K=slopes_K,
            length_B1=torch.tensor(lengths, device=self._device)[slot_B, None],
            far=store.device.type == "cpu" and store.numel() * store.itemsize > _CACHE,
        )


def _hidden(hide: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(hide.shape, dtype=dtype, device=hide.device).masked_fill_(hide, -torch.inf)


def _added(hide_XC: Tensor, place_XC: Tensor, slopes_K: Tensor | None, heads: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of columns, by what hides them and the place of their tokens, [X * K, 1, C]."""
    added_XC = _hidden(hide_XC, dtype)
    if slopes_K is None:
        return added_XC.repeat_interleave(heads, 0)[:, None]
    bias_XKC = slopes_K[:, None] * place_XC[:, None]
    return (added_XC[:, None] + bias_XKC.to(dtype)).flatten(0, 1)[:, None]


@dataclass(frozen=True)
class _OwnViews:
    """Of the rows' own keys and values, per layer; made anew when rows come or go or get more room."""

    fresh: tuple[Tensor, ...]
    """[B, 2, K, W, D]."""
    keys: tuple[Tensor, ...]
    """[B * K, D, W]."""
    values: tuple[Tensor, ...]
    """[B * K, W, D]."""

    @classmethod
    def of(cls, own: OwnCache, rows: int) -> _OwnViews:
        both = [layer[:, :rows] for layer in own.layers]
        keys, values = zip(*(layer.flatten(1, 2).unbind() for layer in both), strict=True)
        return cls(tuple(layer.transpose(0, 1) for layer in both), tuple(key.mT for key in keys), values)


@dataclass(frozen=True)
class _Sight:
    """What a step's queries see, by the window of the layer."""

    columns: slice | None
    """Of the rows' own tokens; None = all."""
    unused: int
    """How many of them, the last ones, have not been written."""
    own_R1W: Tensor | None
    """Added to scores, [B * K, 1, W]."""
    prompt_RGC: Tensor | None
    """Added to scores, [S * K, 1 or G * Q, C]."""


class _Attention:
    """Attention of one step, layer by layer.

    Args:
        own: keys and values of the rows' own tokens.
        column: where this step's go.
        start: column of each row's first token.
        length_B: place of each row's token.
        seats: the rows' prompts.
    """

    def __init__(self, own: _OwnViews, column: int, start: list[int], length_B: Tensor, seats: _Seats) -> None:
        self._own, self._column, self._start, self._length_B, self._seats = own, column, start, length_B, seats
        self._sights: dict[int | None, _Sight] = {}

    def __call__(self, layer: int, qkv_BND: Tensor, scaling: float, window: int | None) -> Tensor:
        """Store the step's keys and values and return what the queries see; see `accord.engines.step.Attention`."""
        seats, fresh = self._seats, self._own.fresh[layer]
        rows, _, heads, _, size = fresh.shape
        fresh.select(3, self._column).copy_(qkv_BND[:, -2 * heads :].view(rows, 2, heads, size))
        query_RQD = (qkv_BND[:, : -2 * heads] * scaling).view(rows * heads, -1, size)
        queries = query_RQD.shape[1]
        if window not in self._sights:
            self._sights[window] = self._look(window, heads, queries)
        sight = self._sights[window]
        key_RDW, value_RWD = self._own.keys[layer], self._own.values[layer]
        if sight.columns is not None:
            key_RDW, value_RWD = key_RDW[..., sight.columns], value_RWD[:, sight.columns]
        # Rows stand in the order of [B, K], and sit in that of [S, K, G].
        own_RQW = _product(query_RQD, key_RDW, sight.own_R1W)
        seated = (len(seats.keys[layer]), seats.size * queries, -1)
        seats.fetch(seats.keys[layer])
        prompt_RGC = _product(
            query_RQD.index_select(0, seats.seat_R).view(*seated[:2], size), seats.keys[layer], sight.prompt_RGC
        )
        score_RGT = torch.cat((prompt_RGC, own_RQW.index_select(0, seats.seat_R).view(seated)), -1)
        if sight.unused:
            score_RGT[..., -sight.unused :].fill_(-torch.inf)
        # Half precision is softened in float32, as the model's own attention does.
        exact = torch.float32 if score_RGT.itemsize < 4 else None
        weight_RGT = score_RGT.softmax(-1, dtype=exact).to(score_RGT.dtype)
        columns = prompt_RGC.shape[-1]
        seats.fetch(seats.values[layer])
        prompt_RGD = torch.bmm(weight_RGT[..., :columns], seats.values[layer])
        own_RQW = weight_RGT.view(-1, queries, weight_RGT.shape[-1])[..., columns:]
        mixed_RQD = torch.baddbmm(
            prompt_RGD.view(-1, queries, size).index_select(0, seats.stand_R),
            own_RQW.index_select(0, seats.stand_R),
            value_RWD,
        )
        return mixed_RQD.view(rows, -1)

    def _look(self, window: int | None, heads: int, queries: int) -> _Sight:
        seats, start, end = self._seats, self._start, self._column + 1
        dtype, device = self._own.values[0].dtype, self._length_B.device
        # What is in a window only is read alone; else everything, for it lies without gaps.
        first = 0 if window is None else max(0, end - window)
        stop = end if first else self._own.values[0].shape[1]
        added_own, added_prompt = None, seats.added_R1C
        if max(start) > first or seats.slopes_K is not None:
            column_W = torch.arange(first, stop, device=device)
            start_B1 = torch.tensor(start, device=device)[:, None]
            place_BW = column_W - start_B1  # in the row's reply
            added_own = _added(place_BW < 0, seats.length_B1 + place_BW, seats.slopes_K, heads, dtype)
        if window is not None:
            far_SGC = self._length_B[seats.row_SG][:, :, None] - seats.place_SC[:, None] >= window
            hide_SGC = _hidden(far_SGC | (seats.place_SC[:, None] < 0), dtype)
            added_prompt = hide_SGC.repeat_interleave(queries, 1).repeat_interleave(heads, 0)
        return _Sight(slice(first, stop) if first else None, stop - end, added_own, added_prompt)


def _product(left: Tensor, right: Tensor, onto: Tensor | None) -> Tensor:
    return torch.bmm(left, right) if onto is None else torch.baddbmm(onto, left, right)
