"""A reward model with a tie parameter beside its scores, for losses in which two replies can be judged equal."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from accord.batch import Batch, Forward

TieModel = Literal["rao_kupper", "davidson"]


class TiedScores(nn.Module):
    """Adds `log_tie` to what a reward model says: log theta of Rao-Kupper, at least 0, or log nu of Davidson."""

    def __init__(self, scores: nn.Module, model: TieModel, log_tie: float, *, learnt: bool) -> None:
        """Wrap a reward model.

        Args:
            scores: `Batch -> Forward` with `score_B`.
            model: which parameter it is; that of Rao-Kupper is kept positive by a softplus.
            log_tie: where it starts; positive for Rao-Kupper.
            learnt: train it with the model; else it stays as it is.

        Raises:
            ValueError: a log theta that is not positive: ties would be impossible.
        """
        super().__init__()
        if model == "rao_kupper" and log_tie <= 0:
            raise ValueError(f"theta must be above 1, not {math.exp(log_tie):g}: ties would be impossible")
        raw = math.log(math.expm1(log_tie)) if model == "rao_kupper" else log_tie
        self.scores = scores
        self.model = model
        self.tie = nn.Parameter(torch.tensor(raw), requires_grad=learnt)

    @property
    def log_tie(self) -> Tensor:
        """The parameter on the log scale, a scalar with gradient."""
        return softplus(self.tie) if self.model == "rao_kupper" else self.tie

    def forward(self, batch: Batch) -> Forward:
        """Return what the reward model says, and `log_tie`."""
        return replace(self.scores(batch), log_tie=self.log_tie)
