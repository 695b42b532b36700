"""Language modelling: pretraining and supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.functional.losses import nll
from accord.train.objectives.denominators import need, token_count


@dataclass(frozen=True)
class NLL:
    """Negative log-likelihood of the response tokens: pretraining and supervised fine-tuning."""

    def denominator(self, batch: Batch) -> Tensor:
        """Response tokens of the whole batch."""
        return token_count(batch)

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Sum of -log p over response tokens."""
        logp_BT = need(out.logp_BT, "logp_BT")
        loss = nll(logp_BT, mask=batch.response_mask_BT).sum()
        count = token_count(batch)
        return Terms(loss, {"nll": Mean(loss.detach(), count)})
