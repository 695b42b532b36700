"""Simulated pools of annotators whose faults are known, as preference records."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accord.collect.scheduling import Lane, lane
from accord.collect.settings import ProjectSettings
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


def next_lane(random: np.random.Generator, tests: tuple[int, int], given: int, settings: ProjectSettings) -> Lane:
    """As on the site; what could be repeated must lie some answers back."""
    found = lane(float(random.random()), *tests, settings)
    return "queue" if found == "repeat" and given <= settings.repeat_after else found


def pool_of_sixty(seed: int, skills: list[tuple[float, float]], labels: int = 3) -> list[Preference]:
    """60 judgements of each in turn, every pair by so many of them, with hidden tests and repeats as on the site."""
    random, settings = np.random.default_rng(seed), ProjectSettings()
    tests = [(0, 0)] * len(skills)
    untested = [list(random.permutation(60)) for _ in skills]
    judged_by: list[list[str]] = [[] for _ in skills]
    places: dict[str, int] = {}
    given: list[Preference] = []
    for number in range(60):
        for who in random.permutation(len(skills)):
            kind = next_lane(random, tests[who], number, settings)
            right = bool(random.random() < skills[who][kind != "gold"])
            meta: dict[str, object] = {}
            if kind == "gold":
                name = f"test {untested[who].pop()}"
                tests[who] = tests[who][0] + right, tests[who][1] + 1
                meta = {"gold": True, "gold_right": right}
            elif kind == "repeat":
                name = judged_by[who][int(random.integers(len(judged_by[who])))]
                meta = {"repeat_of": name}
            else:
                name = next(
                    (n for n, left in places.items() if left and n not in judged_by[who]), f"pair {len(places)}"
                )
                places[name] = places.get(name, labels) - 1
                judged_by[who].append(name)
            better = sum(name.encode()) % 2
            prompt = Prompt(id=name, messages=(Message(role="user", content=name),))
            replies = (Candidate(text="one"), Candidate(text="two"))
            choice = better if right else 1 - better
            given.append(
                Preference(
                    id=str(len(given)), prompt=prompt, candidates=replies, annotator=str(who), choice=choice, meta=meta
                )
            )
    return given
