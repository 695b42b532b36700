"""Products by oneDNN on a processor: packed in float32, and in bfloat16 of numbers of rows that come again.

oneDNN compiles kernels for every size of a product. That takes half a millisecond and 0.6 MB, which no one frees: a
reward model of 13 M parameters that trained in bfloat16 on ever new numbers of tokens grew by 14 MB a step. So rows are
filled up to one of sixteen numbers an octave, 3 % more on average.

torch multiplies float32 by MKL, which lays out the matrix anew in every call. oneDNN does that once, and 256 rows of
320 numbers meet a vocabulary of 8,192 at 108 instead of 87 GFLOP/s on a core. Only pieces of one size go that way.
Results differ by the rounding of sums that are added in another order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_FROM_PIECES = 2
"""Full pieces from which on packing, a pass over the matrix, is paid back."""


def filled(x: Tensor) -> Tensor:
    """`x` with rows of zeros behind it, up to `rows_for` many."""
    spare = rows_for(len(x)) - len(x)
    return torch.nn.functional.pad(x, (0, 0) * (x.dim() - 1) + (0, spare)) if spare else x


def rows_for(number: int) -> int:
    """The next of sixteen numbers between a power of two and the next; all multiples of 16."""
    step = max(16, 2 ** (number.bit_length() - 5))
    return -(-number // step) * step


def times(weight_OI: Tensor, piece: int, rows: int) -> Callable[[Tensor], Tensor]:
    """Return the function x -> x W^T of pieces; it is for use before the weight changes.

    Args:
        weight_OI: W.
        piece: rows of a full piece x.
        rows: of all pieces together.
    """
    weight_IO = weight_OI.t()
    if rows < _FROM_PIECES * piece or not _packs(weight_OI):
        return lambda x_RI: torch.mm(x_RI, weight_IO)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), piece)

    def product(x_RI: Tensor) -> Tensor:
        if len(x_RI) != piece:
            return torch.mm(x_RI, weight_IO)
        return torch.ops.mkldnn._linear_pointwise(x_RI, packed, None, "none", [], "")

    return product


def _packs(weight_OI: Tensor) -> bool:
    known = weight_OI.device.type == "cpu" and weight_OI.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return known and hasattr(torch.ops.mkldnn, "_linear_pointwise")
