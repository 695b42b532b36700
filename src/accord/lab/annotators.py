"""Simulated annotators: groups that value the parts differently, mistakes, lapses of attention, and shared biases.

An annotator perceives a reply as ``merit + bias + noise``. The merit weighs the gold parts by the annotator's group;
in a lapse of attention the truth is not checked, and a plausible mistake looks right. Now and then the verdict is
reversed by mistake (AlpacaFarm, 2305.14387, flips a quarter of its labels): that is most of the disagreement. The
biases add a little for every warm closing, claim of certainty, flattery, agreement and word: small on ordinary
replies, but without the bound that the gold utility puts on them, so that a reward model learned from the pool can be
pushed too far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import NormalDist

from accord.errors import ConfigError
from accord.lab.demonstrations import sample_reply
from accord.lab.gold import WEIGHTS, Gold, score
from accord.lab.questions import prompts
from accord.rng import derive, generator
from accord.types import Candidate, Preference, Prompt

GROUPS: dict[str, dict[str, float]] = {
    "plain": WEIGHTS,
    "careful": {"helpful": 0.24, "harmless": 0.28, "honest": 0.24, "concise": 0.12, "calibrated": 0.12},
    "busy": {"helpful": 0.32, "harmless": 0.16, "honest": 0.14, "concise": 0.32, "calibrated": 0.06},
    "warm": {"helpful": 0.34, "harmless": 0.20, "honest": 0.18, "concise": 0.16, "calibrated": 0.12},
}
"""How the groups weigh the parts."""

BIASES: dict[str, dict[str, float]] = {
    "plain": {"closers": 0.03, "certain": 0.01, "words": 0.0, "flattery": 0.0, "agrees": 0.0},
    "careful": {"closers": 0.02, "certain": 0.03, "words": 0.001, "flattery": 0.0, "agrees": 0.0},
    "busy": {"closers": 0.02, "certain": 0.01, "words": 0.0, "flattery": 0.01, "agrees": 0.01},
    "warm": {"closers": 0.09, "certain": 0.02, "words": 0.001, "flattery": 0.04, "agrees": 0.03},
}
"""Perceived utility that one unit of a visible feature adds, by group."""

PATIENCE = 0.0
"""Annotators skim: they notice length down to this value of the concise part, and not how much longer it gets."""
AGREEMENT = (0.725, 0.755)
"""Range of the annotators' expected agreement with the gold ordering on pairs of demonstrators' replies."""
TIE = 0.008
"""Perceived differences below it are called ties."""
BOTH_BAD = -0.3
"""When both replies look worse than this, an annotator may say that both are bad."""


@dataclass(frozen=True)
class Annotator:
    """One simulated person."""

    id: str
    """Name, unique in the pool."""
    group: str
    """Key of `GROUPS`."""
    weights: dict[str, float]
    """Weights of the gold parts in the perceived merit."""
    biases: dict[str, float]
    """Perceived utility per unit of a visible feature."""
    position_bias: float
    """Perceived utility added to the reply shown first."""
    attention: float
    """Probability that the truth is checked at all."""
    noise: float = 0.0
    """Standard deviation of the noise on each perceived utility."""
    flip: float = 0.0
    """Probability that the order of the verdict is reversed."""
    skills: dict[str, float] = field(default_factory=dict)
    """What is known of the annotator's quality: `expected_agreement` with gold."""

    def merit(self, gold: Gold, *, attentive: bool = True) -> float:
        """Return the perceived utility without noise and position."""
        parts = {**gold.parts, "concise": max(gold.parts["concise"], PATIENCE)}
        if not attentive and not gold.labels["garbage"]:
            seen = 1.0 if gold.labels["correct"] or gold.labels["guessed"] or gold.labels["sycophantic"] else 0.0
            for name in ("helpful", "honest", "calibrated"):
                parts[name] = 0.5 * parts[name] + 0.5 * seen
        merit = sum(self.weights[name] * value for name, value in parts.items())
        return merit + sum(slope * gold.features[name] for name, slope in self.biases.items())

    def prefer(
        self, prompt: Prompt, candidates: Sequence[Candidate], rng_seed: int, golds: Sequence[Gold] | None = None
    ) -> Preference:
        """Judge replies to a lab prompt.

        Args:
            prompt: a prompt of the lab.
            candidates: two or more replies; two give a choice, more give a ranking.
            rng_seed: the judgement is a pure function of it, the annotator and the texts.
            golds: `score` of each candidate, for a caller that asks several annotators; None = computed here.

        Raises:
            ConfigError: fewer than two candidates, or the prompt is not from the lab.
        """
        num = len(candidates)
        if num < 2:
            raise ConfigError("an annotator compares at least two replies", fix="give two or more candidates")
        rng = generator(rng_seed, "lab/prefer", self.id, prompt.id)
        order = [int(i) for i in rng.permutation(num)]
        attentive = bool(rng.random() < self.attention)
        if golds is None:
            golds = [score(prompt, candidate.text) for candidate in candidates]
        noise = rng.normal(0.0, self.noise, size=num)
        seen = [self.merit(gold, attentive=attentive) + float(e) for gold, e in zip(golds, noise, strict=True)]
        seen[order[0]] += self.position_bias
        ranked = sorted(range(num), key=lambda i: -seen[i])
        gap = seen[ranked[0]] - seen[ranked[1]]
        if rng.random() < self.flip:
            ranked.reverse()
        words = sum(gold.features["words"] for gold in golds)
        verdict: dict[str, object]
        if all(value < BOTH_BAD for value in seen) and rng.random() < 0.5:
            verdict = {"both_bad": True}
        elif candidates[ranked[0]].text == candidates[ranked[1]].text or gap < TIE:
            verdict = {"tie": True}
        elif num == 2:
            verdict = {"choice": ranked[0], "strength": round(gap, 4)}
        else:
            verdict = {"ranking": tuple((i,) for i in ranked), "strength": round(gap, 4)}
        seconds = (2.0 + 0.35 * words) * (1.0 if attentive else 0.5) * math.exp(float(rng.normal(0.0, 0.25)))
        return Preference.model_validate(
            {
                "id": f"lab-pref-{derive(rng_seed, self.id, prompt.id):016x}",
                "prompt": prompt,
                "candidates": tuple(candidates),
                "annotator": self.id,
                "group": self.group,
                "source": "simulated",
                "order_shown": tuple(order),
                "seconds": round(seconds, 2),
                **verdict,
            }
        )


@lru_cache(maxsize=1)
def reference_pairs() -> tuple[tuple[Gold, Gold], ...]:
    """Return gold of pairs of demonstrators' replies, better one first; annotators are calibrated on them."""
    rng = generator(0, "lab/reference-pairs")
    pairs: list[tuple[Gold, Gold]] = []
    for prompt in prompts(derive(0, "lab/reference-prompts"), 500, "train"):
        first, second = (score(prompt, sample_reply(prompt, rng)[0]) for _ in range(2))
        if abs(first.utility - second.utility) > 1e-6:
            pairs.append((first, second) if first.utility > second.utility else (second, first))
    return tuple(pairs)


def expected_agreement(annotator: Annotator, pairs: Sequence[tuple[Gold, Gold]] | None = None) -> float:
    """Return the mean probability of agreeing with gold, in closed form over noise, attention and position.

    Args:
        annotator: whose agreement.
        pairs: gold of the better and of the worse reply; `reference_pairs()` when None.
    """
    normal = NormalDist(0.0, math.sqrt(2.0) * max(annotator.noise, 1e-9))
    total = 0.0
    pairs = reference_pairs() if pairs is None else pairs
    for better, worse in pairs:
        for attentive, weight in ((True, annotator.attention), (False, 1.0 - annotator.attention)):
            gap = annotator.merit(better, attentive=attentive) - annotator.merit(worse, attentive=attentive)
            for shift in (annotator.position_bias, -annotator.position_bias):
                total += 0.5 * weight * normal.cdf(gap + shift)
    agreement = total / len(pairs)
    return agreement * (1 - annotator.flip) + (1 - agreement) * annotator.flip


def _calibrated(annotator: Annotator, target: float) -> Annotator:
    """Return the annotator with the rate of reversed verdicts that makes its expected agreement `target`."""
    steady = expected_agreement(replace(annotator, flip=0.0))
    result = replace(annotator, flip=max(0.0, (steady - target) / (2 * steady - 1)))
    return replace(result, skills={"expected_agreement": expected_agreement(result)})


@lru_cache(maxsize=8)
def pool(seed: int, num: int = 12) -> tuple[Annotator, ...]:
    """Return `num` annotators, the groups in turn, each with its own strength of biases, attention and noise.

    The rate of reversed verdicts of each is set so that it agrees with the gold ordering on a share of the reference
    pairs drawn from `AGREEMENT`: the quality of real comparisons.
    """
    if num < 1:
        raise ConfigError(f"a pool needs at least one annotator, not {num}", fix="set num to 1 or more")
    names = list(GROUPS)
    people: list[Annotator] = []
    for index in range(num):
        group = names[index % len(names)]
        rng = generator(seed, "lab/annotator", index)
        strength = float(rng.uniform(0.6, 1.4))
        person = Annotator(
            id=f"{group}-{index:02d}",
            group=group,
            weights=GROUPS[group],
            biases={name: slope * strength for name, slope in BIASES[group].items()},
            position_bias=float(rng.uniform(0.0, 0.05)),
            attention=float(rng.uniform(0.85, 0.98)),
            noise=float(rng.uniform(0.03, 0.08)),
        )
        people.append(_calibrated(person, float(rng.uniform(*AGREEMENT))))
    return tuple(people)
