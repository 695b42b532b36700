"""The fixtures of the on-policy golden values as tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from golden_file import entry, padded
from torch import Tensor

from accord.functional.advantages import gae, token_rewards, whiten
from accord.functional.masks import lengths_to_mask


@dataclass(frozen=True)
class Fixture:
    """The PPO fixture as tensors. Positions after a response hold NaN wherever the file holds nothing."""

    old: Tensor
    new: Tensor
    ref: Tensor
    values: Tensor
    new_values: Tensor
    scores: Tensor
    has_eos: Tensor
    mask: Tensor
    kl_coef: float


def fixture(dtype: torch.dtype) -> Fixture:
    f = entry("ppo/fixture")
    width = len(f["values"][0])
    lengths = torch.tensor([int(n) for n in f["lengths"]])
    old, new, ref = (padded(f[name], width, dtype, fill=math.nan) for name in ("old_logp", "new_logp", "ref_logp"))
    return Fixture(
        old=old,
        new=new,
        ref=ref,
        values=torch.tensor(f["values"], dtype=dtype),
        new_values=torch.tensor(f["new_values"], dtype=dtype),
        scores=torch.tensor(f["scores"], dtype=dtype),
        has_eos=torch.tensor(f["has_eos"]).bool(),
        mask=lengths_to_mask(lengths, width),
        kl_coef=f["kl_coef"],
    )


def rewards(f: Fixture) -> Tensor:
    return token_rewards(f.scores, f.old, f.ref, f.mask, f.kl_coef)


def whitened(f: Fixture, unbiased: bool = False) -> Tensor:
    # The losses of the golden file use the advantages of this setting.
    advantages, _ = gae(rewards(f), f.values, f.mask, 1.0, 0.95)
    return whiten(advantages, f.mask, unbiased=unbiased)


def sequence_advantage(f: Fixture) -> Tensor:
    """The advantages of the group losses, one a reply, on every token of it."""
    advantage = torch.tensor(entry("grpo/fixture")["seq_advantage"], dtype=f.old.dtype)
    return torch.where(f.mask, advantage[:, None], math.nan)


def rollout_logp(f: Fixture) -> Tensor:
    """What the sampler said of the tokens; NaN after each reply."""
    given = torch.tensor(entry("grpo/tis_token_truncate_C2")["rollout_logp"], dtype=f.old.dtype)
    return torch.where(f.mask, given, math.nan)
