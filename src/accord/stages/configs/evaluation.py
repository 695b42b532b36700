"""Evaluation and the report."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from accord.config import Config
from accord.pipeline import input_field
from accord.stages.configs.base import Limit, Models, Positive, Sampling

_ADDRESSES = ("http://", "https://")


class Judging(Config):
    """Who judges, and how it is asked."""

    judge: str = input_field(
        "model",
        "lab:gold",
        description="lab:gold, a reward model (stage or path), the address of an OpenAI-compatible server, or people",
        outside=("people", *_ADDRESSES),
    )
    judge_model: str | None = Field(None, description="name of the model at the judge's address")
    judge_key_variable: str | None = Field(
        None, description="environment variable of its API key; null = ACCORD_JUDGE_API_KEY, if that is set"
    )
    judge_how: Literal["auto", "logprobs", "verdict"] = Field(
        "auto",
        description="auto: P(A) / (P(A) + P(B)) of one letter where the server tells log-probabilities, else a verdict",
    )
    judge_template: Literal["pairwise", "arena"] = Field(
        "pairwise", description="verdict in words: A, B or tie; or Arena-Hard's five levels"
    )
    judge_samples: Positive = Field(1, description="verdicts an order, averaged; several are drawn at temperature 0.7")
    judge_concurrency: Positive = Field(8, description="calls in flight")
    judge_timeout: float = Field(120.0, gt=0, description="seconds for one call")
    judge_max_calls: Limit = Field(-1, description="budget of calls of one attempt; -1 = no limit")
    judge_labels: str | None = input_field(
        "data", None, description="labelled pairs that the judge is measured on before it is believed"
    )
    weak_judge: Literal["refuse", "warn"] = Field(
        "refuse", description="what happens when the judge may be no better than a coin on judge_labels"
    )
    database: str | None = Field(
        None, description="people: SQLite file or address of a database; null = labels.db of the run"
    )
    project: str | None = Field(None, description="people: project in it; null = the section's name")
    labels_per_item: Positive = Field(1, description="people: answers a pair")

    @model_validator(mode="after")
    def _settings_fit_the_judge(self) -> Judging:
        remote = self.judge.startswith(_ADDRESSES)
        if remote and self.judge_model is None:
            raise ValueError("a judge behind an address needs judge_model, the name of the model there")
        if not remote and self.judge_model is not None:
            raise ValueError(f"judge_model is for a judge behind an address, and judge is {self.judge}")
        if self.judge != "people" and (self.database is not None or self.project is not None):
            raise ValueError(f"database and project are for judge: people, and judge is {self.judge}")
        return self


class EvaluateConfig(Sampling, Judging):
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
    baseline: str = Field("sft", description="name of the model the others are compared with")
    num_prompts: Limit = Field(-1, description="-1 = all")
    max_batch: Positive = Field(128, description="sequences decoded at a time")
    compare: Literal["baseline", "all"] = Field(
        "baseline", description="judges that compare: each model with the baseline, or every two; others do every two"
    )
    abilities: dict[str, str] = input_field(
        "data",
        {},
        description="name -> text (perplexity), demonstrations (perplexity of the replies) or questions with an answer",
    )

    scorers: dict[str, str] = Field(
        {},
        description="name -> package.module:function, address or directory of a classifier, with #label; "
        "scores replies",
    )

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
