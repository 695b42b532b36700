"""Reward models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from accord.pipeline import input_field
from accord.stages.configs.base import Adapters, Fitted, Overlong

_PAIRWISE = ("bradley_terry", "all_pairs")
_TIES = ("rao_kupper", "davidson")


class RewardConfig(Fitted, Adapters):
    """Reward model: scalar head on the SFT model, Bradley-Terry on pairs or another model of judgements."""

    model_name_or_path: str = input_field("model", "sft", description="stage, directory or hub id to start from")
    dataset: str = input_field("data", "collect", description="preferences")
    eval_dataset: str | None = input_field("data", None, description="preferences to test on; null = eval_fraction")
    group: str | None = Field(
        None,
        description="learn from this group of annotators only; `dataset` holds single judgements (collect:judgements)",
    )
    loss_type: Literal["bradley_terry", "rao_kupper", "davidson", "plackett_luce", "all_pairs", "best_of_k"] = Field(
        "bradley_terry",
        description="model of judgements: pairs (bradley_terry), pairs that may tie (rao_kupper, davidson), rankings "
        "(plackett_luce, all_pairs of InstructGPT), the choice of one of several (best_of_k)",
    )
    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate of AdamW")
    overlong: Overlong = Field("drop", description="rows longer than max_length; what is lost is counted and listed")
    center_rewards_coefficient: float = Field(0.01, ge=0, description="weight of (r_w + r_l)^2 (2312.09244)")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="probability that a label is flipped; for bradley_terry and all_pairs"
    )
    use_margin: bool = Field(
        False, description="subtract each pair's strength inside the sigmoid (Llama 2); for bradley_terry and all_pairs"
    )
    all_pairs_mean: Literal["prompt", "pair"] = Field(
        "prompt",
        description="all_pairs: mean of the prompts' means, or over all pairs alike (long rankings weigh more)",
    )
    tie_parameter: float | None = Field(
        None,
        gt=0,
        description="theta (above 1) of rao_kupper or nu of davidson; null = learnt from the share of ties on",
    )
    tie_learning_rate: float = Field(1e-2, gt=0, description="learning rate of a learnt tie parameter's logarithm")
    length_calibration: bool = Field(
        False, description="fit raw score over reply length on held-out replies; the slope is subtracted from scores"
    )
    freeze_layers: int = Field(0, ge=0, description="lowest transformer blocks (and embeddings) kept as they are")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")
    eval_fraction: float = Field(0.1, ge=0, lt=1, description="share of the prompts held out; by hash of the prompt")

    @model_validator(mode="after")
    def _options_of_the_loss(self) -> RewardConfig:
        loss = self.loss_type
        if self.label_smoothing and loss not in _PAIRWISE:
            raise ValueError(f"label_smoothing is for {' and '.join(_PAIRWISE)}, not for loss_type: {loss}")
        if self.use_margin and loss not in _PAIRWISE:
            raise ValueError(f"use_margin is for {' and '.join(_PAIRWISE)}, not for loss_type: {loss}")
        if self.all_pairs_mean == "pair" and loss != "all_pairs":
            raise ValueError(f"all_pairs_mean: pair needs loss_type: all_pairs, not {loss}")
        if self.tie_parameter is not None and loss not in _TIES:
            raise ValueError(f"tie_parameter is for {' and '.join(_TIES)}, not for loss_type: {loss}")
        if loss == "rao_kupper" and self.tie_parameter is not None and self.tie_parameter <= 1:
            raise ValueError(f"tie_parameter {self.tie_parameter:g} makes ties impossible; theta must be above 1")
        default = type(self).model_fields["tie_learning_rate"].default
        if self.tie_learning_rate != default and (loss not in _TIES or self.tie_parameter is not None):
            raise ValueError(
                "tie_learning_rate needs a learnt tie parameter: rao_kupper or davidson without a fixed one"
            )
        return self

    @model_validator(mode="after")
    def _held_out_for_length(self) -> RewardConfig:
        if self.length_calibration and not self.eval_fraction and self.eval_dataset is None:
            raise ValueError("length_calibration is fitted on held-out replies; set eval_fraction or eval_dataset")
        return self
