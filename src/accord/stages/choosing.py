"""Which comparisons are judged: all, some at random, or those a reward model or the texts single out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord import rng
from accord.collect.priorities import ngram_features
from accord.collect.selection import Signals, select
from accord.errors import ConfigError, RewardError
from accord.models import chat
from accord.models.checkpoint import load_tokenizer
from accord.models.pair import device
from accord.pipeline import Context
from accord.rewards.ensemble import MembersReward
from accord.rewards.learned import LearnedReward
from accord.rewards.load import load_reward_fn
from accord.stages.configs import CollectConfig
from accord.stages.datasets import load
from accord.types import Candidate, Completion, Preference, Prompt, Rollout, Score


@dataclass(frozen=True)
class Comparison:
    """Replies to one prompt that somebody judges."""

    prompt: Prompt
    candidates: tuple[Candidate, ...]
    policy: str = "random"
    """What chose it."""
    slice: str | None = None
    """"random" or "active"; None where no policy chose, and the project draws its own slice."""
    propensity: float | None = None
    """Probability with which it was chosen."""

    @property
    def meta(self) -> dict[str, Any]:
        """What a preference says about how it was chosen."""
        if self.propensity is None:
            return {}
        how = {"policy": self.policy, "propensity": self.propensity}
        return how if self.slice is None else {"slice": self.slice, **how}


def chosen(cfg: CollectConfig, ctx: Context, items: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons to judge; all, in their order, unless `num_pairs` asks for fewer.

    Raises:
        ConfigError: disagreement without an ensemble.
        RewardError: the reward model could not score a reply.
    """
    count = cfg.num_pairs
    if count < 0 or count >= len(items):
        return list(items)
    difference = members = features = covered = None
    if cfg.selection == "coverage":
        features = ngram_features([_text(item.prompt, item.candidates) for item in items])
        if cfg.earlier is not None:
            before = load(ctx, "earlier", Preference)
            covered = ngram_features([_text(p.prompt, p.candidates) for p in before])
    elif cfg.selection != "random":
        difference, members = _differences(ctx, items)
        if cfg.selection == "disagreement" and members is None:
            raise ConfigError(
                "disagreement is between the members of an ensemble, and this is a single reward model",
                where=f"{ctx.work.stage}.reward_model",
                fix="name the output of the stage `ensemble`, or set selection to uncertainty",
            )
    shares = {"random": 1.0}
    if cfg.selection != "random":
        shares = {cfg.selection: 1 - cfg.random_slice, "random": cfg.random_slice}
    signals = Signals(len(items), difference, members, features, covered)
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "selection")
    picks = select(signals, count, {name: share for name, share in shares.items() if share > 0}, seed=seed)
    ctx.say(f"  {len(picks)} of {len(items)} comparisons chosen, {sum(p.slice == 'random' for p in picks)} at random")
    # Where all are drawn at random, any part of them is a random slice: not all of them need several judgements.
    mixed = cfg.selection != "random"
    return [
        Comparison(items[p.index].prompt, items[p.index].candidates, p.policy, p.slice if mixed else None, p.propensity)
        for p in picks
    ]


def _text(prompt: Prompt, candidates: Sequence[Candidate]) -> str:
    return "\n".join([*(m.content for m in prompt.messages), *(c.text for c in candidates)])


def _differences(ctx: Context, items: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray | None]:
    """Log-odds that the first reply is better: [N], and [K, N] of the members of an ensemble."""
    location = ctx.inputs["reward_model"].location
    tokenizer: Any = load_tokenizer(location)
    reward = load_reward_fn(location, device=device())
    rollouts = [_rollout(tokenizer, item.prompt, c.text) for item in items for c in item.candidates]
    scores = reward(rollouts)
    failed = next((s.error for s in scores if s.value is None), None)
    if failed is not None:
        raise RewardError(f"a reply has no score: {failed}", where=location, fix="train the reward model again")
    scale = reward.std if isinstance(reward, LearnedReward) else 1.0
    difference = scale * _paired([s.value or 0.0 for s in scores])
    if not (isinstance(reward, MembersReward) and reward.index.kind == "ensemble"):
        return difference, None
    names = zip(reward.index.names, reward.index.std, strict=True)
    members = np.stack([std * _paired([_part(s, name) for s in scores]) for name, std in names])
    return members.mean(axis=0), members


def _part(score: Score, name: str) -> float:
    return score.parts[name]


def _paired(values: Sequence[float]) -> np.ndarray:
    table = np.asarray(values, dtype=np.float64).reshape(-1, 2)
    return table[:, 0] - table[:, 1]


def _rollout(tokenizer: Any, prompt: Prompt, text: str) -> Rollout:
    ids = tuple(chat.encode_completion(tokenizer, text))
    completion = Completion(token_ids=ids, finish="stop", text=text)
    return Rollout(
        prompt=prompt,
        prompt_ids=tuple(chat.encode_prompt(tokenizer, prompt.messages)),
        completion=completion,
        group=prompt.id,
    )
