"""The configuration of every stage: what `accord init` writes, `--help` prints and the docs list.

Names and defaults are those users of transformers and TRL know; each description gives unit or range and, where it is
not obvious, where the default comes from.
"""

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
    token_budget: Positive = Field(8192, description="rows x longest row of a micro-batch; changes memory, not results")
    train_batch_size: Positive = Field(64, description="examples (pairs, prompts) an optimiser step")
    logging_steps: Positive = Field(10, description="optimiser steps between two lines of metrics.jsonl")
    save_steps: Positive = Field(50, description="optimiser steps between two checkpoints, at least")
    dtype: Literal["float32", "bfloat16", "float64"] = Field("float32", description="type of the trained weights")


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


class SplitConfig(Config):
    """One data set cut into training and test rows; refer to them as `split:train` and `split:test`."""

    dataset: str = input_field("data", description="any data set")
    test_fraction: float = Field(0.1, gt=0, lt=1, description="share of the prompts (first user turns) in the test")
    test_models: tuple[str, ...] = Field((), description="models whose replies occur in test rows only")
    num_rows: Limit = Field(-1, description="use only the first rows; -1 = all")
    max_bad_rows: int = Field(0, ge=0, description="unreadable rows that may be left out (they go to a file)")


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


class SFTConfig(Fitted, Adapters):
    """Supervised fine-tuning on demonstrations."""

    model_name_or_path: str = input_field("model", "pretrain", description="stage, directory or hub id")
    dataset: str = input_field("data", description="demonstrations: messages, prompt/completion, alpaca, sharegpt, ...")
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate of AdamW (TRL: 2e-5)")
    overlong: Overlong = Field("drop", description="rows longer than max_length; what is lost is counted and listed")
    train_on: Literal["all", "last"] = Field("all", description="assistant turns that carry loss")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")


class Sampling(Config):
    """How replies are drawn."""

    temperature: float = Field(1.0, ge=0, description="0 = greedy; the same temperature is used in log-probs")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus mass")
    top_k: int = Field(0, ge=0, description="0 = all tokens")
    max_completion_length: Positive = Field(256, description="tokens a reply at most")


class SampleConfig(Sampling):
    """Candidates for people (or judges) to compare."""

    models: Models = input_field(
        "model", {"sft": "sft"}, description="name -> stage, directory or hub id; replies are drawn in turn"
    )
    prompts: str = input_field("data", description="prompts")
    num_prompts: Limit = Field(-1, description="-1 = all")
    num_generations: int = Field(2, ge=2, le=9, description="replies a prompt, over all models")
    distinct: bool = Field(True, description="leave out replies with the same text; a prompt needs two")
    max_batch: Positive = Field(128, description="sequences decoded at a time")


class CollectConfig(Config):
    """Judgements about sampled candidates."""

    samples: str = input_field("data", "sample", description="what to compare: the sample stage or a file of its form")
    annotators: Literal["lab", "people"] = Field("people", description="simulated annotators, or wait for people")
    num_annotators: Positive = Field(12, description="size of the simulated pool")
    labels_per_item: Positive = Field(1, description="judgements wanted for every pair")
    aggregate: Literal["none", "soft"] = Field(
        "none", description="soft: one row a pair, labelled with the mean vote; the single judgements stay in a file"
    )
    overlap_fraction: Fraction = Field(0.1, description="share of pairs judged by overlap_labels annotators")
    overlap_labels: Positive = Field(4, description="judgements for each of these, to measure agreement")
    labels: str | None = Field(None, description="people: file of their Preference rows; null = in the run directory")
    min_labels: Positive = Field(500, description="people: judgements to wait for; raise it to take in later ones")


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


class Probe(Config):
    """Measurements during policy optimisation, on prompts that are not trained on."""

    eval_prompts: str | None = input_field("data", None, description="held-out prompts; null = no measurement")
    eval_steps: Positive = Field(20, description="optimiser steps between two measurements")
    eval_num_prompts: Positive = Field(64, description="prompts a measurement")
    judge: Literal["none", "lab"] = Field("none", description="lab: the known gold utility, beside the proxy")


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


class EvaluateConfig(Sampling):
    """Answers of several models to held-out prompts, judged against a baseline."""

    models: Models = input_field(
        "model",
        {"base": "pretrain", "sft": "sft", "ppo": "ppo", "dpo": "dpo"},
        description="name -> stage, directory or hub id",
    )
    prompts: str = input_field("data", description="held-out prompts")
    judge: str = input_field("model", "lab:gold", description="lab:gold, or a reward model (stage or path)")
    baseline: str = Field("sft", description="name of the model the others are compared with")
    num_prompts: Limit = Field(-1, description="-1 = all")
    max_batch: Positive = Field(128, description="sequences decoded at a time")

    @model_validator(mode="after")
    def _baseline_is_a_model(self) -> EvaluateConfig:
        if self.baseline not in self.models:
            raise ValueError(f"baseline '{self.baseline}' is not one of the models: {', '.join(self.models)}")
        return self


class ReportConfig(Config):
    """One self-contained HTML page about the run; there is nothing to set."""
