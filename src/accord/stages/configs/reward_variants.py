"""Reward models beside the plain one: ensembles, attributes, length-disentangled, averaged, of steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from accord.config import Config
from accord.pipeline import input_field
from accord.stages.configs.base import Fitted, Overlong, Positive


class _ScoreTraining(Fitted):
    """Fields of every stage that trains a reward model with several outputs."""

    model_name_or_path: str = input_field("model", "sft", description="stage, directory or hub id to start from")
    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate of AdamW")
    overlong: Overlong = Field("drop", description="rows longer than max_length; what is lost is counted and listed")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")
    eval_fraction: float = Field(0.1, ge=0, lt=1, description="share of the prompts held out; by hash of the prompt")


class EnsembleConfig(_ScoreTraining):
    """Ensemble of reward models, trained together on the same pairs."""

    dataset: str = input_field("data", "collect", description="preferences")
    form: Literal["heads", "adapters", "models"] = Field(
        "heads", description="k heads on one trunk, k LoRA adapters on one frozen base, or k whole models"
    )
    num_members: int = Field(4, ge=2, description="k; 4 or 5 are enough (2310.02743)")
    bootstrap: bool = Field(
        True,
        description="each member weighs each pair with a draw from Poisson(1); false = members differ by seed only",
    )
    by_group: bool = Field(
        False,
        description="one member a group of annotators, named after it and trained on its judgements only; `dataset` "
        "holds single judgements (collect:judgements), and reward_combine: worst is the worst-group rule",
    )
    same_head: bool = Field(
        False, description="models: all start from one head, so that the stage `warm` can average them"
    )
    center_rewards_coefficient: float = Field(0.01, ge=0, description="weight of (r_w + r_l)^2 (2312.09244)")
    use_margin: bool = Field(False, description="subtract each pair's strength inside the sigmoid (Llama 2)")
    lora_r: Positive = Field(16, description="adapters: LoRA rank")
    lora_alpha: float = Field(32, gt=0, description="adapters: LoRA scale; the update is multiplied by alpha / r")
    lora_target_modules: tuple[str, ...] | None = Field(
        None, description="adapters: names of linear layers; null = all of them"
    )

    @model_validator(mode="after")
    def _options_of_the_form(self) -> EnsembleConfig:
        if self.same_head and self.form != "models":
            raise ValueError(f"same_head is for form: models, not {self.form}")
        fields = type(self).model_fields
        lora = sorted(n for n in fields if n.startswith("lora_") and getattr(self, n) != fields[n].default)
        if lora and self.form != "adapters":
            raise ValueError(f"{', '.join(lora)} need form: adapters, not {self.form}")
        useless = sorted({"num_members", "bootstrap", "same_head"} & self.model_fields_set) if self.by_group else []
        if useless:
            raise ValueError(f"by_group makes one member a group, on that group's judgements: remove {useless}")
        if self.same_head and not self.bootstrap:
            raise ValueError("same_head without bootstrap makes equal members; set bootstrap: true")
        return self


class AttributesConfig(_ScoreTraining):
    """Reward model with one output an attribute, and their weighted sum as the score."""

    dataset: str = input_field("data", description="rated replies: numbers in `meta` of conversations or candidates")
    attributes: Annotated[dict[str, float], Field(min_length=1)] = Field(
        description="attribute -> weight of its rating in the score, e.g. {helpfulness: 1.0, verbosity: -0.2}"
    )
    loss_type: Literal["regression", "bradley_terry"] = Field(
        "regression", description="regression on the ratings, or Bradley-Terry on their order within pairs"
    )

    @model_validator(mode="after")
    def _weights_say_something(self) -> AttributesConfig:
        if not any(self.attributes.values()):
            raise ValueError("all attributes have weight 0, so the score would be 0")
        return self


class OdinConfig(_ScoreTraining):
    """Reward model with a quality and a length head, of which the quality head is kept (ODIN)."""

    dataset: str = input_field("data", "collect", description="preferences")
    length_weight: float = Field(1.0, ge=0, description="lambda_L, weight of |corr(quality, length)| (paper: 1)")
    overlap_weight: float = Field(1.0, ge=0, description="lambda_O, weight of |cosine| of the two heads (paper: 1)")
    center_rewards_coefficient: float = Field(0.01, ge=0, description="weight of (r_w + r_l)^2 (2312.09244)")
    use_margin: bool = Field(False, description="subtract each pair's strength inside the sigmoid (Llama 2)")


class WarmConfig(Config):
    """Mean of the weights of several reward models (WARM)."""

    models: Annotated[dict[str, str], Field(min_length=1)] = input_field(
        "model", description="name -> reward model; an ensemble counts as its members"
    )
    dataset: str = input_field("data", "collect", description="preferences whose replies set the scale of the scores")
    max_length: Positive = Field(1024, description="tokens a row; longer ones are left out")
    max_bad_rows: int = Field(0, ge=0, description="unreadable data rows that may be left out (they go to a file)")
    pad_token: str | None = Field(None, description="padding token when the tokenizer's equals its stop token")


class ProcessConfig(_ScoreTraining):
    """Process reward model: the probability that each step of a reply is right."""

    dataset: str = input_field("data", description="replies in steps with a label a step")
    step_separator: str = Field("\n", min_length=1, description="text between two steps; stored with the model")
    step_aggregate: Literal["min", "product", "last"] = Field(
        "min", description="one score a reply from P(right) of its steps; stored with the model"
    )
