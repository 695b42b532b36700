"""Algorithms in which the policy writes its own training data, with and without a critic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from accord.pipeline import input_field
from accord.stages.configs.base import Arranged, Decoding, Fraction, Positive, Probe, Quantized, Training
from accord.stages.configs.diagnosis import Diagnosed, Shaped

Aggregation = Literal["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "constant"]
_AGGREGATION = (
    "what the token losses are divided by: tokens; each row's mean, then rows; rows; or rows x max_completion_length"
)
_EPSILON_HIGH = "upper epsilon (clip-higher); null = epsilon"


class OnPolicyConfig(Training, Quantized, Arranged, Probe, Decoding, Diagnosed, Shaped):
    """Fields of every algorithm that optimises a policy on its own replies."""

    algorithm: ClassVar[str] = ""
    """Entry of `train.algorithms.ALGORITHMS`."""
    method: ClassVar[str] = ""
    """Name and paper, for the model card."""
    own_rewards: ClassVar[int] = 0
    """Rewards that the stage brings along, beside reward_model and reward_funcs."""

    model_name_or_path: str = input_field("model", "sft", description="start of the policy, and the reference")
    reward_model: str | None = input_field("model", "reward", description="reward model; null = only reward_funcs")
    reward_combine: Literal["mean", "worst", "uncertainty", "median", "lower"] | None = Field(
        None, description="how the members of an ensemble become one score; null = mean, or no ensemble"
    )
    uncertainty_penalty: float = Field(
        0.1, ge=0, description="lambda of reward_combine uncertainty and lower (Coste et al. 2023: 0.1 for PPO)"
    )
    reward_funcs: tuple[str, ...] = Field(
        (),
        description="further rewards as `module:name`: f(prompts, completions, **columns) -> numbers (TRL), or a "
        "RewardFn of rollouts with takes_rollouts = True",
    )
    reward_weights: tuple[float, ...] | None = Field(
        None, description="weights of reward_model (if any) and reward_funcs in this order; null = all 1"
    )
    prompts: str = input_field("data", description="prompts to practise on")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")
    learning_rate: float = Field(1e-5, gt=0, description="policy: 1e-5 for small models, 1e-6 to 3e-6 for large ones")
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after warm-up")
    warmup_ratio: Fraction = Field(0.0, description="share of the steps over which the rate rises from 0")
    adam_epsilon: float = Field(1e-5, gt=0, description="Adam's epsilon (lm-human-preferences)")
    train_batch_size: Positive = Field(64, description="prompts a rollout round")
    max_bad_rows: int = Field(0, ge=0, description="unreadable data rows that may be left out (they go to a file)")
    num_generations: Positive = Field(1, description="replies a prompt")
    num_rounds: Positive = Field(100, description="rollout rounds; replaces max_steps")
    num_mini_batches: Positive = Field(1, description="optimiser steps a pass")
    loss_aggregation: Aggregation = Field("token-mean", description=_AGGREGATION)
    kl_coef: float = Field(0.05, ge=0, description="beta of the KL penalty in the reward; useful range 0.01 to 0.2")
    kl_target: float | None = Field(None, gt=0, description="adaptive kl_coef: wanted KL summed over a reply, nats")
    kl_horizon: Positive = Field(10_000, description="adaptive kl_coef: horizon, episodes")
    entropy_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    missing_eos_penalty: float | None = Field(1.0, ge=0, description="price of a reply cut at max_completion_length")
    missing_eos_mode: Literal["replace", "subtract"] = Field(
        "subtract", description="score of a cut reply: - penalty (lm-human-preferences), or score - penalty (TRL)"
    )
    overlong_cache: Positive | None = Field(
        None, description="DAPO's soft penalty: falls to -1 over the last this many tokens before the limit; null = off"
    )
    mask_truncated_completions: bool = Field(
        False, description="cut replies are not trained on: out of sum and denominator (DAPO; TRL's name)"
    )
    score_clip: float | None = Field(None, gt=0, description="clip normalised scores to +- this")
    score_saturation: float | None = Field(
        None,
        description="optimise log sigmoid(score - this) (2402.00742): little is gained above a score that is good "
        "enough; 0 = the mean of the reward model's training replies; null = the score itself",
    )
    temperature: float = Field(1.0, gt=0, description="of sampling and of all log-probs")
    max_completion_length: Positive = Field(256, description="tokens a reply at most")
    max_reward_errors: Fraction = Field(0.01, description="share of rollouts that may lack a score")
    max_kl: float | None = Field(None, gt=0, description="stop when the KL summed over a reply exceeds this, nats")
    max_batch: Positive = Field(128, description="sequences decoded at a time")
    sampler_correction: Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = Field(
        "none", description="importance weight for an engine of other probabilities: cut at the cap, or 0 beyond it"
    )
    sampler_correction_cap: float = Field(3.0, gt=0, description="largest weight (TRL: 3)")
    sampler_correction_floor: float = Field(0.0, ge=0, description="smallest weight of the mask modes (IcePop: 0.5)")
    old_logps: Literal["auto", "recompute", "sampler"] = Field(
        "auto",
        description="old log-probs: of a pass of the policy over the round (recompute), or the engine's where they are "
        "found equal up to rounding of float32 (auto), or of 16 bits too (sampler)",
    )
    old_logps_check_rounds: Positive = Field(
        10, description="rounds between comparisons of the engine's log-probs with the learner's on 32 replies"
    )
    async_steps: Literal[0, 1] = Field(
        0, description="1: replies are written by the weights before the last round's updates; the ratio is to those"
    )
    measure_kl: bool = Field(
        True, description="false = no pass of the reference and no objective/kl; only where no KL is penalised"
    )
    ptx_coef: float = Field(
        0.0, ge=0, description="PPO-ptx: weight of the mean NLL of ptx_dataset in every step (InstructGPT: 27.8)"
    )
    ptx_dataset: str | None = input_field("data", None, description="text or demonstrations for ptx_coef")
    ptx_format: Literal["text", "demonstrations"] = Field("text", description="what ptx_dataset holds")
    ptx_batch_size: Positive = Field(32, description="rows of ptx_dataset an optimiser step")

    @property
    def epochs(self) -> int:
        """Passes over each round."""
        return 1

    @model_validator(mode="after")
    def _fields_fit(self) -> OnPolicyConfig:
        if self.num_mini_batches > self.train_batch_size:
            raise ValueError("num_mini_batches is larger than train_batch_size: some would be empty")
        count = len(self.reward_funcs) + (self.reward_model is not None)
        if count + self.own_rewards == 0:
            raise ValueError("nothing scores the replies: set reward_model or reward_funcs")
        if self.reward_weights is not None and len(self.reward_weights) != count:
            raise ValueError(f"reward_weights has {len(self.reward_weights)} numbers for {count} rewards")
        if self.reward_model is None and (self.reward_combine or self.arrangement == "shared_base"):
            raise ValueError("reward_combine and arrangement: shared_base need a reward_model")
        if self.reward_model is None and self.offload_frozen:
            raise ValueError("offload_frozen needs a reward_model; without one the reference stays where it works")
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError("kl_target multiplies kl_coef step by step, and kl_coef is 0; start above 0")
        if self.overlong_cache is not None and self.overlong_cache > self.max_completion_length:
            raise ValueError("overlong_cache is larger than max_completion_length")
        if self.missing_eos_mode == "replace" and self.missing_eos_penalty is None:
            raise ValueError("missing_eos_mode: replace needs missing_eos_penalty, and it is null")
        if self.sampler_correction_floor and not self.sampler_correction.endswith("_mask"):
            raise ValueError("sampler_correction_floor is for the mask modes: choose one, or drop the floor")
        if self.sampler_correction_floor > self.sampler_correction_cap:
            raise ValueError("sampler_correction_floor is above sampler_correction_cap: no weight would be left")
        return self

    @model_validator(mode="after")
    def _old_policy_fits(self) -> OnPolicyConfig:
        if self.old_logps == "sampler" and self.sampler_correction != "none":
            raise ValueError("old_logps: sampler leaves sampler_correction nothing to correct; drop one of them")
        if self.async_steps and getattr(self, "dynamic_sampling", 0):
            raise ValueError("dynamic_sampling needs replies that depend on scores: set it to 0, or async_steps to 0")
        if not self.measure_kl and (self.kl_coef or getattr(self, "beta", 0) or self.max_kl is not None):
            raise ValueError("measure_kl: false needs kl_coef and beta 0 and max_kl null: they need the reference")
        return self

    @model_validator(mode="after")
    def _ptx_fits(self) -> OnPolicyConfig:
        if (self.ptx_coef > 0) != (self.ptx_dataset is not None):
            raise ValueError("ptx_coef and ptx_dataset go together: set both or none")
        if self.ptx_coef and self.temperature != 1:
            raise ValueError("ptx_coef needs temperature 1: log-probs at another temperature are not those of the text")
        return self


class PPOConfig(OnPolicyConfig):
    """PPO with critic, GAE and a KL penalty to the reference."""

    algorithm: ClassVar[str] = "ppo"
    method: ClassVar[str] = "PPO (1707.06347) with a KL penalty (1909.08593)"

    critic: Literal["separate", "shared"] = Field(
        "separate", description="a copy of the reward model (InstructGPT), or a zero head on the policy's trunk"
    )
    critic_learning_rate: float | None = Field(None, gt=0, description="null = learning_rate")
    num_ppo_epochs: Positive = Field(4, description="passes over each round")
    cliprange: float = Field(0.2, gt=0, description="epsilon of the ratio clip")
    cliprange_high: float | None = Field(None, gt=0, description="upper epsilon (clip-higher); null = cliprange")
    dual_clip: float | None = Field(None, gt=1, description="loss at most this x -A where A < 0 (1912.09729: 3)")
    cliprange_value: float = Field(0.2, gt=0, description="clip of the value around its old value")
    vf_coef: float = Field(0.1, ge=0, description="weight of the value loss")
    gamma: Fraction = Field(1.0, description="discount")
    lam: Fraction = Field(0.95, description="GAE lambda")
    whiten_rewards: bool = Field(False, description="divide token rewards by their deviation, keeping the mean")

    @property
    def epochs(self) -> int:
        """Passes over each round."""
        return self.num_ppo_epochs

    @model_validator(mode="after")
    def _critic_has_a_start(self) -> PPOConfig:
        if self.critic == "separate" and self.reward_model is None:
            raise ValueError("critic: separate starts as a copy of reward_model; name one, or set critic: shared")
        if self.critic == "shared" and self.arrangement == "shared_base":
            raise ValueError("arrangement: shared_base has a critic adapter of its own; set critic: separate")
        return self


class CriticFreeConfig(OnPolicyConfig):
    """Fields of the algorithms without a critic."""

    beta: float = Field(
        0.0, ge=0, description="weight of a KL term in the loss, of each token alone; kl_coef sees whole replies"
    )
    kl_estimator: Literal["k1", "k2", "k3"] = Field("k3", description="estimator of the KL term in the loss")
    use_bias_correction_kl: bool = Field(
        True, description="times the ratio: k1 and k3 get the gradient of the reverse KL; without, k3 the forward KL's"
    )

    @model_validator(mode="after")
    def _estimator_means_something(self) -> CriticFreeConfig:
        if self.beta and self.kl_estimator == "k1" and not self.use_bias_correction_kl:
            raise ValueError("k1 in the loss has no expected gradient; set use_bias_correction_kl: true")
        if self.beta and self.kl_estimator == "k2" and self.use_bias_correction_kl:
            raise ValueError("k2 times the ratio has the gradient of no divergence; set use_bias_correction_kl: false")
        return self


class RepeatedConfig(CriticFreeConfig):
    """Fields of the algorithms that take several steps on the same replies."""

    num_iterations: Positive = Field(1, description="passes over each round (TRL's mu)")

    @property
    def epochs(self) -> int:
        """Passes over each round."""
        return self.num_iterations


class ClippedConfig(RepeatedConfig):
    """Fields of the clipped surrogate."""

    epsilon: float = Field(0.2, gt=0, description="epsilon of the ratio clip")
    epsilon_high: float | None = Field(None, gt=0, description=_EPSILON_HIGH)
    delta: float | None = Field(None, gt=1, description="two-sided clip: largest ratio where A < 0; null = off")

    @model_validator(mode="after")
    def _delta_is_beyond_the_clip(self) -> ClippedConfig:
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        if self.delta is not None and self.delta <= 1 + high:
            raise ValueError(f"delta is a limit beyond the clip: set it above 1 + the upper epsilon, {1 + high:g}")
        return self


class ReinforceConfig(CriticFreeConfig):
    """REINFORCE with return-to-go and a batch-mean baseline."""

    algorithm: ClassVar[str] = "reinforce"
    method: ClassVar[str] = "REINFORCE (Williams 1992) with a KL penalty"

    baseline: Literal["none", "batch_mean"] = Field("batch_mean", description="subtracted from every return")
    gamma: Fraction = Field(1.0, description="discount")
    loss_aggregation: Aggregation = Field("seq-mean-token-sum", description=_AGGREGATION)

    @model_validator(mode="after")
    def _stays_on_policy(self) -> ReinforceConfig:
        if self.num_mini_batches > 1:
            raise ValueError(
                "REINFORCE has no ratio, so one step a round: set num_mini_batches: 1, or use reinforce_pp"
            )
        if self.async_steps and self.sampler_correction == "none":
            raise ValueError("REINFORCE has no ratio, so async_steps: 1 needs a sampler_correction")
        return self


class ReinforcePPConfig(ClippedConfig):
    """REINFORCE++: returns-to-go with the KL in the reward, whitened over the round."""

    algorithm: ClassVar[str] = "reinforce_pp"
    method: ClassVar[str] = "REINFORCE++ (2501.03262)"

    gamma: Fraction = Field(1.0, description="discount")


class ReMaxConfig(ClippedConfig):
    """ReMax: the score of the greedy reply is the baseline; one more reply a prompt."""

    algorithm: ClassVar[str] = "remax"
    method: ClassVar[str] = "ReMax (2310.10505)"

    loss_aggregation: Aggregation = Field("seq-mean-token-sum", description=_AGGREGATION)

    @model_validator(mode="after")
    def _greedy_replies_are_of_the_round(self) -> ReMaxConfig:
        if self.length_calibration != "none":
            raise ValueError("length_calibration is of a round's replies, and ReMax's baselines are none of them")
        if self.async_steps:
            raise ValueError("the greedy replies of ReMax are written when the round comes: set async_steps: 0")
        return self


class GroupConfig(CriticFreeConfig):
    """Fields of the algorithms that compare replies to the same prompt."""

    num_generations: int = Field(8, ge=2, description="replies a prompt (TRL: 8)")
    dynamic_sampling: int = Field(
        0, ge=0, description="DAPO: times a round that groups of equal scores are replaced by other prompts'; 0 = off"
    )


class RLOOConfig(GroupConfig, ClippedConfig):
    """RLOO: the mean of the other replies' rewards is the baseline."""

    algorithm: ClassVar[str] = "rloo"
    method: ClassVar[str] = "RLOO (2402.14740)"

    num_generations: int = Field(2, ge=2, description="replies a prompt (TRL: 2); 4 is better where it can be paid")
    loss_aggregation: Aggregation = Field("seq-mean-token-mean", description=_AGGREGATION)


class OPOConfig(GroupConfig, ClippedConfig):
    """OPO: the length-weighted mean of the group's rewards is the baseline."""

    algorithm: ClassVar[str] = "opo"
    method: ClassVar[str] = "OPO (2505.23585)"


class GroupLossConfig(GroupConfig):
    """Fields of the GRPO family."""

    kl_coef: float = Field(0.0, ge=0, description="KL penalty in the reward, before the baseline; 0 = none")


class ScaledGroupConfig(GroupLossConfig):
    """Fields of the GRPO family where rewards are divided by a deviation."""

    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="divide by the deviation of the group's rewards, of the round's, or not at all"
    )


class GRPOConfig(ScaledGroupConfig, ClippedConfig):
    """GRPO: rewards normalised within the group, k3 in the loss."""

    algorithm: ClassVar[str] = "grpo"
    method: ClassVar[str] = "GRPO (2402.03300)"

    beta: float = Field(0.04, ge=0, description="weight of the KL term in the loss (paper 0.04; TRL 0)")
    loss_aggregation: Aggregation = Field("seq-mean-token-mean", description=_AGGREGATION)


class DrGRPOConfig(GroupLossConfig, ClippedConfig):
    """Dr.GRPO: GRPO without the deviation and without the length of the reply in a denominator."""

    algorithm: ClassVar[str] = "dr_grpo"
    method: ClassVar[str] = "Dr.GRPO (2503.20783)"

    loss_aggregation: Aggregation = Field("constant", description=_AGGREGATION)


class DAPOConfig(ScaledGroupConfig, ClippedConfig):
    """DAPO: GRPO with clip-higher, dynamic sampling, token mean and a soft penalty on length."""

    algorithm: ClassVar[str] = "dapo"
    method: ClassVar[str] = "DAPO (2503.14476)"

    epsilon_high: float | None = Field(0.28, gt=0, description=_EPSILON_HIGH)
    dynamic_sampling: int = Field(3, ge=0, description="times a round that groups of equal scores are replaced")
    overlong_cache: Positive | None = Field(
        32, description="soft penalty over the last this many tokens (paper: 4096 of 20480); null = off"
    )
    missing_eos_penalty: float | None = Field(None, ge=0, description="beside the soft penalty; null = none")
    loss_aggregation: Aggregation = Field("token-mean", description=_AGGREGATION)


class GSPOConfig(ScaledGroupConfig, ClippedConfig):
    """GSPO: the clipped ratio is that of the whole reply."""

    algorithm: ClassVar[str] = "gspo"
    method: ClassVar[str] = "GSPO (2507.18071)"

    epsilon: float = Field(3e-4, gt=0, description="lower epsilon of the reply's ratio (paper)")
    epsilon_high: float | None = Field(4e-4, gt=0, description="upper epsilon of the reply's ratio (paper)")
    loss_aggregation: Aggregation = Field("seq-mean-token-mean", description=_AGGREGATION)


class CISPOConfig(ScaledGroupConfig, RepeatedConfig):
    """CISPO: the clipped ratio is a weight, and no token loses its gradient."""

    algorithm: ClassVar[str] = "cispo"
    method: ClassVar[str] = "CISPO (2506.13585)"

    epsilon_high: float = Field(5.0, gt=0, description="largest weight itself, not an epsilon (TRL: 5)")


class SAPOConfig(ScaledGroupConfig, RepeatedConfig):
    """SAPO: a soft gate in place of the clip."""

    algorithm: ClassVar[str] = "sapo"
    method: ClassVar[str] = "SAPO (2511.20347)"

    sapo_temperature_pos: float = Field(1.0, gt=0, description="steepness of the gate where A > 0")
    sapo_temperature_neg: float = Field(1.05, gt=0, description="steepness of the gate where A <= 0")
    loss_aggregation: Aggregation = Field("seq-mean-token-mean", description=_AGGREGATION)
