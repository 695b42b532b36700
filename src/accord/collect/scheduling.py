"""What a task needs next, and what a person gets next; pure functions, every draw from the project's seed.

A claim draws one uniform number from the stream (seed, "claim", person, how many-th task). Below the gold rate it is a
hidden test, in the next stretch a repeat in reverse order, else the queue's. So gold comes at random positions, and
nobody can count the tasks until the next one. New people get more of it until it says something about them: somebody
who is right passes after a dozen hidden tests, while whoever guesses goes on getting them.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betainc

from accord import rng
from accord.collect.records import ProjectSettings, Verdict
from accord.collect.verdicts import likeness
from accord.stats.sequential import GoldTest, sequential_gold

Lane = Literal["queue", "gold", "repeat"]


@dataclass(frozen=True)
class Need:
    """What a task needs after a label."""

    overlap: int
    state: Literal["open", "done", "adjudicate"]


def after_label(verdicts: Sequence[Verdict], overlap: int, skipped: int, settings: ProjectSettings) -> Need:
    """Return what a task needs now.

    Args:
        verdicts: labels that count.
        overlap: labels wanted so far.
        skipped: people who skipped it.
        settings: of the project.
    """
    if len(verdicts) < overlap:
        return Need(overlap, "adjudicate" if skipped >= settings.skips_to_adjudicate else "open")
    alike = likeness(verdicts)
    if alike < settings.escalate_below and len(verdicts) > 1 and settings.escalate_overlap > len(verdicts):
        return Need(settings.escalate_overlap, "open")
    if alike < settings.adjudicate_below and len(verdicts) > 1:
        return Need(overlap, "adjudicate")
    return Need(overlap, "done")


def overlap_for(slice: str, settings: ProjectSettings) -> int:
    """Return how many labels a task of a slice gets at first."""
    return settings.slice_overlap if slice == "random" else settings.overlap


def in_random_slice(seed: int, key: str, settings: ProjectSettings) -> bool:
    """Return whether a task belongs to the slice whose agreement is measured; the same answer every time."""
    return float(rng.generator(seed, "slice", key).random()) < settings.random_slice


def draw(seed: int, user: str, number: int) -> np.random.Generator:
    """Return the random stream of one claim."""
    return rng.generator(seed, "claim", user, number)


def lane(value: float, right: int, total: int, settings: ProjectSettings) -> Lane:
    """Return what kind of task the next one is.

    Args:
        value: uniform in [0, 1).
        right: hidden tests the person answered right the first time.
        total: hidden tests the person answered.
        settings: of the project.
    """
    gold = settings.gold_rate_new if is_new(right, total, settings) else settings.gold_rate
    if value < gold:
        return "gold"
    return "repeat" if value < gold + settings.repeat_rate else "queue"


def is_new(right: int, total: int, settings: ProjectSettings) -> bool:
    """Return whether too little is known of a person: few hidden tests, or none that speak for them.

    Args:
        right: hidden tests answered right the first time.
        total: hidden tests answered.
        settings: of the project; `gold_new` 0 = nobody is new.
    """
    if total < settings.gold_new or not settings.gold_new:
        return total < settings.gold_new
    if total >= settings.gate_horizon or settings.gate_bad >= settings.gate_good:
        return False
    return sequential_gold(right, total, _test(settings)) == "continue"


def blocks(right: int, total: int, settings: ProjectSettings) -> bool:
    """Return whether the hidden tests say that a person must not go on.

    Args:
        right: hidden tests answered right the first time.
        total: hidden tests answered.
        settings: of the project.
    """
    if settings.gate == "off" or total < settings.gate_least:
        return False
    if settings.gate == "beta":
        # P(q < bad) under Beta(1 + right, 1 + wrong).
        return float(betainc(1 + right, 1 + total - right, settings.gate_bad)) > 1 - settings.gate_miss
    return sequential_gold(right, total, _test(settings)) == "fail"


def _test(settings: ProjectSettings) -> GoldTest:
    return GoldTest(
        bad=settings.gate_bad,
        good=settings.gate_good,
        false_block=settings.gate_error,
        false_pass=settings.gate_miss,
        horizon=settings.gate_horizon,
    )
