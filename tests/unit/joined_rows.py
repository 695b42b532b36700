"""Queries, keys and values of joined rows, and attention to them with a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.models.sharing import Joined

SCALE = 0.3


def inputs(rows: Joined, dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys and values of two heads."""
    draw = torch.Generator().manual_seed(0)
    units, length = rows.ids_UL.shape
    return [torch.randn(units, 2, length, 4, generator=draw, dtype=dtype).requires_grad_() for _ in range(3)]


def in_full(rows: Joined, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What the queries see, from all scores."""
    unit_UL = torch.full_like(rows.ids_UL, -1)
    for number, unit in enumerate(rows.units):
        unit_UL[unit.row, unit.start : unit.end] = number
    visible_ULL = rows.visible_ULL & (unit_UL[:, None] == unit_UL[..., None])
    score = (query @ key.mT * SCALE).masked_fill(~visible_ULL[:, None], -torch.inf)
    return score.softmax(-1) @ value
