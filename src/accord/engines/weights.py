"""Weights of a decoding step: read once, laid out for products of a few rows.

On a processor oneDNN packs a matrix for its kernels ahead of time. A product of 8 to 32 rows then takes half to nine
tenths of the time of torch's usual one, which packs or strides anew in every call, and a GELU or a sum behind it costs
no pass of its own. Small matrices are left to torch, whose call is cheaper: 13 us against 22 for 128 x 128 and 32 rows.

What is read is a copy: make it anew when weights change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from accord.engines.anatomy import Activation, Matrix, matrix
from accord.models.products import filled

_WORTH_PACKING = 2**17
"""Numbers in a matrix; with fewer the call costs more than the layout saves."""
_WORTH_PACKING_16_BITS = 2**14
"""As `_WORTH_PACKING`, in bfloat16: there torch's usual product is oneDNN's too."""
_FEW_ROWS = 128
"""Up to so many, rows go in as they are. Beyond, those of prompts, every number is a new one, and oneDNN keeps what it
compiles for it for good (`accord.models.products`): a server grew by 2 MB a request."""


class Product:
    """x -> f(x W^T + b) for matrices side by side.

    Args:
        parts: matrices with the same input; their outputs are joined in this order.
        dtype: of arithmetic and result; None = the type of the weights.
        rows: about how many rows x will have.
        then: f; None = nothing.
    """

    def __init__(
        self, parts: Sequence[Matrix], dtype: torch.dtype | None, rows: int, then: Activation | None = None
    ) -> None:
        weight_OI = torch.cat([part.weight_OI for part in parts]) if len(parts) > 1 else parts[0].weight_OI
        biases = [part.bias_O for part in parts if part.bias_O is not None]
        weight_OI = weight_OI.to(dtype)
        self.dtype = weight_OI.dtype
        """Of what is returned."""
        self._bias_O = torch.cat(biases).to(self.dtype) if biases else None
        fused = then is not None and then.gelu is not None
        self._packed = None
        if _packs(weight_OI) and (fused or _worth_packing(weight_OI)):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), rows)
            self._linear = torch.ops.mkldnn._linear_pointwise.default
            self._linear_and_sum = torch.ops.mkldnn._linear_pointwise.binary
        else:
            self._weight_IO = weight_OI.t()
        fused = fused and self._packed is not None
        self._after = ("gelu", [], then.gelu) if fused and then is not None else ("none", [], "")
        self._then = None if then is None or fused else then.function

    def __call__(self, x_BI: Tensor) -> Tensor:
        """Return [..., O]."""
        x_BI = x_BI.to(self.dtype)
        if self._packed is not None and _has_few_rows(x_BI):
            out_BO = self._linear(x_BI, self._packed, self._bias_O, *self._after)
        elif self._packed is not None:
            x_NI = x_BI.flatten(0, -2)
            out_NO = self._linear(filled(x_NI), self._packed, self._bias_O, *self._after)
            out_BO = out_NO[: len(x_NI)].view(*x_BI.shape[:-1], -1)
        elif self._bias_O is None:
            out_BO = torch.mm(x_BI, self._weight_IO)
        else:
            out_BO = torch.addmm(self._bias_O, x_BI, self._weight_IO)
        return out_BO if self._then is None else self._then(out_BO)

    def added(self, x_BI: Tensor, onto_BO: Tensor) -> Tensor:
        """Return the product added to `onto_BO`, in the latter's type."""
        fused = self._packed is not None and _has_few_rows(x_BI)
        if not fused or onto_BO.dtype != self.dtype or self._then is not None:
            return onto_BO + self(x_BI)
        return self._linear_and_sum(x_BI.to(self.dtype), onto_BO, self._packed, self._bias_O, "add")


@contextmanager
def packed(model: nn.Module, rows: int) -> Iterator[None]:
    """Let the model's own forward multiply by packed copies of its matrices meanwhile, where that is faster.

    Args:
        model: any model, without gradients.
        rows: about how many rows will go through at once.
    """
    changed: list[nn.Module] = []
    try:
        for module in model.modules():
            if type(module) in (nn.Linear, Conv1D) and "forward" not in vars(module):
                whole = matrix(module)
                if _packs(whole.weight_OI) and _worth_packing(whole.weight_OI):
                    module.forward = Product([whole], None, rows)
                    changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def _has_few_rows(x_BI: Tensor) -> bool:
    return x_BI.numel() <= _FEW_ROWS * x_BI.shape[-1]


def _worth_packing(weight_OI: Tensor) -> bool:
    return weight_OI.numel() >= (_WORTH_PACKING_16_BITS if weight_OI.dtype == torch.bfloat16 else _WORTH_PACKING)


def _packs(weight_OI: Tensor) -> bool:
    """Whether oneDNN can hold this matrix; it has no float64, and bfloat16 only where the processor has."""
    if weight_OI.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight_OI.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight_OI.dtype == torch.float32
