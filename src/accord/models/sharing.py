"""Prompts that the rows of a group share, encoded once: pairs, rankings and groups become one row each.

Three quarters of a preference pair's tokens are a prompt that both replies follow. A row with the prompt once and the
replies behind it has the same hidden states as the rows apart when attention is restricted to a token's own sequence
(the shared tokens and its own reply) and positions start again behind the prompt. Rotary and learned positions allow
that, recurrent layers and positions counted from the mask do not, so every model is compared on a probe first
(`accord.models.trunk`); where it differs, or with `share_prompts: false`, rows are encoded apart.

Legend: B rows, T positions, U rows after joining, L their positions, D hidden size.
"""

# ruff: noqa: N815 - fields carry shape suffixes
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from accord.batch import Batch

_SHARED, _PADDING = -1, -2
"""Instead of a row's number: tokens that belong to all rows of a group, and none."""


@dataclass(frozen=True)
class Unit:
    """What one group became, in order: shared tokens, then what is each row's own."""

    row: int
    """Of the joined rows."""
    start: int
    """Column of its first token."""
    shared: int
    own: tuple[int, ...]

    @property
    def end(self) -> int:
        """Column behind its last token."""
        return self.start + self.shared + sum(self.own)

    @property
    def sequences(self) -> tuple[slice, ...]:
        """Columns of the shared tokens (maybe none), then of what is each row's own."""
        found = [slice(self.start, self.start + self.shared)]
        for size in self.own:
            found.append(slice(found[-1].stop, found[-1].stop + size))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Joined:
    """Rows of a batch, those of a group joined behind what they share."""

    ids_UL: Tensor
    position_UL: Tensor
    """Position of each token within its own sequence, from 0."""
    row_UL: Tensor
    """Row each token belongs to; `_SHARED` and `_PADDING` are none."""
    place_BT: Tensor
    """Where the token of a row is, in the flattened [U * L]; padding is at the row's first token."""
    units: tuple[Unit, ...]

    @cached_property
    def visible_ULL(self) -> Tensor:  # noqa: N802
        """True where the first token (query) sees the second (key)."""
        row_ULL = self.row_UL[:, None, :]
        earlier_ULL = self.position_UL[:, None, :] <= self.position_UL[:, :, None]
        # Padding sees padding: a query that sees nothing is NaN in some kernels.
        return earlier_ULL & ((row_ULL == self.row_UL[:, :, None]) | (row_ULL == _SHARED))

    def flat(self, batch: Batch) -> Joined:
        """The same rows of `batch` in one row without padding."""
        shared = [unit.shared for unit in self.units for _ in unit.own]
        return join(batch, batch.lengths_B.new_tensor(shared), flat=True)

    def apart(self, hidden_ULD: Tensor) -> Tensor:
        """Hidden states of the rows as they were, [B, T, D]."""
        return hidden_ULD.flatten(0, 1)[self.place_BT]


def join(batch: Batch, shared_B: Tensor, *, flat: bool = False) -> Joined:
    """Put the rows of each group that shares leading tokens into one.

    Args:
        batch: rows, with groups where they share something.
        shared_B: leading tokens that the rows of a group have in common (`Batch.shared_prefix_B`); rows that share
            nothing stay by themselves.
        flat: put everything into one row, one group behind the other and without padding; a mask of that row would
            be large, so this is for attention in parts (`accord.models.attention`).
    """
    lengths_B, device = batch.lengths_B, batch.ids_BT.device
    first_B = shared_B == 0
    first_B[0] = True
    if batch.group_B is not None:
        first_B[1:] |= batch.group_B[1:] != batch.group_B[:-1]
    unit_B = first_B.cumsum(0) - 1
    own_B = lengths_B - shared_B
    before_B = own_B.cumsum(0) - own_B
    before_B = before_B - before_B[first_B][unit_B]

    place_T = torch.arange(batch.ids_BT.shape[1], device=device)
    real_BT, own_BT = batch.token_mask_BT, place_T >= shared_B[:, None]
    column_BT = place_T + torch.where(own_BT, before_B[:, None], 0)
    units = _units(unit_B, shared_B, own_B, flat=flat)
    width = units[-1].end if flat else max(unit.end for unit in units)
    start_B = torch.tensor([unit.row * width + unit.start for unit in units], device=device)[unit_B]
    place_BT = start_B[:, None] + torch.where(real_BT, column_BT, 0)

    shape = (units[-1].row + 1, width)
    at = place_BT[real_BT]
    row_BT = torch.where(own_BT, torch.arange(batch.num_rows, device=device)[:, None], _SHARED)
    values = {"ids": batch.ids_BT, "position": place_T.expand_as(batch.ids_BT), "row": row_BT}
    made = {name: batch.ids_BT.new_zeros(shape[0] * width) for name in values}
    made["row"] += _PADDING
    for name, value_BT in values.items():
        made[name][at] = value_BT[real_BT]
    position_UL, row_UL = made["position"].view(shape), made["row"].view(shape)
    return Joined(made["ids"].view(shape), position_UL, row_UL, place_BT, units)


def _units(unit_B: Tensor, shared_B: Tensor, own_B: Tensor, *, flat: bool) -> tuple[Unit, ...]:
    sizes: list[tuple[int, list[int]]] = []
    for unit, shared, own in torch.stack((unit_B, shared_B, own_B), 1).tolist():
        if unit == len(sizes):
            sizes.append((shared, []))
        sizes[-1][1].append(own)
    found: list[Unit] = []
    for number, (shared, own) in enumerate(sizes):
        start = found[-1].end if flat and found else 0
        found.append(Unit(0 if flat else number, start, shared, tuple(own)))
    return tuple(found)
