"""Stages in which the policy learns from its own replies: PPO, and everything without a critic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from typing import Any

from torch import nn

from accord import rng
from accord.batch import Batch, Forward
from accord.config import load_object
from accord.engines.base import Sampling
from accord.errors import ConfigError
from accord.models.build import zero_head
from accord.models.pair import device
from accord.models.policy import ActorCritic
from accord.pipeline import Context
from accord.rewards.base import RewardFn, TakesRollouts
from accord.rewards.combine import weighted_sum
from accord.rewards.load import LoadedReward, is_plain, load_reward_fn
from accord.rewards.rules import CallableReward
from accord.stages.arrangements import Arrangement, arrange
from accord.stages.cards import model_card
from accord.stages.configs.online import OnPolicyConfig, PPOConfig
from accord.stages.datasets import check_usable, load
from accord.stages.inputs import Watchable
from accord.stages.monitors import monitor_for, references_for
from accord.stages.policies import Loaded, check_reward_tokenizer, load_policy, with_room
from accord.stages.probe import held_out, make_probe
from accord.stages.training import train
from accord.train.algorithms import ALGORITHMS, Algorithm
from accord.train.examples import from_demonstrations, from_documents
from accord.train.hooks import Guard
from accord.train.loop import Objective, Source
from accord.train.mixing import Mixed, WithNLL
from accord.train.objectives import SamplerCorrection
from accord.train.rollouts import OnPolicy, RolloutSettings
from accord.train.sources import Offline
from accord.types import Demonstration, Document, Prompt, Rollout, Score


def run(cfg: OnPolicyConfig, ctx: Context, own_reward: RewardFn | None = None) -> dict[str, Any]:
    """Optimise the policy: the source, credit and objective of `cfg.algorithm`, joined.

    `own_reward` takes the place of reward model and functions in stages that bring one along.
    """
    algorithm = ALGORITHMS[cfg.algorithm]
    loaded = load_policy(ctx.inputs["model_name_or_path"].location, cfg, cfg.pad_token, f"{ctx.work.stage}.max_length")
    policy, tokenizer = loaded.policy, loaded.tokenizer
    arranged = _arranged(cfg, ctx, loaded)
    learned = None if own_reward or arranged is None else _learned(cfg, ctx, arranged)
    reward = own_reward or _reward(cfg, ctx, arranged, learned)
    module: nn.Module = policy if arranged is None else arranged.module
    rates: dict[str, float] | None = None
    ref = loaded.reference_forward(loaded.reference(), cfg.temperature) if arranged is None else arranged.ref
    if isinstance(cfg, PPOConfig):
        if cfg.critic == "shared":
            policy.value_head = zero_head(policy.inner)
            module = ActorCritic(policy)
            rates = {"policy.value_head.": cfg.critic_learning_rate} if cfg.critic_learning_rate else None
        elif arranged is not None:
            rates = arranged.critic_rate(cfg.critic_learning_rate)

    def forward(batch: Batch) -> Forward:
        return module(batch, temperature=cfg.temperature, entropy=True, entropy_gradient=cfg.entropy_coef > 0)

    def policy_forward(batch: Batch) -> Forward:
        return policy(batch, temperature=cfg.temperature)

    rollouts = OnPolicy(
        policy=policy,
        forward=forward,
        ref=ref if cfg.measure_kl else None,
        engine=loaded.engine(cfg.max_batch, fast=cfg.fast_decode),
        reward=reward,
        prompts=with_room(
            load(ctx, "prompts", Prompt, max_bad_rows=cfg.max_bad_rows),
            tokenizer,
            longest=cfg.max_length,
            reply=cfg.max_completion_length,
            ctx=ctx,
            field="prompts",
        ),
        credit=_credit(algorithm, cfg),
        settings=_settings(algorithm, cfg),
        pad_id=loaded.pad_id,
        seed=rng.derive(ctx.run.seed, ctx.work.stage, "rollouts"),
        visit=nullcontext if arranged is None else arranged.scoring,
        policy_forward=policy_forward,
        critic_forward=_critic_forward(module),
        say=lambda text: ctx.say(f"  {text}"),
    )
    source: Source = rollouts
    objective = _objective(algorithm, cfg)
    if cfg.ptx_coef:
        source, objective = Mixed(rollouts, _examples(cfg, ctx, loaded)), WithNLL(objective, cfg.ptx_coef)
    one = Sampling(max_new_tokens=cfg.max_completion_length, temperature=cfg.temperature)
    held = held_out(ctx, cfg, tokenizer, rollouts.engine, one)
    resamples = rollouts.settings.resample > 0
    rollouts.references = references_for(ctx, cfg, rollouts, num_rounds=cfg.num_rounds, resamples=resamples)
    monitor = monitor_for(
        ctx,
        cfg,
        cfg.diagnosis,
        replies=rollouts,
        tokenizer=tokenizer,
        module=module,
        sampling=one,
        prompts=held,
        learned=learned if isinstance(learned, Watchable) else None,
        reward_location=None if cfg.reward_model is None else ctx.inputs["reward_model"].location,
    )
    measure = make_probe(
        ctx,
        cfg,
        engine=rollouts.engine,
        tokenizer=tokenizer,
        policy=policy,
        forward=policy_forward,
        ref=ref,
        reward=reward,
        sampling=one,
        token_budget=cfg.token_budget,
        prompts=held,
        watch=monitor,
    )
    guard = Guard({"objective/kl": (-math.inf, cfg.max_kl or math.inf)}, on_alarm=ctx.say)
    metrics = train(
        ctx,
        cfg,
        module=module,
        forward=forward,
        source=source,
        objective=objective,
        steps=cfg.num_rounds * cfg.epochs * cfg.num_mini_batches,
        show=("objective/scores", "objective/kl"),
        measure=measure,
        eval_every=cfg.eval_steps,
        guards=(guard,),
        learning_rates=rates,
        carried=None if monitor is None else monitor.carried,
        watcher=monitor,
    )
    metrics |= {} if monitor is None else monitor.summary()
    metrics |= {"rounds": rollouts.round, "kl_coef": rollouts.kl_coef, "alarms": guard.alarms}
    loaded.save(ctx.work.path("model"), model_card("policy", ctx, method=cfg.method, metrics=metrics))
    return metrics


def _settings(algorithm: Algorithm, cfg: OnPolicyConfig) -> RolloutSettings:
    return RolloutSettings(
        sampling=Sampling(max_new_tokens=cfg.max_completion_length, temperature=cfg.temperature, n=cfg.num_generations),
        num_prompts=cfg.train_batch_size,
        num_epochs=cfg.epochs,
        num_minibatches=cfg.num_mini_batches,
        kl_coef=cfg.kl_coef,
        kl_target=cfg.kl_target,
        kl_horizon=cfg.kl_horizon,
        missing_eos_penalty=cfg.missing_eos_penalty,
        missing_eos_mode=cfg.missing_eos_mode,
        overlong_cache=cfg.overlong_cache,
        mask_truncated=cfg.mask_truncated_completions,
        resample=getattr(cfg, "dynamic_sampling", 0),
        greedy_baseline="greedy" in algorithm.needs,
        score_clip=cfg.score_clip,
        length_calibration=cfg.length_calibration,
        length_penalty=cfg.length_penalty,
        length_free=cfg.length_free,
        saturation=cfg.score_saturation,
        max_reward_errors=cfg.max_reward_errors,
        token_budget=cfg.token_budget,
        old_logps=cfg.old_logps,
        old_logps_check_rounds=cfg.old_logps_check_rounds,
        corrected=cfg.sampler_correction != "none",
        async_steps=cfg.async_steps,
        num_rounds=cfg.num_rounds,
    )


def _critic_forward(module: nn.Module) -> Callable[[Batch], Forward] | None:
    """The values of a batch without more of the policy than they need; None without a critic."""
    if not isinstance(module, ActorCritic):
        return None
    policy = module.policy
    return module.critic or (lambda batch: policy(batch, values=True))


def _credit(algorithm: Algorithm, cfg: OnPolicyConfig) -> Any:
    assert algorithm.credit is not None
    return algorithm.credit(**_options(algorithm.credit, cfg))


def _objective(algorithm: Algorithm, cfg: OnPolicyConfig) -> Objective:
    correction = None
    if cfg.sampler_correction != "none":
        correction = SamplerCorrection(cfg.sampler_correction, cfg.sampler_correction_cap, cfg.sampler_correction_floor)
    return algorithm.objective(**_options(algorithm.objective, cfg), correction=correction)


def _options(target: Callable[..., Any], cfg: OnPolicyConfig) -> dict[str, Any]:
    """What `target` takes and the config has under the same name; what ALGORITHMS has set already stays."""
    fixed: set[str] = set(target.keywords) if isinstance(target, partial) else set()
    kind: Any = target.func if isinstance(target, partial) else target
    known = type(cfg).model_fields
    return {f.name: getattr(cfg, f.name) for f in fields(kind) if f.name in known and f.name not in fixed}


def _arranged(cfg: OnPolicyConfig, ctx: Context, loaded: Loaded) -> Arrangement | None:
    """The models around the policy; None without a reward model."""
    if cfg.reward_model is None:
        return None
    location = ctx.inputs["reward_model"].location
    check_reward_tokenizer(loaded.tokenizer, location, cfg.pad_token, f"{ctx.work.stage}.reward_model")
    critic = isinstance(cfg, PPOConfig) and cfg.critic == "separate"
    return arrange(cfg, loaded, location, temperature=cfg.temperature, critic=critic)


def _learned(cfg: OnPolicyConfig, ctx: Context, arranged: Arrangement) -> LoadedReward:
    """What scores: the one scalar model that is arranged already, or members to be combined, or steps."""
    location = ctx.inputs["reward_model"].location
    if cfg.reward_combine is None and is_plain(location):
        return arranged.learned
    return load_reward_fn(
        location,
        combine=cfg.reward_combine,
        uncertainty_penalty=cfg.uncertainty_penalty,
        device=device(),
        pad_token=cfg.pad_token,
    )


def _reward(cfg: OnPolicyConfig, ctx: Context, arranged: Arrangement | None, learned: LoadedReward | None) -> RewardFn:
    """The reward model, or the weighted sum of it and functions.

    Raises:
        ConfigError: a function cannot be imported, or two have the same name.
    """
    parts: dict[str, Callable[[Sequence[Rollout]], list[Score]]] = {}
    if arranged is not None and learned is not None:
        parts["reward_model"] = arranged.reward if learned is arranged.learned else learned
    for spec in cfg.reward_funcs:
        name = spec.rpartition(":")[2]
        if name in parts:
            raise ConfigError(
                f"two rewards are named '{name}'", where=f"{ctx.work.stage}.reward_funcs", fix="rename one of them"
            )
        found = load_object(spec)
        parts[name] = found if isinstance(found, TakesRollouts) else CallableReward(found, name)
    weights = dict(zip(parts, cfg.reward_weights or [1.0] * len(parts), strict=True))

    def reward(rollouts: Sequence[Rollout]) -> list[Score]:
        scored = {name: part(rollouts) for name, part in parts.items()}
        if weights == {"reward_model": 1.0}:
            return scored["reward_model"]
        return [
            weighted_sum({name: scores[i] for name, scores in scored.items()}, weights) for i in range(len(rollouts))
        ]

    return reward


def _examples(cfg: OnPolicyConfig, ctx: Context, loaded: Loaded) -> Offline:
    """Rows of `ptx_dataset`, endless."""
    if cfg.ptx_format == "text":
        documents = load(ctx, "ptx_dataset", Document, max_bad_rows=cfg.max_bad_rows)
        encoded = from_documents(documents, loaded.tokenizer, max_length=cfg.max_length)
    else:
        records = load(ctx, "ptx_dataset", Demonstration, max_bad_rows=cfg.max_bad_rows)
        encoded = from_demonstrations(
            records, loaded.tokenizer, max_length=cfg.max_length, overlong="drop", train_on="all"
        )
    ctx.say(f"  ptx: {encoded.describe()}")
    check_usable(encoded, cfg.max_length)
    return Offline(
        encoded.examples,
        batch_size=cfg.ptx_batch_size,
        pad_id=loaded.pad_id,
        seed=rng.derive(ctx.run.seed, ctx.work.stage, "ptx"),
    )
