"""Verdicts out of a judge's text, exactly as the original programs read them. What cannot be read is None.

MT-Bench pairs       [[A]] [[B]] [[C]]; the first of them by that precedence, as FastChat tests for them in turn
MT-Bench ratings     [[7]] or [[7.5]]; else [7]; the first occurrence
Arena-Hard           [[A>>B]] [[A>B]] [[A=B]] [[B>A]] [[B>>A]]; else single brackets; the last one (2.0), or none where
                     two different ones are given (0.1)
AlpacaEval           one letter m or M with the log-probabilities of the first token
LLMBar               "Output (a)" or "Output (b)"
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

Pair = Literal["A", "B", "tie"]
Level = Literal["A>>B", "A>B", "A=B", "B>A", "B>>A"]

_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_RATING_BACKUP = re.compile(r"\[(\d+\.?\d*)\]")
_LEVEL = re.compile(r"\[\[([AB<>=]+)\]\]")
_LEVEL_BACKUP = re.compile(r"\[([AB<>=]+)\]")
_LEVELS: dict[str, Level] = {
    "A>>B": "A>>B",
    "A>B": "A>B",
    "A=B": "A=B",
    "B=A": "A=B",
    "B>A": "B>A",
    "B>>A": "B>>A",
    "A<<B": "B>>A",
    "A<B": "B>A",
    "B<A": "A>B",
    "B<<A": "A>>B",
}
LEVEL_SCORES: dict[Level, float] = {"A>>B": 1.0, "A>B": 1.0, "A=B": 0.5, "B>A": 0.0, "B>>A": 0.0}
"""Result for A. How often `>>` counts is a matter of weights, see `LEVEL_WEIGHTS`."""
LEVEL_WEIGHTS: dict[Level, int] = {"A>>B": 3, "A>B": 1, "A=B": 1, "B>A": 1, "B>>A": 3}
"""Arena-Hard counts a clear win as three games."""


def mt_bench_pair(judgement: str) -> Pair | None:
    """Return the winner of an MT-Bench comparison (FastChat `run_judge_pair`): [[A]] before [[B]] before [[C]]."""
    for mark, verdict in (("[[A]]", "A"), ("[[B]]", "B"), ("[[C]]", "tie")):
        if mark in judgement:
            return verdict  # pyright: ignore[reportReturnType]
    return None


def mt_bench_rating(judgement: str) -> float | None:
    """Return the rating of an MT-Bench answer (FastChat `run_judge_single`), on a scale of 1 to 10.

    The original returns -1 where nothing can be read and leaves those rows out; here they are None, and counted.
    """
    found = _RATING.search(judgement) or _RATING_BACKUP.search(judgement)
    return float(found.group(1)) if found else None


def arena_level(judgement: str, *, version: Literal["2.0", "0.1"] = "2.0") -> Level | None:
    """Return the five-level verdict of Arena-Hard (`get_score` of its `gen_judgment.py`).

    Args:
        judgement: the judge's text.
        version: of Arena-Hard. 2.0 takes the last verdict, in any case, and single brackets where there are no double
            ones; 0.1 takes double brackets only, and nothing where two different verdicts are given.
    """
    if version == "0.1":
        found = {match for match in _LEVEL.findall(judgement) if match}
        return _LEVELS.get(found.pop()) if len(found) == 1 else None
    for pattern in (_LEVEL, _LEVEL_BACKUP):
        given = [match for match in pattern.findall(judgement.upper()) if match]
        if given:
            return _LEVELS.get(given[-1])
    return None


def swapped_level(level: Level) -> Level:
    """Return a verdict given with A and B in the other order, as if it had been given in the first."""
    names: dict[Level, Level] = {"A>>B": "B>>A", "A>B": "B>A", "A=B": "A=B", "B>A": "A>B", "B>>A": "A>>B"}
    return names[level]


def alpaca_preference(top_logprobs: Mapping[str, float], *, swapped: bool) -> float | None:
    """Return AlpacaEval 2's preference in [1, 2] from the log-probabilities of the judge's one token.

    The judge answers "m" for the reply shown first and "M" for the second; the preference is 2 - P(m) / (P(m) + P(M)),
    a token that is not among the given ones has probability 0 (`logprob_parser`).

    Args:
        top_logprobs: token -> log-probability, as many as the server gives (the original asks for five).
        swapped: whether the model under test (output_2) was shown first.

    Returns:
        2 = output_2 (the model) wins; None when neither token is there.
    """
    first, second = (math.exp(top_logprobs[t]) if t in top_logprobs else 0.0 for t in ("m", "M"))
    if first + second == 0:
        return None
    preference = 2 - first / (first + second)
    return 3 - preference if swapped else preference


def llmbar_output(completion: str) -> Literal["1", "2"] | None:
    """Return which reply, as shown, a vanilla LLMBar evaluator names; None for neither or both."""
    a, b = "Output (a)" in completion, "Output (b)" in completion
    if a == b:
        return None
    return "1" if a else "2"
