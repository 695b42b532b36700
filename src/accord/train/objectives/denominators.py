"""What objectives share: denominators, weights, labels of pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.batch import Batch, Mean
from accord.errors import TrainingError
from accord.functional.masks import masked_sum


def token_count(batch: Batch) -> Tensor:
    """Number of response tokens, a float scalar."""
    return batch.response_mask_BT.sum().double()


def row_count(batch: Batch) -> Tensor:
    """Number of rows that have response tokens, a float scalar."""
    return batch.response_mask_BT.any(dim=1).sum().double()


def pair_weights(batch: Batch) -> Tensor:
    """Weight of each pair [P]; 1 where the batch carries none."""
    if batch.weight_B is None:
        return torch.ones(batch.num_rows // 2, device=batch.ids_BT.device)
    return batch.weight_B[0::2]


def sequence_logp(logp_BT: Tensor, batch: Batch) -> Tensor:
    """Summed log-probability of each row's response, nats [B]."""
    return masked_sum(logp_BT, batch.response_mask_BT, dim=1)


def pair_targets(batch: Batch) -> Tensor | None:
    """P(first row is better) of each pair; None where the batch carries none, i.e. all pairs are certain."""
    return None if batch.target_B is None else batch.target_B[0::2]


def pair_accuracy(delta_P: Tensor, target_P: Tensor | None) -> Mean:
    """Share of the pairs put in the labelled order, equal scores half; pairs labelled a tie are not counted."""
    right_P = (delta_P > 0).double() + 0.5 * (delta_P == 0).double()
    if target_P is None:
        return Mean(right_P.sum(), right_P.numel())
    right_P = torch.where(target_P < 0.5, 1 - right_P, right_P)
    ordered_P = target_P != 0.5
    return Mean(masked_sum(right_P, ordered_P), ordered_P.sum())


def need(value: Tensor | None, name: str) -> Tensor:
    """`value`, or a clear error when source or model did not give it."""
    if value is None:
        raise TrainingError(f"the objective needs '{name}' and this source or model does not give it")
    return value
