"""Whole sequences as the batches that reward models read: replies to one prompt side by side, in the order given.

Models encode a prompt once for the rows of a group that begin with it, so rows are told apart into prompt and reply
here, and neighbours with the same prompt become one group. A group is never larger than a micro-batch may be: 64
replies to a long prompt are several groups.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from accord.batch import Batch, collate


def numbered_micros(
    sequences: Sequence[Sequence[int]],
    lengths: Sequence[int] | None,
    *,
    pad_id: int,
    token_budget: int,
    device: torch.device,
) -> Iterator[tuple[list[int], Batch]]:
    """Yield micro-batches of similar lengths, each with the places of its rows in `sequences`.

    Args:
        sequences: token ids of prompt and reply; none yields nothing.
        lengths: tokens of each reply, which the response mask covers; None = not known: nothing is covered, and every
            row is a group of its own.
        pad_id: any valid token id.
        token_budget: largest rows x length of a micro-batch.
        device: where the micro-batches are wanted.
    """
    if not sequences:
        return
    starts = [len(ids) for ids in sequences]
    group = None
    if lengths is not None:
        starts = [len(ids) - n for ids, n in zip(sequences, lengths, strict=True)]
        group = prompt_groups(sequences, starts, token_budget)
    masks = [[place >= start for place in range(len(ids))] for ids, start in zip(sequences, starts, strict=True)]
    batch = collate(sequences, masks, pad_id=pad_id, group=group)
    batch = batch.replace(weight_B=torch.arange(len(sequences), dtype=torch.float64)).to(device)
    for micro in batch.split(token_budget):
        assert micro.weight_B is not None
        yield micro.weight_B.long().tolist(), micro.replace(weight_B=None)


def prompt_groups(sequences: Sequence[Sequence[int]], starts: Sequence[int], token_budget: int) -> list[int]:
    """Number of each row's group: neighbours with the same prompt, as many as fit in the budget.

    Args:
        sequences: token ids of prompt and reply.
        starts: where each reply begins.
        token_budget: largest rows x longest row of a group of more than one row.
    """
    groups: list[int] = []
    prompt, rows, width = None, 0, 0
    for ids, start in zip(sequences, starts, strict=True):
        own = tuple(ids[:start])
        width = max(width, len(ids))
        if own != prompt or (rows + 1) * width > token_budget:
            groups.append(groups[-1] + 1 if groups else 0)
            prompt, rows, width = own, 0, len(ids)
        else:
            groups.append(groups[-1])
        rows += 1
    return groups
