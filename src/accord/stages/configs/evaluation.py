"""Evaluation and the report."""

from __future__ import annotations

from pydantic import Field, model_validator

from accord.config import Config
from accord.pipeline import input_field
from accord.stages.configs.base import Limit, Models, Positive, Sampling


class EvaluateConfig(Sampling):
    """Answers of several models to held-out prompts, judged against a baseline."""

    models: Models = input_field(
        "model",
        {"base": "pretrain", "sft": "sft", "ppo": "ppo", "dpo": "dpo"},
        description="name -> stage, directory or hub id",
    )
    answers: dict[str, str] = input_field(
        "data", {}, description="name -> best_of_n stage that answered the same prompts; judged beside the models"
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
        twice = sorted(set(self.models) & set(self.answers))
        if twice:
            raise ValueError(f"'{twice[0]}' is the name of a model and of answers")
        return self


class ReportConfig(Config):
    """One self-contained HTML page about the run; there is nothing to set."""
