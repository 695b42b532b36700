"""Stages that make or cut data: split, sample, collect."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from accord.config import Config
from accord.pipeline import input_field
from accord.stages.configs.base import Fraction, Limit, Models, Positive, Sampling


class SplitConfig(Config):
    """One data set cut into training and test rows; refer to them as `split:train` and `split:test`."""

    dataset: str = input_field("data", description="any data set")
    test_fraction: float = Field(0.1, gt=0, lt=1, description="share of the prompts (first user turns) in the test")
    test_models: tuple[str, ...] = Field((), description="models whose replies occur in test rows only")
    num_rows: Limit = Field(-1, description="use only the first rows; -1 = all")
    max_bad_rows: int = Field(0, ge=0, description="unreadable rows that may be left out (they go to a file)")


class SampleConfig(Sampling):
    """Candidates for people (or judges) to compare."""

    models: Models = input_field(
        "model", {"sft": "sft"}, description="name -> stage, directory or hub id; replies are drawn in turn"
    )
    prompts: str = input_field("data", description="prompts")
    num_prompts: Limit = Field(-1, description="-1 = all")
    skip_prompts: int = Field(0, ge=0, description="prompts left out before the first; rounds use it for new prompts")
    num_generations: int = Field(2, ge=2, le=9, description="replies a prompt, over all models")
    distinct: bool = Field(True, description="leave out replies with the same text; a prompt needs two")
    max_batch: Positive = Field(128, description="sequences decoded at a time")


class CollectConfig(Config):
    """Judgements about sampled candidates."""

    samples: str = input_field("data", "sample", description="what to compare: the sample stage or a file of its form")
    earlier: str | None = input_field(
        "data", None, description="preferences that go in front of the new ones, e.g. those of the round before"
    )
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
