"""Algorithms that learn from preferences, or thumbs up and down, as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from accord.config import Config
from accord.pipeline import input_field
from accord.stages.configs.base import Fitted, Overlong, Positive, Probe, Quantized

LossType = Literal[
    "sigmoid",
    "sigmoid_norm",
    "robust",
    "ipo",
    "ipo_avg",
    "ipo_sum",
    "hinge",
    "squared_hinge",
    "slic",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "aot",
    "aot_unpaired",
    "discopop",
    "simpo",
    "cpo",
    "orpo",
    "dpop",
    "rdpo",
    "sft",
]
OPTION_LOSSES: dict[str, tuple[str, ...]] = {
    "simpo_gamma": ("simpo",),
    "cpo_alpha": ("cpo",),
    "slic_delta": ("slic",),
    "slic_lambda": ("slic",),
    "discopop_tau": ("discopop",),
    "dpop_lambda": ("dpop",),
    "rdpo_alpha": ("rdpo",),
}
"""Options that belong to single losses."""
PER_TOKEN = {"sigmoid_norm", "ipo", "ipo_avg", "simpo", "orpo"}
NO_REFERENCE = {"slic", "simpo", "cpo", "orpo", "sft"}
DIFFERENCES = {"sigmoid", "robust", "hinge", "squared_hinge", "discopop", "rdpo"}
NO_BETA = {"slic", "sft"}
"""What `functional.preference_losses.PAIR_LOSSES` says of the losses, without loading torch."""


def _as_tuple(value: Any) -> Any:
    """One value may stand for a list of one."""
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str | float | int) else value


class OfflineConfig(Fitted, Quantized, Probe):
    """Fields of every algorithm that optimises a policy on a data set of judgements."""

    model_name_or_path: str = input_field("model", "sft", description="start of the policy, and the reference")
    dataset: str = input_field("data", "collect", description="preferences")
    reward_model: str | None = input_field("model", None, description="only for the eval/proxy curve")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")
    learning_rate: float = Field(1e-6, gt=0, description="peak learning rate of AdamW (TRL: 1e-6)")
    overlong: Overlong = Field("drop", description="rows longer than max_length; what is lost is counted and listed")
    beta: float = Field(0.1, gt=0, description="strength of the implicit KL penalty")
    max_completion_length: Positive = Field(256, description="tokens a reply in the measurements")


class MovingReference(Config):
    """TR-DPO (2404.09656): the reference follows the policy."""

    sync_ref_model: bool = Field(
        False, description="TR-DPO: move the reference; its log-probs are then computed at every step"
    )
    ref_model_mixup_alpha: float = Field(0.6, gt=0, le=1, description="share of the policy in the new reference (TRL)")
    ref_model_sync_steps: Positive = Field(512, description="optimiser steps between two moves (TRL: 512)")

    @model_validator(mode="after")
    def _reference_can_move(self) -> MovingReference:
        fields = type(self).model_fields
        if self.sync_ref_model and getattr(self, "use_peft", False):
            raise ValueError("sync_ref_model needs a reference of its own, and with use_peft it is the adapters off")
        for name in ("ref_model_mixup_alpha", "ref_model_sync_steps"):
            if not self.sync_ref_model and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} does nothing without sync_ref_model: true")
        return self


class DPOConfig(OfflineConfig, MovingReference):
    """Direct preference optimisation, with any loss on pairs."""

    loss_type: Annotated[tuple[LossType, ...], BeforeValidator(_as_tuple)] = Field(
        ("sigmoid",), min_length=1, description="one loss or several that are added; see docs/algorithms"
    )
    loss_weights: Annotated[tuple[float, ...], BeforeValidator(_as_tuple)] | None = Field(
        None, description="one weight a loss; null = 1 each"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="probability that a label is wrong (cDPO)")
    reference_free: bool = Field(False, description="compare with a uniform reference")
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = Field(
        "reverse_kl", description="divergence from the reference (2309.16240); losses that see differences only"
    )
    f_alpha_divergence_coef: float = Field(
        0.5, ge=0, lt=1, description="alpha_divergence as in TRL: near 1 the reverse KL, 0 the forward KL"
    )
    ld_alpha: float | None = Field(
        None, ge=0, le=1, description="LD-DPO (2409.06411): weight of tokens past the shorter reply's length; null = 1"
    )
    rpo_alpha: float = Field(
        0.0, ge=0, description="weight of the chosen reply's NLL, mean over its tokens (2404.19733)"
    )
    cpo_alpha: float = Field(1.0, ge=0, description="cpo: weight of the chosen replies' NLL, mean over all tokens")
    simpo_gamma: float = Field(1.0, ge=0, description="simpo: margin gamma itself, not gamma / beta")
    slic_delta: float = Field(1.0, ge=0, description="slic: margin, nats")
    slic_lambda: float = Field(0.5, ge=0, description="slic: weight of the chosen reply's summed NLL")
    discopop_tau: float = Field(0.05, gt=0, lt=1, description="discopop: temperature of the mix (TRL: 0.05)")
    dpop_lambda: float = Field(50.0, ge=0, description="dpop: penalty of a chosen reply below the reference")
    rdpo_alpha: float = Field(0.02, description="rdpo: length penalty, beta x nats a token")

    @model_validator(mode="after")
    def _losses_fit_together(self) -> DPOConfig:
        losses = set(self.loss_type)
        if len(losses) < len(self.loss_type):
            raise ValueError(f"a loss is named twice in loss_type: {', '.join(self.loss_type)}; use loss_weights")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(f"{len(self.loss_type)} losses in loss_type and {len(self.loss_weights)} loss_weights")
        if {"aot", "aot_unpaired"} <= losses:
            raise ValueError("aot and aot_unpaired compare with different things: choose one of them")
        if "robust" in losses and not self.label_smoothing:
            raise ValueError("robust needs label_smoothing above 0: with 0 it is sigmoid")
        return self

    @model_validator(mode="after")
    def _every_option_does_something(self) -> DPOConfig:
        losses = set(self.loss_type)
        changed = {name for name, info in type(self).model_fields.items() if getattr(self, name) != info.default}
        idle = {name for name, users in OPTION_LOSSES.items() if not losses & set(users)}
        idle |= {"beta"} if losses <= NO_BETA else set()
        idle |= {"label_smoothing"} if losses <= {"sft"} else set()
        for option in sorted(idle & changed):
            users = OPTION_LOSSES.get(option)
            belongs = f"; it belongs to {', '.join(users)}" if users else ""
            raise ValueError(f"{option} does nothing with loss_type {', '.join(self.loss_type)}{belongs}")
        if "f_alpha_divergence_coef" in changed and self.f_divergence_type != "alpha_divergence":
            raise ValueError("f_alpha_divergence_coef does nothing without f_divergence_type: alpha_divergence")
        return self

    @model_validator(mode="after")
    def _what_is_compared_fits(self) -> DPOConfig:
        losses = set(self.loss_type)
        free = losses <= NO_REFERENCE
        if self.ld_alpha is not None and losses & PER_TOKEN:
            raise ValueError(f"ld_alpha weighs sums, and {', '.join(sorted(losses & PER_TOKEN))} use means per token")
        if self.f_divergence_type != "reverse_kl" and not losses <= DIFFERENCES:
            other = ", ".join(sorted(losses - DIFFERENCES))
            raise ValueError(f"f_divergence_type works for {', '.join(sorted(DIFFERENCES))}, not for {other}")
        if self.reference_free and (free or self.f_divergence_type != "reverse_kl"):
            raise ValueError("reference_free needs a loss that compares with the reference by its log-ratio")
        if self.sync_ref_model and (free or self.reference_free):
            raise ValueError(f"sync_ref_model: loss_type {', '.join(self.loss_type)} does not read a reference")
        return self


class IPOConfig(OfflineConfig, MovingReference):
    """Identity preference optimisation."""

    loss_type: Literal["ipo", "ipo_avg", "ipo_sum"] = Field(
        "ipo",
        description="ipo_sum: log-probs summed as in the paper; ipo_avg: means per token as in TRL; ipo = ipo_avg",
    )
    beta: float = Field(0.1, gt=0, description="tau of the paper; the margin aimed at is 1 / (2 beta)")


class SimPOConfig(OfflineConfig):
    """Simple preference optimisation, without a reference."""

    beta: float = Field(2.0, gt=0, description="scale of the mean log-prob a token (paper: 2 to 2.5; TRL: 0.1)")
    simpo_gamma: float = Field(1.0, ge=0, description="margin gamma itself; the paper's gamma / beta is 0.3 to 0.6")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="probability that a label is wrong")


class CPOConfig(OfflineConfig):
    """Contrastive preference optimisation, without a reference."""

    beta: float = Field(0.1, gt=0, description="scale of the summed log-prob (TRL: 0.1)")
    cpo_alpha: float = Field(1.0, ge=0, description="weight of the chosen replies' NLL, mean over all tokens (TRL: 1)")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="probability that a label is wrong")


class ORPOConfig(OfflineConfig):
    """Odds ratio preference optimisation: supervised and preference learning in one, without a reference."""

    beta: float = Field(0.1, gt=0, description="lambda of the paper, weight of the odds-ratio term (TRL: 0.1)")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="probability that a label is wrong")


class KTOConfig(OfflineConfig, MovingReference):
    """Kahneman-Tversky optimisation, on single replies marked desirable or undesirable."""

    dataset: str = input_field("data", "collect", description="replies with a label, or preferences, which are split")
    loss_type: Literal["kto", "bco", "apo_zero_unpaired"] = Field("kto", description="loss on single replies")
    desirable_weight: float = Field(1.0, gt=0, description="lambda_D (TRL: 1)")
    undesirable_weight: float = Field(
        1.0, gt=0, description="lambda_U; desirable_weight n_D / (undesirable_weight n_U) belongs in [1, 4/3]"
    )
