"""The weight on a token's or a reply's loss where the sampler's probabilities are not the learner's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accord.batch import Batch, Mean
from accord.functional.masks import masked_sum
from accord.functional.mismatch import bounded_weight, sequence_weight, token_weight
from accord.train.objectives.denominators import need, token_count

CorrectionMode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


@dataclass(frozen=True)
class SamplerCorrection:
    """Importance weights pi_old / mu within limits; separate from the ratio pi / pi_old, and detached."""

    mode: CorrectionMode
    """Of each token or the whole reply; cut at the cap, or 0 outside the limits."""
    cap: float = 3.0
    """Largest weight (TRL: 3)."""
    floor: float = 0.0
    """Smallest weight for the masking modes (IcePop: 0.5)."""

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Mean]]:
        """Return weights [B, T] or [B, 1] and what is logged about them.

        Raises:
            TrainingError: the batch has no `old_logp_BT` or `sampler_logp_BT`.
        """
        old_BT, sampler_BT = need(batch.old_logp_BT, "old_logp_BT"), need(batch.sampler_logp_BT, "sampler_logp_BT")
        level, _, bound = self.mode.partition("_")
        mask_BT = batch.response_mask_BT
        if level == "token":
            raw = token_weight(old_BT, sampler_BT, mask_BT)
        else:
            raw = sequence_weight(old_BT, sampler_BT, mask_BT)[:, None]
        kind = "mask" if bound == "mask" else "truncate"
        weight = bounded_weight(raw, kind, largest=self.cap, smallest=self.floor)
        tokens = token_count(batch)
        changed_BT = (weight != raw).to(raw.dtype).expand(mask_BT.shape)
        metrics = {
            "sampler/weight": Mean(masked_sum(weight.expand(mask_BT.shape), mask_BT), tokens),
            "sampler/weight_bounded": Mean(masked_sum(changed_BT, mask_BT), tokens),
        }
        return weight, metrics


def corrected(loss_BT: Tensor, correction: SamplerCorrection | None, batch: Batch) -> tuple[Tensor, dict[str, Mean]]:
    """A token loss times its weights, and what is logged about them; as it is without a correction."""
    if correction is None:
        return loss_BT, {}
    weight, metrics = correction(batch)
    return loss_BT * torch.where(batch.response_mask_BT, weight, 1.0), metrics
