"""A trained reward model as a reward function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from accord.models.calibration import calibration
from accord.rewards.rows import numbered_micros
from accord.types import Rollout, Score


@dataclass(frozen=True)
class LengthSlope:
    """A line through raw scores over reply lengths, to be subtracted."""

    slope: float
    """Raw score a token."""
    mean: float
    """Tokens at which nothing is subtracted."""


class LearnedReward:
    """Scores with a sequence classifier at the last real token (the stop token, or the cut)."""

    def __init__(
        self,
        model: nn.Module,
        *,
        pad_id: int,
        mean: float = 0.0,
        std: float = 1.0,
        length: LengthSlope | Literal["stored"] | None = "stored",
        token_budget: int = 16384,
    ) -> None:
        """Wrap `model`.

        Args:
            model: `Batch -> Forward` with `score_B`.
            pad_id: any valid token id.
            mean: of the raw score on reference samples; scores come out as (raw - mean) / std (Ziegler et al.
                2019, section 2.1).
            std: of the raw score on reference samples, positive.
            length: subtracted from raw scores first; mean and std are then those of what is left. "stored" = what
                `length_calibration` of the reward stage left in the model's config, nothing if it was off.
            token_budget: largest rows x length a forward.
        """
        self.model = model
        self.pad_id = pad_id
        self.mean = mean
        self.std = std
        self.length = stored_length(model) if length == "stored" else length
        self.token_budget = token_budget
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def score_ids(self, sequences: Sequence[Sequence[int]], lengths: Sequence[int] | None = None) -> list[float]:
        """Normalised scores of whole token sequences (prompt and reply).

        Args:
            sequences: token ids.
            lengths: tokens of each reply, stop token included; needed when a length slope is subtracted. With them
                neighbours that answer the same prompt are scored together.

        Raises:
            ValueError: the lengths are needed and missing, or not one a sequence.
        """
        if self.length is not None and (lengths is None or len(lengths) != len(sequences)):
            raise ValueError("a length slope is subtracted from the scores: give the length of each reply")
        scores = [0.0] * len(sequences)
        options = {"pad_id": self.pad_id, "token_budget": self.token_budget, "device": self.device}
        for rows, micro in numbered_micros(sequences, lengths, **options):
            out = self.model(micro)
            assert out.score_B is not None
            for index, score in zip(rows, out.score_B.double().tolist(), strict=True):
                if self.length is not None and lengths is not None:
                    score -= self.length.slope * (lengths[index] - self.length.mean)
                scores[index] = (score - self.mean) / self.std
        return scores

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score rollouts by their exact token ids; a number that is not finite is a Score with an error."""
        sequences = [[*r.prompt_ids, *r.completion.token_ids] for r in rollouts]
        values = self.score_ids(sequences, [len(r.completion.token_ids) for r in rollouts])
        return [
            Score(value=v) if math.isfinite(v) else Score(value=None, error=f"the reward model gave {v}")
            for v in values
        ]


def stored_length(model: nn.Module) -> LengthSlope | None:
    """The length slope in a reward model's config, None when there is none."""
    config = getattr(getattr(model, "inner", None), "config", None)
    if config is None:
        return None
    found = calibration(config)
    if found.length_slope is None or found.length_mean is None:
        return None
    return LengthSlope(found.length_slope, found.length_mean)
