"""Reductions over the entries a mask keeps (True = counts).

Entries that do not count are replaced with ``torch.where`` before anything else happens: multiplying by the
mask would turn a NaN under it into a NaN sum.
"""

from __future__ import annotations

import torch
from torch import Tensor


def keep(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return `x` with zeros where `mask` is False; their gradient is zero as well.

    Args:
        x: any shape.
        mask: bool, broadcastable to `x`; None keeps everything.

    Returns:
        A tensor of the shape of `x`.
    """
    return x if mask is None else torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))


def masked_sum(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Return the sum of `x` over `mask`.

    Args:
        x: any shape.
        mask: bool, the shape of `x`.
        dim: dimension to reduce; None reduces all.

    Returns:
        The sum; 0 where nothing counts.
    """
    kept = keep(x, mask)
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Return the mean of `x` over `mask`.

    Args:
        x: any shape.
        mask: bool, the shape of `x`.
        dim: dimension to reduce; None reduces all.

    Returns:
        The mean; 0 where nothing counts.
    """
    count = mask.sum() if dim is None else mask.sum(dim)
    return masked_sum(x, mask, dim) / count.clamp(min=1)


def masked_var(x: Tensor, mask: Tensor, dim: int | None = None, unbiased: bool = False) -> Tensor:
    """Return the variance of `x` over `mask`.

    Args:
        x: any shape.
        mask: bool, the shape of `x`.
        dim: dimension to reduce; None reduces all.
        unbiased: divide by n - 1 (Bessel) instead of n.

    Returns:
        The variance; 0 where nothing, or with `unbiased` a single entry, counts.
    """
    mean = masked_mean(x, mask, dim)
    centred = keep(x, mask) - (mean if dim is None else mean.unsqueeze(dim))
    count = mask.sum() if dim is None else mask.sum(dim)
    return masked_sum(centred.square(), mask, dim) / (count - int(unbiased)).clamp(min=1)


def lengths_to_mask(lengths_B: Tensor, width: int) -> Tensor:
    """Return the [B, width] mask that is True at the first `lengths_B` positions of each row."""
    return torch.arange(width, device=lengths_B.device)[None, :] < lengths_B[:, None]


def first_stop_lengths(ids_BT: Tensor, stop_ids: tuple[int, ...], lengths_B: Tensor | None = None) -> Tensor:
    """Return how many tokens of each row belong to the reply, its first stop token included.

    Args:
        ids_BT: reply tokens, prompt excluded.
        stop_ids: every id that ends a reply.
        lengths_B: tokens sampled per row, where rows differ; later positions are not looked at.

    Returns:
        Lengths, int64: up to and including the first stop id, or the whole row without one.
    """
    width = ids_BT.shape[1]
    positions = torch.arange(width, device=ids_BT.device)
    limit_B = torch.full_like(ids_BT[:, 0], width) if lengths_B is None else lengths_B
    stops = torch.tensor(stop_ids, dtype=ids_BT.dtype, device=ids_BT.device)
    is_stop_BT = torch.isin(ids_BT, stops) & (positions[None, :] < limit_B[:, None])
    ends_BT = torch.where(is_stop_BT, positions[None, :] + 1, limit_B[:, None])
    return ends_BT.amin(dim=1)
