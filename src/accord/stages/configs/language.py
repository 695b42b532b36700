"""Language modelling: pretraining and supervised fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from accord.pipeline import input_field
from accord.stages.configs.base import Decay, Fitted, Overlong, Positive, Quantized


class PretrainConfig(Fitted):
    """Base model from text: tokenizer, random initialisation, next-token prediction."""

    dataset: str = input_field("data", description="raw text: {text} rows")
    vocab_size: int = Field(8192, ge=264, description="byte-level BPE size, special tokens included")
    hidden_size: Positive = Field(256, description="model width")
    num_hidden_layers: Positive = Field(6, description="transformer blocks")
    num_attention_heads: Positive = Field(8, description="query heads")
    num_key_value_heads: Positive | None = Field(None, description="key/value heads; null = as many as query heads")
    intermediate_size: Positive | None = Field(None, description="width of the gated MLP; null = 8/3 of hidden_size")
    max_position_embeddings: Positive = Field(2048, description="longest context of the model, tokens")
    rope_theta: float = Field(10_000.0, gt=0, description="base of the rotary embeddings; smaller for short contexts")
    initializer_range: float = Field(
        0.02, gt=0, description="deviation of linear layers at the start; about 1.4 / sqrt(hidden_size) when narrow"
    )
    packing: bool = Field(True, description="join documents into full windows of max_length tokens")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.1, ge=0, description="decoupled, on matrices only")
    adam_beta2: Decay = Field(0.95, description="decay of the squared-gradient mean")

    @model_validator(mode="after")
    def _sizes_fit(self) -> PretrainConfig:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads or self.num_attention_heads
        if self.hidden_size % heads or (self.hidden_size // heads) % 2:
            raise ValueError(f"hidden_size {self.hidden_size} must be an even multiple of the {heads} heads")
        if heads % kv_heads:
            raise ValueError(f"num_attention_heads {heads} must be a multiple of num_key_value_heads {kv_heads}")
        if self.max_length > self.max_position_embeddings:
            raise ValueError(f"max_length {self.max_length} exceeds the {self.max_position_embeddings} positions")
        return self


class SFTConfig(Fitted, Quantized):
    """Supervised fine-tuning on demonstrations."""

    model_name_or_path: str = input_field("model", "pretrain", description="stage, directory or hub id")
    dataset: str = input_field("data", description="demonstrations: messages, prompt/completion, alpaca, sharegpt, ...")
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate of AdamW (TRL: 2e-5)")
    overlong: Overlong = Field("drop", description="rows longer than max_length; what is lost is counted and listed")
    packing: bool = Field(False, description="several rows in one of max_length tokens; changes memory, not results")
    train_on: Literal["all", "last"] = Field("all", description="assistant turns that carry loss")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")
