"""Measurements on held-out prompts while a policy is trained: proxy score, judged quality, KL, length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from accord import lab, rng
from accord.batch import Batch, Forward
from accord.engines.base import Engine, Sampling
from accord.errors import ConfigError, RewardError
from accord.functional import kl
from accord.functional.masks import masked_sum
from accord.models import chat
from accord.models.pair import device
from accord.pipeline import Context
from accord.rewards.base import RewardFn
from accord.rewards.load import load_reward_fn
from accord.stages.configs import Probe
from accord.stages.datasets import load
from accord.stages.policies import check_reward_tokenizer, with_room
from accord.train.rollouts import rollout_batch
from accord.train.rounds import EncodedPrompt
from accord.types import Completion, Prompt, Rollout


@dataclass(frozen=True)
class Panel:
    """Fixed prompts with fixed sampling seeds: what the policy replies to them differs by its weights alone."""

    prompts: tuple[EncodedPrompt, ...]
    seeds: tuple[int, ...]
    engine: Engine
    sampling: Sampling
    policy: torch.nn.Module
    at_once: int | None = None
    """Prompts in one request to the engine, which bounds its memory; None = all."""

    def completions(self) -> list[Completion]:
        """One reply of the policy as it is now to each prompt."""
        self.engine.update_weights(self.policy, -1)
        ids, size = [p.ids for p in self.prompts], self.at_once or len(self.prompts)
        return [
            completion
            for start in range(0, len(ids), max(1, size))
            for completion in self.engine.generate(
                ids[start : start + size], self.sampling, seeds=self.seeds[start : start + size]
            )
        ]

    def rollouts(self, completions: Sequence[Completion]) -> list[Rollout]:
        """The replies with their prompts, not scored.

        Args:
            completions: one a prompt, of the first prompts.
        """
        return [
            Rollout(prompt=p.prompt, prompt_ids=p.ids, completion=c, group=str(n))
            for n, (p, c) in enumerate(zip(self.prompts, completions, strict=False))
        ]

    def joined(self, other: Panel) -> Panel:
        """Both in one request."""
        return Panel(self.prompts + other.prompts, self.seeds + other.seeds, self.engine, self.sampling, self.policy)


@dataclass(frozen=True)
class Measured:
    """One measurement, reply by reply."""

    kl: float
    """Nats a reply."""
    rollouts: tuple[Rollout, ...]
    """With scores where there is a reward."""
    gold: tuple[float, ...] | None
    """Judged value of each reply."""
    more: tuple[Completion, ...]
    """Replies to the watcher's own prompts."""


class Watch(Protocol):
    """Who is told of every measurement."""

    panel: Panel | None
    """Prompts of its own to be answered in the same request."""

    def measured(self, found: Measured) -> Mapping[str, float]:
        """Take note of it; what is returned is logged with it."""
        ...


def panel_of(
    ctx: Context, prompts: Sequence[EncodedPrompt], name: str, *, engine: Engine, sampling: Sampling, policy: Any
) -> Panel:
    """Prompts with seeds that depend on the run, the stage and a name."""
    seeds = tuple(rng.derive(ctx.run.seed, ctx.work.stage, name, i) for i in range(len(prompts)))
    return Panel(tuple(prompts), seeds, engine, sampling, policy)


def held_out(ctx: Context, cfg: Probe, tokenizer: Any, engine: Engine, sampling: Sampling) -> list[EncodedPrompt]:
    """The prompts of `eval_prompts` that are measured; none when it is not set.

    Raises:
        ConfigError: the lab is asked to judge prompts that are not its own.
    """
    if cfg.eval_prompts is None:
        return []
    prompts = load(ctx, "eval_prompts", Prompt)
    if cfg.judge == "lab" and not all(lab.is_lab(p) for p in prompts):
        raise ConfigError("judge: lab knows the truth about lab prompts only", fix="set judge: none")
    longest = engine.caps.max_length or 10**9
    reply = sampling.max_new_tokens
    return with_room(prompts, tokenizer, longest=longest, reply=reply, ctx=ctx, field="eval_prompts")[
        : cfg.eval_num_prompts
    ]


def encoded_as_fits(
    prompts: Sequence[Prompt], tokenizer: Any, engine: Engine, reply: int
) -> list[EncodedPrompt | None]:
    """Encode prompts; None in the place of those that leave no room for a reply."""
    longest = engine.caps.max_length or 10**9
    encoded = [EncodedPrompt(p, tuple(chat.encode_prompt(tokenizer, p.messages))) for p in prompts]
    return [p if len(p.ids) + reply <= longest else None for p in encoded]


def make_probe(  # noqa: PLR0913
    ctx: Context,
    cfg: Probe,
    *,
    engine: Engine,
    tokenizer: Any,
    policy: torch.nn.Module,
    forward: Callable[[Batch], Forward],
    ref: Callable[[Batch], Forward],
    reward: RewardFn | None,
    sampling: Sampling,
    token_budget: int,
    prompts: Sequence[EncodedPrompt] | None = None,
    watch: Watch | None = None,
) -> Callable[[], dict[str, float]] | None:
    """Return a function that samples one reply to each held-out prompt and measures it; None when not configured.

    The same prompts and the same sampling seeds are used every time, so that readings differ by the policy alone.
    `prompts` are those of `held_out` when they are known already; `watch` is told of every measurement.

    Raises:
        ConfigError: the lab is asked to judge prompts that are not its own.
    """
    prompts = held_out(ctx, cfg, tokenizer, engine, sampling) if prompts is None else prompts
    if not prompts:
        return None
    panel = panel_of(ctx, prompts, "probe", engine=engine, sampling=sampling, policy=policy)
    judge = judge_of(ctx, cfg, tokenizer)

    @torch.no_grad()
    def measure() -> dict[str, float]:
        own = watch.panel if watch is not None else None
        drawn = (panel if own is None else panel.joined(own)).completions()
        completions, more = drawn[: len(prompts)], drawn[len(prompts) :]
        rollouts = panel.rollouts(completions)
        numbers = {
            "kl": _mean_kl(rollouts, tokenizer.pad_token_id, forward, ref, token_budget),
            "length": _mean([len(c.token_ids) for c in completions]),
            "cut_fraction": _mean([c.finish == "length" for c in completions]),
        }
        if reward is not None:
            scores = reward(rollouts)
            rollouts = [r.model_copy(update={"score": s}) for r, s in zip(rollouts, scores, strict=True)]
            numbers["proxy"] = _mean([s.value for s in scores if s.value is not None])
        judged: list[float] | None = None
        if cfg.judge == "lab":
            gold = [lab.score(p.prompt, c.text) for p, c in zip(prompts, completions, strict=True)]
            judged = [g.utility for g in gold]
            numbers |= {f"gold_{part}": _mean([g.parts[part] for g in gold]) for part in gold[0].parts}
        elif judge is not None:
            judged = judge(rollouts)
        if judged is not None:
            numbers["gold"] = _mean(judged)
        if watch is not None:
            gold_of = None if judged is None else tuple(judged)
            numbers |= watch.measured(Measured(numbers["kl"], tuple(rollouts), gold_of, tuple(more)))
        return numbers

    return measure


def judge_of(ctx: Context, cfg: Probe, tokenizer: Any) -> Callable[[Sequence[Rollout]], list[float]] | None:
    """The held-out reward model as a judge; None when there is none.

    Raises:
        ModelError: it cannot be loaded, or has another tokenizer than the policy.
    """
    if cfg.judge_model is None:
        return None
    location = ctx.inputs["judge_model"].location
    check_reward_tokenizer(tokenizer, location, None, f"{ctx.work.stage}.judge_model")
    scorer = load_reward_fn(location, device=device())

    def judged(rollouts: Sequence[Rollout]) -> list[float]:
        values = [s.value for s in scorer(rollouts)]
        known = [v for v in values if v is not None]
        if len(known) < len(values):
            raise RewardError("the judge gave a reply no score", where=location, fix="train it again")
        return known

    return judged


def _mean(values: Sequence[float | bool]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _mean_kl(
    rollouts: list[Rollout],
    pad_id: int,
    forward: Callable[[Batch], Forward],
    ref: Callable[[Batch], Forward],
    token_budget: int,
) -> float:
    """KL to the reference summed over a reply, averaged over replies (k1 estimator), nats."""
    total = 0.0
    batch = rollout_batch(rollouts, pad_id)
    for micro in batch.split(token_budget):
        on_device = micro.to(device())
        logp_BT, ref_BT = forward(on_device).logp_BT, ref(on_device).logp_BT
        assert logp_BT is not None and ref_BT is not None
        total += float(masked_sum(kl.k1(logp_BT, ref_BT), on_device.response_mask_BT))
    return total / len(rollouts)
