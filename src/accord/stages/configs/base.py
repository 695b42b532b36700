"""Types and fields that several stages share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from accord.config import Config
from accord.pipeline import input_field

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Overlong = Literal["error", "drop", "truncate_prompt", "truncate"]
Models = Annotated[dict[str, str], Field(min_length=1)]


def _not_zero(value: int) -> int:
    if value == 0:
        raise ValueError("0 leaves nothing to do; give a positive number, or -1 for no limit")
    return value


Limit = Annotated[int, Field(ge=-1), AfterValidator(_not_zero)]


class Training(Config):
    """Fields shared by every stage that trains."""

    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate of AdamW")
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field("cosine", description="decay after warm-up")
    warmup_ratio: Fraction = Field(0.03, description="share of the steps over which the rate rises from 0")
    weight_decay: float = Field(0.0, ge=0, description="decoupled, on matrices only")
    adam_beta1: Decay = Field(0.9, description="decay of the gradient mean")
    adam_beta2: Decay = Field(0.999, description="decay of the squared-gradient mean")
    adam_epsilon: float = Field(1e-8, gt=0, description="Adam's epsilon; lm-human-preferences uses 1e-5 for PPO")
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping, global L2 norm; 0 = off")
    max_length: int = Field(1024, ge=2, description="tokens a row, prompt and reply together")
    token_budget: Positive = Field(
        8192, description="tokens of a micro-batch, padding included where there is any; changes memory, not results"
    )
    train_batch_size: Positive = Field(64, description="examples (pairs, prompts) an optimiser step")
    logging_steps: Positive = Field(10, description="optimiser steps between two lines of metrics.jsonl")
    save_steps: Positive = Field(50, description="optimiser steps between two checkpoints, at least")
    dtype: Literal["float32", "bfloat16", "float64"] = Field("float32", description="type of the trained weights")
    bf16: bool = Field(
        False,
        description="matrix products in bfloat16 (autocast); weights, heads, loss and optimiser stay in float32",
    )
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flex_attention"] | None = Field(
        None, description="attention kernel of transformers; null = as the model is loaded (sdpa where it has one)"
    )
    use_liger_kernel: bool = Field(
        False, description="fused norms, rotary and MLP of the liger-kernel package while training (CUDA)"
    )
    share_prompts: bool = Field(
        True,
        description="encode a prompt once for the replies that follow it (pairs, groups); saves time, not results",
    )
    gradient_checkpointing: bool = Field(
        False, description="run blocks again in the backward pass: memory of one block, a third more time, same results"
    )

    @model_validator(mode="after")
    def _one_precision(self) -> Training:
        if self.bf16 and self.dtype != "float32":
            raise ValueError(f"bf16 keeps the weights in float32, and dtype is {self.dtype}: drop one of them")
        return self


class Fitted(Training):
    """Fields of the stages that train on a data set."""

    max_steps: Limit = Field(-1, description="optimiser steps; -1 = num_train_epochs decides")
    num_train_epochs: float = Field(1.0, gt=0, description="passes over the data when max_steps is -1")
    eval_fraction: float = Field(0.05, ge=0, lt=1, description="share of the prompts held out; by hash of the prompt")
    max_bad_rows: int = Field(0, ge=0, description="unreadable data rows that may be left out (they go to a file)")


class Adapters(Config):
    """Fields of the stages that can train LoRA adapters."""

    use_peft: bool = Field(False, description="train LoRA adapters instead of all weights")
    lora_r: Positive = Field(16, description="LoRA rank")
    lora_alpha: float = Field(32, gt=0, description="LoRA scale; the update is multiplied by alpha / r")
    lora_target_modules: tuple[str, ...] | None = Field(None, description="names of linear layers; null = all of them")


class Quantized(Adapters):
    """Fields of the stages that can train LoRA adapters on a base in 4 bits."""

    load_in_4bit: bool = Field(
        False, description="QLoRA: base in 4-bit NormalFloat, double quantisation (2305.14314); needs bitsandbytes"
    )

    @model_validator(mode="after")
    def _four_bits_are_not_trained(self) -> Quantized:
        if self.load_in_4bit and not self.use_peft:
            raise ValueError("load_in_4bit needs use_peft: true, because weights of 4 bits cannot be trained")
        return self


class Arranged(Config):
    """Fields of the stages that hold several models: where policy, critic, reference and reward model live."""

    arrangement: Literal["separate", "shared_base"] = Field(
        "separate", description="shared_base: LoRA adapters of one base, the reward model among them; needs use_peft"
    )
    offload_frozen: bool = Field(
        False, description="reference and reward model wait in host memory and visit the device to score"
    )

    @model_validator(mode="after")
    def _arrangement_fits(self) -> Arranged:
        if self.arrangement == "shared_base" and not getattr(self, "use_peft", False):
            raise ValueError("arrangement: shared_base needs use_peft: true")
        if self.arrangement == "shared_base" and self.offload_frozen:
            raise ValueError("offload_frozen leaves nothing to move with arrangement: shared_base; drop one of them")
        return self


class Decoding(Config):
    """How the native engine computes tokens."""

    fast_decode: bool = Field(
        True,
        description="one fused step a token for common families, packed weights for others; false = plain forwards",
    )


class Sampling(Decoding):
    """How replies are drawn."""

    temperature: float = Field(1.0, ge=0, description="0 = greedy; the same temperature is used in log-probs")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus mass")
    top_k: int = Field(0, ge=0, description="0 = all tokens")
    max_completion_length: Positive = Field(256, description="tokens a reply at most")


class Probe(Config):
    """Measurements during policy optimisation, on prompts that are not trained on."""

    eval_prompts: str | None = input_field("data", None, description="held-out prompts; null = no measurement")
    eval_steps: Positive = Field(20, description="optimiser steps between two measurements")
    eval_num_prompts: Positive = Field(64, description="prompts a measurement")
    judge: Literal["none", "lab"] = Field("none", description="lab: the known gold utility, beside the proxy")
    judge_model: str | None = input_field(
        "model", None, description="held-out reward model as judge: not the one that is optimised; null = none"
    )

    @model_validator(mode="after")
    def _one_judge(self) -> Probe:
        if self.judge_model is not None and (self.judge != "none" or self.eval_prompts is None):
            raise ValueError("judge_model needs eval_prompts, and judge: none: the judged quality is one number")
        return self
