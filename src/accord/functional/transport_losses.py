"""Alignment by optimal transport (Melnyk et al. 2024, 2406.05882): losses on sorted log-ratios of a whole batch.

P = pairs. What a pair is compared with depends on all pairs of an optimiser step, so it can be computed first
(`aot_anchors`) and given as data.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from accord.functional.pair_logps import PairLogps


def aot_anchors(pairs: PairLogps, *, paired: bool) -> tuple[Tensor, Tensor]:
    """Return what each pair's two sides are compared with once both distributions are sorted (Melnyk et al. 2024).

    Paired: the k-th smallest chosen - rejected under the policy meets the k-th smallest under the reference.
    Unpaired: the k-th smallest u meets the k-th smallest v, mostly of another pair.

    Args:
        pairs: all pairs of an optimiser step.
        paired: which of the two.

    Returns:
        (anchor of the chosen side, anchor of the rejected side), detached. Paired: b and -b.
    """
    if paired:
        policy_P = (pairs.chosen_P - pairs.rejected_P).detach()
        ref_P = (pairs.ref_chosen_P - pairs.ref_rejected_P).detach()
        anchor_P = _at_same_rank(policy_P, ref_P)
        return anchor_P, -anchor_P
    u_P, v_P = pairs.u_P.detach(), pairs.v_P.detach()
    return _at_same_rank(u_P, v_P), _at_same_rank(v_P, u_P)


def _at_same_rank(own_P: Tensor, other_P: Tensor) -> Tensor:
    """The value of `other_P` that has the rank that each entry has in `own_P`."""
    order = own_P.argsort(stable=True)
    return torch.empty_like(own_P).scatter(0, order, other_P.sort(stable=True).values.to(own_P.dtype))


def aot(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return -log sigmoid(beta (chosen - rejected - anchor)), alignment by optimal transport, paired (2406.05882).

    Args:
        pairs: sums, with anchors or all pairs of a step.
        beta: strength of the KL constraint, per nat.

    Returns:
        loss_P; the entry of a pair is that of its rank.
    """
    anchor_P = pairs.chosen_anchor_P
    if anchor_P is None:
        anchor_P, _ = aot_anchors(pairs, paired=True)
    return -logsigmoid(beta * (pairs.chosen_P - pairs.rejected_P - anchor_P))


def aot_unpaired(pairs: PairLogps, *, beta: float) -> Tensor:
    """Return -log sigmoid(beta (u - anchor)), alignment by optimal transport, unpaired (2406.05882).

    The gradient reaches both sides of each match although they belong to different pairs: a rejected reply gets it
    from a term of value 0, so that sums over any parts of the batch add up to value and gradient of the whole.

    Args:
        pairs: sums, with anchors or all pairs of a step.
        beta: strength of the KL constraint, per nat.

    Returns:
        loss_P; the entry of a pair is that of its chosen reply's rank.
    """
    chosen_anchor_P, rejected_anchor_P = pairs.chosen_anchor_P, pairs.rejected_anchor_P
    if chosen_anchor_P is None or rejected_anchor_P is None:
        chosen_anchor_P, rejected_anchor_P = aot_anchors(pairs, paired=False)
    own_P = -logsigmoid(beta * (pairs.u_P - chosen_anchor_P))
    others_P = -logsigmoid(beta * (rejected_anchor_P - pairs.v_P))
    return own_P + (others_P - others_P.detach())
