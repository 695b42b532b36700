"""The whole lab loop at the smallest size at which every stage still trains: seconds on one core."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.artifacts import Artifact
from accord.cli import load
from accord.pipeline import run_pipeline
from accord.stages import STAGES

CONFIG = """\
run:
  name: tiny
  threads: 1

pretrain:
  dataset: lab:corpus?num=120
  vocab_size: 320
  hidden_size: 32
  num_hidden_layers: 1
  num_attention_heads: 2
  num_key_value_heads: 1
  intermediate_size: 48
  max_position_embeddings: 160
  max_length: 96
  max_steps: 14
  train_batch_size: 6
  learning_rate: 3.0e-3
  logging_steps: 3
  save_steps: 4

sft:
  dataset: lab:demonstrations?num=60
  max_length: 128
  eval_fraction: 0.1
  max_steps: 14
  train_batch_size: 6
  learning_rate: 3.0e-3
  weight_decay: 0.01
  logging_steps: 3
  save_steps: 4

sample:
  prompts: lab:prompts?num=40&split=train
  num_generations: 2
  max_completion_length: 10

collect:
  annotators: lab

reward:
  max_length: 128
  max_steps: 11
  train_batch_size: 6
  learning_rate: 1.0e-3
  eval_fraction: 0.3
  logging_steps: 3
  save_steps: 4

ppo:
  prompts: lab:prompts?num=30&split=train
  max_length: 128
  max_completion_length: 8
  num_rounds: 4
  train_batch_size: 6
  num_ppo_epochs: 2
  num_mini_batches: 2
  learning_rate: 1.0e-3
  critic_learning_rate: 3.0e-3
  kl_target: 0.01
  kl_horizon: 50
  eval_prompts: lab:prompts?num=4&split=probe
  eval_steps: 9
  logging_steps: 3
  save_steps: 4
  judge: lab
  diagnosis: {behaviour_prompts: 12}

dpo:
  max_length: 128
  max_steps: 11
  train_batch_size: 6
  learning_rate: 1.0e-3
  reward_model: reward
  max_completion_length: 8
  eval_prompts: lab:prompts?num=4&split=probe
  eval_steps: 5
  logging_steps: 3
  save_steps: 4
  judge: lab

evaluate:
  prompts: lab:prompts?num=12&split=eval
  judge: lab:gold
  temperature: 0.0
  max_completion_length: 8

report: {}
"""


@dataclass(frozen=True)
class Ran:
    """One invocation: what it made and what it told the user."""

    made: dict[str, Artifact]
    lines: list[str]

    @property
    def repeated(self) -> set[str]:
        """Sections that were done before."""
        return {line.split(":")[0] for line in self.lines if ": done before (" in line}

    @property
    def worked(self) -> set[str]:
        """Sections whose stage ran."""
        return set(self.made) - self.repeated


def write_config(directory: Path, text: str = CONFIG) -> Path:
    """Write the config to `directory` and return its path."""
    path = directory / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def run(config: Path, runs: Path, *overrides: str, only: str | None = None) -> Ran:
    """Run `config` in this process with its runs under `runs`."""
    lines: list[str] = []
    loaded = load(config, [f"run.dir={runs}", *overrides])
    return Ran(run_pipeline(loaded, STAGES, only=only, say=lines.append), lines)


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files(directory: Path) -> Iterator[Path]:
    """Every file below, hidden ones included."""
    return (path for path in sorted(directory.rglob("*")) if path.is_file())
