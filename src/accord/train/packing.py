"""Packing: several short examples in one row, so that a micro-batch holds less padding.

The examples of an optimiser step are drawn first and packed then, so the step trains on the same tokens with the same
denominator as without packing: only memory and time change. The sequences of a row do not see each other; see
`Batch.segment_BT`. (Pretraining joins documents into windows before batches are drawn, `examples.from_documents`.)
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.batch import Batch, collate
from accord.errors import DataError
from accord.train.examples import Example


def shelves(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Distribute sequences over rows: longest first, each into the first row with room (first-fit decreasing).

    Args:
        lengths: tokens of each sequence.
        width: tokens a row; a longer sequence gets a row of its own.

    Returns:
        Indices of the sequences of each row; at most 11/9 of the fewest possible rows, plus one (Johnson 1973).
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = next((r for r, free in enumerate(room) if free >= lengths[index]), None)
        if place is None:
            rows.append([])
            room.append(width)
            place = len(rows) - 1
        rows[place].append(index)
        room[place] -= lengths[index]
    return rows


def packed_batch(examples: Sequence[Example], pad_id: int, width: int) -> Batch:
    """Collate examples of one row each into rows of up to `width` tokens.

    Args:
        examples: whole sequences, all of weight 1: a loss over tokens treats the tokens of a packed row alike.
        pad_id: any valid token id.
        width: most tokens a row.

    Raises:
        DataError: an example has several rows, a weight, reference log-probs, or is scored from its first token on.
    """
    rows = [row for e in examples for row in e.rows]
    for example in examples:
        if len(example.rows) != 1 or example.weight != 1.0 or example.rows[0].ref_logp is not None:
            raise DataError("only single rows of weight 1 can be packed", where=f"example {example.id}")
        if example.rows[0].mask[0]:
            raise DataError("the first token of a row cannot be part of the response", where=f"example {example.id}")
    plan = shelves([len(row.ids) for row in rows], width)
    batch = collate(
        [[token for i in shelf for token in rows[i].ids] for shelf in plan],
        [[flag for i in shelf for flag in rows[i].mask] for shelf in plan],
        pad_id=pad_id,
    )
    segment_BT = torch.zeros_like(batch.ids_BT)
    for b, shelf in enumerate(plan):
        numbers: list[Tensor] = [torch.full((len(rows[i].ids),), n + 1) for n, i in enumerate(shelf)]
        segment_BT[b, : int(batch.lengths_B[b])] = torch.cat(numbers)
    return batch.replace(segment_BT=segment_BT)
