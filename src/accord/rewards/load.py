"""Any reward model on disk as a reward function: plain, ensemble, attributes or process reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from accord.errors import ConfigError
from accord.functional.ensembles import Combination
from accord.functional.steps import Aggregate
from accord.models.build import score_stats
from accord.models.checkpoint import load_reward, load_tokenizer
from accord.models.members import has_members, load_members
from accord.models.policy import ScoreModel
from accord.models.score_heads import StepScores
from accord.rewards.ensemble import MembersReward, StepReward
from accord.rewards.learned import LearnedReward

STEP_SEPARATOR, STEP_AGGREGATE = "accord_step_separator", "accord_step_aggregate"
STEP_MEAN, STEP_STD = "accord_step_mean", "accord_step_std"
LoadedReward = LearnedReward | MembersReward | StepReward


def load_reward_fn(
    location: str,
    *,
    combine: Combination | None = None,
    uncertainty_penalty: float = 0.1,
    device: torch.device | str = "cpu",
    dtype: str | torch.dtype = "float32",
    pad_token: str | None = None,
    token_budget: int = 16384,
) -> LoadedReward:
    """Load a frozen reward function from the directory of a reward model.

    Args:
        location: directory (or hub id) of the scalar model; members beside it are used, and so is what its config says
            about steps.
        combine: how the members of an ensemble become one score; None = "mean" for ensembles. An error for models that
            are not ensembles, where it would do nothing.
        uncertainty_penalty: lambda of "uncertainty" and "lower" (Coste et al. 2023: 0.1 for PPO, 0.5 for best-of-n).
        device: where it runs.
        dtype: type of the weights.
        pad_token: padding token when the tokenizer's equals its stop token.
        token_budget: largest rows x length a forward.

    Raises:
        ModelError: the files cannot be used.
        ConfigError: `combine` for a model that has nothing to combine.
    """
    tokenizer: Any = load_tokenizer(location, pad_token=pad_token)
    pad_id: int = tokenizer.pad_token_id
    if has_members(location):
        members, index = load_members(location, dtype)
        if index.kind == "attributes":
            _nothing_to_combine(combine, location, "a reward model of several attributes, which have weights")
        members.to(device).requires_grad_(False)
        return MembersReward(
            members,
            index,
            pad_id=pad_id,
            how=combine or "mean",
            penalty=uncertainty_penalty,
            token_budget=token_budget,
        )
    _nothing_to_combine(combine, location, "a single reward model")
    model = load_reward(location, dtype).to(device)
    model.requires_grad_(False)
    if getattr(model.inner.config, STEP_SEPARATOR, None) is not None:
        return step_reward(model, tokenizer, token_budget=token_budget)
    mean, std = score_stats(model.inner.config)
    return LearnedReward(model, pad_id=pad_id, mean=mean, std=std, token_budget=token_budget)


def is_plain(location: str) -> bool:
    """Whether a directory or hub id holds nothing but a scalar reward model: neither members nor steps."""
    config = Path(location) / "config.json"
    return not has_members(location) and not (config.is_file() and STEP_SEPARATOR in config.read_text("utf-8"))


def step_reward(model: ScoreModel, tokenizer: Any, *, token_budget: int = 16384) -> StepReward:
    """A process reward with what the model's config says about its steps.

    Args:
        model: made by the stage `process`.
        tokenizer: of the model.
        token_budget: largest rows x length a forward.
    """
    config: Any = model.inner.config
    aggregate: Aggregate = getattr(config, STEP_AGGREGATE, "min")
    return StepReward(
        StepScores(model),
        tokenizer=tokenizer,
        separator=getattr(config, STEP_SEPARATOR),
        aggregate=aggregate,
        mean=float(getattr(config, STEP_MEAN, 0.0)),
        std=float(getattr(config, STEP_STD, 1.0)),
        token_budget=token_budget,
    )


def _nothing_to_combine(combine: Combination | None, location: str, what: str) -> None:
    if combine is not None:
        raise ConfigError(
            f"reward_combine is '{combine}', and this is {what}",
            where=location,
            fix="remove reward_combine, or use the output of the stage `ensemble`",
        )
