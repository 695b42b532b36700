"""Losses of policies on single replies marked desirable or undesirable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.errors import ConfigError, TrainingError
from accord.functional.masks import masked_sum
from accord.functional.unpaired_losses import UNPAIRED_LOSSES, UnpairedLoss, kl_estimate, reward_shift
from accord.train.objectives.denominators import need, sequence_logp
from accord.train.reference import whole_logp


@dataclass(frozen=True)
class Rowwise:
    """KTO (Ethayarajh et al. 2024, 2402.01306 eq. 8) and its kin.

    What a reply's log-ratio is compared with is a statistic over the whole optimiser step, under the weights before
    the step; `prepare` computes it once. For KTO the source gives two rows an example, the reply and a reply to
    another prompt; the second only serves that statistic, and is dropped by `prepare`.
    """

    beta: float = 0.1
    loss_type: str = "kto"
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.loss_type not in UNPAIRED_LOSSES:
            names = ", ".join(UNPAIRED_LOSSES)
            raise ConfigError(f"there is no loss '{self.loss_type}' on single replies", fix=f"choose among {names}")

    @property
    def _how(self) -> UnpairedLoss:
        return UNPAIRED_LOSSES[self.loss_type]

    @property
    def needs_mismatches(self) -> bool:
        """Whether every example needs a second row, see `accord.train.unpaired.with_mismatches`."""
        return self._how.mismatches

    def prepare(self, batch: Batch, forward: Callable[[Batch], Forward], token_budget: int) -> Batch:
        """Keep the replies that are trained and give each the statistic it is compared with."""
        rows = batch
        if self._how.mismatches:
            group_B = batch.group_B
            if group_B is None or batch.num_rows % 2 or not torch.equal(group_B[0::2], group_B[1::2]):
                raise TrainingError("KTO needs two rows an example: the reply, and one to another prompt")
            rows = batch.select(range(0, batch.num_rows, 2))
            others = batch.select(range(1, batch.num_rows, 2))
            anchor = kl_estimate(self._log_ratio(others, forward, token_budget), _weights(others))
        elif self._how.shift:
            target_B = need(rows.target_B, "target_B")
            anchor = reward_shift(self._log_ratio(rows, forward, token_budget), target_B, _weights(rows))
        else:
            anchor = torch.zeros((), device=batch.ids_BT.device)
        return rows.replace(anchor_B=anchor.expand(rows.num_rows).clone())

    def denominator(self, batch: Batch) -> Tensor:
        """Sum of the weights of the replies, of a batch that `prepare` made."""
        return _weights(batch).sum().double()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over replies."""
        logp_B = sequence_logp(need(out.logp_BT, "logp_BT"), batch)
        ratio_B = logp_B - sequence_logp(need(batch.ref_logp_BT, "ref_logp_BT"), batch)
        target_B, anchor_B = need(batch.target_B, "target_B"), need(batch.anchor_B, "anchor_B")
        weights = {"desirable_weight": self.desirable_weight, "undesirable_weight": self.undesirable_weight}
        loss_B = self._how.function(ratio_B, target_B, anchor_B, beta=self.beta, **weights)
        reward_B, logp_B = self.beta * ratio_B.detach(), logp_B.detach()
        good_B, bad_B = target_B > 0.5, target_B < 0.5
        side_B = torch.where(good_B, 1.0, -1.0) * (ratio_B.detach() - anchor_B)
        right_B = (side_B > 0).double() + 0.5 * (side_B == 0).double()
        return Terms(
            (loss_B * _weights(batch)).sum(),
            {
                "rewards/chosen": Mean(masked_sum(reward_B, good_B), good_B.sum()),
                "rewards/rejected": Mean(masked_sum(reward_B, bad_B), bad_B.sum()),
                "rewards/accuracies": Mean(masked_sum(right_B, good_B | bad_B), (good_B | bad_B).sum()),
                "logps/chosen": Mean(masked_sum(logp_B, good_B), good_B.sum()),
                "logps/rejected": Mean(masked_sum(logp_B, bad_B), bad_B.sum()),
            }
            | ({"kl": Mean(anchor_B.sum(), anchor_B.numel())} if self._how.mismatches else {}),
        )

    def _log_ratio(self, batch: Batch, forward: Callable[[Batch], Forward], token_budget: int) -> Tensor:
        logp_BT = whole_logp(batch, forward, token_budget)
        return sequence_logp(logp_BT, batch) - sequence_logp(need(batch.ref_logp_BT, "ref_logp_BT"), batch)


def _weights(batch: Batch) -> Tensor:
    """Weight of each row; 1 where the batch carries none."""
    return torch.ones(batch.num_rows, device=batch.ids_BT.device) if batch.weight_B is None else batch.weight_B
