"""Weights of a decoding step: read once, laid out for products of a few rows.

On a processor oneDNN packs a matrix for its kernels ahead of time. A product of 8 to 32 rows then takes half the time
of torch's usual one, which packs or strides anew in every call. What is packed is a copy: make it anew when weights
change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Product:
    """x -> x W^T + b for projections side by side, in the type of the weights or in another.

    Args:
        parts: linear layers with the same input; their outputs are joined in this order.
        dtype: computes in it and returns the type of the weights; None = the type of the weights.
        rows: about how many rows x will have.
    """

    def __init__(self, parts: Sequence[Any], dtype: torch.dtype | None, rows: int) -> None:
        weight_OI = torch.cat([p.weight for p in parts]) if len(parts) > 1 else parts[0].weight
        bias_O = None if parts[0].bias is None else torch.cat([p.bias for p in parts])
        self._outer, self._inner = weight_OI.dtype, dtype or weight_OI.dtype
        weight_OI = weight_OI.detach().to(self._inner)
        self._bias_O = None if bias_O is None else bias_O.detach().to(self._inner)
        self._packed = None
        if _packs(weight_OI):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), rows)
        else:
            self._weight_IO = weight_OI.t()

    def __call__(self, x_BI: Tensor) -> Tensor:
        """Return [B, O]."""
        x_BI = x_BI.to(self._inner)
        if self._packed is not None:
            out_BO = torch.ops.mkldnn._linear_pointwise(x_BI, self._packed, self._bias_O, "none", [], "")
        elif self._bias_O is None:
            out_BO = torch.mm(x_BI, self._weight_IO)
        else:
            out_BO = torch.addmm(self._bias_O, x_BI, self._weight_IO)
        return out_BO.to(self._outer)


def _packs(weight_OI: Tensor) -> bool:
    """Whether oneDNN can hold this matrix; it has no float64, and bfloat16 only where the processor has."""
    if weight_OI.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight_OI.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight_OI.dtype == torch.float32
