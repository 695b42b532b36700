"""A small invented world in which the truth is known, so that every claim of the loop can be checked against it."""

from __future__ import annotations

from accord.lab.annotators import Annotator, pool
from accord.lab.corpus import corpus
from accord.lab.demonstrations import demonstrations
from accord.lab.gold import WEIGHTS, Gold, score
from accord.lab.questions import prompts
from accord.lab.replies import best_reply, is_lab, random_reply

__all__ = [
    "WEIGHTS",
    "Annotator",
    "Gold",
    "best_reply",
    "corpus",
    "demonstrations",
    "is_lab",
    "pool",
    "prompts",
    "random_reply",
    "score",
]
