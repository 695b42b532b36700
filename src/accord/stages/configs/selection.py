"""Algorithms that choose among replies by their scores: best-of-n, expert iteration, online DPO."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from accord.config import Config
from accord.pipeline import LAB, input_field
from accord.stages.configs.base import Decoding, Fraction, Limit, Positive, Probe, Quantized, Sampling, Training
from accord.stages.configs.diagnosis import Diagnosed


class Scored(Config):
    """Fields of the stages that choose replies by a score: where it comes from."""

    reward_model: str | None = input_field(
        "model", "reward", description="reward model, or lab:gold; null = only reward_funcs"
    )
    reward_combine: Literal["mean", "worst", "uncertainty", "median", "lower"] | None = Field(
        None, description="how the members of an ensemble become one score; null = mean, or no ensemble"
    )
    uncertainty_penalty: float = Field(
        0.5, ge=0, description="lambda of reward_combine uncertainty and lower (Coste et al. 2023: 0.5 for best-of-n)"
    )
    reward_funcs: tuple[str, ...] = Field(
        (),
        description="further rewards as `module:name`: f(prompts, completions, **columns) -> numbers (TRL), or a "
        "RewardFn of rollouts with takes_rollouts = True",
    )
    reward_weights: tuple[float, ...] | None = Field(
        None, description="weights of reward_model (if any) and reward_funcs in this order; null = all 1"
    )
    missing_eos_penalty: float | None = Field(
        1.0, ge=0, description="subtracted from the score of a cut reply when replies are compared; null = off"
    )

    @model_validator(mode="after")
    def _something_scores(self) -> Scored:
        count = len(self.reward_funcs) + (self.reward_model is not None)
        if count == 0:
            raise ValueError("nothing scores the replies: set reward_model or reward_funcs")
        if self.reward_weights is not None and len(self.reward_weights) != count:
            raise ValueError(f"reward_weights has {len(self.reward_weights)} numbers for {count} rewards")
        if self.reward_combine and (self.reward_model is None or self.reward_model.startswith(LAB)):
            raise ValueError("reward_combine needs a reward_model that is an ensemble")
        return self


class BestOfNConfig(Scored, Sampling):
    """Several replies a prompt, of which the one with the highest score is kept; nothing is trained."""

    model_name_or_path: str = input_field("model", "sft", description="stage, directory or hub id; draws the replies")
    prompts: str = input_field("data", description="prompts")
    judge: str | None = input_field(
        "model", None, description="measures the kept replies: lab:gold, or another reward model; null = not measured"
    )
    num_prompts: Limit = Field(-1, description="-1 = all")
    skip_prompts: int = Field(0, ge=0, description="prompts left out before the first; rounds use it for new prompts")
    num_generations: int = Field(16, ge=2, le=4096, description="n: replies a prompt of which the best is kept")
    max_reward_errors: Fraction = Field(0.01, description="share of replies that may lack a score")
    max_batch: Positive = Field(128, description="sequences decoded at a time")

    @model_validator(mode="after")
    def _replies_differ(self) -> BestOfNConfig:
        if self.temperature == 0:
            raise ValueError("temperature 0 draws the same reply n times; use 1.0")
        return self


class Selecting(Training, Quantized, Probe, Scored, Decoding, Diagnosed):
    """Fields of the stages that train a policy on its own replies, chosen by their scores."""

    model_name_or_path: str = input_field("model", "sft", description="stage, directory or hub id to start from")
    prompts: str = input_field("data", description="prompts to practise on")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")
    max_bad_rows: int = Field(0, ge=0, description="unreadable data rows that may be left out (they go to a file)")
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field("constant", description="decay after warm-up")
    warmup_ratio: Fraction = Field(0.0, description="share of the steps over which the rate rises from 0")
    train_batch_size: Positive = Field(64, description="prompts a round")
    num_generations: int = Field(8, ge=1, le=4096, description="replies a prompt")
    num_rounds: Positive = Field(10, description="rounds of drawing and training; replaces max_steps")
    num_epochs: Positive = Field(1, description="passes over what is kept of a round")
    num_mini_batches: Positive = Field(1, description="optimiser steps a pass")
    temperature: float = Field(1.0, gt=0, description="of drawing replies")
    max_completion_length: Positive = Field(256, description="tokens a reply at most")
    max_reward_errors: Fraction = Field(0.01, description="share of replies that may lack a score")
    max_batch: Positive = Field(128, description="sequences decoded at a time")

    @model_validator(mode="after")
    def _minibatches_have_prompts(self) -> Selecting:
        if self.num_mini_batches > self.train_batch_size:
            raise ValueError("num_mini_batches is larger than train_batch_size: some would be empty")
        return self


class ExpertConfig(Selecting):
    """Rejection sampling (one round), RAFT and expert iteration: likelihood of the best of the policy's own replies."""

    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate of AdamW (that of SFT)")
    start_from: Literal["current", "initial"] = Field(
        "current",
        description="weights a round's training starts from: current = RAFT (2304.06767), initial = expert iteration "
        "(1705.08439; ReST-EM 2312.06585), which draws from the newest policy and trains the first one anew",
    )
    num_generations: int = Field(8, ge=2, le=4096, description="replies a prompt (RAFT's K)")
    num_keep: Positive = Field(1, description="best replies kept of each prompt")
    min_quantile: Fraction = Field(0.0, description="keep of these only scores at or above this quantile of the round")
    min_score: float | None = Field(None, description="and only scores of at least this; null = no limit")

    @model_validator(mode="after")
    def _something_is_left_out(self) -> ExpertConfig:
        if self.num_keep > self.num_generations:
            raise ValueError(f"num_keep {self.num_keep} is more than the {self.num_generations} replies a prompt")
        if self.num_keep == self.num_generations and not self.min_quantile and self.min_score is None:
            raise ValueError("every reply would be kept: lower num_keep, or set min_quantile or min_score")
        if self.start_from == "initial" and (self.lr_scheduler_type != "constant" or self.warmup_ratio):
            raise ValueError(
                "start_from: initial trains anew every round, and the schedule runs over all rounds: set "
                "lr_scheduler_type to constant and warmup_ratio to 0"
            )
        return self


class OnlineDPOConfig(Selecting):
    """Online DPO: the best against the worst of the policy's own replies, with the start as the fixed reference."""

    learning_rate: float = Field(1e-6, gt=0, description="peak learning rate of AdamW (that of DPO)")
    num_generations: int = Field(2, ge=2, description="replies a prompt; the best and the worst make the pair")
    loss_type: Literal["sigmoid", "ipo", "ipo_sum", "hinge"] = Field(
        "sigmoid", description="sigmoid = DPO; as in the dpo stage"
    )
    beta: float = Field(0.1, gt=0, description="strength of the implicit KL penalty")
    dynamic_sampling: int = Field(
        0, ge=0, description="times a round that prompts whose replies all score the same are replaced by others"
    )
    soft_labels: bool = Field(
        False, description="label with sigmoid(raw score difference) instead of certainty: what Bradley-Terry says"
    )

    @model_validator(mode="after")
    def _labels_fit_the_loss(self) -> OnlineDPOConfig:
        if self.soft_labels and self.loss_type != "sigmoid":
            raise ValueError(f"soft_labels are for loss_type: sigmoid, not for {self.loss_type}")
        return self
