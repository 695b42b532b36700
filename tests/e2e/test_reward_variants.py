"""The stages of reward models with several outputs, at the smallest size that trains, and what PPO makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

import tiny_lab
from accord.data import write_records
from accord.errors import ModelError
from accord.models.members import load_members
from accord.rewards.load import load_reward_fn
from accord.types import Candidate, Completion, Demonstration, Message, Preference, Prompt, Rollout, Stepwise
from tiny_lab import Ran, rows

pytestmark = pytest.mark.slow

TRAINING = """
  max_length: 128
  max_steps: 6
  train_batch_size: 6
  learning_rate: 1.0e-3
  eval_fraction: 0.3
  logging_steps: 3
  save_steps: 4
"""
SECTIONS = (
    "".join(
        f"\n{name}:\n  {extra}{TRAINING}"
        for name, extra in (
            ("ensemble", "num_members: 2"),
            ("ensemble_adapters", "num_members: 2\n  form: adapters\n  lora_r: 2"),
            ("ensemble_models", "num_members: 2\n  form: models\n  same_head: true"),
            ("odin", "length_weight: 2.0"),
            ("attributes", "dataset: rated.jsonl\n  attributes: {kind: 1.0, wordy: -0.5}"),
            (
                "attributes_order",
                "dataset: rated_pairs.jsonl\n  attributes: {kind: 1.0, wordy: 0.2}\n  loss_type: bradley_terry",
            ),
            ("process", "dataset: steps.jsonl\n  step_aggregate: product"),
        )
    )
    + "\nwarm:\n  models: {members: ensemble_models}\n  max_length: 128\n"
)
MADE = {
    "ensemble",
    "ensemble_adapters",
    "ensemble_models",
    "odin",
    "attributes",
    "attributes_order",
    "process",
    "warm",
}


def write_data(directory: Path) -> None:
    """Rated replies, rated pairs and steps; what is right can be read off the words."""
    rated: list[Demonstration] = []
    pairs: list[Preference] = []
    steps: list[Stepwise] = []
    for i in range(40):
        prompt = Prompt(id=f"p{i}", messages=(Message(role="user", content=f"say {i}"),))
        ratings = {"kind": i % 3, "wordy": None if i % 4 == 0 else i % 5}
        texts = ["yes " * (1 + i % 5), "no " * (1 + (i + 2) % 5)]
        reply = Message(role="assistant", content=texts[0])
        rated.append(Demonstration(id=f"r{i}", messages=(*prompt.messages, reply), meta=ratings))
        both = tuple(
            Candidate(text=t, meta={"kind": k, "wordy": len(t)}) for t, k in zip(texts, (2, i % 3), strict=True)
        )
        pairs.append(Preference(id=f"q{i}", prompt=prompt, candidates=both, choice=0))
        parts = ("one", "two" if i % 2 else "six", "three")
        labels = (True, bool(i % 2), bool(i % 2))
        steps.append(Stepwise(id=f"s{i}", prompt=prompt, completions=parts, labels=labels))
    write_records(rated, directory / "rated.jsonl")
    write_records(pairs, directory / "rated_pairs.jsonl")
    write_records(steps, directory / "steps.jsonl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    directory = tmp_path_factory.mktemp("variants")
    write_data(directory)
    head = tiny_lab.CONFIG.split("\nreward:")[0]
    config = tiny_lab.write_config(directory, head + SECTIONS)
    return {"run": tiny_lab.run(config, directory)}


def metrics(made: dict[str, Ran], section: str) -> dict[str, Any]:
    return made["run"].made[section].manifest.metrics


@pytest.mark.parametrize("section", sorted(MADE))
def test_every_stage_leaves_a_scalar_reward_model_and_a_reward_function(made: dict[str, Ran], section: str) -> None:
    model = made["run"].made[section].path("model")
    theirs = AutoModelForSequenceClassification.from_pretrained(str(model))
    assert theirs.config.num_labels == 1
    reply = Completion(token_ids=(40, 50, 60), finish="length")
    prompt = Prompt(id="p", messages=(Message(role="user", content="x"),))
    rollout = Rollout(prompt=prompt, prompt_ids=(1, 30), completion=reply, group="p")
    (score,) = load_reward_fn(str(model))([rollout])
    assert score.value is not None, score.error
    assert set(score.parts) == {
        "ensemble": {"member_0", "member_1", "mean", "variance"},
        "attributes": {"kind", "wordy"},
        "process": {"steps", "min", "product", "last"},
    }.get(section.split("_")[0], set())


def test_the_members_of_an_ensemble_are_measured_and_differ(made: dict[str, Ran]) -> None:
    for form in ("", "_adapters", "_models"):
        found = json.loads(made["run"].made[f"ensemble{form}"].path("eval.json").read_text())
        assert set(found) == {"mean", "member_0", "member_1"}
        assert found["member_0"]["nll"] != found["member_1"]["nll"]
        _, index = load_members(made["run"].made[f"ensemble{form}"].path("model"))
        assert index.form == (form[1:] or "heads") and min(index.std) > 0
        assert "disagreement" in rows(made["run"].made[f"ensemble{form}"].path("metrics.jsonl"))[-1]


def test_odin_logs_and_stores_the_correlation_with_length(made: dict[str, Ran]) -> None:
    last = rows(made["run"].made["odin"].path("metrics.jsonl"))[-1]
    assert {"length_correlation", "length_head_correlation", "head_overlap"} <= set(last)
    found = json.loads(made["run"].made["odin"].path("eval.json").read_text())
    assert abs(found["held_out"]["length_correlation"]["quality"]) <= 1


def test_a_mean_of_members_with_one_head_is_aligned(made: dict[str, Ran]) -> None:
    assert metrics(made, "warm")["models"] == 2
    assert metrics(made, "warm")["head_cosine_min"] > 0.9


def test_attributes_are_measured_in_their_own_units(made: dict[str, Ran]) -> None:
    assert 0 < metrics(made, "attributes")["kind_rmse"] < 3
    assert 0 <= metrics(made, "attributes_order")["kind_accuracy"] <= 1


def test_ppo_takes_an_ensemble(made: dict[str, Ran], tmp_path: Path) -> None:
    head, _, rest = tiny_lab.CONFIG.partition("\nppo:")
    ppo = "\nppo:" + rest.split("\ndpo:")[0]
    write_data(tmp_path)
    kept = head.split("\nreward:")[0] + f"\nensemble:\n  num_members: 2{TRAINING}" + ppo
    config = tiny_lab.write_config(tmp_path, kept)
    ran = tiny_lab.run(
        config,
        tmp_path,
        "ppo.reward_model=ensemble",
        "ppo.reward_combine=uncertainty",
        "ppo.num_rounds=1",
        "ppo.prompts=lab:prompts?num=64&split=train",  # as many SFT replies as it takes to know what is unlike them
        only="ppo",
    )
    assert ran.made["ppo"].manifest.metrics["steps"] > 0
    told = {name: value for row in rows(ran.made["ppo"].path("metrics.jsonl")) for name, value in row.items()}
    assert told["signals/spread"] > 0 and told["rewards/distance/mean"] > 0


def test_different_tokenizers_are_not_averaged(made: dict[str, Ran], tmp_path: Path) -> None:
    import shutil

    one = made["run"].made["odin"].path("model")
    other = tmp_path / "other"
    shutil.copytree(one, other)
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    head = tiny_lab.CONFIG.split("\nreward:")[0].split("\npretrain:")[0]
    data = made["run"].made["collect"].path("preferences.jsonl")
    text = f"{head}\nwarm:\n  models: {{a: {one}, b: {other}}}\n  dataset: {data}\n"
    with pytest.raises(ModelError, match="different tokenizers"):
        tiny_lab.run(tiny_lab.write_config(tmp_path, text), tmp_path)
