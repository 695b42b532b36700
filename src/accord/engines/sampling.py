"""Drawing tokens: the distribution, its exact log-probabilities, and randomness that belongs to the request.

A token is drawn by inverse CDF over the vocabulary in id order, from one uniform per token. The uniform at
token t of sample j is a pure function of (seed, j, t), so what else is in the batch, and in which order,
cannot change the text (up to rounding of the logits, about 1e-7 relative, when a uniform falls that close to
the edge between two tokens).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from accord.engines.base import Sampling
from accord.rng import derive

# Rows are drawn in pieces of at most this many logits. On a processor (4 MiB of float32) memory of the last piece is
# used again, where larger ones go back to the system and come anew, page by page: 32 rows of 50,257 took twice as long.
_MAX_LOGITS = {"cpu": 2**20}
_MAX_LOGITS_ELSEWHERE = 2**24
_BLOCK = 32


def uniforms(seed: int, sample: int, count: int) -> np.ndarray:
    """Return `count` uniforms in [0, 1), float64, of sample number `sample` of the request `seed`.

    They come from a counter-based generator (Philox, Salmon et al. 2011): a longer request starts with the
    same ones.
    """
    return np.random.Generator(np.random.Philox(key=derive(seed, "sample", sample))).random(count)


def distribution(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """Return the log-probabilities tokens are drawn from: temperature, then top-k, then top-p, renormalised.

    Nucleus sampling is Holtzman et al. 2020 (1904.09751): the smallest set of most likely tokens whose mass
    (after top-k) is at least top_p; the most likely token always stays. At temperature 0 this is the
    untempered, untruncated distribution, because the greedy choice has no distribution of its own.

    Args:
        logits_BV: raw logits, any floating dtype; computed in float32 at least.
        sampling: temperature, top_k, top_p.

    Returns:
        [B, V] log-probabilities in nats, -inf outside the kept set.
    """
    return _shaped(logits_BV, sampling).log_softmax(-1)


def draw(logits_BV: Tensor, uniform_B: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Draw one token per row.

    Args:
        logits_BV: raw logits.
        uniform_B: float64 in [0, 1), one per row; not read at temperature 0.
        sampling: the distribution.

    Returns:
        (token_B int64, logp_B): ids drawn and their log-probabilities in nats; these are not finite where the
        logits are NaN, +inf, or all -inf.
    """
    tokens, logps = [], []
    rows = max(1, _MAX_LOGITS.get(logits_BV.device.type, _MAX_LOGITS_ELSEWHERE) // logits_BV.shape[1])
    for logits, uniform in zip(logits_BV.split(rows), uniform_B.split(rows), strict=True):
        mass = _shaped(logits, sampling).softmax(-1)
        token = mass.argmax(-1, keepdim=True) if sampling.temperature == 0 else _inverse_cdf(mass, uniform)
        tokens.append(token[:, 0])
        logps.append(mass.gather(1, token)[:, 0].log())
    return torch.cat(tokens), torch.cat(logps)


def _shaped(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """Return the logits after temperature, top-k and top-p, in float32 at least."""
    z_BV = logits_BV if logits_BV.dtype == torch.float64 else logits_BV.float()
    if sampling.temperature == 0:
        return z_BV
    if sampling.temperature != 1:
        # The largest logit is taken off first so that a tiny temperature cannot overflow.
        z_BV = (z_BV - z_BV.amax(-1, keepdim=True)) / sampling.temperature
    return _truncate(z_BV, sampling.top_k, sampling.top_p)


def _truncate(z_BV: Tensor, top_k: int, top_p: float) -> Tensor:
    vocab = z_BV.shape[-1]
    cuts_k = 0 < top_k < vocab
    if not cuts_k and top_p == 1:
        return z_BV
    if cuts_k:
        best_BK, index_BK = z_BV.topk(top_k, dim=-1)
    else:
        best_BK, index_BK = z_BV.sort(dim=-1, descending=True, stable=True)
    if top_p < 1:
        mass_BK = best_BK.softmax(-1).cumsum(-1, dtype=torch.float64)
        # A token stays if the mass before it is still short of top_p; nothing comes before the first.
        best_BK[:, 1:].masked_fill_(mass_BK[:, :-1] >= top_p, -torch.inf)
    # Back in id order: were tokens drawn in the order of their logits, rounding could swap two near-equal
    # ones.
    return torch.full_like(z_BV, -torch.inf).scatter_(1, index_BK, best_BK)


def _inverse_cdf(mass_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Return the first tokens [B, 1] whose cumulative mass exceeds the uniform, found in two looks.

    First the block of the vocabulary, then the token in it: a float64 running sum over the whole vocabulary would
    cost more than the softmax.
    """
    vocab = mass_BV.shape[1]
    whole_BV = F.pad(mass_BV, (0, -vocab % _BLOCK)) if vocab % _BLOCK else mass_BV
    mass_BNK = whole_BV.unflatten(1, (-1, _BLOCK))
    mass_BN = mass_BNK.sum(-1)
    cdf_BN = mass_BN.cumsum(-1, dtype=torch.float64)
    target_B1 = uniform_B[:, None] * cdf_BN[:, -1:]  # below the total for any uniform below 1, also when rounded
    block_B1 = _first_beyond(cdf_BN, target_B1)
    before_B1 = cdf_BN.gather(1, block_B1) - mass_BN.gather(1, block_B1)
    first_B = torch.arange(0, mass_BN.numel(), mass_BN.shape[1], device=mass_BN.device)
    within_BK = mass_BNK.flatten(0, 1).index_select(0, first_B + block_B1[:, 0])
    cdf_BK = within_BK.cumsum(-1, dtype=torch.float64)
    # The block's sum is rounded otherwise than its running sum: what is left must stay below the latter.
    rest_B1 = torch.minimum((target_B1 - before_B1).clamp_(min=0), cdf_BK[:, -1:] * (1 - 2**-53))
    token_B1 = _first_beyond(cdf_BK, rest_B1)
    return (block_B1 * _BLOCK + token_B1).clamp_(max=vocab - 1)  # only NaN gets there, and shows in the log-prob


def _first_beyond(cdf_BK: Tensor, target_B1: Tensor) -> Tensor:
    """Return the first entry [B, 1] whose cumulative mass exceeds the target."""
    # right=True: beyond the target, not at it, hence never an entry of mass zero.
    return torch.searchsorted(cdf_BK, target_B1, right=True).clamp_(max=cdf_BK.shape[1] - 1)
