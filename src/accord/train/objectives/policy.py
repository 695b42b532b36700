"""Losses of policies (and critics) on their own rollouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.functional import kl
from accord.functional.losses import (
    Aggregation,
    aggregation_denominator,
    aggregation_sum,
    clip_surrogate,
    ppo_clip,
    ppo_clipped,
    value_clip,
)
from accord.functional.masks import keep, masked_sum
from accord.functional.policy_losses import RatioLevel, cispo, importance_ratio, reinforce, sapo
from accord.train.objectives.correction import SamplerCorrection, corrected
from accord.train.objectives.denominators import need, token_count

KLEstimator = Literal["none", "k1", "k2", "k3"]


@dataclass(frozen=True)
class PPO:
    """Clipped surrogate with clipped value loss (Schulman et al. 2017, 1707.06347 eq. 7 and 9).

    The KL penalty is not here: it is in the token rewards (Ziegler et al. 2019), where its gradient is the
    sequence-level one.
    """

    cliprange: float = 0.2
    cliprange_high: float | None = None
    """Upper bound when it differs (DAPO clip-higher); None = cliprange."""
    dual_clip: float | None = None
    """Bound of the loss for negative advantages, times the advantage (Ye et al. 2020); None = off."""
    cliprange_value: float = 0.2
    vf_coef: float = 0.1
    entropy_coef: float = 0.0
    loss_aggregation: Aggregation = "token-mean"
    max_completion_length: int | None = None
    """For the aggregation "constant"."""
    correction: SamplerCorrection | None = None
    """Of the policy's loss; the critic learns from what was sampled."""

    def denominator(self, batch: Batch) -> Tensor:
        """Response tokens, or rows for the sequence aggregations."""
        return aggregation_denominator(
            batch.response_mask_BT, self.loss_aggregation, max_length=self.max_completion_length
        )

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Policy plus vf_coef x value minus entropy_coef x entropy, summed."""
        mask_BT = batch.response_mask_BT
        logp_BT = need(out.logp_BT, "logp_BT")
        old_logp_BT = need(batch.old_logp_BT, "old_logp_BT")
        advantage_BT = need(batch.advantage_BT, "advantage_BT")
        high = self.cliprange if self.cliprange_high is None else self.cliprange_high
        policy_BT, ratio_BT = ppo_clip(
            logp_BT, old_logp_BT, advantage_BT, low=self.cliprange, high=high, dual=self.dual_clip, mask=mask_BT
        )
        weighed_BT, metrics = corrected(policy_BT, self.correction, batch)
        value_BT, clipped_BT = value_clip(
            need(out.value_BT, "value_BT"),
            need(batch.old_value_BT, "old_value_BT"),
            need(batch.return_BT, "return_BT"),
            clip=self.cliprange_value,
            mask=mask_BT,
        )
        loss_BT = weighed_BT + self.vf_coef * value_BT
        if self.entropy_coef:
            loss_BT = loss_BT - self.entropy_coef * need(out.entropy_BT, "entropy_BT")
        loss = aggregation_sum(loss_BT, mask_BT, self.loss_aggregation)
        mean = _token_mean(batch)
        clipped_share_BT = ppo_clipped(ratio_BT, keep(advantage_BT, mask_BT), low=self.cliprange, high=high)
        metrics |= {
            "loss/policy_avg": mean(weighed_BT),
            "loss/value_avg": mean(value_BT),
            "policy/approxkl_avg": mean(kl.k3(old_logp_BT, logp_BT.detach())),
            "policy/clipfrac_avg": mean(clipped_share_BT.to(loss_BT.dtype)),
            "val/clipfrac_avg": mean(clipped_BT.to(loss_BT.dtype)),
            "val/ratio": mean(ratio_BT),
        }
        if out.entropy_BT is not None:
            metrics["objective/entropy"] = mean(out.entropy_BT)
        return Terms(loss, metrics)


@dataclass(frozen=True)
class PolicyGradient:
    """The losses without a critic: REINFORCE, RLOO, GRPO, Dr.GRPO, DAPO, GSPO, CISPO, SAPO.

    `loss` says what is differentiated, `importance_sampling_level` of what the ratio is, `loss_aggregation` how tokens
    become one number. A KL term in the loss sees each token's own distribution only and misses what a token does to
    later states; a penalty in the reward does not (`RolloutSettings.kl_coef`).
    """

    loss: Literal["clip", "reinforce", "cispo", "sapo"] = "clip"
    importance_sampling_level: RatioLevel = "token"
    """For "clip": the ratio of tokens, or of replies as geometric mean (GSPO) or product (RLOO)."""
    epsilon: float = 0.2
    """Lower clip range of the ratio."""
    epsilon_high: float | None = None
    """Upper clip range, None = epsilon; for "cispo" the largest weight itself (TRL)."""
    delta: float | None = None
    """Largest ratio where A < 0 (two-sided clip); None = off."""
    sapo_temperature_pos: float = 1.0
    sapo_temperature_neg: float = 1.05
    beta: float = 0.0
    """Weight of the KL to the reference in the loss; 0 = none."""
    kl_estimator: KLEstimator = "k3"
    use_bias_correction_kl: bool = True
    """Multiply the estimator by the ratio, which makes the gradient of k3 (and k1) that of the reverse KL; without it
    k3 has the gradient of the forward KL."""
    entropy_coef: float = 0.0
    loss_aggregation: Aggregation = "seq-mean-token-mean"
    max_completion_length: int | None = None
    """For the aggregation "constant"."""
    correction: SamplerCorrection | None = None
    """Of the surrogate and the KL term. (TRL leaves the KL term as it is; it is an expectation over samples too.)"""

    def __post_init__(self) -> None:
        if self.loss != "clip" and self.importance_sampling_level != "token":
            raise ValueError(f"a ratio of whole replies goes with the loss 'clip', not with '{self.loss}'")
        if self.loss == "cispo" and self.epsilon_high is None:
            raise ValueError("'cispo' needs epsilon_high, the largest weight (5 in TRL)")
        if self.beta and self.kl_estimator == "k1" and not self.use_bias_correction_kl:
            raise ValueError("k1 in the loss has no expected gradient; set use_bias_correction_kl")
        if self.beta and self.kl_estimator == "k2" and self.use_bias_correction_kl:
            raise ValueError("k2 times the ratio has the gradient of no divergence; unset use_bias_correction_kl")

    def denominator(self, batch: Batch) -> Tensor:
        """Response tokens, rows, or rows x max_completion_length."""
        return aggregation_denominator(
            batch.response_mask_BT, self.loss_aggregation, max_length=self.max_completion_length
        )

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Surrogate plus beta x KL minus entropy_coef x entropy, summed."""
        mask_BT = batch.response_mask_BT
        logp_BT = need(out.logp_BT, "logp_BT")
        old_logp_BT = need(batch.old_logp_BT, "old_logp_BT")
        mean = _token_mean(batch)
        policy_BT, ratio_BT, metrics = self._surrogate(logp_BT, batch)
        loss_BT = policy_BT
        if self.beta and self.kl_estimator != "none":
            kl_BT = self._kl(logp_BT, batch)
            metrics["kl"] = mean(kl_BT)
            loss_BT = loss_BT + self.beta * kl_BT
        loss_BT, weights = corrected(loss_BT, self.correction, batch)
        if self.entropy_coef:
            loss_BT = loss_BT - self.entropy_coef * need(out.entropy_BT, "entropy_BT")
        loss = aggregation_sum(loss_BT, mask_BT, self.loss_aggregation)
        metrics |= weights | {
            "loss/policy_avg": mean(policy_BT),
            "policy/approxkl_avg": mean(kl.k3(old_logp_BT, logp_BT.detach())),
            "val/ratio": mean(ratio_BT),
        }
        if out.entropy_BT is not None:
            metrics["objective/entropy"] = mean(out.entropy_BT)
        return Terms(loss, metrics)

    def _surrogate(self, logp_BT: Tensor, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Mean]]:
        """Loss and ratio of each token, and where the ratio is out of its limits."""
        mask_BT = batch.response_mask_BT
        old_logp_BT = need(batch.old_logp_BT, "old_logp_BT")
        advantage_BT = keep(need(batch.advantage_BT, "advantage_BT"), mask_BT)
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        mean = _token_mean(batch)
        if self.loss == "cispo":
            loss_BT, ratio_BT = cispo(logp_BT, old_logp_BT, advantage_BT, largest=high, mask=mask_BT)
            metrics = {"cispo_clip_ratio": mean((ratio_BT > high).to(loss_BT.dtype))}
            return loss_BT, ratio_BT, metrics
        if self.loss == "sapo":
            temperatures = {"temperature_pos": self.sapo_temperature_pos, "temperature_neg": self.sapo_temperature_neg}
            loss_BT, ratio_BT = sapo(logp_BT, old_logp_BT, advantage_BT, mask=mask_BT, **temperatures)
            return loss_BT, ratio_BT, {}
        ratio = importance_ratio(logp_BT, old_logp_BT, mask_BT, self.importance_sampling_level)
        ratio_BT = ratio.expand(mask_BT.shape)
        if self.loss == "reinforce":
            return reinforce(logp_BT, advantage_BT, mask=mask_BT), ratio_BT, {}
        loss_BT = clip_surrogate(ratio, advantage_BT, low=self.epsilon, high=high, delta=self.delta)
        low_BT = (ratio_BT < 1 - self.epsilon) & (advantage_BT < 0)
        high_BT = (ratio_BT > 1 + high) & (advantage_BT > 0)
        metrics = {
            "clip_ratio/low_mean": mean(low_BT.to(loss_BT.dtype)),
            "clip_ratio/high_mean": mean(high_BT.to(loss_BT.dtype)),
            "clip_ratio/region_mean": mean((low_BT | high_BT).to(loss_BT.dtype)),
        }
        return loss_BT, ratio_BT, metrics

    def _kl(self, logp_BT: Tensor, batch: Batch) -> Tensor:
        mask_BT = batch.response_mask_BT
        estimators = {"k1": kl.k1, "k2": kl.k2, "k3": kl.k3}
        kl_BT = estimators[self.kl_estimator](logp_BT, need(batch.ref_logp_BT, "ref_logp_BT"), mask=mask_BT)
        if not self.use_bias_correction_kl:
            return kl_BT
        return kl.weighted(kl_BT, logp_BT, need(batch.old_logp_BT, "old_logp_BT"), mask=mask_BT)


def _token_mean(batch: Batch) -> Callable[[Tensor], Mean]:
    """Means over the response tokens of a batch, as sum and count."""
    mask_BT, tokens = batch.response_mask_BT, token_count(batch)
    return lambda x_BT: Mean(masked_sum(x_BT.detach(), mask_BT), tokens)
