"""A world small enough to know everything: replies of 16 tokens, policies with exact KL, a gold reward nobody sees.

A policy is a table of logits [L, V]; tokens are independent, so log-probabilities and the divergence from the
reference are exact sums over positions. The gold reward sees how often each token occurs in each quarter of the reply.
It is a random function of those counts minus a term that grows with the square of unusual counts. That term is what
repetition is to text: replies of the reference hardly ever show it, so labels say little about it, and a policy that
is pushed far enough always meets it.
"""

# ruff: noqa: N815  (names carry shape suffixes)
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.functional.losses import token_logp
from accord.functional.reward_losses import norm_gain_bias
from accord.rng import derive

VOCABULARY, LENGTH, QUARTERS, HIDDEN = 8, 16, 4, 64
FEATURES = QUARTERS * VOCABULARY
LINEAR, CURVED, UNUSUAL = 0.5, 2.0, 3.0
"""Weights of the gold reward's three parts, before it is standardised."""

SCALED_BY = 200_000
"""Replies of the reference that standardise the gold reward."""


def stream(seed: int, *names: str | int) -> torch.Generator:
    """Return a fresh torch generator for the stream `names`."""
    return torch.Generator().manual_seed(derive(seed, "shapes", *names))


@dataclass(frozen=True)
class World:
    """Reference policy and gold reward of one seed."""

    seed: int
    ref_LV: Tensor
    """Logits of the reference."""
    mean_F: Tensor
    std_F: Tensor
    linear_F: Tensor
    hidden_FH: Tensor
    bias_H: Tensor
    out_H: Tensor
    gain: float = 1.0
    bias: float = 0.0

    def features(self, ids_BL: Tensor) -> Tensor:
        """Counts of each token in each quarter, standardised under the reference, [B, F]."""
        return (_counts(ids_BL) - self.mean_F) / self.std_F

    def gold(self, feature_BF: Tensor) -> Tensor:
        """Gold reward of replies: mean 0 and standard deviation 1 under the reference."""
        curved_B = torch.tanh(feature_BF @ self.hidden_FH + self.bias_H) @ self.out_H
        unusual_B = 0.5 * feature_BF.square().mean(dim=-1)
        raw_B = LINEAR * (feature_BF @ self.linear_F) + CURVED * curved_B - UNUSUAL * unusual_B
        return self.gain * raw_B + self.bias


def make_world(seed: int) -> World:
    """Draw reference and gold reward."""
    g = stream(seed, "world")
    ref_LV = 0.5 * torch.randn(LENGTH, VOCABULARY, generator=g)
    linear_F = torch.randn(FEATURES, generator=g) / math.sqrt(FEATURES)
    hidden_FH = 2.0 * torch.randn(FEATURES, HIDDEN, generator=g) / math.sqrt(FEATURES)
    bias_H, out_H = torch.randn(2, HIDDEN, generator=g)
    mean_F, std_F = _moments(ref_LV)
    raw = World(seed, ref_LV, mean_F, std_F, linear_F, hidden_FH, bias_H, out_H / math.sqrt(HIDDEN))
    gain, bias = norm_gain_bias(raw.gold(raw.features(sample(ref_LV, SCALED_BY, g))))
    return World(**{**vars(raw), "gain": float(gain), "bias": float(bias)})


def sample(logits_LV: Tensor, count: int, g: torch.Generator) -> Tensor:
    """Draw replies, [count, L]."""
    return torch.multinomial(logits_LV.softmax(dim=-1), count, replacement=True, generator=g).T


def reply_logp(logits_LV: Tensor, ids_BL: Tensor) -> Tensor:
    """Log-probabilities of each token (nats), [B, L]."""
    # The same as `token_logp(logits_LV.expand(B, L, V), ids_BL)` with one softmax a position instead of one a token.
    table_LV = token_logp(logits_LV[:, None].expand(-1, VOCABULARY, -1), torch.arange(VOCABULARY).expand(LENGTH, -1))
    return table_LV[torch.arange(LENGTH), ids_BL]


def divergence(logits_LV: Tensor, ref_LV: Tensor) -> float:
    """Exact KL(policy || reference) of whole replies, in nats."""
    logp_LV, ref_logp_LV = logits_LV.log_softmax(dim=-1), ref_LV.log_softmax(dim=-1)
    return float((logp_LV.exp() * (logp_LV - ref_logp_LV)).sum())


def _counts(ids_BL: Tensor) -> Tensor:
    place_L = torch.arange(LENGTH) // (LENGTH // QUARTERS) * VOCABULARY
    zeros_BF = torch.zeros(ids_BL.shape[0], FEATURES)
    return zeros_BF.scatter_add_(1, ids_BL + place_L, torch.ones(()).expand(ids_BL.shape))


def _moments(ref_LV: Tensor) -> tuple[Tensor, Tensor]:
    """Exact mean and standard deviation of the counts under the reference."""
    p_QPV = ref_LV.softmax(dim=-1).view(QUARTERS, -1, VOCABULARY)
    return p_QPV.sum(dim=1).flatten(), (p_QPV * (1 - p_QPV)).sum(dim=1).sqrt().flatten()
