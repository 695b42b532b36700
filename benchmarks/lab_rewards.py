"""Many small reward models from one SFT model of the lab: what the experiments on collection share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from accord import lab, rng
from accord.lab.gold import Gold
from accord.models import chat
from accord.models.build import reward_from_causal
from accord.models.checkpoint import load_causal, load_tokenizer
from accord.models.members import MemberIndex
from accord.models.score_heads import with_heads
from accord.rewards.ensemble import MembersReward
from accord.rewards.learned import LearnedReward
from accord.train.examples import Example, from_preferences
from accord.train.loop import Learner, fit
from accord.train.objectives import BradleyTerry, EnsembleBradleyTerry
from accord.train.optim import adamw, schedule
from accord.train.rated import with_bootstrap
from accord.train.sources import Offline
from accord.types import Candidate, Preference, Prompt

BATCH, EPOCHS, RATE, LEAST = 32, 2, 5e-4, 24
"""Pairs a step, passes over the data, peak learning rate, and at least that many steps."""
MAX_LENGTH = 128

Pair = tuple[Prompt, tuple[Candidate, Candidate]]


def prepare(seed: int, runs: Path) -> Path:
    """Train base and SFT model of a seed and draw replies, unless that is done; the run's directory."""
    demo = yaml.safe_load(resources.files("accord.starter").joinpath("demo.yaml").read_text(encoding="utf-8"))
    drawn = {"max_completion_length": 48, "max_batch": 384}
    wanted = {
        "run": {"name": f"collect-{seed}", "dir": str(runs), "seed": seed, "threads": 1},
        "pretrain": {**demo["pretrain"], "dataset": "lab:corpus?num=24000", "max_steps": 400, "save_steps": 1000},
        "sft": {**demo["sft"], "dataset": "lab:demonstrations?num=6400", "max_steps": 200, "save_steps": 1000},
        "sample": {"prompts": "lab:prompts?num=3000&split=train", "num_generations": 2, **drawn},
        "sample_eval": {"prompts": "lab:prompts?num=250&split=eval", "num_generations": 8, **drawn, "max_batch": 256},
    }
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f"collect-{seed}.yaml"
    path.write_text(json.dumps(wanted), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "accord", "run", str(path)], check=True)
    return runs / f"collect-{seed}"


@dataclass
class World:
    """One seed: the SFT model, pairs to label, and held-out replies whose true utility is known."""

    seed: int
    hf: Any
    tokenizer: Any
    pairs: list[Pair]
    """To label."""
    golds: list[tuple[Gold, Gold]]
    """Of their replies."""
    prompts: list[Prompt]
    """Held out; no content of them occurs in training prompts."""
    replies: list[list[str]]
    """Several to each held-out prompt, all different."""
    gold: list[list[Gold]]
    """Of these."""
    rows: list[list[int]] = field(default_factory=list)
    """Token ids of all of them, one after the other."""

    @property
    def differences(self) -> np.ndarray:
        """True utility of the first reply minus that of the second, of the pairs to label."""
        return np.array([a.utility - b.utility for a, b in self.golds])


def load_world(seed: int, runs: Path) -> World:
    """Read what `prepare` made."""
    torch.set_num_threads(1)
    root = runs / f"collect-{seed}"
    made = {name: root / d for name, d in json.loads((root / "run.json").read_text())["stages"].items()}
    model = made["sft"] / "model"
    world = World(seed, load_causal(model), load_tokenizer(str(model)), [], [], [], [], [])
    for row in _rows(made["sample"] / "samples.jsonl"):
        prompt = Prompt.model_validate(row["prompt"])
        texts = [c["text"] for c in row["candidates"]]
        if len(texts) == 2 and texts[0] != texts[1]:
            world.pairs.append((prompt, (Candidate(text=texts[0]), Candidate(text=texts[1]))))
            world.golds.append((lab.score(prompt, texts[0]), lab.score(prompt, texts[1])))
    for row in _rows(made["sample_eval"] / "samples.jsonl"):
        prompt = Prompt.model_validate(row["prompt"])
        texts = list(dict.fromkeys(c["text"] for c in row["candidates"]))
        world.prompts.append(prompt)
        world.replies.append(texts)
        world.gold.append([lab.score(prompt, t) for t in texts])
        opening = chat.encode_prompt(world.tokenizer, prompt.messages)
        world.rows += [[*opening, *chat.encode_completion(world.tokenizer, t)] for t in texts]
    return world


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass
class Trained:
    """A reward model as a function of token ids."""

    world: World
    reward: LearnedReward | MembersReward

    def members(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """(K, rows) raw scores."""
        if isinstance(self.reward, MembersReward):
            return self.reward.outputs(sequences).T.numpy()
        return np.array([self.reward.score_ids(sequences)])

    def differences(self, pairs: Sequence[Pair]) -> np.ndarray:
        """(K, pairs) score of the first reply minus that of the second, log-odds."""
        tokenizer = self.world.tokenizer
        sequences: list[list[int]] = []
        for prompt, replies in pairs:
            opening = chat.encode_prompt(tokenizer, prompt.messages)
            sequences += [[*opening, *chat.encode_completion(tokenizer, c.text)] for c in replies]
        scores = self.members(sequences)
        return scores[:, 0::2] - scores[:, 1::2]

    def held_out(self) -> list[np.ndarray]:
        """(K, replies) raw scores of each held-out prompt's replies."""
        scores = self.members(self.world.rows)
        ends = np.cumsum([len(r) for r in self.world.replies])
        return np.split(scores, ends[:-1], axis=1)


def fit_reward(
    world: World, preferences: Sequence[Preference], *, heads: int = 0, names: Sequence[str] = (), stream: str = ""
) -> Trained:
    """Train a reward model; the start and the order of the data depend on the world's seed alone.

    Args:
        world: gives the SFT model.
        preferences: labels.
        heads: members of an ensemble (bootstrap weights); 0 = a plain reward model.
        names: groups; one head each, which learns from the rows of that group only.
        stream: another start, by name.
    """
    found = from_preferences(preferences, world.tokenizer, max_length=MAX_LENGTH, overlong="drop").examples
    examples: Sequence[Example] = found
    seed = rng.derive(world.seed, "collect-lab", stream)
    model = reward_from_causal(world.hf, seed=rng.derive(seed, "head"))
    module: Any = model
    if names:
        from accord.train.rated import with_groups

        examples = with_groups(found, names)
        module = with_heads(model, len(names), rng.derive(seed, "heads"))
    elif heads:
        examples = with_bootstrap(found, heads, rng.derive(seed, "bootstrap"))
        module = with_heads(model, heads, rng.derive(seed, "heads"))
    many = bool(names or heads)
    steps = max(LEAST, round(EPOCHS * len(examples) / BATCH))
    learner = Learner(
        module,
        module,
        adamw(module, learning_rate=RATE),
        schedule("linear", steps=steps, warmup_steps=round(0.1 * steps)),
        token_budget=4096,
    )
    pad = world.tokenizer.pad_token_id
    source = Offline(examples, batch_size=BATCH, pad_id=pad, seed=rng.derive(seed, "order"))
    fit(learner, source, EnsembleBradleyTerry(center=0.01) if many else BradleyTerry(center=0.01), steps=steps)
    module.requires_grad_(False)
    if not many:
        return Trained(world, LearnedReward(module, pad_id=pad, length=None))
    count = len(names) or heads
    labels = tuple(names) or tuple(str(k) for k in range(count))
    index = MemberIndex("heads", "ensemble", labels, (0.0,) * count, (1.0,) * count)
    return Trained(world, MembersReward(module, index, pad_id=pad))


def gold_accuracy(world: World, scores: Sequence[np.ndarray]) -> float:
    """Share of held-out pairs (all of each prompt) that the scores order as gold does; equal scores count half.

    Args:
        world: knows the truth.
        scores: of each prompt's replies.
    """
    right: list[float] = []
    for given, golds in zip(scores, world.gold, strict=True):
        truth = np.array([g.utility for g in golds])
        first, second = np.triu_indices(len(truth), 1)
        gap, seen = truth[first] - truth[second], given[first] - given[second]
        known = np.abs(gap) > 1e-9
        if known.any():
            right.append(float((0.5 + 0.5 * np.sign(gap[known]) * np.sign(seen[known])).mean()))
    return float(np.mean(right))
