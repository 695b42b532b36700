"""Reward models of one group of annotators each, and the worst-group rule over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import tiny_lab
from accord.errors import DataError
from accord.lab.annotators import GROUPS
from accord.models.members import load_members
from accord.rewards.load import load_reward_fn
from accord.stages.configs import EnsembleConfig
from accord.types import Completion, Message, Prompt, Rollout
from tiny_lab import Ran, rows

pytestmark = pytest.mark.slow

TRAINING = """
  dataset: collect:judgements
  max_length: 128
  max_steps: 4
  train_batch_size: 6
  learning_rate: 1.0e-3
  eval_fraction: 0.3
"""
HEAD = tiny_lab.CONFIG.split("\nreward:")[0] + "\n  labels_per_item: 8\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    directory = tmp_path_factory.mktemp("groups")
    text = f"{HEAD}\nreward_warm:\n  group: warm{TRAINING}\nensemble:\n  by_group: true{TRAINING}\n"
    return tiny_lab.run(tiny_lab.write_config(directory, text), directory), directory


def test_a_reward_model_of_one_group_sees_its_judgements_only(made: tuple[Ran, Path]) -> None:
    ran, _ = made
    judged = rows(ran.made["collect"].path("judgements.jsonl"))
    warm = [r for r in judged if r["group"] == "warm" and "choice" in r]
    told = ran.made["reward_warm"].manifest.metrics
    assert 0 < told["pairs"] <= len(warm) < len(judged) / 2
    found: dict[str, Any] = json.loads(ran.made["reward_warm"].path("eval.json").read_text())
    slices = found["card"]["slices"]
    assert set(slices.get("group", {"warm": None})) == {"warm"}


def test_members_are_named_after_groups_and_the_worst_one_is_the_score(made: tuple[Ran, Path]) -> None:
    ran, _ = made
    model = ran.made["ensemble"].path("model")
    _, index = load_members(model)
    assert index.names == tuple(sorted(GROUPS))
    prompt = Prompt(id="p", messages=(Message(role="user", content="x"),))
    reply = Completion(token_ids=(40, 50, 60), finish="length")
    (score,) = load_reward_fn(str(model), combine="worst")(
        [Rollout(prompt=prompt, prompt_ids=(1, 30), completion=reply, group="p")]
    )
    assert score.value == pytest.approx(min(score.parts[g] for g in GROUPS))
    report = json.loads(ran.made["ensemble"].path("eval.json").read_text())
    assert set(report) == {"mean", *GROUPS}
    tested = [report[g]["accuracy"]["n"] for g in GROUPS]
    assert sum(tested) == report["mean"]["accuracy"]["n"] > max(tested)  # each on the judgements of its group


def test_each_member_learns_from_its_own_group(made: tuple[Ran, Path]) -> None:
    ran, directory = made
    lines = [json.loads(line) for line in ran.made["collect"].path("judgements.jsonl").read_text().splitlines()]
    for row in lines:
        if row["group"] == "busy" and row.get("choice") is not None:
            row["choice"] = 1 - row["choice"]
    data = directory / "judged.jsonl"
    head = "run:\n  name: alone\n  threads: 1\n"
    section = f"\nensemble:\n  model_name_or_path: {ran.made['sft'].path('model')}\n  by_group: true\n  form: models"
    text = head + section + TRAINING.replace("collect:judgements", str(data))
    members = []
    for number, content in enumerate((ran.made["collect"].path("judgements.jsonl").read_text(), None)):
        data.write_text(content or "".join(json.dumps(row) + "\n" for row in lines))
        again = tiny_lab.run(tiny_lab.write_config(directory, text), directory, f"run.name=alone{number}")
        model, index = load_members(again.made["ensemble"].path("model"))
        members.append({n: list(model.member(k).parameters()) for k, n in enumerate(index.names)})
    same = {n: all(p.equal(q) for p, q in zip(members[0][n], members[1][n], strict=True)) for n in members[0]}
    assert same == {"busy": False, "careful": True, "plain": True, "warm": True}


def test_groups_that_are_not_there_are_named(made: tuple[Ran, Path]) -> None:
    ran, directory = made
    path = ran.made["collect"].path("judgements.jsonl")
    head = tiny_lab.CONFIG.split("\nsample:")[0]

    def fails(section: str, words: str, data: Path = path) -> None:
        text = head + section + TRAINING.replace("collect:judgements", str(data))
        with pytest.raises(DataError, match=words):
            tiny_lab.run(tiny_lab.write_config(directory, text), directory)

    fails("\nreward:\n  group: wram", "no judgement is by the group 'wram'")
    bare, one = directory / "bare.jsonl", directory / "one.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    bare.write_text("".join(json.dumps({**r, "group": ""}) + "\n" for r in lines))
    one.write_text("".join(json.dumps({**r, "group": "warm"}) + "\n" for r in lines))
    fails("\nreward:\n  group: warm", "single judgements", bare)
    fails("\nensemble:\n  by_group: true", "judgements have no group", bare)
    fails("\nensemble:\n  by_group: true", "one group of annotators, warm", one)


def test_options_that_by_group_decides_are_refused() -> None:
    with pytest.raises(ValidationError, match="num_members"):
        EnsembleConfig(by_group=True, num_members=3)
    assert EnsembleConfig(by_group=True).by_group
