"""Losses of the policy and the critic, token by token, and what is measured about them.

Each loss returns one number a token. How they are summed is the caller's decision, with a denominator known
before the forward pass; `aggregate` has the conventions found in the literature. With `mask` given, what
stands at the other positions (NaN included) changes neither values nor gradients.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from accord.functional.masks import keep, masked_mean, masked_sum, masked_var

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to +-this before exp, against overflow; beyond it the gradient is zero."""

Aggregation = Literal["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "constant"]


def token_logp(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Return log softmax(logits / temperature) at `ids`.

    Args:
        logits: [..., V].
        ids: [...], int64.
        temperature: the one used to sample; policy, old policy and reference take the same.

    Returns:
        Log-probabilities (nats), shape [...].
    """
    scaled = logits if temperature == 1.0 else logits / temperature
    # cross_entropy is one fused pass over the vocabulary each way; gather minus logsumexp takes five.
    return -cross_entropy(scaled.reshape(-1, scaled.shape[-1]), ids.reshape(-1), reduction="none").view(ids.shape)


def entropy_from_logits(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the entropy of softmax(logits / temperature): logsumexp - sum p logit.

    Args:
        logits: [..., V].
        temperature: the one used to sample.

    Returns:
        Entropies (nats), shape [...].
    """
    scaled = logits / temperature
    # A logit of -inf (a token that cannot be sampled) has p = 0 and contributes nothing; 0 * inf would be
    # NaN.
    finite = torch.where(torch.isinf(scaled), torch.zeros_like(scaled), scaled)
    return scaled.logsumexp(dim=-1) - (scaled.softmax(dim=-1) * finite).sum(dim=-1)


def nll(logp_BT: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return the negative log-likelihood of each token.

    Args:
        logp_BT: log-probabilities (nats).
        mask: True = counts; elsewhere the result is zero.

    Returns:
        loss_BT, nats.
    """
    return -keep(logp_BT, mask)


def clip_surrogate(
    ratio: Tensor,
    adv: Tensor,
    *,
    low: float,
    high: float,
    dual: float | None = None,
    delta: float | None = None,
) -> Tensor:
    """Return the clipped surrogate loss of given ratios (Schulman et al. 2017, eq. 7).

    max(-A rho, -A clip(rho, 1 - low, 1 + high)). Two ways to bound it where A < 0 and the ratio is large, which the
    plain clip leaves open: `dual` limits the loss to -dual A (Ye et al. 2020, eq. 5), `delta` limits the ratio itself
    (INTELLECT-2, 2505.07291, section 3.4). For A < 0 they are the same bound; `delta` also holds for A > 0, where the
    clip is tighter unless delta < 1 + high.

    Args:
        ratio: pi / pi_old, any shape.
        adv: advantages, broadcastable to `ratio`.
        low: lower clip range, 0.2 in the paper.
        high: upper clip range; larger than `low` = "clip higher" (Yu et al. 2025).
        dual: bound for negative advantages, > 1; None = off.
        delta: largest ratio, > 1 + high; None = off.

    Returns:
        One loss a ratio.
    """
    bounded = ratio if delta is None else ratio.clamp(max=delta)
    loss = torch.maximum(-adv * bounded, -adv * ratio.clamp(1.0 - low, 1.0 + high))
    if dual is not None:
        loss = torch.where(adv < 0, torch.minimum(loss, -dual * adv), loss)
    return loss


def ppo_clip(
    logp: Tensor,
    old_logp: Tensor,
    adv: Tensor,
    *,
    low: float,
    high: float,
    dual: float | None = None,
    delta: float | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the clipped surrogate loss of each token (Schulman et al. 2017, eq. 7) and the ratio.

    Args:
        logp: log-probabilities under the policy being trained (nats), [B, T].
        old_logp: log-probabilities under the policy at the start of the update.
        adv: advantages.
        low: lower clip range.
        high: upper clip range.
        dual: see `clip_surrogate`.
        delta: see `clip_surrogate`.
        mask: True = counts.

    Returns:
        (loss_BT, ratio_BT). Outside the mask the loss is 0 and the ratio 1.
    """
    ratio = token_ratio(logp, old_logp, mask=mask)
    return clip_surrogate(ratio, keep(adv, mask), low=low, high=high, dual=dual, delta=delta), ratio


def token_ratio(logp: Tensor, old_logp: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return pi / pi_old of each token; 1 outside the mask.

    Args:
        logp: log-probabilities under the policy being trained (nats), [B, T].
        old_logp: log-probabilities under the policy that sampled.
        mask: True = counts.

    Returns:
        ratio_BT.
    """
    log_ratio = keep(logp, mask) - keep(old_logp, mask)
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def ppo_clipped(ratio: Tensor, adv: Tensor, *, low: float, high: float) -> Tensor:
    """Return where the clip decides the loss, i.e. where clipping makes the surrogate strictly worse.

    Args:
        ratio: as returned by `ppo_clip`.
        adv: advantages.
        low: lower clip range.
        high: upper clip range.

    Returns:
        Bool tensor; average it under the mask for the clip fraction.
    """
    return -adv * ratio.clamp(1.0 - low, 1.0 + high) > -adv * ratio


def value_clip(
    value: Tensor, old_value: Tensor, ret: Tensor, *, clip: float | None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return half the squared error of the critic, unclipped or clipped (Ziegler et al. 2019, code).

    The larger of the two counts: 1/2 max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2).

    Args:
        value: critic output, [B, T].
        old_value: critic output before the update; the clip is around it, not around the return.
        ret: critic target (advantage + old value).
        clip: c in reward units; None = plain squared error.
        mask: True = counts.

    Returns:
        (loss_BT including the 1/2, clipped_BT bool: the clipped error is strictly the larger).
    """
    value, old_value, ret = keep(value, mask), keep(old_value, mask), keep(ret, mask)
    error = (value - ret).square()
    if clip is None:
        return 0.5 * error, torch.zeros_like(error, dtype=torch.bool)
    bounded = torch.minimum(torch.maximum(value, old_value - clip), old_value + clip)
    bounded_error = (bounded - ret).square()
    return 0.5 * torch.maximum(error, bounded_error), bounded_error > error


def aggregate(loss_BT: Tensor, mask_BT: Tensor, mode: Aggregation, *, max_length: int | None = None) -> Tensor:
    """Return one number for a batch of token losses.

    Args:
        loss_BT: token losses.
        mask_BT: True = counts.
        mode: "token-mean": mean over all tokens; "seq-mean-token-mean": mean over rows of each row's mean;
            "seq-mean-token-sum": mean over rows of each row's sum; "constant": sum / (rows x max_length)
            (Liu et al. 2025). Rows without counted tokens are not counted as rows.
        max_length: tokens, for "constant".

    Returns:
        A scalar.

    Raises:
        ValueError: if "constant" has no `max_length`.
    """
    if mode == "token-mean":
        return masked_mean(loss_BT, mask_BT)
    row_mask_B = mask_BT.any(dim=1)
    if mode == "seq-mean-token-mean":
        return masked_mean(masked_mean(loss_BT, mask_BT, dim=1), row_mask_B)
    row_sum_B = masked_sum(loss_BT, mask_BT, dim=1)
    if mode == "seq-mean-token-sum":
        return masked_mean(row_sum_B, row_mask_B)
    if max_length is None:
        raise ValueError('aggregation "constant" needs max_length')
    return masked_mean(row_sum_B, row_mask_B) / max_length


def aggregation_sum(loss_BT: Tensor, mask_BT: Tensor, mode: Aggregation) -> Tensor:
    """Return the sum that, over all parts of a batch and divided by `aggregation_denominator`, gives `aggregate`.

    Args:
        loss_BT: token losses of some of the rows.
        mask_BT: True = counts; of the same rows.
        mode: see `aggregate`.

    Returns:
        A scalar.
    """
    if mode == "seq-mean-token-mean":
        loss_BT = loss_BT / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
    return masked_sum(loss_BT, mask_BT)


def aggregation_denominator(mask_BT: Tensor, mode: Aggregation, *, max_length: int | None = None) -> Tensor:
    """Return what the weighted sum is divided by: tokens, rows, or rows x max_length.

    Args:
        mask_BT: True = counts; of the whole optimiser step.
        mode: see `aggregate`.
        max_length: tokens, for "constant".

    Returns:
        A float64 scalar.

    Raises:
        ValueError: if "constant" has no `max_length`.
    """
    if mode == "token-mean":
        return mask_BT.sum().double()
    rows = mask_BT.any(dim=1).sum().double()
    if mode != "constant":
        return rows
    if max_length is None:
        raise ValueError('aggregation "constant" needs max_length')
    return rows * max_length


def explained_variance(value: Tensor, ret: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - var(return - value) / var(return) under `mask`: 1 = perfect critic, 0 = a constant.

    Args:
        value: critic output.
        ret: critic target.
        mask: True = counts.

    Returns:
        A scalar; nan or -inf if all returns are equal.
    """
    return 1.0 - masked_var(ret - value, mask) / masked_var(ret, mask)
