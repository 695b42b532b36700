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
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from accord import lab, rng
from accord.batch import collate
from accord.lab.gold import Gold
from accord.models import chat
from accord.models.build import reward_from_causal
from accord.models.checkpoint import load_causal, load_tokenizer
from accord.rewards.learned import LearnedReward
from accord.train.examples import from_preferences
from accord.train.loop import Learner, fit
from accord.train.objectives import BradleyTerry
from accord.train.optim import adamw, schedule
from accord.train.sources import Offline
from accord.types import Candidate, Preference, Prompt

BATCH, EPOCHS, RATE = 32, 3, 5e-4
"""Whole reward models: pairs a step, passes over the data, peak learning rate."""
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
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """(pairs, 2, D) of the replies to label, standardised."""
    held_features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """(rows, D) of the held-out replies, on the same scale."""

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
    _add_features(world, root / "features.npz")
    return world


def _add_features(world: World, cache: Path) -> None:
    """Hidden states of the SFT model after half and all of its layers: at the last token, and the reply's mean."""
    if not cache.is_file():
        sequences: list[list[int]] = []
        lengths: list[int] = []
        asked = [(p, [c.text for c in cs]) for p, cs in world.pairs]
        for prompt, texts in [*asked, *zip(world.prompts, world.replies, strict=True)]:
            opening = chat.encode_prompt(world.tokenizer, prompt.messages)
            for text in texts:
                reply = chat.encode_completion(world.tokenizer, text)
                sequences.append([*opening, *reply])
                lengths.append(len(reply))
        np.savez(cache, features=_hidden(world.hf, sequences, lengths))
    features = np.load(cache)["features"].astype(np.float64)
    asked_rows = 2 * len(world.pairs)
    mean, std = features[:asked_rows].mean(axis=0), features[:asked_rows].std(axis=0) + 1e-6
    features = (features - mean) / std
    world.features = features[:asked_rows].reshape(len(world.pairs), 2, -1)
    world.held_features = features[asked_rows:]


@torch.no_grad()
def _hidden(hf: Any, sequences: Sequence[Sequence[int]], lengths: Sequence[int]) -> np.ndarray:
    found: list[np.ndarray] = [np.zeros(0)] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    for start in range(0, len(order), 128):
        places = order[start : start + 128]
        batch = collate(
            [sequences[i] for i in places],
            [[False] * (len(sequences[i]) - lengths[i]) + [True] * lengths[i] for i in places],
            pad_id=0,
        )
        mask = batch.token_mask_BT.long()
        states = hf(input_ids=batch.ids_BT, attention_mask=mask, output_hidden_states=True).hidden_states
        reply = batch.response_mask_BT.float()
        last = mask.sum(dim=1) - 1
        parts: list[torch.Tensor] = []
        for layer in (states[(len(states) - 1) // 2], states[-1]):
            parts += [layer[torch.arange(len(places)), last]]
            parts += [(layer * reply[:, :, None]).sum(dim=1) / reply.sum(dim=1, keepdim=True)]
        for place, row in zip(places, torch.cat(parts, dim=1).numpy(), strict=True):
            found[place] = row
    return np.array(found, dtype=np.float32)


Labels = Sequence[tuple[int, float]]
"""(number of the pair, P(first reply is better))."""
RIDGES = (300.0, 1000.0, 3000.0)


def fit_head(world: World, labels: Labels, *, ridge: float = 0.0, weights: np.ndarray | None = None) -> np.ndarray:
    """Bradley-Terry head (D) on the frozen features; log loss of soft labels plus ridge / 2 times squared weights.

    Args:
        world: has the features.
        labels: a row a label.
        ridge: penalty; 0 = the best of `RIDGES` by the log loss of the labels on the other half of the pairs.
        weights: of the rows; None = 1.
    """
    pairs = np.array([i for i, _ in labels])
    target = np.array([p for _, p in labels])
    rows = world.features[pairs, 0] - world.features[pairs, 1]
    weight = np.ones(len(pairs)) if weights is None else weights
    ridge = ridge or best_ridge(world, labels)
    return _logistic(rows, target, weight, ridge)


def best_ridge(world: World, labels: Labels) -> float:
    """The best of `RIDGES`, see `fit_head`."""
    pairs = np.array([i for i, _ in labels])
    target = np.array([p for _, p in labels])
    rows = world.features[pairs, 0] - world.features[pairs, 1]
    fold = pairs % 2
    losses: list[float] = []
    for ridge in RIDGES:
        loss = 0.0
        for k in range(2):
            seen, left = fold != k, fold == k
            logit = rows[left] @ _logistic(rows[seen], target[seen], np.ones(int(seen.sum())), ridge / 2)
            loss -= float((target[left] * log_expit(logit) + (1 - target[left]) * log_expit(-logit)).sum())
        losses.append(loss)
    return RIDGES[int(np.argmin(losses))]


def _logistic(rows: np.ndarray, target: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    def loss(head: np.ndarray) -> tuple[float, np.ndarray]:
        logit = rows @ head
        value = -(weight * (target * log_expit(logit) + (1 - target) * log_expit(-logit))).sum()
        slope = rows.T @ (weight * (expit(logit) - target))
        return float(value + 0.5 * ridge * head @ head), slope + ridge * head

    return minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x


def by_prompt(world: World, scores: np.ndarray) -> list[np.ndarray]:
    """Scores of all held-out replies, apart by prompt (last axis)."""
    return np.split(scores, np.cumsum([len(r) for r in world.replies])[:-1], axis=-1)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fit_reward(world: World, preferences: Sequence[Preference]) -> list[np.ndarray]:
    """Train a whole reward model and return the scores of each held-out prompt's replies.

    The start and the order of the data depend on the world's seed alone.

    Args:
        world: gives the SFT model.
        preferences: labels.
    """
    examples = from_preferences(preferences, world.tokenizer, max_length=MAX_LENGTH, overlong="drop").examples
    seed = rng.derive(world.seed, "collect-lab")
    model = reward_from_causal(world.hf, seed=rng.derive(seed, "head"))
    steps = round(EPOCHS * len(examples) / BATCH)
    learner = Learner(
        model,
        model,
        adamw(model, learning_rate=RATE),
        schedule("linear", steps=steps, warmup_steps=round(0.1 * steps)),
        token_budget=4096,
    )
    pad = world.tokenizer.pad_token_id
    source = Offline(examples, batch_size=BATCH, pad_id=pad, seed=rng.derive(seed, "order"))
    fit(learner, source, BradleyTerry(center=0.01), steps=steps)
    model.requires_grad_(False)
    return by_prompt(world, np.array(LearnedReward(model, pad_id=pad, length=None).score_ids(world.rows)))


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
