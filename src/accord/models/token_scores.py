"""Log-probabilities and entropies of scored tokens, in pieces of the vocabulary's logits that stay in a cache.

Through a plain output head, log p = logit_y - logsumexp(logits), and autograd would write the logits, their log-softmax
and five more tensors of that size for an entropy, each a pass through memory. Here a piece of some hundred tokens goes
through product, log-softmax and entropy before the next one begins, and the gradient is written out:

    d log p / d logit_v = [v = y] - p_v,    d H / d logit_v = -p_v (log p_v + H)

Exponentials cost more than any other pass, so each logit has one: with p the softmax and m the largest logit,

    log p_y = logit_y - m + log max p,    H = -sum_v p_v (logit_v - m) - log max p

and p is what is kept for the backward pass. Or nothing is kept, and p is computed again, piece by piece. Where the
trunk runs in 16 bits, the products of the backward pass do too; logits, and with them what is returned, do not.

Legend: N scored tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from accord.models.blocks import add_product

_PIECE_ELEMENTS = 2**21
"""Logits of one piece (8 MiB in float32)."""
_LEAST_ROWS = 64
"""Tokens of the smallest piece; products of fewer rows are slow, whatever the vocabulary."""


def plain_head(head: nn.Module, hidden: Tensor) -> bool:
    """Whether `token_scores` can take the place of the module: a product and nothing else, in one precision."""
    return (
        type(head) is nn.Linear
        and head.bias is None
        and not (head._forward_hooks or head._forward_pre_hooks)
        and head.weight.dtype == hidden.dtype
        and hidden.dtype in (torch.float32, torch.float64)
    )


def token_scores(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    *,
    scale: float,
    entropy: bool,
    keep: bool,
    low: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target under softmax(scale hidden weight^T), and the entropies if asked for (nats).

    Args:
        hidden_ND: states before the targets.
        weight_VD: of the output head.
        targets_N: token ids.
        scale: what logits are multiplied by (1 / temperature, and the model's own).
        entropy: whether to compute them; else what is returned in their place is zeros.
        keep: hold N x V numbers for the backward pass instead of computing them again.
        low: type of the products of the backward pass; None = that of the weight.
    """
    result: Any = _TokenScores.apply(hidden_ND, weight_VD, targets_N, scale, entropy, keep, low or weight_VD.dtype)
    return result


class _TokenScores(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        scale: float,
        entropy: bool,
        keep: bool,
        low: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        hidden_ND = hidden_ND if scale == 1.0 else hidden_ND * scale
        keep = keep and any(ctx.needs_input_grad)
        rows, vocab = _rows(weight_VD), len(weight_VD)
        number = len(targets_N)
        logits_RV = hidden_ND.new_empty(min(rows, number), vocab)
        kept_NV = hidden_ND.new_empty(number if keep else len(logits_RV), vocab)
        logp_N, entropy_N = hidden_ND.new_zeros(number), hidden_ND.new_zeros(number)
        for start in range(0, number, rows):
            piece = slice(start, min(start + rows, number))
            size = piece.stop - start
            out_RV, p_RV = logits_RV[:size], kept_NV[piece] if keep else kept_NV[:size]
            _softmax(hidden_ND[piece], weight_VD, out_RV, p_RV)
            top_R, log_R = out_RV.amax(1), p_RV.amax(1).log_()
            logp_N[piece] = out_RV.gather(1, targets_N[piece, None])[:, 0] - top_R + log_R
            if entropy:
                entropy_N[piece] = -torch.linalg.vecdot(out_RV.sub_(top_R[:, None]), p_RV) - log_R
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, entropy_N, kept_NV if keep else None)
        ctx.scale, ctx.entropy, ctx.low = scale, entropy, low
        return logp_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        hidden_ND, weight_VD, targets_N, entropy_N, kept_NV = ctx.saved_tensors
        logp_grad_N, entropy_grad_N = grads
        of_entropy = ctx.entropy and bool(entropy_grad_N.any())
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        low_VD, low_ND = weight_VD.to(ctx.low), hidden_ND.to(ctx.low)
        rows, number = _rows(weight_VD), len(targets_N)
        hidden_grad_ND = torch.empty_like(hidden_ND) if wants_hidden else None
        weight_grad_VD = torch.zeros_like(weight_VD) if wants_weight else None
        grad_RV, other_RV = (hidden_ND.new_empty(min(rows, number), len(weight_VD)) for _ in range(2))
        for start in range(0, number, rows):
            piece = slice(start, min(start + rows, number))
            size = piece.stop - start
            out_RV, coefficient_R = grad_RV[:size], logp_grad_N[piece]
            p_RV = other_RV[:size] if kept_NV is None else kept_NV[piece]
            if kept_NV is None:
                _softmax(hidden_ND[piece], weight_VD, out_RV, p_RV)
            if of_entropy:
                slope_R = entropy_grad_N[piece]
                torch.mul(p_RV, -(coefficient_R + slope_R * entropy_N[piece])[:, None], out=out_RV)
                out_RV.addcmul_(torch.special.entr(p_RV), slope_R[:, None])
            else:
                torch.mul(p_RV, -coefficient_R[:, None], out=out_RV)
            out_RV.scatter_add_(1, targets_N[piece, None], coefficient_R[:, None])
            low_RV = out_RV.to(ctx.low)
            if hidden_grad_ND is not None:
                hidden_grad_ND[piece] = torch.mm(low_RV, low_VD)
            if weight_grad_VD is not None:
                add_product(weight_grad_VD, low_RV.mT, low_ND[piece])
        if hidden_grad_ND is not None and ctx.scale != 1.0:
            hidden_grad_ND.mul_(ctx.scale)
        return hidden_grad_ND, weight_grad_VD, None, None, None, None, None


def _softmax(hidden_RD: Tensor, weight_VD: Tensor, logits_RV: Tensor, out_RV: Tensor) -> None:
    """Write logits and their softmax; memory that is used again has no page faults."""
    torch.mm(hidden_RD, weight_VD.mT, out=logits_RV)
    torch.softmax(logits_RV, -1, out=out_RV)


def _rows(weight_VD: Tensor) -> int:
    return max(_LEAST_ROWS, _PIECE_ELEMENTS // len(weight_VD))
