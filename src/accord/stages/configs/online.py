"""Algorithms in which the policy writes its own training data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from accord.pipeline import input_field
from accord.stages.configs.base import Adapters, Fraction, Positive, Probe, Training


class PPOConfig(Training, Adapters, Probe):
    """PPO with critic, GAE and a KL penalty to the reference."""

    model_name_or_path: str = input_field("model", "sft", description="start of the policy, and the reference")
    reward_model: str = input_field("model", "reward", description="reward model; also the start of the critic")
    prompts: str = input_field("data", description="prompts to practise on")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")
    learning_rate: float = Field(1e-5, gt=0, description="policy: 1e-5 for small models, 3e-6 for large ones")
    critic_learning_rate: float | None = Field(None, gt=0, description="null = learning_rate")
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after warm-up")
    warmup_ratio: Fraction = Field(0.0, description="share of the steps over which the rate rises from 0")
    adam_epsilon: float = Field(1e-5, gt=0, description="Adam's epsilon (lm-human-preferences)")
    train_batch_size: Positive = Field(64, description="prompts a rollout round")
    max_bad_rows: int = Field(0, ge=0, description="unreadable data rows that may be left out (they go to a file)")
    num_generations: Positive = Field(1, description="replies a prompt")
    num_rounds: Positive = Field(100, description="rollout rounds; replaces max_steps")
    num_ppo_epochs: Positive = Field(4, description="passes over each round")
    num_mini_batches: Positive = Field(1, description="optimiser steps a pass")
    kl_coef: float = Field(0.05, ge=0, description="beta of the KL penalty; useful range 0.01 to 0.2")
    kl_target: float | None = Field(None, gt=0, description="adaptive beta: wanted KL summed over a reply, nats")
    kl_horizon: Positive = Field(10_000, description="adaptive beta: horizon, episodes")
    cliprange: float = Field(0.2, gt=0, description="epsilon of the ratio clip")
    cliprange_high: float | None = Field(None, gt=0, description="upper epsilon (clip-higher); null = cliprange")
    cliprange_value: float = Field(0.2, gt=0, description="clip of the value around its old value")
    vf_coef: float = Field(0.1, ge=0, description="weight of the value loss")
    entropy_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    gamma: Fraction = Field(1.0, description="discount")
    lam: Fraction = Field(0.95, description="GAE lambda")
    whiten_rewards: bool = Field(False, description="divide token rewards by their deviation, keeping the mean")
    missing_eos_penalty: float | None = Field(1.0, ge=0, description="subtracted from the score of a cut reply")
    score_clip: float | None = Field(None, gt=0, description="clip normalised scores to +- this")
    temperature: float = Field(1.0, gt=0, description="of sampling and of all log-probs")
    max_completion_length: Positive = Field(256, description="tokens a reply at most")
    max_reward_errors: Fraction = Field(0.01, description="share of rollouts that may lack a score")
    max_kl: float | None = Field(None, gt=0, description="stop when the KL summed over a reply exceeds this, nats")
    max_batch: Positive = Field(128, description="sequences decoded at a time")

    @model_validator(mode="after")
    def _minibatches_have_prompts(self) -> PPOConfig:
        if self.num_mini_batches > self.train_batch_size:
            raise ValueError("num_mini_batches is larger than train_batch_size: some would be empty")
        return self
