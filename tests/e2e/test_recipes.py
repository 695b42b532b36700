"""The recipes load, and each runs from data to report on a small data set of the same form."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

import accord
from accord.cli import load
from accord.pipeline import order, run_pipeline, stage_of
from accord.stages import STAGES
from accord.yamlfile import load_yaml
from tiny_lab import rows

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
SHIPPED = [*RECIPES, *sorted((Path(accord.__file__).parent / "starter").glob("*.yaml"))]
SMALL: dict[str, dict[str, Any]] = {
    "pretrain": {
        "vocab_size": 300,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "max_length": 96,
        "max_steps": 4,
        "train_batch_size": 4,
    },
    "sft": {"max_length": 192, "max_steps": 4, "train_batch_size": 4},
    "reward": {"max_length": 192, "max_steps": 4, "train_batch_size": 4},
    "ppo": {
        "max_length": 256,
        "max_completion_length": 6,
        "num_rounds": 2,
        "train_batch_size": 4,
        "eval_num_prompts": 4,
        "eval_steps": 2,
    },
    "dpo": {
        "max_length": 192,
        "max_completion_length": 6,
        "max_steps": 3,
        "train_batch_size": 4,
        "eval_num_prompts": 4,
        "eval_steps": 2,
    },
    "evaluate": {"num_prompts": 6, "max_completion_length": 6},
}
"""Sizes of each stage here; everything else is as the recipe says."""
ADJECTIVES = ("red", "old", "small", "quick", "kind", "cold", "plain", "sweet")
NOUNS = ("lamp", "river", "horse", "garden", "letter", "bread", "stone")


def subject(number: int) -> str:
    return f"the {ADJECTIVES[number % 8]} {NOUNS[number % 7]}"


def transcripts(path: Path, test_models: list[str]) -> None:
    """HH-RLHF: two transcripts that share everything but the last reply; one row has an empty reply."""
    draw = random.Random(1)
    lines = []
    for number in range(56):
        turns = f"\n\nHuman: Tell me about {subject(number)}.\n\nAssistant: What about it?" * (number % 3 == 0)
        shared = f"{turns}\n\nHuman: Where is {subject(number)} number {number}?\n\nAssistant:"
        chosen, rejected = f" It is in the {draw.choice(NOUNS)} room, I think.", " No." + " Go away!" * (number % 2)
        lines.append({"chosen": shared + chosen, "rejected": shared + rejected})
    lines.append({"chosen": "\n\nHuman: Hello?\n\nAssistant: Yes?", "rejected": "\n\nHuman: Hello?\n\nAssistant:"})
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def judged_pairs(path: Path, test_models: list[str]) -> None:
    """AlpacaEval: a reference answer against that of another model; 1 = first better, 2 = second; 1.5 = tie."""
    draw = random.Random(2)
    lines = []
    models = [*test_models, "model-a", "model-b", "model-c"]
    for number in range(40):
        for model in draw.sample(models, 4):
            lines.append(
                {
                    "index": number,
                    "instruction": f"Write one line about {subject(number)}, number {number}.",
                    "output_1": f"Here is {subject(number)} in one line.",
                    "output_2": f"{model} says: {draw.choice(NOUNS)}!",
                    "generator_2": model,
                    "preference": 1.5 if len(lines) == 3 else round(1 + draw.random(), 4),
                }
            )
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


DATA = {"hh-harmless": transcripts, "alpaca-judged": judged_pairs}


def by_name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=by_name)
def test_shipped_configs_load(path: Path) -> None:
    config = load(path, [])
    assert sorted(order(config)) == sorted(config.sections)
    assert {"pretrain", "sft", "reward", "ppo", "dpo", "evaluate", "report"} <= set(config.sections)
    assert config.run.description


def test_every_recipe_has_data_of_its_form_here() -> None:
    assert sorted(DATA) == [path.stem for path in RECIPES]


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=by_name)
def test_recipes_run_from_data_to_report(path: Path, tmp_path: Path) -> None:
    dataset = tmp_path / Path(load_yaml(path).data["split"]["dataset"]).name
    test_models = load_yaml(path).data["split"].get("test_models", [])
    DATA[path.stem](dataset, test_models)
    overrides = [f"run.dir={tmp_path}", "run.threads=1", f"split.dataset={dataset}"]
    for section in load(path, []).sections:
        stage = stage_of(section, STAGES)
        assert stage is not None
        overrides += [f"{section}.{key}={value}" for key, value in SMALL.get(stage.name, {}).items()]
    made = run_pipeline(load(path, overrides), STAGES, say=lambda line: None)

    train, test = (rows(made["split"].dir / f"{part}.jsonl") for part in ("train", "test"))
    counts = made["split"].manifest.metrics
    refused = made["split"].dir / "rejects-dataset.jsonl"
    with gzip.open(dataset, "rt", encoding="utf-8") as file:
        lines = sum(1 for _ in file)
    assert len(train) + len(test) + counts["unused"] + (len(rows(refused)) if refused.exists() else 0) == lines
    assert refused.exists() == (path.stem == "hh-harmless")
    assert len(test) >= 4
    assert not {prompt(row) for row in train} & {prompt(row) for row in test}
    assert not {name for row in train for name in models(row)} & set(test_models)
    assert all(set(models(row)) & set(test_models) for row in test) == bool(test_models)
    for section, field in (("sft", "dataset"), ("reward", "dataset"), ("ppo", "prompts"), ("reward", "eval_dataset")):
        assert made[section].manifest.inputs[field].stage == "split"
    assert made["reward_judge"].fingerprint != made["reward"].fingerprint
    report = json.loads((made["reward"].dir / "eval.json").read_text(encoding="utf-8"))
    assert {report["accuracy"]["n"], *(b["n"] for b in report["baselines"].values())} == {report["accuracy"]["n"]}
    assert set(report["baselines"]) == {"longer", "bag_of_words"}
    assert report["gold_accuracy"] is None

    results = json.loads((made["evaluate"].dir / "results.json").read_text(encoding="utf-8"))
    assert set(results["models"]) == {"base", "sft", "ppo", "dpo"}
    asked = {row["prompt"]["messages"][0]["content"] for row in rows(made["evaluate"].dir / "answers.jsonl")}
    assert len(asked) >= 4
    assert asked <= {prompt(row) for row in test}
    assert (made["report"].dir / "report.html").stat().st_size > 10_000


def prompt(row: dict[str, Any]) -> str:
    """First user turn of a preference."""
    return next(m["content"] for m in row["prompt"]["messages"] if m["role"] == "user")


def models(row: dict[str, Any]) -> list[str]:
    """Who wrote the replies of a preference."""
    return [c["model"] for c in row["candidates"] if c["model"]]
