"""Losses of reward models beyond a sure choice of one of two: pairs that may tie, and rankings of K replies.

Rankings come as rows (B): `group_B` names the prompt of each row and `rank_B` its place, 0 = best; equal ranks say that
no order between the two is known. Each reply is scored once, however many it is compared with.
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def rao_kupper(first_P: Tensor, second_P: Tensor, log_theta: Tensor | float) -> Tensor:
    """Return log P(win), log P(loss), log P(tie) of the first reply (Rao and Kupper 1967, eq. 2.1).

    With x = first - second and the threshold theta = exp(log_theta): P(win) = 1 / (1 + theta exp(-x)), P(loss) the
    same with -x, and what is left is P(tie) = (theta^2 - 1) P(win) P(loss).

    Args:
        first_P: scores of the first replies.
        second_P: scores of the second replies.
        log_theta: at least 0, in reward units: a difference smaller than this tends to be judged a tie. At 0 there are
            no ties (log P(tie) is -inf) and what is left is Bradley-Terry.

    Returns:
        [P, 3], log-probabilities in the order win, loss, tie.
    """
    x_P = first_P - second_P
    log_theta = torch.as_tensor(log_theta, dtype=x_P.dtype, device=x_P.device)
    won_P, lost_P = logsigmoid(x_P - log_theta), logsigmoid(-x_P - log_theta)
    # log(theta^2 - 1), without overflow at large theta and exact near 1
    scale = 2 * log_theta + torch.log(-torch.expm1(-2 * log_theta))
    return torch.stack([won_P, lost_P, scale + won_P + lost_P], dim=-1)


def davidson(first_P: Tensor, second_P: Tensor, log_nu: Tensor | float) -> Tensor:
    """Return log P(win), log P(loss), log P(tie) of the first reply (Davidson 1970, eq. 2.4).

    A softmax over first, second and their mean + log_nu.

    Args:
        first_P: scores of the first replies.
        second_P: scores of the second replies.
        log_nu: log of how much more often equals are judged a tie than a win of the first; -inf = never.

    Returns:
        [P, 3], log-probabilities in the order win, loss, tie.
    """
    log_nu = torch.as_tensor(log_nu, dtype=first_P.dtype, device=first_P.device)
    tie_P = (first_P + second_P) / 2 + log_nu
    return torch.stack([first_P, second_P, tie_P], dim=-1).log_softmax(dim=-1)


def log_tie_parameter(model: str, tie_share: float) -> float:
    """Return the log parameter at which two equal replies tie with the given probability.

    Args:
        model: "rao_kupper" (log theta) or "davidson" (log nu).
        tie_share: in (0, 1).

    Returns:
        log((1 + t) / (1 - t)) for Rao-Kupper and log(2 t / (1 - t)) for Davidson.

    Raises:
        ValueError: a share outside (0, 1), or another model.
    """
    if not 0 < tie_share < 1:
        raise ValueError(f"a tie share of {tie_share} has no finite parameter")
    if model == "rao_kupper":
        return math.log((1 + tie_share) / (1 - tie_share))
    if model == "davidson":
        return math.log(2 * tie_share / (1 - tie_share))
    raise ValueError(f"'{model}' is no model of ties")


def three_way_nll(logp_P3: Tensor, target_P: Tensor, tie_P: Tensor) -> Tensor:
    """Return the negative log-likelihood of labels that may be ties.

    Args:
        logp_P3: log-probabilities of win, loss and tie, [P, 3].
        target_P: P(the first reply is better) of the pairs that are no ties.
        tie_P: True = judged a tie; the target is not looked at then.

    Returns:
        loss_P; a soft target gives the expectation over win and loss.
    """
    # Outcomes that cannot have happened are left out, not multiplied by 0: without ties log P(tie) is -inf.
    ordered_P = -target_P * logp_P3[:, 0] - (1.0 - target_P) * logp_P3[:, 1]
    return torch.where(tie_P, -torch.where(tie_P, logp_P3[:, 2], 0.0), ordered_P)


def pairs_within(group_B: Tensor, rank_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return every pair of rows of one group: C(K, 2) pairs for K rows.

    Args:
        group_B: prompt of each row.
        rank_B: place in its group, 0 = best.

    Returns:
        (first_P, second_P, target_P): row indices, first before second in the batch, and P(first is better) in
        float64: 1, 0, or 0.5 at equal ranks.
    """
    same_BB = (group_B[:, None] == group_B[None, :]).triu(diagonal=1)
    first_P, second_P = same_BB.nonzero(as_tuple=True)
    above_P = (rank_B[first_P] < rank_B[second_P]).double()
    level_P = (rank_B[first_P] == rank_B[second_P]).double()
    return first_P, second_P, above_P + 0.5 * level_P


def plackett_luce(score_B: Tensor, group_B: Tensor, rank_B: Tensor) -> Tensor:
    """Return each row's part of the Plackett-Luce negative log-likelihood (Luce 1959; Plackett 1975).

    A ranking is a sequence of choices: the best of all, the best of the rest, and so on. The part of a row is
    logsumexp(its own score and those ranked below) - score, and the sum over a group is the loss of its ranking. For
    two rows that is Bradley-Terry.

    Equal ranks: rows of one rank are not compared with each other; each is chosen against everything ranked below it.
    So a last place shared by several (a ranking of the top only) costs nothing, and "best of K, the others not
    ordered" is `best_of_k`. Where a place further up is shared this is a composite likelihood, not the likelihood of
    one of the hidden orders.

    Args:
        score_B: scores.
        group_B: prompt of each row.
        rank_B: place in its group, 0 = best.

    Returns:
        loss_B.
    """
    same_BB = group_B[:, None] == group_B[None, :]
    below_BB = rank_B[None, :] > rank_B[:, None]
    own_BB = torch.eye(len(score_B), dtype=torch.bool, device=score_B.device)
    return _logsumexp_over(score_B, same_BB & (below_BB | own_BB)) - score_B


def best_of_k(score_B: Tensor, group_B: Tensor, rank_B: Tensor) -> Tensor:
    """Return each row's part of the loss of the choice of the best reply, -log softmax (Ziegler et al. 2019, eq. 1).

    Args:
        score_B: scores.
        group_B: prompt of each row.
        rank_B: 0 = the best; where several are best the loss is their mean; the order of the others is not used.

    Returns:
        loss_B, 0 at rows that are not the best; the sum over a group is the loss of its choice.
    """
    same_BB = group_B[:, None] == group_B[None, :]
    best_B = rank_B == 0
    num_best_B = (same_BB & best_B[None, :]).sum(dim=1)
    loss_B = (_logsumexp_over(score_B, same_BB) - score_B) / num_best_B.clamp(min=1)
    return torch.where(best_B, loss_B, 0.0)


def _logsumexp_over(score_B: Tensor, mask_BB: Tensor) -> Tensor:
    """log of the sum of exp(score) over the columns that each row's mask keeps; every row keeps at least one."""
    return torch.where(mask_BB, score_B[None, :], float("-inf")).logsumexp(dim=1)
