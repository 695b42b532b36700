"""A place to make mistakes in: a tiny trained kit, config files around it, and the command line called in-process."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from accord import cli
from accord.errors import AccordError
from accord.stages.configs import PPOConfig
from accord.yamlfile import dump_yaml

TRAIN = {"max_length": 64, "max_steps": 1, "train_batch_size": 2, "eval_fraction": 0.0, "warmup_ratio": 0.0}
"""Cheapest settings of a stage that trains."""
REPLIES = {"max_completion_length": 4}
"""Cheapest settings of a stage that generates."""

QUESTIONS = ("Name a fish.", "Name a bird.", "Name a tree.", "Name a town.")
DEMONSTRATIONS = [{"prompt": q, "completion": f"Answer {i}."} for i, q in enumerate(QUESTIONS)]
PAIRS = [{"prompt": q, "chosen": f"Good {i}.", "rejected": "Bad."} for i, q in enumerate(QUESTIONS)]
PROMPTS = [{"prompt": q} for q in QUESTIONS]


def jsonl(*rows: Any) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@dataclass(frozen=True)
class Outcome:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What was said about the error, from its first line on."""
        found = re.search(r"^(?:error|waiting|interrupted|Usage): ?", self.err, re.M)
        assert found, f"no message on stderr:\n{self.err}"
        return self.err[found.start() :]


@dataclass(frozen=True)
class Site:
    """Everything a case needs to prepare its mistake."""

    dir: Path
    """An empty directory of the case's own."""
    kit: Path
    """Holds base, sft and reward, each a model directory."""
    patch: pytest.MonkeyPatch
    """For disks and networks that fail."""

    def file(self, name: str, content: str | bytes) -> str:
        """Write a file and return its path."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def rows(self, name: str, *rows: Any) -> str:
        """Write a JSONL file and return its path."""
        return self.file(name, jsonl(*rows))

    def model(self, name: str, *, keep: bool = False) -> Path:
        """A copy of a model of the kit that may be damaged; the model itself with `keep`."""
        if keep:
            return self.kit / name
        path = self.dir / f"my-{name}"
        shutil.copytree(self.kit / name, path)
        return path

    def config(self, sections: Mapping[str, Mapping[str, Any]], **run: Any) -> str:
        """Write a run config and return its path."""
        settings = {"name": "bad", "dir": str(self.dir / "runs"), "threads": 1, **run}
        return self.file("run.yaml", dump_yaml({"run": settings, **sections}))

    def run(self, sections: Mapping[str, Mapping[str, Any]], **run: Any) -> list[str]:
        """Arguments that run a config of these sections."""
        return ["run", self.config(sections, **run)]

    def sft(self, model: Any = None, **keys: Any) -> list[str]:
        """Arguments that fine-tune a model of the kit for one step."""
        data = keys.pop("dataset", None) or self.rows("demos.jsonl", *DEMONSTRATIONS)
        start = str(model or self.kit / "base")
        return self.run({"sft": {"model_name_or_path": start, "dataset": data, **TRAIN, **keys}})

    def reward(self, model: Any = None, **keys: Any) -> list[str]:
        """Arguments that train a reward model for one step."""
        data = keys.pop("dataset", None) or self.rows("pairs.jsonl", *PAIRS)
        start = str(model or self.kit / "sft")
        return self.run({"reward": {"model_name_or_path": start, "dataset": data, **TRAIN, **keys}})

    def dpo(self, model: Any = None, **keys: Any) -> list[str]:
        """Arguments that do one step of DPO."""
        data = keys.pop("dataset", None) or self.rows("pairs.jsonl", *PAIRS)
        start = str(model or self.kit / "sft")
        return self.run({"dpo": {"model_name_or_path": start, "dataset": data, **TRAIN, **keys}})

    def ppo(self, model: Any = None, reward: Any = None, **keys: Any) -> list[str]:
        """Arguments that do one round of PPO."""
        settings = {
            "model_name_or_path": str(model or self.kit / "sft"),
            "reward_model": str(reward or self.kit / "reward"),
            "prompts": keys.pop("prompts", None) or self.rows("prompts.jsonl", *PROMPTS),
            **{name: value for name, value in TRAIN.items() if name in PPOConfig.model_fields},
            **REPLIES,
            "num_rounds": 1,
            "num_ppo_epochs": 1,
        }
        return self.run({"ppo": {**settings, **keys}})

    def sample(self, model: Any = None, **keys: Any) -> list[str]:
        """Arguments that draw two replies to each prompt."""
        prompts = keys.pop("prompts", None) or self.rows("prompts.jsonl", *PROMPTS)
        models = {"sft": str(model or self.kit / "sft")}
        return self.run({"sample": {"models": models, "prompts": prompts, **REPLIES, **keys}})

    def evaluate(self, **keys: Any) -> list[str]:
        """Arguments that compare base and SFT."""
        settings = {
            "models": {"base": str(self.kit / "base"), "sft": str(self.kit / "sft")},
            "prompts": keys.pop("prompts", None) or self.rows("prompts.jsonl", *PROMPTS),
            "judge": str(self.kit / "reward"),
            **REPLIES,
        }
        return self.run({"evaluate": {**settings, **keys}})

    def collect(self, samples: str, **keys: Any) -> list[str]:
        """Arguments that ask for judgements."""
        return self.run({"collect": {"samples": samples, **keys}})


@dataclass(frozen=True)
class Case:
    """One mistake and what has to be said about it."""

    name: str
    """Id of the test."""
    error: type[AccordError]
    """Kind of the error; decides the exit code."""
    says: tuple[str, ...]
    """Parts of the message."""
    make: Callable[[Site], list[str]]
    """Prepares the mistake and returns the arguments of `accord`."""
    section: str | None = None
    """Stage that must not be finished."""
    where: bool = True
    """The message names a place."""
    fix: bool = True
    """The message says what to do."""


def accord(argv: list[str], capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> Outcome:
    """Call the entry point as the shell would."""
    capsys.readouterr()
    patch.setattr(sys, "argv", ["accord", *argv])
    code: Any = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return Outcome(int(code or 0), out, err)


def finished(run_dir: Path) -> set[str]:
    """Stages of a run that count as finished."""
    found = [path.parent.name for path in run_dir.glob("*/manifest.json")]
    return {name.rpartition("-")[0] for name in found if not name.endswith(".partial")}


def assert_nothing_half_written(directory: Path) -> None:
    """No manifest, checkpoint or file that claims to be complete and is not."""
    assert [path for path in directory.rglob("*.partial/manifest.json") if path.is_file()] == []
    assert list(directory.rglob("*.tmp")) + list(directory.rglob("ckpt-*.tmp.*")) == []
