"""The halves of a Llama block, written out with their gradients: norm and projections, and the gated MLP.

Autograd keeps what every elementwise step made and takes a pass through memory for each. Written out, a half keeps its
input, one number a row of the norm, and (the MLP) gate and up; the rest is made again in the backward pass, where it is
cheap. That is half of the memory of a block's activations, and products add to each other's results in place. In
bfloat16 the input of a product is rounded once for all products that read it.

    n = x / rms(x) * w,    q = turn(n Wq^T + b),    k = turn(n Wk^T + b),    v = n Wv^T + b
    y = x + (silu(n Wg^T) * (n Wu^T)) Wd^T

`turn` is the rotary embedding (Su et al. 2021), whose gradient is the turn back. Gradients of the norm: with
x^ = x / rms(x) and g = dn * w, dx = (g - x^ mean(g x^)) / rms(x).

Legend: N tokens, M tokens with a query, D hidden size, H heads, E head size, I MLP size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu


class Norm(NamedTuple):
    """Root mean square norm (Zhang and Sennrich 2019)."""

    weight: Tensor
    eps: float


class Projection(NamedTuple):
    """A product and maybe a bias."""

    weight: Tensor
    bias: Tensor | None


def projected(
    x_ND: Tensor,
    norm: Norm,
    projections: tuple[Projection, Projection, Projection],
    turn: tuple[Tensor, Tensor],
    queries_M: Tensor | None,
    low: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [M, H, E], keys and values [N, K, E] of attention, in the type of `x_ND`.

    Args:
        x_ND: input of the block.
        norm: before the projections.
        projections: of queries, keys and values.
        turn: cosines and sines of the rotary embedding, [N, E].
        queries_M: places in `x_ND` that ask; None = all.
        low: type of the products.
    """
    (q, qb), (k, kb), (v, vb) = projections
    result: Any = _Projected.apply(x_ND, *norm, q, k, v, qb, kb, vb, *turn, queries_M, low)
    return result


def gated_mlp(x_ND: Tensor, norm: Norm, gate_ID: Tensor, up_ID: Tensor, down_DI: Tensor, low: torch.dtype) -> Tensor:
    """x + MLP(norm(x)) with a gate of SiLU (Shazeer 2020), [N, D]; products in `low`."""
    result: Any = _GatedMLP.apply(x_ND, *norm, gate_ID, up_ID, down_DI, low)
    return result


def added(x_ND: Tensor, y_NI: Tensor, weight_DI: Tensor, low: torch.dtype) -> Tensor:
    """x + y W^T, the product in `low`."""
    if low == x_ND.dtype:
        return torch.addmm(x_ND, y_NI, weight_DI.t())
    return x_ND + linear(y_NI.to(low), weight_DI.to(low))


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        x_ND: Tensor,
        weight_D: Tensor,
        eps: float,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        qb: Tensor | None,
        kb: Tensor | None,
        vb: Tensor | None,
        cos_NE: Tensor,
        sin_NE: Tensor,
        queries_M: Tensor | None,
        low: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        scale_N1 = _inverse_rms(x_ND, eps)
        n_ND = _normed(x_ND, scale_N1, weight_D, low)
        asking = (lambda t: t) if queries_M is None else (lambda t: t[queries_M])
        q, k, v = q.to(low), k.to(low), v.to(low)
        exact, size = x_ND.dtype, cos_NE.shape[-1]
        found = [linear(asking(n_ND), q, _as(qb, low)), linear(n_ND, k, _as(kb, low)), linear(n_ND, v, _as(vb, low))]
        query, key, value = (t.to(exact).unflatten(-1, (-1, size)) for t in found)
        query = _turned(query, asking(cos_NE), asking(sin_NE), forward=True)
        key = _turned(key, cos_NE, sin_NE, forward=True)
        ctx.save_for_backward(x_ND, scale_N1, weight_D, q, k, v, cos_NE, sin_NE, queries_M)
        ctx.low = low
        return query, key, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x_ND, scale_N1, weight_D, q, k, v, cos_NE, sin_NE, queries_M = ctx.saved_tensors
        low, needed = ctx.low, ctx.needs_input_grad
        n_ND = _normed(x_ND, scale_N1, weight_D, low)
        asking = (lambda t: t) if queries_M is None else (lambda t: t[queries_M])
        query = _turned(grads[0], asking(cos_NE), asking(sin_NE), forward=False)
        key = _turned(grads[1], cos_NE, sin_NE, forward=False)
        query, key, value = (t.flatten(1).to(low) for t in (query, key, grads[2]))
        n_grad_ND = torch.mm(key, k).to(x_ND.dtype)
        add_product(n_grad_ND, value, v)
        if queries_M is None:
            add_product(n_grad_ND, query, q)
        else:
            n_grad_ND.index_add_(0, queries_M, torch.mm(query, q).to(x_ND.dtype))
        outs, ins = (query, key, value), (asking(n_ND), n_ND, n_ND)
        weights = [
            _outer(out, into, x_ND.dtype) if needed[3 + i] else None
            for i, (out, into) in enumerate(zip(outs, ins, strict=True))
        ]
        biases = [out.sum(0, dtype=x_ND.dtype) if needed[6 + i] else None for i, out in enumerate(outs)]
        x_grad_ND, norm_grad_D = _norm_backward(n_grad_ND, x_ND, scale_N1, weight_D)
        return x_grad_ND, norm_grad_D, None, *weights, *biases, None, None, None, None


class _GatedMLP(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        x_ND: Tensor,
        weight_D: Tensor,
        eps: float,
        gate_ID: Tensor,
        up_ID: Tensor,
        down_DI: Tensor,
        low: torch.dtype,
    ) -> Tensor:
        scale_N1 = _inverse_rms(x_ND, eps)
        n_ND = _normed(x_ND, scale_N1, weight_D, low)
        gate_ID, up_ID, down_DI = gate_ID.to(low), up_ID.to(low), down_DI.to(low)
        gate_NI, up_NI = linear(n_ND, gate_ID), linear(n_ND, up_ID)
        ctx.save_for_backward(x_ND, scale_N1, weight_D, gate_ID, up_ID, down_DI, gate_NI, up_NI)
        ctx.low = low
        return added(x_ND, silu(gate_NI).mul_(up_NI), down_DI, low)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x_ND, scale_N1, weight_D, gate_ID, up_ID, down_DI, gate_NI, up_NI = ctx.saved_tensors
        low, needed, exact = ctx.low, ctx.needs_input_grad, x_ND.dtype
        out_ND = grads[0].to(low)
        opened_NI = silu(gate_NI)
        inner_NI = torch.mm(out_ND, down_DI)
        down_grad_DI = _outer(out_ND, opened_NI * up_NI, exact) if needed[5] else None
        gate_grad_NI = torch.ops.aten.silu_backward(inner_NI * up_NI, gate_NI)
        up_grad_NI = inner_NI.mul_(opened_NI)
        n_ND = _normed(x_ND, scale_N1, weight_D, low)
        gate_grad_ID = _outer(gate_grad_NI, n_ND, exact) if needed[3] else None
        up_grad_ID = _outer(up_grad_NI, n_ND, exact) if needed[4] else None
        n_grad_ND = torch.mm(gate_grad_NI, gate_ID).to(exact)
        add_product(n_grad_ND, up_grad_NI, up_ID)
        x_grad_ND, norm_grad_D = _norm_backward(n_grad_ND, x_ND, scale_N1, weight_D)
        return x_grad_ND.add_(grads[0]), norm_grad_D, None, gate_grad_ID, up_grad_ID, down_grad_DI, None


def _as(bias: Tensor | None, low: torch.dtype) -> Tensor | None:
    return None if bias is None else bias.to(low)


def _inverse_rms(x_ND: Tensor, eps: float) -> Tensor:
    return torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True).square_().div_(x_ND.shape[-1]).add_(eps).rsqrt_()


def _normed(x_ND: Tensor, scale_N1: Tensor, weight_D: Tensor, low: torch.dtype) -> Tensor:
    return (x_ND * scale_N1).mul_(weight_D).to(low)


def _norm_backward(n_grad_ND: Tensor, x_ND: Tensor, scale_N1: Tensor, weight_D: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the input and of the weight; `n_grad_ND` is used up."""
    unit_ND = x_ND * scale_N1
    both_ND = n_grad_ND * unit_ND
    mean_N1 = torch.mv(both_ND, weight_D).div_(x_ND.shape[-1])[:, None]
    return n_grad_ND.mul_(weight_D).addcmul_(unit_ND, mean_N1, value=-1).mul_(scale_N1), both_ND.sum(0)


def _turned(x_NHE: Tensor, cos_NE: Tensor, sin_NE: Tensor, *, forward: bool) -> Tensor:
    """Each pair of halves turned by its angle, or back."""
    first, second = x_NHE.chunk(2, -1)
    (cos, sin), half = (cos_NE[:, None], sin_NE[:, None]), first.shape[-1]
    out_NHE = x_NHE * cos
    # Back, each half gets the sine of the other: sines of the two halves are the same only by convention.
    to_first, to_second = (sin[..., :half], sin[..., half:]) if forward else (sin[..., half:], sin[..., :half])
    sign = 1 if forward else -1
    out_NHE[..., :half].addcmul_(second, to_first, value=-sign)
    out_NHE[..., half:].addcmul_(first, to_second, value=sign)
    return out_NHE


def add_product(onto_ND: Tensor, left: Tensor, right: Tensor) -> None:
    """onto += left right; a product in 16 bits is rounded by itself and added in full."""
    if onto_ND.dtype == left.dtype:
        onto_ND.addmm_(left, right)
    else:
        onto_ND.add_(torch.mm(left, right))


def _outer(out_NO: Tensor, into_NI: Tensor, exact: torch.dtype) -> Tensor:
    """Gradient of a weight."""
    return torch.mm(out_NO.t(), into_NI).to(exact)
