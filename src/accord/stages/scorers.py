"""What scores replies in the stages that choose among them: a reward model, the lab's truth, functions, or a sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accord import lab
from accord.config import load_object
from accord.errors import ConfigError
from accord.models.pair import device
from accord.pipeline import LAB, Context
from accord.rewards.base import RewardFn, TakesRollouts
from accord.rewards.combine import weighted_sum
from accord.rewards.learned import LearnedReward
from accord.rewards.load import load_reward_fn
from accord.rewards.rules import CallableReward
from accord.stages.configs.selection import Scored
from accord.stages.policies import check_reward_tokenizer
from accord.types import Prompt, Rollout, Score


@dataclass(frozen=True)
class Scorer:
    """A reward with its scale."""

    reward: RewardFn
    scale: float | None
    """Log-odds of Bradley-Terry in one unit of score; None where a score is no log-odds (ensembles, sums)."""


def load_scorer(cfg: Scored, ctx: Context, tokenizer: Any, prompts: Sequence[Prompt]) -> Scorer:
    """Load everything that scores and join it.

    Args:
        cfg: the running stage's.
        ctx: the running stage, with the input `reward_model` where there is one.
        tokenizer: the policy's; a reward model must share its vocabulary, since it scores token ids.
        prompts: what replies will be scored to.

    Raises:
        ModelError: the reward model has another vocabulary than the policy, or cannot be loaded.
        ConfigError: the lab is asked about prompts that are not its own, or a function cannot be imported.
    """
    parts: dict[str, RewardFn] = {}
    if cfg.reward_model is not None:
        in_lab = cfg.reward_model.startswith(LAB)
        parts["reward_model"] = _gold(ctx, prompts) if in_lab else _learned(cfg, ctx, tokenizer)
    for spec in cfg.reward_funcs:
        name = spec.rpartition(":")[2]
        if name in parts:
            raise ConfigError(
                f"two rewards are named '{name}'", where=f"{ctx.work.stage}.reward_funcs", fix="rename one of them"
            )
        found = load_object(spec)
        parts[name] = found if isinstance(found, TakesRollouts) else CallableReward(found, name)
    weights = dict(zip(parts, cfg.reward_weights or [1.0] * len(parts), strict=True))
    if len(parts) == 1 and set(weights.values()) == {1.0}:
        (only,) = parts.values()
        # A reward model's scores are divided by their deviation; what a function gives is taken as it is.
        plain = cfg.reward_model is None or only is gold
        return Scorer(only, only.std if isinstance(only, LearnedReward) else 1.0 if plain else None)

    def reward(rollouts: Sequence[Rollout]) -> list[Score]:
        scored = {name: part(rollouts) for name, part in parts.items()}
        return [weighted_sum({n: found[i] for n, found in scored.items()}, weights) for i in range(len(rollouts))]

    return Scorer(reward, None)


def gold(rollouts: Sequence[Rollout]) -> list[Score]:
    """True utility of replies to lab prompts."""
    found = [lab.score(r.prompt, r.completion.text) for r in rollouts]
    return [Score(value=g.utility, parts=dict(g.parts)) for g in found]


def _gold(ctx: Context, prompts: Sequence[Prompt]) -> RewardFn:
    if not all(lab.is_lab(p) for p in prompts):
        raise ConfigError(
            "the lab knows the truth about lab prompts only",
            where=f"{ctx.work.stage}.reward_model",
            fix="name a reward model",
        )
    return gold


def _learned(cfg: Scored, ctx: Context, tokenizer: Any) -> RewardFn:
    location = ctx.inputs["reward_model"].location
    check_reward_tokenizer(tokenizer, location, tokenizer.pad_token, f"{ctx.work.stage}.reward_model")
    return load_reward_fn(
        location,
        combine=cfg.reward_combine,
        uncertainty_penalty=cfg.uncertainty_penalty,
        device=device(),
        pad_token=tokenizer.pad_token,
    )
