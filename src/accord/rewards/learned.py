"""A trained reward model as a reward function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import nn

from accord.models.calibration import calibration
from accord.rewards.rows import numbered_micros
from accord.rewards.seen import Distances, Measure, See, gathered
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
        self.distances: Measure | None = None
        """How far features are from those of training replies; when set, scores have a part `distance`."""

    def score_ids(self, sequences: Sequence[Sequence[int]], lengths: Sequence[int] | None = None) -> list[float]:
        """Normalised scores of whole token sequences (prompt and reply).

        Args:
            sequences: token ids.
            lengths: tokens of each reply, stop token included; needed when a length slope is subtracted. With them
                neighbours that answer the same prompt are scored together.

        Raises:
            ValueError: the lengths are needed and missing, or not one a sequence.
        """
        return self._read(sequences, lengths)

    def features(self, sequences: Sequence[Sequence[int]], lengths: Sequence[int]) -> np.ndarray:
        """What the head reads of whole token sequences: the last hidden states, float64 [N, D].

        Args:
            sequences: token ids, at least one.
            lengths: tokens of each reply.
        """
        return gathered(lambda see: self._read(sequences, lengths, see))

    def scores_and_features(
        self, sequences: Sequence[Sequence[int]], lengths: Sequence[int], *, most: int
    ) -> tuple[list[float], np.ndarray]:
        """Scores of whole token sequences, and the features of the first of them, from one pass.

        Args:
            sequences: token ids, at least one.
            lengths: tokens of each reply.
            most: sequences whose features are kept.
        """
        scores: list[float] = []
        features = gathered(lambda see: scores.extend(self._read(sequences, lengths, see)), most)
        return scores, features

    @torch.no_grad()
    def _read(
        self,
        sequences: Sequence[Sequence[int]],
        lengths: Sequence[int] | None,
        see: See | None = None,
    ) -> list[float]:
        """Scores, in the order of `sequences`."""
        if self.length is not None and (lengths is None or len(lengths) != len(sequences)):
            raise ValueError("a length slope is subtracted from the scores: give the length of each reply")
        scores = [0.0] * len(sequences)
        options = {"pad_id": self.pad_id, "token_budget": self.token_budget, "device": self.device}
        states: list[np.ndarray] = []
        handle = None
        if see is not None:
            handle = cast(nn.Module, self.model.head).register_forward_pre_hook(
                lambda _, inputs: states.append(inputs[0].detach().double().cpu().numpy())
            )
        try:
            for rows, micro in numbered_micros(sequences, lengths, **options):
                out = self.model(micro)
                assert out.score_B is not None
                if see is not None:
                    see(rows, states.pop())
                for index, score in zip(rows, out.score_B.double().tolist(), strict=True):
                    if self.length is not None and lengths is not None:
                        score -= self.length.slope * (lengths[index] - self.length.mean)
                    scores[index] = (score - self.mean) / self.std
        finally:
            if handle is not None:
                handle.remove()
        return scores

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score rollouts by their exact token ids; a number that is not finite is a Score with an error.

        With `distances` every score has a part `distance`.
        """
        sequences = [[*r.prompt_ids, *r.completion.token_ids] for r in rollouts]
        lengths = [len(r.completion.token_ids) for r in rollouts]
        away = None if self.distances is None else Distances(self.distances, len(rollouts))
        values = self._read(sequences, lengths, away)
        parts: list[dict[str, float]] = [
            {} if away is None else {"distance": away.values[i]} for i in range(len(values))
        ]
        return [
            Score(value=v, parts=p) if math.isfinite(v) else Score(value=None, error=f"the reward model gave {v}")
            for v, p in zip(values, parts, strict=True)
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
