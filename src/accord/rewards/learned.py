"""A trained reward model as a reward function."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from accord.batch import collate
from accord.types import Rollout, Score


class LearnedReward:
    """Scores with a sequence classifier at the last real token (the stop token, or the cut)."""

    def __init__(
        self, model: nn.Module, *, pad_id: int, mean: float = 0.0, std: float = 1.0, token_budget: int = 16384
    ) -> None:
        """Wrap `model`.

        Args:
            model: `Batch -> Forward` with `score_B`.
            pad_id: any valid token id.
            mean: of the raw score on reference samples; scores come out as (raw - mean) / std (Ziegler et al.
                2019, section 2.1).
            std: of the raw score on reference samples, positive.
            token_budget: largest rows x length a forward.
        """
        self.model = model
        self.pad_id = pad_id
        self.mean = mean
        self.std = std
        self.token_budget = token_budget
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def score_ids(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Normalised scores of whole token sequences (prompt and reply)."""
        if not sequences:
            return []
        batch = collate(sequences, [[False] * len(ids) for ids in sequences], pad_id=self.pad_id)
        batch = batch.replace(weight_B=torch.arange(len(sequences), dtype=torch.float64))
        scores = [0.0] * len(sequences)
        for micro in batch.split(self.token_budget):
            out = self.model(micro.to(self.device))
            assert out.score_B is not None and micro.weight_B is not None
            for index, score in zip(micro.weight_B.long().tolist(), out.score_B.double().tolist(), strict=True):
                scores[index] = (score - self.mean) / self.std
        return scores

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score rollouts by their exact token ids; a number that is not finite is a Score with an error."""
        values = self.score_ids([[*r.prompt_ids, *r.completion.token_ids] for r in rollouts])
        return [
            Score(value=v) if math.isfinite(v) else Score(value=None, error=f"the reward model gave {v}")
            for v in values
        ]
