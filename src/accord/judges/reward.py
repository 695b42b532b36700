"""A reward model as judge: no order, no verdicts to read, and a probability by Bradley and Terry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from accord.errors import ModelError
from accord.judges.base import Comparison, Rating
from accord.judges.identity import identity_of
from accord.models import chat
from accord.models.checkpoint import load_tokenizer, max_positions
from accord.models.policy import ScoreModel
from accord.rewards.learned import LearnedReward
from accord.rewards.load import load_reward_fn
from accord.types import Completion, Prompt, Rollout


class RewardJudge:
    """Prefers what a reward model gives the higher score; see `accord.judges.base.Judge`."""

    def __init__(self, location: str, *, name: str = "", device: torch.device | str = "cpu") -> None:
        """Load the model.

        Args:
            location: directory (or hub id) of a reward model of any kind.
            name: for tables; empty = last part of the location.
            device: where it runs.

        Raises:
            ModelError: the files cannot be used.
        """
        self.location = location
        self._name = name or Path(location).name
        self._tokenizer: Any = load_tokenizer(location)
        self._reward = load_reward_fn(location, device=device)
        # Scores are divided by their deviation; times it they are the log-odds of Bradley-Terry again. A sum of
        # ensembles or attributes is no log-odds: then only the order counts.
        self._scale = self._reward.std if isinstance(self._reward, LearnedReward) else None
        model = self._reward.model
        self._longest = _positions(model.inner) if isinstance(model, ScoreModel) else None
        self._hash = ""

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    @property
    def prompt_hash(self) -> str:
        """Of the model's files, since nothing is asked in words."""
        if not self._hash:
            self._hash = identity_of(self.location)
        return self._hash

    def compare(self, items: Sequence[tuple[Prompt, str, str]]) -> list[Comparison]:
        """P(a is better) = sigmoid of the difference of scores; for ensembles and attributes 1, 0.5 or 0."""
        ratings = self.rate([(prompt, reply) for prompt, a, b in items for reply in (a, b)])
        return [_compared(self, *ratings[i : i + 2]) for i in range(0, len(ratings), 2)]

    def rate(self, items: Sequence[tuple[Prompt, str]]) -> list[Rating]:
        """Normalised scores; a reply that is too long for the model, or a score that is not finite, is an error."""
        # Text, not ids: what is judged may have another tokenizer than the judge.
        rollouts: list[Rollout] = []
        for number, (prompt, reply) in enumerate(items):
            ids = tuple(chat.encode_prompt(self._tokenizer, prompt.messages))
            completion = Completion(token_ids=tuple(chat.encode_completion(self._tokenizer, reply)), finish="stop")
            rollouts.append(Rollout(prompt=prompt, prompt_ids=ids, completion=completion, group=str(number)))
        sizes = [len(r.prompt_ids) + len(r.completion.token_ids) for r in rollouts]
        fits = [self._longest is None or size <= self._longest for size in sizes]
        scores = iter(self._reward([r for r, fit in zip(rollouts, fits, strict=True) if fit]))
        found: list[Rating] = []
        for fit, size in zip(fits, sizes, strict=True):
            if not fit:
                found.append(Rating(None, f"{size} tokens, and the model has {self._longest} positions"))
                continue
            score = next(scores)
            found.append(Rating(score.value, score.error or ""))
        return found

    def preference(self, a: float, b: float) -> float:
        """P(a reply with score a is better than one with score b).

        Args:
            a: from `rate`.
            b: from `rate`.
        """
        gap = a - b
        if self._scale is None:
            return 0.5 if gap == 0 else float(gap > 0)
        return 1 / (1 + math.exp(-max(min(gap * self._scale, 500.0), -500.0)))


def _compared(judge: RewardJudge, a: Rating, b: Rating) -> Comparison:
    if a.value is None or b.value is None:
        return Comparison(None, error=a.error or b.error)
    return Comparison(judge.preference(a.value, b.value))


def _positions(model: Any) -> int | None:
    """Longest sequence; None for a model whose config names no limit."""
    try:
        return max_positions(model)
    except ModelError:
        return None
