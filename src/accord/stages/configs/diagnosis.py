"""Diagnosis of a policy while it is optimised, and what is done to scores so that they are harder to game."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from accord.config import Config
from accord.diagnose.rules import Thresholds
from accord.stages.configs.base import Positive


class DiagnosisConfig(Config):
    """Signals of reward hacking, traffic lights and alarms; see docs/diagnosis.md."""

    enabled: bool = Field(default=True, description="read the signals of every round and keep traffic lights")
    action: Literal["log", "raise_kl", "lower_lr", "stop", "rollback"] = Field(
        default="log",
        description="what an alarm does: log (always done); kl_coef x kl_factor; learning_rate x lr_factor; end "
        "training; end it with the weights of the last measurement (round, without eval_prompts) without an alarm",
    )
    kl_factor: float = Field(default=2.0, gt=1, description="action raise_kl: what kl_coef is multiplied by")
    lr_factor: float = Field(
        default=0.5, gt=0, lt=1, description="action lower_lr: what learning_rate is multiplied by"
    )
    patience: Positive = Field(
        default=2, description="readings in a row that change a light: one odd round is no alarm"
    )
    wait_for_judge: bool = Field(
        default=True,
        description="with a judge (judge, judge_model), stop and rollback wait after an alarm until gold_drop is red "
        "or training ends: waiting costs time only, since the best weights are kept; false = at the alarm",
    )
    num_samples: Positive = Field(
        default=10, description="most suspicious replies written at an alarm, beside the SFT model's"
    )
    behaviour: Literal["auto", "lab", "general", "none"] = Field(
        default="auto",
        description="prompts for sycophancy and refusals, measured with eval_prompts: the lab's, general ones in "
        "English, or those that fit eval_prompts",
    )
    behaviour_prompts: Positive = Field(default=160, description="size of the lab's set; the general one has 84")
    red: Thresholds = Field(default_factory=Thresholds, description="shift from the SFT model's that is an alarm")


class Diagnosed(Config):
    """Fields of the stages that are watched for reward hacking."""

    diagnosis: DiagnosisConfig = Field(
        default_factory=DiagnosisConfig, description="signals of reward hacking, lights and alarms"
    )

    @model_validator(mode="after")
    def _diagnosis_fits(self) -> Diagnosed:
        if self.diagnosis.action == "raise_kl" and not getattr(self, "kl_coef", 0):
            raise ValueError("diagnosis.action: raise_kl multiplies kl_coef, and kl_coef is 0; start above 0")
        if self.diagnosis.red.kl_budget is not None and not getattr(self, "measure_kl", True):
            raise ValueError("diagnosis.red.kl_budget needs measure_kl: true")
        return self


class Shaped(Config):
    """Fields that make scores harder to game."""

    reward_shaping: Literal["none", "par"] = Field(
        "none",
        description="par: mean of sigmoid(score - score of an SFT reply), bounded (2502.18770); the SFT replies are "
        "drawn and scored before training",
    )
    par_references: Positive = Field(1, description="reward_shaping par: SFT replies a prompt; the paper: 1 is enough")
    length_calibration: Literal["none", "regression", "loess"] = Field(
        "none",
        description="scores of a round minus their line or LOESS curve over length (2409.17407): what length explains "
        "is not rewarded, also where long replies are better",
    )
    length_penalty: float = Field(0.0, ge=0, description="score a token beyond length_free, subtracted; 0 = off")
    length_free: int = Field(0, ge=0, description="tokens a reply may have without length_penalty")

    @model_validator(mode="after")
    def _shaping_fits(self) -> Shaped:
        if self.length_free and not self.length_penalty:
            raise ValueError("length_free does nothing without length_penalty: set both or none")
        if self.reward_shaping == "none" and self.par_references != 1:
            raise ValueError("par_references is for reward_shaping: par")
        if self.reward_shaping == "par" and getattr(self, "score_saturation", None) is not None:
            raise ValueError("reward_shaping: par and score_saturation are both sigmoids of the score: choose one")
        return self
