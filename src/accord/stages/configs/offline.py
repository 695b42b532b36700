"""Algorithms that learn from preferences as they are."""

from __future__ import annotations

from pydantic import Field

from accord.pipeline import input_field
from accord.stages.configs.base import Adapters, Fitted, Overlong, Positive, Probe


class DPOConfig(Fitted, Adapters, Probe):
    """Direct preference optimisation."""

    model_name_or_path: str = input_field("model", "sft", description="start of the policy, and the reference")
    dataset: str = input_field("data", "collect", description="preferences")
    reward_model: str | None = input_field("model", None, description="only for the eval/proxy curve")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")
    learning_rate: float = Field(1e-6, gt=0, description="peak learning rate of AdamW (TRL: 1e-6)")
    overlong: Overlong = Field("drop", description="rows longer than max_length; what is lost is counted and listed")
    beta: float = Field(0.1, gt=0, description="strength of the implicit KL penalty")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="cDPO: probability that a label is wrong")
    rpo_alpha: float = Field(0.0, ge=0, description="weight of the chosen reply's NLL (2404.19733); 0 = off")
    max_completion_length: Positive = Field(256, description="tokens a reply in the measurements")
