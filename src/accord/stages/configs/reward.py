"""Reward models."""

from __future__ import annotations

from pydantic import Field

from accord.pipeline import input_field
from accord.stages.configs.base import Adapters, Fitted, Overlong


class RewardConfig(Fitted, Adapters):
    """Reward model: scalar head on the SFT model, Bradley-Terry on pairs."""

    model_name_or_path: str = input_field("model", "sft", description="stage, directory or hub id to start from")
    dataset: str = input_field("data", "collect", description="preferences")
    eval_dataset: str | None = input_field("data", None, description="preferences to test on; null = eval_fraction")
    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate of AdamW")
    overlong: Overlong = Field("drop", description="rows longer than max_length; what is lost is counted and listed")
    center_rewards_coefficient: float = Field(0.01, ge=0, description="weight of (r_w + r_l)^2 (2312.09244)")
    use_margin: bool = Field(False, description="subtract each pair's strength inside the sigmoid (Llama 2)")
    freeze_layers: int = Field(0, ge=0, description="lowest transformer blocks (and embeddings) kept as they are")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")
    eval_fraction: float = Field(0.1, ge=0, lt=1, description="share of the prompts held out; by hash of the prompt")
