"""The state of sequences in flight: how the next logits are computed and where keys and values are kept.

`CachedDecoder` drives any Hugging Face causal LM whose layers keep ordinary keys and values; Llama-shaped models have
a decoder of their own (`accord.engines.grouped`). The cache is allocated once, [slots, heads, columns, head_dim] per
layer. Rows are right-aligned: all of them write the same column at a step, so a step copies nothing but the new
keys, and a mask hides what lies left of a row's first token. Positions are the rows' own, so moving a row to
other columns changes nothing.

`RecomputeDecoder` runs the whole sequence again for every token: slow, but it holds for every architecture.
"""

# ruff: noqa: N815 - fields carry shape suffixes
from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from accord.errors import EngineError


@dataclass(frozen=True)
class Prefilled:
    """Prompts that went through the model once, ready to become any number of rows."""

    prompts: tuple[tuple[int, ...], ...]
    """Token ids per prompt."""
    logits_PV: Tensor
    """Logits of the first new token."""
    keys: tuple[Tensor, ...] = ()
    """Per layer [P, heads, longest, head_dim], right-aligned."""
    values: tuple[Tensor, ...] = ()
    """As `keys`."""

    def select(self, index: int) -> Prefilled:
        """Return prompt `index` alone, in memory of its own."""
        row = slice(index, index + 1)
        return Prefilled(
            self.prompts[row],
            self.logits_PV[row].clone(),
            tuple(k[row].clone() for k in self.keys),
            tuple(v[row].clone() for v in self.values),
        )


class Decoder(Protocol):
    """Rows of sequences, each waiting for its next token; rows are numbered 0..rows-1."""

    rows: int

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Prefilled:
        """Run the prompts once."""
        ...

    def admit(self, prefilled: Prefilled, source: Tensor) -> None:
        """Append one row per entry of `source`, a copy of that prefilled prompt."""
        ...

    def step(self, token_B: Tensor, live_B: Tensor) -> Tensor:
        """Append a token to every row and return the next logits [B, V]; rows not live do not advance."""
        ...

    def keep(self, source: Tensor) -> None:
        """Make row r what row source[r] was, for r < len(source), and drop the others; source[r] >= r."""
        ...


def caches_keys_and_values(model: nn.Module) -> bool:
    """Say whether all layers of the model keep ordinary keys and values (no recurrent or shared state)."""
    layers = DynamicCache(config=model.config).layers  # pyright: ignore[reportArgumentType]
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


class Reader(Protocol):
    """Runs tokens through a model beside a cache."""

    def __call__(self, ids_BT: Tensor, mask_BC: Tensor, position_BT: Tensor, cache: Cache, /) -> Tensor:
        """Return the logits [B, V] after the last token of every row."""
        ...


def prefill(read: Reader, prompts: Sequence[Sequence[int]], *, pad_id: int, device: torch.device) -> Prefilled:
    """Run left-padded prompts through a model once.

    Args:
        read: runs the model.
        prompts: token ids, none empty.
        pad_id: any valid id.
        device: where the model is.

    Raises:
        EngineError: the model fills no cache.
    """
    longest = max(len(ids) for ids in prompts)
    ids_PT = torch.tensor([[pad_id] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
    length_P = torch.tensor([len(ids) for ids in prompts], device=device)
    mask_PT = (torch.arange(longest, device=device) >= longest - length_P[:, None]).long()
    position_PT = (mask_PT.cumsum(-1) - 1).clamp_(min=0)
    cache = DynamicCache()
    logits_PV = read(ids_PT, mask_PT, position_PT, cache)
    pairs = [(layer.keys, layer.values) for layer in cache.layers]  # pyright: ignore
    if not pairs or any(keys is None for keys, _ in pairs):
        raise EngineError("the model does not fill a key-value cache in every layer")
    keys, values = zip(*pairs, strict=True)
    return Prefilled(tuple(tuple(ids) for ids in prompts), logits_PV, keys, values)


class _Forward:
    """A model's own forward as a `Reader`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # seen through a PEFT wrapper
        self._accepts = frozenset(inspect.signature(inner.forward).parameters)

    def __call__(self, ids_BT: Tensor, mask_BC: Tensor, position_BT: Tensor, cache: Cache | None) -> Tensor:
        extra: dict[str, Any] = {}
        if "position_ids" in self._accepts:
            extra["position_ids"] = position_BT
        if "logits_to_keep" in self._accepts:
            extra["logits_to_keep"] = 1
        out = self._model(input_ids=ids_BT, attention_mask=mask_BC, past_key_values=cache, use_cache=True, **extra)
        return out.logits[:, -1]


class CachedDecoder:
    """Rows over one preallocated key-value cache.

    Args:
        model: Hugging Face causal LM in eval mode.
        slots: most rows at once.
        columns: most tokens of one row, plus the room rows of different age need beside each other.
        new_tokens: most tokens a row receives after its prompt.
        pad_id: any valid id; stands where no token is.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        slots: int,
        columns: int,
        new_tokens: int,
        pad_id: int,
    ) -> None:
        self.rows = 0
        self._read = _Forward(model)
        self._device = next(model.parameters()).device
        self._slots, self._columns, self._new_tokens, self._pad_id = slots, columns, new_tokens, pad_id
        self._column = 0
        self._first = 0
        """Columns left of it belong to no row."""
        self._cache: Cache | None = None
        self._length_S = torch.zeros(slots, dtype=torch.long, device=self._device)
        self._mask_SC = torch.zeros(slots, columns, dtype=torch.long, device=self._device)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Prefilled:
        """Run left-padded prompts through the model once."""
        return prefill(self._read, prompts, pad_id=self._pad_id, device=self._device)

    def admit(self, prefilled: Prefilled, source: Tensor) -> None:
        """Copy prefilled prompts into the next free rows."""
        first, self.rows = self.rows, self.rows + len(source)
        width = prefilled.keys[0].shape[2]
        if self._cache is None:
            self._cache = Cache(
                layers=[
                    _SlotLayer(keys, values, self._slots, self._columns)
                    for keys, values in zip(prefilled.keys, prefilled.values, strict=True)
                ]
            )
        length_P = torch.tensor([len(ids) for ids in prefilled.prompts], device=source.device)
        self._length_S[first : self.rows] = length_P[source]
        if self._column < width or self._column + self._new_tokens > self._columns:
            self._move_to(max(width, int(self._length_S[:first].max()) if first else 0), rows=first)
        columns = slice(self._column - width, self._column)
        for layer, *fresh in zip(self._layers, prefilled.keys, prefilled.values, strict=True):
            for buffer, tensor in zip(layer.buffers, fresh, strict=True):
                buffer[first : self.rows, :, columns] = tensor[source]
        self._hide_left_of_rows()

    def step(self, token_B: Tensor, live_B: Tensor) -> Tensor:
        """Run one token per row; all rows write the same column."""
        columns = slice(self._first, self._column + 1)
        position_B1, mask_BC = self._length_S[: self.rows, None], self._mask_SC[: self.rows, columns]
        for layer in self._layers:
            layer.rows, layer.columns = self.rows, columns
        logits_BV = self._read(token_B[:, None], mask_BC, position_B1, self._cache)
        self._column += 1
        # A finished row stays where it is, inside the model's positions.
        self._length_S[: self.rows] += live_B
        return logits_BV

    def keep(self, source: Tensor) -> None:
        """Fill the holes that finished rows leave with the last live rows; rows that stay are not copied."""
        target = (source != torch.arange(len(source), device=source.device)).nonzero()[:, 0]
        moved = source[target]
        for layer in self._layers:
            for buffer in layer.buffers:
                buffer[target, :, : self._column] = buffer[moved, :, : self._column]
        self._length_S[target] = self._length_S[moved]
        self._mask_SC[target] = self._mask_SC[moved]
        self.rows = len(source)
        if self.rows == 0:
            self._column = 0
        self._find_first()

    @property
    def _layers(self) -> list[_SlotLayer]:
        return self._cache.layers if self._cache is not None else []  # pyright: ignore[reportReturnType]

    def _move_to(self, column: int, *, rows: int) -> None:
        """Shift live rows so that the next token goes to `column`."""
        if rows:
            width = min(int(self._length_S[:rows].max()), self._column)
            old, new = slice(self._column - width, self._column), slice(column - width, column)
            for layer in self._layers:
                for buffer in layer.buffers:
                    buffer[:rows, :, new] = buffer[:rows, :, old].clone()
        self._column = column

    def _hide_left_of_rows(self) -> None:
        start_B1 = self._column - self._length_S[: self.rows, None]
        self._mask_SC[: self.rows] = torch.arange(self._columns, device=start_B1.device) >= start_B1
        self._find_first()

    def _find_first(self) -> None:
        self._first = self._column - int(self._length_S[: self.rows].max()) if self.rows else 0


class RecomputeDecoder:
    """Rows without a cache: every step runs the whole sequences again.

    Args:
        model: Hugging Face causal LM in eval mode.
        pad_id: any valid id; stands right of a row's last token.
    """

    def __init__(self, model: nn.Module, *, pad_id: int) -> None:
        self.rows = 0
        self._model, self._pad_id = model, pad_id
        self._sequences: list[list[int]] = []

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Prefilled:
        """Run right-padded prompts through the model once."""
        return Prefilled(tuple(tuple(ids) for ids in prompts), self._logits([list(ids) for ids in prompts]))

    def admit(self, prefilled: Prefilled, source: Tensor) -> None:
        """Start one sequence per row."""
        self._sequences += [list(prefilled.prompts[i]) for i in source.tolist()]
        self.rows = len(self._sequences)

    def step(self, token_B: Tensor, live_B: Tensor) -> Tensor:
        """Append the tokens of live rows and run everything."""
        for ids, token, live in zip(self._sequences, token_B.tolist(), live_B.tolist(), strict=True):
            if live:
                ids.append(token)
        return self._logits(self._sequences)

    def keep(self, source: Tensor) -> None:
        """Keep the rows `source`."""
        self._sequences = [self._sequences[i] for i in source.tolist()]
        self.rows = len(self._sequences)

    def _logits(self, sequences: list[list[int]]) -> Tensor:
        device = next(self._model.parameters()).device
        longest = max(len(ids) for ids in sequences)
        ids_BT = torch.tensor([ids + [self._pad_id] * (longest - len(ids)) for ids in sequences], device=device)
        length_B = torch.tensor([len(ids) for ids in sequences], device=device)
        mask_BT = (torch.arange(longest, device=device) < length_B[:, None]).long()
        out = self._model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
        return out.logits[torch.arange(len(sequences), device=device), length_B - 1]


class _SlotLayer(DynamicLayer):
    """Preallocated keys and values of one layer; the next tokens of `rows` go to the last of `columns`."""

    def __init__(self, keys: Tensor, values: Tensor, slots: int, columns: int) -> None:
        super().__init__()
        # Zeros, not empty: a masked NaN would still spread through 0 * NaN.
        self.buffers = (
            keys.new_zeros(slots, keys.shape[1], columns, keys.shape[3]),
            values.new_zeros(slots, values.shape[1], columns, values.shape[3]),
        )
        self.keys, self.values = self.buffers
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.rows, self.columns = 0, slice(0, 0)

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Store one token per row and return all keys and values up to it."""
        keys, values = self.buffers
        keys[: self.rows, :, self.columns.stop - 1] = key_states[:, :, 0]
        values[: self.rows, :, self.columns.stop - 1] = value_states[:, :, 0]
        return keys[: self.rows, :, self.columns], values[: self.rows, :, self.columns]

    def get_seq_length(self) -> int:
        """Columns filled and in sight, padding included."""
        return self.columns.stop - 1 - self.columns.start

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns a query sees, and the first of them."""
        return self.get_seq_length() + query_length, 0
