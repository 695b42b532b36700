"""From scores to advantages: token rewards, generalised advantage estimation, whitening, group baselines.

Everything token-shaped is indexed by the token's own position: the value at t is that of the state before
token t. Masks are True at response tokens, the stop token included. Nothing here detaches: call it without
gradients.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from accord.functional.kl import k1
from accord.functional.masks import keep, masked_mean, masked_var


def last_position(mask_BT: Tensor) -> Tensor:
    """Return a mask that is True at the last counted token of each row, and nowhere in a row without one."""
    positions = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B = torch.where(mask_BT, positions[None, :], -1).amax(dim=1)
    return positions[None, :] == last_B[:, None]


def token_rewards(score_B: Tensor, logp_BT: Tensor, ref_logp_BT: Tensor, mask_BT: Tensor, kl_coef: float) -> Tensor:
    """Return -kl_coef * k1 at each response token, plus the score at the last (Ziegler et al. 2019, eq. 2).

    Args:
        score_B: score of each reply, penalties already applied.
        logp_BT: log-probabilities under the policy that sampled (nats).
        ref_logp_BT: log-probabilities under the reference (nats).
        mask_BT: True at response tokens. The score goes on the last of them, the stop token or the cut; a row
            without response tokens has no place for a score and gets none.
        kl_coef: price of one nat.

    Returns:
        token_reward_BT; zero outside the mask.
    """
    penalty_BT = -kl_coef * k1(logp_BT, ref_logp_BT, mask=mask_BT)
    return penalty_BT + keep(score_B[:, None].expand_as(penalty_BT), last_position(mask_BT))


def missing_eos(score_B: Tensor, has_eos_B: Tensor, *, mode: Literal["replace", "subtract"], penalty: float) -> Tensor:
    """Return the scores with a price on replies that were cut off before they ended.

    Args:
        score_B: raw scores.
        has_eos_B: True = the reply ended with a stop token.
        mode: "replace" makes the score of a cut reply -penalty (Ziegler et al. 2019, Huang et al. 2024);
            "subtract" makes it score - penalty (TRL).
        penalty: in reward units, positive = worse.

    Returns:
        Scores of the same shape.
    """
    cut_B = torch.full_like(score_B, -penalty) if mode == "replace" else score_B - penalty
    return torch.where(has_eos_B, score_B, cut_B)


def gae(token_reward_BT: Tensor, value_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Return advantages and returns by generalised advantage estimation (Schulman et al. 2016, eq. 16).

    delta_t = r_t + gamma V_{t+1} - V_t with V = 0 after the last response token, and
    A_t = delta_t + gamma lam A_{t+1}, where t + 1 is the next *counted* token: over a gap in the mask
    (tokens of a tool, say) nothing is discounted and nothing is read.

    Args:
        token_reward_BT: reward of each token.
        value_BT: critic output, the value of the state before each token.
        mask_BT: True at response tokens; a response may start anywhere.
        gamma: discount per token.
        lam: lambda; 1 = Monte Carlo return minus value, 0 = one-step error.

    Returns:
        (advantage_BT, return_BT) with return = advantage + value, not whitened; zero outside the mask.
    """
    reward_BT = keep(token_reward_BT, mask_BT)
    value_BT = keep(value_BT, mask_BT)
    next_value_B = torch.zeros_like(value_BT[:, 0])
    next_advantage_B = torch.zeros_like(next_value_B)
    advantages: list[Tensor] = []
    for t in range(value_BT.shape[1] - 1, -1, -1):
        mask_B = mask_BT[:, t]
        delta_B = reward_BT[:, t] + gamma * next_value_B - value_BT[:, t]
        advantage_B = delta_B + gamma * lam * next_advantage_B
        advantages.append(keep(advantage_B, mask_B))
        next_advantage_B = torch.where(mask_B, advantage_B, next_advantage_B)
        next_value_B = torch.where(mask_B, value_BT[:, t], next_value_B)
    advantage_BT = torch.stack(advantages[::-1], dim=1)
    return advantage_BT, advantage_BT + value_BT


def whiten(x: Tensor, mask: Tensor, shift_mean: bool = True, unbiased: bool = False, eps: float = 1e-8) -> Tensor:
    """Return `x` scaled to variance 1 under `mask` (whole batch, never a micro-batch).

    Args:
        x: any shape.
        mask: bool, the shape of `x`.
        shift_mean: True moves the mean to 0 (advantages); False keeps it (rewards, whose sign means
            something).
        unbiased: divide the variance by n - 1 (TRL, verl) instead of n (Ziegler et al. 2019).
        eps: added to the variance.

    Returns:
        Whitened values; zero outside the mask.
    """
    mean = masked_mean(x, mask)
    scaled = (keep(x, mask) - mean) * torch.rsqrt(masked_var(x, mask, unbiased=unbiased) + eps)
    return keep(scaled if shift_mean else scaled + mean, mask)


def rloo(score_B: Tensor, group_B: Tensor) -> Tensor:
    """Return each score minus the mean of the *other* scores of its group (Ahmadian et al. 2024, eq. 8).

    Args:
        score_B: sequence reward; put the KL penalty in before, it belongs to the baseline too.
        group_B: int64; equal values = replies to the same prompt. Groups may differ in size.

    Returns:
        Advantage of each row; exactly 0 in a group of equal scores, or of one row (there is nothing to
        compare).
    """
    centred_B, index_B, count_G = _centred(score_B, group_B)
    return centred_B * (count_G / (count_G - 1).clamp(min=1))[index_B]


def grpo(score_B: Tensor, group_B: Tensor, *, unbiased: bool = True, eps: float = 1e-4) -> Tensor:
    """Return (score - group mean) / (group standard deviation + eps) (Shao et al. 2024, section 4.1.2).

    Args:
        score_B: sequence reward.
        group_B: int64; equal values = replies to the same prompt. Groups may differ in size.
        unbiased: standard deviation with n - 1 (TRL, verl) instead of n.
        eps: added to the standard deviation.

    Returns:
        Advantage of each row; exactly 0 in a group of equal scores or of one row.
    """
    centred_B, index_B, count_G = _centred(score_B, group_B)
    square_G = torch.zeros_like(count_G).index_add(0, index_B, centred_B.square())
    std_G = (square_G / (count_G - int(unbiased)).clamp(min=1)).sqrt()
    return centred_B / (std_G[index_B] + eps)


def grpo_batch(score_B: Tensor, group_B: Tensor, *, unbiased: bool = True, eps: float = 1e-4) -> Tensor:
    """Return (score - group mean) / (standard deviation of the whole batch + eps) (Liu et al. 2025, 2508.08221).

    Args:
        score_B: sequence reward.
        group_B: int64; equal values = replies to the same prompt. Groups may differ in size.
        unbiased: standard deviation with n - 1 (TRL) instead of n.
        eps: added to the standard deviation.

    Returns:
        Advantage of each row; exactly 0 in a group of equal scores or of one row.
    """
    centred_B, _, _ = _centred(score_B, group_B)
    everything_B = torch.ones_like(score_B, dtype=torch.bool)
    return centred_B / (masked_var(score_B, everything_B, unbiased=unbiased).sqrt() + eps)


def dr_grpo(score_B: Tensor, group_B: Tensor) -> Tensor:
    """Return score - group mean, without the division that favours easy and hard prompts (Liu et al. 2025).

    Args:
        score_B: sequence reward.
        group_B: int64; equal values = replies to the same prompt. Groups may differ in size.

    Returns:
        Advantage of each row; exactly 0 in a group of equal scores or of one row.
    """
    return _centred(score_B, group_B)[0]


def remax(score_B: Tensor, greedy_score_B: Tensor) -> Tensor:
    """Return score - score of the greedy reply to the same prompt (Li et al. 2023, 2310.10505, eq. 5).

    Args:
        score_B: sequence reward.
        greedy_score_B: score of the reply that takes the most likely token everywhere, one number a row.

    Returns:
        Advantage of each row.
    """
    return score_B - greedy_score_B


def opo(score_B: Tensor, length_B: Tensor, group_B: Tensor) -> Tensor:
    """Return score - the length-weighted mean of the group's scores (Hao et al. 2025, 2505.23585, eq. 8).

    That is the variance-minimal baseline if the squared norm of a reply's gradient grows with its length. The row's own
    score is in it, as in GRPO.

    Args:
        score_B: sequence reward.
        length_B: tokens of each reply, at least 1.
        group_B: int64; equal values = replies to the same prompt. Groups may differ in size.

    Returns:
        Advantage of each row; exactly 0 in a group of equal scores or of one row.
    """
    centred_B, index_B, count_G = _centred(score_B, group_B)
    length_B = length_B.to(score_B.dtype)
    total_G = torch.zeros_like(count_G).index_add(0, index_B, length_B)
    # Shifting all scores of a group shifts the baseline as much, so centred scores give the same result and equal
    # scores exactly 0.
    shift_G = torch.zeros_like(count_G).index_add(0, index_B, length_B * centred_B) / total_G
    return centred_B - shift_G[index_B]


def returns_to_go(token_reward_BT: Tensor, mask_BT: Tensor, gamma: float = 1.0) -> Tensor:
    """Return the discounted sum of the rewards from each token on (Williams 1992; Sutton et al. 1999).

    Args:
        token_reward_BT: reward of each token.
        mask_BT: True at response tokens; over a gap nothing is discounted.
        gamma: discount a token.

    Returns:
        return_BT; zero outside the mask.
    """
    return gae(token_reward_BT, torch.zeros_like(token_reward_BT), mask_BT, gamma, 1.0)[0]


def equal_groups(score_B: Tensor, group_B: Tensor) -> Tensor:
    """Return which rows are in a group whose scores are all equal: it has nothing to say about what is better.

    Args:
        score_B: sequence reward.
        group_B: int64; equal values = replies to the same prompt.

    Returns:
        Bool, one a row; True for a group of one row.
    """
    _, index_B, count_G = _centred(score_B, group_B)
    low_G, high_G = _extremes(score_B, index_B, torch.zeros_like(count_G))
    return (high_G == low_G)[index_B]


def _extremes(score_B: Tensor, index_B: Tensor, zeros_G: Tensor) -> tuple[Tensor, Tensor]:
    low_G = zeros_G.scatter_reduce(0, index_B, score_B, "amin", include_self=False)
    return low_G, zeros_G.scatter_reduce(0, index_B, score_B, "amax", include_self=False)


def _centred(score_B: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores minus group mean (exactly 0 where all are equal), group index of each row, group sizes."""
    ids_G, index_B = torch.unique(group_B, return_inverse=True)
    zeros_G = torch.zeros(ids_G.shape[0], dtype=score_B.dtype, device=score_B.device)
    count_G = zeros_G.index_add(0, index_B, torch.ones_like(score_B))
    mean_G = zeros_G.index_add(0, index_B, score_B) / count_G
    low_G, high_G = _extremes(score_B, index_B, zeros_G)
    centred_B = keep(score_B - mean_G[index_B], (high_G > low_G)[index_B])
    return centred_B, index_B, count_G
