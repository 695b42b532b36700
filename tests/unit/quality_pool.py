"""Simulated pools of annotators whose faults are known, as preference records."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accord.types import Candidate, Message, Preference, Prompt


@dataclass(frozen=True)
class Fault:
    """One annotator, in log odds."""

    skill: float = 1.0
    position: float = 0.0
    length: float = 0.0
    """Per unit of log length."""
    hasty: float = 0.02


def text(words: int, number: int, side: str) -> str:
    """A reply of so many words without any of the properties of the audit but length."""
    return " ".join(["word"] * (words - 1) + [f"{side}{number}"])


def pool_preferences(
    seed: int,
    faults: list[Fault],
    *,
    prompts: int = 300,
    labels: int = 3,
    spread: float = 1.0,
    ties: float = 0.0,
    repeats: float = 0.0,
) -> list[Preference]:
    """Judgements in random order of the sides; the quality of a pair has nothing to do with length or side."""
    random = np.random.default_rng(seed)
    found: list[Preference] = []
    for i in range(prompts):
        prompt = Prompt(id=f"p{i}", messages=(Message(role="user", content=f"question {i}"),))
        sizes = [int(n) for n in random.integers(10, 60, size=2)]
        candidates = tuple(Candidate(text=text(n, i, side)) for n, side in zip(sizes, "ab", strict=True))
        gap = random.normal(0, spread)
        for w in random.choice(len(faults), size=min(labels, len(faults)), replace=False):
            fault = faults[w]
            again = 2 if random.random() < repeats else 1
            order = tuple(int(k) for k in random.permutation(2))
            for time in range(again):
                shown = order if time == 0 else order[::-1]
                sign = 1 if shown[0] == 0 else -1
                ratio = math.log((1 + sizes[shown[0]]) / (1 + sizes[shown[1]]))
                x = fault.skill * sign * gap + fault.position + fault.length * ratio
                left = random.random() < 1 / (1 + math.exp(-x))
                verdict = {"tie": True} if random.random() < ties else {"choice": shown[0] if left else shown[1]}
                read = sum(sizes) / 10 * (0.3 if random.random() < fault.hasty else 1.0 + random.exponential(2.0))
                found.append(
                    Preference.model_validate(
                        {
                            "id": f"{i}-{w}-{time}",
                            "prompt": prompt,
                            "candidates": candidates,
                            "annotator": f"ann-{w}",
                            "order_shown": shown,
                            "seconds": float(read),
                            "meta": {"repeat_of": f"{i}-{w}-0"} if time else {},
                            **verdict,
                        }
                    )
                )
    return found
