"""Stages that make or cut data: split, sample, collect."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from accord.collect.rules import Aggregate
from accord.collect.settings import ProjectSettings, TiePolicy
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
    kind: Literal["pair", "rank"] = Field(
        "pair", description="people: two replies at a time, or all replies of a prompt"
    )
    selection: Literal["random", "uncertainty", "disagreement", "coverage"] = Field(
        "random", description="which of the comparisons are judged, when num_pairs is below their number"
    )
    num_pairs: Limit = Field(-1, description="comparisons to have judged; -1 = all")
    random_slice: Fraction = Field(
        0.15,
        description="share of num_pairs drawn at random from all, whatever the selection; agreement is measured there",
    )
    reward_model: str | None = input_field(
        "model", None, description="selection uncertainty: reward model; disagreement: ensemble"
    )
    labels_per_item: Positive = Field(1, description="judgements wanted for every pair")
    overlap_fraction: Fraction = Field(0.1, description="share of pairs judged by overlap_labels annotators")
    overlap_labels: Positive = Field(4, description="judgements for each of these, to measure agreement")
    aggregate: Aggregate = Field(
        "none",
        description="how the judgements of a pair become one row; none: each is a row. The single ones stay in a file",
    )
    tie_policy: TiePolicy = Field(
        "tie", description="majority: what equal votes become; adjudicate: left out until an adjudicator has decided"
    )
    weights: dict[str, float] | None = Field(
        None, description="aggregate weighted: annotator -> weight; who is not named has 1"
    )
    population: dict[str, float] | None = Field(
        None, description="aggregate group_mixture: group -> share of the population; null = all alike"
    )
    database: str | None = Field(
        None, description="people: file or postgresql:// address of the labels; null = labels.db in the run directory"
    )
    project: str | None = Field(
        None,
        description="people: project in the database, of which only this stage's tasks count; null = the stage's name",
    )
    guidelines: str | None = Field(None, description="people: Markdown file with the rules annotators see")
    gold: str | None = input_field(
        "data", None, description="people: preferences whose verdicts are right; asked in between as hidden tests"
    )
    leaks: Literal["flag", "mask", "drop"] = Field(
        "flag", description="people: replies that name their model are counted, shown with [name] instead, or left out"
    )
    rules: dict[str, Any] = Field(
        default_factory=dict, description="people: further rules of the project by name, see docs/collecting.md"
    )
    labels: str | None = Field(
        None, description="people: file of Preference rows in place of the database; null = also in the run directory"
    )
    min_labels: Positive = Field(500, description="people: judgements to wait for; raise it to take in later ones")

    @model_validator(mode="after")
    def _consistent(self) -> CollectConfig:
        if self.selection != "random" and self.num_pairs < 0:
            raise ValueError(f"selection {self.selection} chooses nothing while num_pairs is -1 (all)")
        if self.selection in ("uncertainty", "disagreement") and self.reward_model is None:
            raise ValueError(f"selection {self.selection} needs a reward_model")
        if self.kind == "rank" and self.annotators == "lab":
            raise ValueError("the simulated annotators compare pairs: set kind to pair, or annotators to people")
        if self.kind == "rank" and self.selection in ("uncertainty", "disagreement"):
            raise ValueError(f"selection {self.selection} is about pairs: set kind to pair, or selection to coverage")
        known = {"overlap", "random_slice", "slice_overlap", "tie_policy", "kinds"} & self.rules.keys()
        if known:
            raise ValueError(f"rules.{min(known)} has a key of its own: labels_per_item, overlap_fraction, ...")
        ProjectSettings.model_validate(self.rules)
        return self
