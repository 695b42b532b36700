"""Decoding for Llama-shaped models: a prompt's keys and values are kept, and read, once for all of its samples.

At a step every sample attends to its prompt and to its own tokens. Kept apart, the prompt's keys are the right-hand
side of one product with the queries of all samples, instead of being copied to, and read for, each of them: eight
samples read an eighth of the memory. The scores of both parts share one softmax, so the result is that of attention
over the whole row.

Prompts are right-aligned and numbered 0..S-1. Rows write the column of the step among their own tokens; a mask hides
what lies left of a row's first, which only rows that joined later need.

Legend: B rows, S prompts, G samples of a prompt, K key heads, Q query heads a key head, D head size, C prompt columns,
W own columns.
"""

# ruff: noqa: N815 - fields carry shape suffixes
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accord.engines.cache import Prefilled, accepted_arguments, prefill
from accord.engines.llama import LlamaStep


@dataclass(frozen=True)
class _Seating:
    """Which samples belong to which prompt; made anew when rows come or go."""

    member_SG: Tensor | None
    """Row of each sample; prompts with fewer samples repeat one. None = rows lie like that already."""
    slot_B: Tensor
    place_B: Tensor
    size: int
    """G."""


class GroupedDecoder:
    """Rows over a store of prompts and a cache of their own tokens.

    Args:
        model: what `step` was made from; prompts go through its own forward.
        step: runs everything but attention.
        prompts: most different prompts at once.
        longest: tokens of the longest.
        slots: most rows at once.
        own_columns: tokens a row receives, and room for rows of different age beside each other.
        new_tokens: most tokens a row receives.
        pad_id: any valid id; stands where no token is.
    """

    def __init__(
        self,
        model: nn.Module,
        step: LlamaStep,
        *,
        prompts: int,
        longest: int,
        slots: int,
        own_columns: int,
        new_tokens: int,
        pad_id: int,
    ) -> None:
        self.rows = 0
        self._model, self._step, self._pad_id = model, step, pad_id
        self._accepts = accepted_arguments(model)
        self._new_tokens = new_tokens
        self._device = next(model.parameters()).device
        heads, size, dtype = step.key_heads, step.head_size, step.cache_dtype

        def room(rows: int, columns: int) -> list[tuple[Tensor, Tensor]]:
            # Zeros, not empty: a masked NaN would still spread through 0 * NaN.
            both = torch.zeros(step.layers, 2, rows, heads, columns, size, dtype=dtype, device=self._device)
            return [(keys, values) for keys, values in both]

        self._prompt_cache, self._own_cache = room(prompts, longest), room(slots, own_columns)
        self._longest, self._own_columns = longest, own_columns
        self._prompts: list[tuple[int, ...]] = []
        """Prompts in the store."""
        self._slot: list[int] = []
        """Prompt of each row."""
        self._start: list[int] = []
        """Own column of each row's first token."""
        self._column = 0
        self._length_B = torch.zeros(0, dtype=torch.long, device=self._device)
        self._seating: _Seating | None = None
        self._hide_SC: Tensor | None = None

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Prefilled:
        """Run the prompts once."""
        return prefill(self._model, prompts, pad_id=self._pad_id, accepts=self._accepts)

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
            for cache, *fresh in zip(self._prompt_cache, prefilled.keys, prefilled.values, strict=True):
                for buffer, tensor in zip(cache, fresh, strict=True):
                    buffer[slot, :, self._longest - len(ids) :] = tensor[index, :, width - len(ids) :]
        if self._column + self._new_tokens > self._own_columns:
            self._move_left()
        slots = [place[prefilled.prompts[index]] for index in chosen]
        self._slot += slots
        self._start += [self._column] * len(chosen)
        lengths = torch.tensor([len(self._prompts[slot]) for slot in slots], device=self._device)
        self._length_B = torch.cat((self._length_B, lengths))
        self.rows += len(chosen)
        self._seat()

    def step(self, token_B: Tensor, live_B: Tensor) -> Tensor:
        """Append a token to every row and return the next logits [B, V]; rows not live do not advance."""
        assert self._seating is not None
        first, end = min(self._start), self._column + 1
        hide_B1W = None
        if len(set(self._start)) > 1:
            start_B = torch.tensor(self._start, device=self._device)
            column_W = torch.arange(first, end, device=self._device)
            hide_B1W = _hidden(column_W < start_B[:, None], self._step.score_dtype)[:, None]
        attention = _Attention(self, self._seating, hide_B1W, slice(first, end))
        logits_BV = self._step(token_B, self._length_B[:, None], attention)
        self._column = end
        self._length_B = self._length_B + live_B
        return logits_BV

    def keep(self, source: Tensor) -> None:
        """Make row r what row source[r] was, for r < len(source), and drop the others; source[r] >= r."""
        kept: list[int] = source.tolist()
        moved = [(to, row) for to, row in enumerate(kept) if to != row]
        if moved:
            to, row = (torch.tensor(side, device=self._device) for side in zip(*moved, strict=True))
            for cache in self._own_cache:
                for buffer in cache:
                    buffer[to, :, : self._column] = buffer[row, :, : self._column]
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
                for cache in self._prompt_cache:
                    for buffer in cache:
                        buffer[new] = buffer[old]
        del self._prompts[len(used) :]
        self._slot = [target[slot] for slot in self._slot]

    def _move_left(self) -> None:
        """Shift the rows' own tokens to the first columns."""
        first = min(self._start, default=self._column)
        for cache in self._own_cache:
            for buffer in cache:
                buffer[: self.rows, :, : self._column - first] = buffer[: self.rows, :, first : self._column].clone()
        self._start = [start - first for start in self._start]
        self._column -= first

    def _seat(self) -> None:
        """Work out which rows read which prompt, and what hides where prompts are shorter than the longest."""
        if not self.rows:
            self._seating = self._hide_SC = None
            return
        rows_of: list[list[int]] = [[] for _ in self._prompts]
        place: list[int] = []
        for row, slot in enumerate(self._slot):
            place.append(len(rows_of[slot]))
            rows_of[slot].append(row)
        size = max(map(len, rows_of))
        member = [rows + rows[-1:] * (size - len(rows)) for rows in rows_of]
        in_order = [row for rows in member for row in rows] == list(range(self.rows))
        self._seating = _Seating(
            None if in_order else torch.tensor(member, device=self._device),
            torch.tensor(self._slot, device=self._device),
            torch.tensor(place, device=self._device),
            size,
        )
        lengths = [len(ids) for ids in self._prompts]
        self._width = max(lengths)
        self._hide_SC = None
        if min(lengths) < self._width:
            column_C = torch.arange(self._width, device=self._device)
            start_S = self._width - torch.tensor(lengths, device=self._device)
            self._hide_SC = _hidden(column_C < start_S[:, None], self._step.score_dtype)

    def prompt_place_SC(self) -> Tensor:  # noqa: N802
        """Position of each column's token in its prompt; negative left of the first."""
        lengths = torch.tensor([len(ids) for ids in self._prompts], device=self._device)
        return torch.arange(self._width, device=self._device) - (self._width - lengths)[:, None]


def _hidden(hide: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(hide.shape, dtype=dtype, device=hide.device).masked_fill_(hide, -torch.inf)


class _Attention:
    """Attention of one step, layer by layer."""

    def __init__(self, decoder: GroupedDecoder, seating: _Seating, hide_B1W: Tensor | None, columns: slice) -> None:
        self._decoder, self._seating, self._columns = decoder, seating, columns
        self._hide_B1W = hide_B1W
        self._place_SC: Tensor | None = None

    def __call__(
        self, layer: int, query_BHD: Tensor, key_BKD: Tensor, value_BKD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Store the step's keys and values and return what the queries see, [B, H * D].

        Args:
            layer: number of the layer.
            query_BHD: queries, heads of one key head together.
            key_BKD: keys of the step's tokens.
            value_BKD: their values.
            scaling: of the scores.
            window: tokens a query sees, its own included; None = all.
        """
        decoder = self._decoder
        rows, heads, size = key_BKD.shape
        prompt_keys, prompt_values = decoder._prompt_cache[layer]
        keys, values = decoder._own_cache[layer]
        keys[:rows, :, self._columns.stop - 1], values[:rows, :, self._columns.stop - 1] = key_BKD, value_BKD
        first = self._columns.start if window is None else max(self._columns.start, self._columns.stop - window)
        own = slice(first, self._columns.stop)
        query_BKQD = query_BHD.view(rows, heads, -1, size)
        queries = query_BKQD.shape[2]

        own_BKQW = _product(
            query_BKQD.flatten(0, 1), keys[:rows].flatten(0, 1)[:, own].mT, scaling, self._hide_own(first, heads)
        ).view(rows, heads, queries, -1)
        store = slice(decoder._longest - decoder._width, decoder._longest)
        prompts = len(decoder._prompts)
        prompt_SKRC = _product(
            self._seated(query_BKQD),
            prompt_keys[:prompts].flatten(0, 1)[:, store].mT,
            scaling,
            self._hide_prompt(heads, queries, window),
        )
        score = torch.cat((prompt_SKRC, self._seated(own_BKQW)), -1)
        # Half precision is softened in float32, as the model's own attention does.
        weight = score.softmax(-1, dtype=torch.float32 if score.itemsize < 4 else None).to(values.dtype)
        out_SKRD = torch.bmm(weight[..., : decoder._width], prompt_values[:prompts].flatten(0, 1)[:, store])
        own_weight = self._standing(weight[..., decoder._width :], heads, queries)
        out_BKQD = torch.baddbmm(
            self._standing(out_SKRD, heads, queries).flatten(0, 1),
            own_weight.flatten(0, 1),
            values[:rows].flatten(0, 1)[:, own],
        )
        return out_BKQD.view(rows, -1)

    def _seated(self, x_BKQN: Tensor) -> Tensor:
        """Rows as [S * K, G * Q, N]."""
        seats, (queries, last) = self._seating, x_BKQN.shape[2:]
        member = seats.member_SG
        x = x_BKQN.unflatten(0, (-1, seats.size)) if member is None else x_BKQN[member]
        return x.transpose(1, 2).reshape(-1, seats.size * queries, last)

    def _standing(self, x: Tensor, heads: int, queries: int) -> Tensor:
        """Back from [S * K, G * Q, N] to rows, [B, K, Q, N]."""
        seats = self._seating
        x_SKGQN = x.view(-1, heads, seats.size, queries, x.shape[-1])
        if seats.member_SG is None:
            return x_SKGQN.transpose(1, 2).flatten(0, 1)
        return x_SKGQN.transpose(1, 2)[seats.slot_B, seats.place_B]

    def _hide_own(self, first: int, heads: int) -> Tensor | None:
        if self._hide_B1W is None:
            return None
        return self._hide_B1W[..., first - self._columns.start :].repeat_interleave(heads, 0)

    def _hide_prompt(self, heads: int, queries: int, window: int | None) -> Tensor | None:
        decoder, seats = self._decoder, self._seating
        hide_SC = decoder._hide_SC
        if window is None:
            return None if hide_SC is None else hide_SC.repeat_interleave(heads, 0)[:, None]
        if self._place_SC is None:
            self._place_SC = decoder.prompt_place_SC()
        length_BG = (
            decoder._length_B.view(-1, seats.size) if seats.member_SG is None else (decoder._length_B[seats.member_SG])
        )
        far_SGC = length_BG[:, :, None] - self._place_SC[:, None] >= window
        hide_SGC = _hidden(far_SGC | (self._place_SC[:, None] < 0), decoder._step.score_dtype)
        return hide_SGC.repeat_interleave(queries, 1).repeat_interleave(heads, 0)


def _product(left: Tensor, right: Tensor, scaling: float, onto: Tensor | None) -> Tensor:
    if onto is None:
        return torch.bmm(left * scaling, right)
    return torch.baddbmm(onto, left, right, alpha=scaling)
