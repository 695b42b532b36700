"""Log-probabilities and entropies of scored tokens, in pieces of the vocabulary's logits that stay in a cache.

Through a plain output head, log p = logit_y - logsumexp(logits), and autograd would write the logits, their log-softmax
and five more tensors of that size for an entropy, each a pass through memory. Here a piece of some hundred tokens goes
through product, log-softmax and entropy before the next one begins, and the gradient is written out:

    d log p / d logit_v = [v = y] - p_v,    d H / d logit_v = -p_v (log p_v + H)

Exponentials cost more than any other pass, so each logit has one: with p the softmax and m the largest logit,

    log p_y = logit_y - m + log max p,    H = -sum_v p_v (logit_v - m) - log max p

and p is what is kept for the backward pass. Or nothing is kept, and p is computed again, piece by piece. Where the
trunk runs in 16 bits, the products of the backward pass do too; logits, and with them what is returned, do not.

Without a gradient through entropies p_v - [v = y] is kept, in the type of those products. What comes from above is then
one number c a token, a factor of rows that are narrow, and the backward pass is two products:

    q = p - onehot(y),    dh = -c (q W),    dW = -q^T (c h)

Legend: N scored tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from accord.models.blocks import add_product
from accord.models.products import filled, rows_for, times

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
    entropy_gradient: bool = True,
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
        entropy_gradient: whether gradients flow through entropies; without, less is kept and done.
    """
    how = _How(scale, entropy, entropy and entropy_gradient, keep, low or weight_VD.dtype)
    result: Any = _TokenScores.apply(hidden_ND, weight_VD, targets_N, how)
    return result


class _How(NamedTuple):
    """See `token_scores`."""

    scale: float
    entropy: bool
    of_entropy: bool
    """Gradients flow through entropies."""
    keep: bool
    low: torch.dtype


class _TokenScores(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        how: _How,
    ) -> tuple[Tensor, Tensor]:
        hidden_ND = hidden_ND if how.scale == 1.0 else hidden_ND * how.scale
        keep = how.keep and any(ctx.needs_input_grad)
        rows, vocab = _rows(weight_VD), len(weight_VD)
        number = len(targets_N)
        logits = times(weight_VD.detach(), rows, number)
        own_RV = hidden_ND.new_empty(min(rows, number), vocab)
        kept_NV = None
        if keep:
            low = hidden_ND.dtype if how.of_entropy else how.low
            kept_NV = hidden_ND.new_empty(number if low == hidden_ND.dtype else rows_for(number), vocab, dtype=low)
            kept_NV[number:] = 0
        softmax_NV = kept_NV if kept_NV is not None and kept_NV.dtype == own_RV.dtype else None
        logp_N, entropy_N = hidden_ND.new_zeros(number), hidden_ND.new_zeros(number)
        for start in range(0, number, rows):
            piece = slice(start, min(start + rows, number))
            size = piece.stop - start
            out_RV, p_RV = logits(hidden_ND[piece]), own_RV[:size] if softmax_NV is None else softmax_NV[piece]
            torch.softmax(out_RV, -1, out=p_RV)
            top_R, log_R = out_RV.amax(1), p_RV.amax(1).log_()
            logp_N[piece] = out_RV.gather(1, targets_N[piece, None])[:, 0] - top_R + log_R
            if how.entropy:
                entropy_N[piece] = -torch.linalg.vecdot(out_RV.sub_(top_R[:, None]), p_RV) - log_R
            if kept_NV is not None and not how.of_entropy:
                _less_one(p_RV, targets_N[piece])
            if kept_NV is not None and softmax_NV is None:
                kept_NV[piece] = p_RV
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, entropy_N, kept_NV)
        ctx.how = how
        return logp_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        hidden_ND, weight_VD, targets_N, entropy_N, kept_NV = ctx.saved_tensors
        how: _How = ctx.how
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        rows, number = _rows(weight_VD), len(targets_N)
        if kept_NV is not None and not how.of_entropy:
            rows = max(1, len(kept_NV))  # nothing has to be done to q, so nothing has to stay in a cache
        size = min(rows, number) if how.of_entropy or kept_NV is None else 0
        out_RV, other_RV = (hidden_ND.new_empty(size, len(weight_VD)) for _ in range(2))
        logits = times(weight_VD.detach(), rows, number) if kept_NV is None else None
        low_VD = weight_VD.to(how.low)
        hidden_grad_ND = torch.empty_like(hidden_ND) if wants_hidden else None
        weight_grad_VD = torch.zeros_like(weight_VD) if wants_weight and rows < number else None
        for start in range(0, number, rows):
            piece = slice(start, min(start + rows, number))
            out, logp_grad_R = out_RV[: piece.stop - start], grads[0][piece]
            kept = other_RV[: piece.stop - start] if kept_NV is None else kept_NV[start : start + rows]
            if logits is not None:
                torch.softmax(logits(hidden_ND[piece]), -1, out=kept)
            into = hidden_ND[piece]
            if how.of_entropy:
                _with_entropy(kept, targets_N[piece], logp_grad_R, grads[1][piece], entropy_N[piece], out)
            else:
                out = kept if kept_NV is not None else _less_one(kept, targets_N[piece])
                into = into * -logp_grad_R[:, None]
            low, into = out.to(how.low), into.to(how.low)
            if how.low == torch.bfloat16:
                low, into = filled(low), filled(into)
            if hidden_grad_ND is not None:
                hidden_grad_ND[piece] = torch.mm(low, low_VD)[: piece.stop - start]
                if not how.of_entropy:
                    hidden_grad_ND[piece] *= -logp_grad_R[:, None]
            if weight_grad_VD is not None:
                add_product(weight_grad_VD, low.mT, into)
            elif wants_weight:
                weight_grad_VD = torch.mm(low.mT, into).to(weight_VD.dtype)
        if wants_weight and weight_grad_VD is None:
            weight_grad_VD = torch.zeros_like(weight_VD)
        if hidden_grad_ND is not None and how.scale != 1.0:
            hidden_grad_ND.mul_(how.scale)
        return hidden_grad_ND, weight_grad_VD, None, None


def _with_entropy(
    p_RV: Tensor, targets_R: Tensor, logp_grad_R: Tensor, slope_R: Tensor, entropy_R: Tensor, out_RV: Tensor
) -> None:
    """Write the gradient of logits through log-probabilities and entropies."""
    torch.mul(p_RV, -(logp_grad_R + slope_R * entropy_R)[:, None], out=out_RV)
    out_RV.addcmul_(torch.special.entr(p_RV), slope_R[:, None])
    out_RV.scatter_add_(1, targets_R[:, None], logp_grad_R[:, None])


def _less_one(p_RV: Tensor, targets_R: Tensor) -> Tensor:
    """p - onehot(target), in place."""
    return p_RV.scatter_add_(1, targets_R[:, None], p_RV.new_full((len(targets_R), 1), -1.0))


def _rows(weight_VD: Tensor) -> int:
    return max(_LEAST_ROWS, _PIECE_ELEMENTS // len(weight_VD))
