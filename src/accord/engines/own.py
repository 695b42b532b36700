"""Keys and values of the tokens that rows have received, in memory without gaps.

A step reads all of it, and it rarely fits into a processor's cache. Read from end to end, memory gives three times as
many bytes a second as in pieces with gaps of half a kilobyte or more between them (23 and 7 GB/s on one core, rows of
40 tokens alone and in room for 64). So there is room for a few more tokens only, which attention reads whether they are
there or not; where it is full everything moves over to more room, layer by layer, through the memory of one layer more.

Legend: B rows, K key heads, D head size, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MORE = 16
"""Columns that are added at once, at least: fewer mean more moves, more mean reading what is not there."""
_MORE_SHARE = 4
"""And at least a quarter of what is there, so that long completions move a few times only."""


class OwnCache:
    """Room for rows' own keys and values, which grows.

    Everything in it is finite from the start: a hidden NaN would still spread through 0 * NaN.

    Args:
        layers: how many.
        slots: most rows at once.
        heads: of keys.
        size: of a head.
        columns: most columns there will be.
        dtype: of keys and values.
        device: where they lie.
    """

    def __init__(
        self, *, layers: int, slots: int, heads: int, size: int, columns: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._shape = (2, slots, heads, size)
        self._most = columns
        # Never touched where it is never written, so that long completions nobody needed cost nothing.
        memory = torch.empty((layers + 1, math.prod(self._shape) * columns), dtype=dtype, device=device)
        *self._memory, self._spare = memory.unbind()
        self.columns = 0
        """Columns there is room for now."""
        self.layers: list[Tensor] = [memory[:0] for memory in self._memory]
        """Keys and values of each layer, [2, slots, K, W, D]."""

    def make_room(self, first: int, end: int, rows: int) -> None:
        """Move columns first..end of the first rows to the left of more room; forget everything else."""
        kept = end - first
        more = max(_MORE, kept // _MORE_SHARE)
        columns = min(-(-(kept + more) // _MORE) * _MORE, self._most)
        assert columns > kept, "more columns are written than were asked for"
        for index, old in enumerate(self.layers):
            fresh = self._spare[: math.prod(self._shape) * columns].view(*self._shape[:3], columns, -1)
            if kept:
                fresh[:, :rows, :, :kept] = old[:, :rows, :, first:end]
                fresh[:, rows:, :, :kept] = 0
            fresh[:, :, :, kept:] = 0
            self.layers[index] = fresh
            self._memory[index], self._spare = self._spare, self._memory[index]
        self.columns = columns
