"""What is learned about a reward model after training and stored in its config: temperature, length slope, ties."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from accord.errors import ModelError
from accord.models.policy import ScoreModel

_PREFIX = "accord_reward_"


@dataclass(frozen=True)
class Calibration:
    """Numbers beside mean and deviation of the scores; None = not known or not asked for."""

    temperature: float | None = None
    """T of P(first is better) = sigmoid(difference of raw scores / T), fitted on held-out labels. It is never applied
    to scores, whose order it cannot change; who needs a probability divides by it."""
    length_slope: float | None = None
    """Raw score a token of the reply; subtracted by `LearnedReward` when present."""
    length_mean: float | None = None
    """Length in tokens at which nothing is subtracted."""
    tie_model: str | None = None
    """Model of ties it was trained with, rao_kupper or davidson."""
    tie_parameter: float | None = None
    """theta of Rao-Kupper or nu of Davidson."""


def set_calibration(reward: ScoreModel, found: Calibration) -> None:
    """Store the numbers that are known in the model's config, which `save_model` writes to config.json.

    Raises:
        ModelError: a number is not finite, or a slope comes without its mean.
    """
    values = {name: value for name, value in asdict(found).items() if value is not None}
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(f"{name} is {value} and cannot be stored")
    if (found.length_slope is None) != (found.length_mean is None):
        raise ModelError("length_slope and length_mean belong together")
    for name in asdict(found):
        if hasattr(reward.inner.config, _PREFIX + name):
            delattr(reward.inner.config, _PREFIX + name)
    for name, value in values.items():
        setattr(reward.inner.config, _PREFIX + name, value)


def calibration(config: Any) -> Calibration:
    """Return what was stored, all None for models of other libraries.

    Args:
        config: the transformers config of a reward model.
    """
    return Calibration(**{name: getattr(config, _PREFIX + name, None) for name in asdict(Calibration())})
