"""Stage: PPO against a learned reward model."""

from __future__ import annotations

import math
from typing import Any

from accord import rng
from accord.batch import Batch, Forward
from accord.engines.base import Sampling
from accord.errors import ModelError
from accord.models.build import critic_from_reward, score_stats
from accord.models.checkpoint import load_reward, load_tokenizer, save_model
from accord.models.policy import ActorCritic
from accord.pipeline import Context
from accord.rewards.learned import LearnedReward
from accord.stages.cards import model_card
from accord.stages.configs import PPOConfig
from accord.stages.datasets import load
from accord.stages.policies import load_policy, with_room
from accord.stages.probe import make_probe
from accord.stages.training import device, train
from accord.train.algorithms import ALGORITHMS
from accord.train.hooks import Guard
from accord.train.objectives import PPO
from accord.train.rollouts import OnPolicy, RolloutSettings
from accord.types import Prompt


def run(cfg: PPOConfig, ctx: Context) -> dict[str, Any]:
    """Optimise the policy; four models are at work: policy, critic, reference, reward model."""
    loaded = load_policy(ctx.inputs["model_name_or_path"].location, cfg, cfg.pad_token, f"{ctx.work.stage}.max_length")
    policy, tokenizer = loaded.policy, loaded.tokenizer
    reward_location = ctx.inputs["reward_model"].location
    _same_vocabulary(tokenizer, load_tokenizer(reward_location, pad_token=cfg.pad_token), ctx)
    reward_model = load_reward(reward_location).to(device())
    mean, std = score_stats(reward_model.inner.config)
    critic = critic_from_reward(reward_model)
    reward_model.requires_grad_(False)
    reward = LearnedReward(reward_model, pad_id=loaded.pad_id, mean=mean, std=std)
    ref = loaded.reference_forward(loaded.reference(), cfg.temperature)
    module = ActorCritic(policy, critic)

    def forward(batch: Batch) -> Forward:
        return module(batch, temperature=cfg.temperature, entropy=True)

    def policy_forward(batch: Batch) -> Forward:
        return policy(batch, temperature=cfg.temperature)

    sampling = Sampling(max_new_tokens=cfg.max_completion_length, temperature=cfg.temperature, n=cfg.num_generations)
    engine = loaded.engine(cfg.max_batch)
    algorithm = ALGORITHMS["ppo"]
    assert algorithm.credit is not None
    source = OnPolicy(
        policy=policy,
        forward=forward,
        ref=ref,
        engine=engine,
        reward=reward,
        prompts=with_room(
            load(ctx, "prompts", Prompt),
            tokenizer,
            longest=cfg.max_length,
            reply=cfg.max_completion_length,
            ctx=ctx,
            field="prompts",
        ),
        credit=algorithm.credit(gamma=cfg.gamma, lam=cfg.lam, whiten_rewards=cfg.whiten_rewards),
        settings=RolloutSettings(
            sampling=sampling,
            num_prompts=cfg.train_batch_size,
            num_epochs=cfg.num_ppo_epochs,
            num_minibatches=cfg.num_mini_batches,
            kl_coef=cfg.kl_coef,
            kl_target=cfg.kl_target,
            kl_horizon=cfg.kl_horizon,
            missing_eos_penalty=cfg.missing_eos_penalty,
            score_clip=cfg.score_clip,
            max_reward_errors=cfg.max_reward_errors,
            token_budget=cfg.token_budget,
        ),
        pad_id=loaded.pad_id,
        seed=rng.derive(ctx.run.seed, ctx.work.stage, "rollouts"),
    )
    objective = PPO(
        cliprange=cfg.cliprange,
        cliprange_high=cfg.cliprange_high,
        cliprange_value=cfg.cliprange_value,
        vf_coef=cfg.vf_coef,
        entropy_coef=cfg.entropy_coef,
    )
    measure = make_probe(
        ctx,
        cfg,
        engine=engine,
        tokenizer=tokenizer,
        policy=policy,
        forward=policy_forward,
        ref=ref,
        reward=reward,
        sampling=Sampling(max_new_tokens=cfg.max_completion_length, temperature=cfg.temperature),
        token_budget=cfg.token_budget,
    )
    guard = Guard({"objective/kl": (-math.inf, cfg.max_kl or math.inf)}, on_alarm=ctx.say)
    metrics = train(
        ctx,
        cfg,
        module=module,
        forward=forward,
        source=source,
        objective=objective,
        steps=cfg.num_rounds * cfg.num_ppo_epochs * cfg.num_mini_batches,
        show=("objective/scores", "objective/kl"),
        measure=measure,
        eval_every=cfg.eval_steps,
        guards=(guard,),
        learning_rates={"critic.": cfg.critic_learning_rate} if cfg.critic_learning_rate else None,
    )
    metrics |= {"rounds": source.round, "kl_coef": source.kl_coef, "alarms": guard.alarms}
    card = model_card("policy", ctx, method="PPO (1707.06347) with a KL penalty (1909.08593)", metrics=metrics)
    save_model(policy, tokenizer, ctx.work.path("model"), card)
    return metrics


def _same_vocabulary(policy: Any, reward: Any, ctx: Context) -> None:
    if policy.get_vocab() != reward.get_vocab():
        raise ModelError(
            "policy and reward model have different tokenizers, so token ids of one mean nothing to the other",
            where=f"{ctx.work.stage}.reward_model",
            fix="train the reward model from a model with the policy's tokenizer",
        )
