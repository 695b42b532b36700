"""Measurements on held-out prompts while a policy is trained: proxy score, true utility, KL, length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from accord import lab, rng
from accord.batch import Batch, Forward
from accord.engines.base import Engine, Sampling
from accord.errors import ConfigError
from accord.functional import kl
from accord.functional.masks import masked_sum
from accord.pipeline import Context
from accord.rewards.base import RewardFn
from accord.stages.configs import Probe
from accord.stages.datasets import load
from accord.stages.policies import with_room
from accord.stages.training import device
from accord.train.rollouts import rollout_batch
from accord.types import Prompt, Rollout


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
) -> Callable[[], dict[str, float]] | None:
    """Return a function that samples one reply to each held-out prompt and measures it; None when not configured.

    The same prompts and the same sampling seeds are used every time, so that readings differ by the policy alone.

    Raises:
        ConfigError: the lab is asked to judge prompts that are not its own.
    """
    if cfg.eval_prompts is None:
        return None
    prompts = load(ctx, "eval_prompts", Prompt)
    if cfg.judge == "lab" and not all(lab.is_lab(p) for p in prompts):
        raise ConfigError("judge: lab knows the truth about lab prompts only", fix="set judge: none")
    longest = engine.caps.max_length or 10**9
    fitting = with_room(
        prompts, tokenizer, longest=longest, reply=sampling.max_new_tokens, ctx=ctx, field="eval_prompts"
    )[: cfg.eval_num_prompts]
    prompts, ids = [p.prompt for p in fitting], [p.ids for p in fitting]
    seeds = [rng.derive(ctx.run.seed, ctx.work.stage, "probe", i) for i in range(len(prompts))]

    @torch.no_grad()
    def measure() -> dict[str, float]:
        engine.update_weights(policy, -1)
        completions = engine.generate(ids, sampling, seeds=seeds)
        rollouts = [
            Rollout(prompt=p, prompt_ids=i, completion=c, group=str(n))
            for n, (p, i, c) in enumerate(zip(prompts, ids, completions, strict=True))
        ]
        numbers = {
            "kl": _mean_kl(rollouts, tokenizer.pad_token_id, forward, ref, token_budget),
            "length": _mean([len(c.token_ids) for c in completions]),
            "cut_fraction": _mean([c.finish == "length" for c in completions]),
        }
        if reward is not None:
            numbers["proxy"] = _mean([s.value for s in reward(rollouts) if s.value is not None])
        if cfg.judge == "lab":
            gold = [lab.score(p, c.text) for p, c in zip(prompts, completions, strict=True)]
            numbers["gold"] = _mean([g.utility for g in gold])
            numbers |= {f"gold_{part}": _mean([g.parts[part] for g in gold]) for part in gold[0].parts}
        return numbers

    return measure


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
