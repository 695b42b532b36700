"""Several models on the same prompts: win rates with intervals, length control, and one scale for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord import stats
from accord.evals.judging import preference_rates
from accord.evals.measured import Measured
from accord.judges.agreement import Agreement
from accord.judges.base import Comparison, Judge
from accord.judges.conduct import conduct
from accord.rng import generator

_RESAMPLES = 400


@dataclass(frozen=True)
class Match:
    """Two models compared prompt by prompt."""

    a: str
    b: str
    comparisons: tuple[Comparison, ...]
    """Of a's reply and b's reply to each prompt."""


def pairings(names: Sequence[str], baseline: str, *, every: bool) -> list[tuple[str, str]]:
    """Which models are compared: each with the baseline, or every two; the baseline comes second.

    Args:
        names: of the models.
        baseline: one of them.
        every: every two.
    """
    against = [(name, baseline) for name in names if name != baseline]
    if not every:
        return against
    others = [name for name in names if name != baseline]
    return against + [(a, b) for i, a in enumerate(others) for b in others[i + 1 :]]


def win_row(match: Match, lengths: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Win rate, ties half, with a Wilson interval, counts, and mean lengths in tokens, as `judged.compare` gives it.

    Pairs without a readable verdict are in `unreadable` and in no other number but the lengths.

    Args:
        match: two models.
        lengths: tokens of every reply, by model.
    """
    known = [c.p for c in match.comparisons if c.p is not None]
    outcomes = [0.5 if p == 0.5 else float(p > 0.5) for p in known]
    rate = stats.wilson(sum(outcomes), len(outcomes)) if outcomes else None
    return {
        "a": match.a,
        "b": match.b,
        "win_rate": None if rate is None else rate.value,
        "low": None if rate is None else rate.low,
        "high": None if rate is None else rate.high,
        "n": len(outcomes),
        "wins": outcomes.count(1.0),
        "ties": outcomes.count(0.5),
        "losses": outcomes.count(0.0),
        "unreadable": len(match.comparisons) - len(known),
        "length_a": sum(lengths[match.a]) / len(lengths[match.a]),
        "length_b": sum(lengths[match.b]) / len(lengths[match.b]),
        "difference": {},
    }


def measured(
    matches: Sequence[Match],
    texts: Mapping[str, Sequence[str]],
    prompts: Sequence[str],
    *,
    judge: Judge,
    accuracy: Agreement | None = None,
    seed: int = 0,
) -> list[Measured]:
    """Everything the matches say, each number with its interval and its judge.

    Args:
        matches: pairs of models.
        texts: replies by model, in the order of the prompts.
        prompts: what identifies each prompt.
        judge: who compared.
        accuracy: how often the judge agrees with labels, where it was measured.
        seed: of the bootstraps.
    """
    rows: list[Measured] = []
    for match in matches:
        name = f"{match.a} against {match.b}"
        rows += preference_rates(name, match.comparisons, prompts, judge=judge, accuracy=accuracy, seed=seed)
        rows.append(_controlled(match, texts, judge, accuracy, seed))
    if len({name for match in matches for name in (match.a, match.b)}) > 2:
        rows += _scale(matches, prompts, judge, accuracy, seed)
    return rows


def _about(judge: Judge, accuracy: Agreement | None) -> dict[str, Any]:
    known = accuracy.row() if accuracy else None
    return {"judge": judge.name, "prompt_hash": judge.prompt_hash, "judge_accuracy": known}


def _controlled(
    match: Match, texts: Mapping[str, Sequence[str]], judge: Judge, accuracy: Agreement | None, seed: int
) -> Measured:
    """Win rate at equal length in characters.

    Not AlpacaEval's penalised fit, which with few prompts can shrink everything to exactly one half.
    """
    kept = [i for i, c in enumerate(match.comparisons) if c.p is not None]
    title, seen = f"length-controlled win rate, {match.a} against {match.b}", conduct(match.comparisons)
    about = _about(judge, accuracy)
    outcomes = np.array([p for c in match.comparisons if (p := c.p) is not None], dtype=np.float64)
    delta = np.array([len(texts[match.a][i]) - len(texts[match.b][i]) for i in kept], dtype=np.float64)
    try:
        found = stats.length_controlled_win_rate(outcomes, delta)
        low, high = _bootstrapped(outcomes, delta, seed)
    except ValueError as error:
        return Measured(title, None, None, None, len(kept), reason=str(error), **about).beside(seen)
    method = "logistic in tanh of length, no difficulty; bootstrap over prompts"
    return Measured(title, found.value, low, high, len(kept), method=method, **about).beside(seen)


def _bootstrapped(outcomes: NDArray[np.float64], delta: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Ends of the percentile interval; a fit that has no finite maximum for one resample in twenty says nothing."""
    draw = generator(seed, "length-controlled")
    values: list[float] = []
    for _ in range(_RESAMPLES):
        pick = draw.integers(0, outcomes.size, size=outcomes.size)
        try:
            values.append(stats.length_controlled_win_rate(outcomes[pick], delta[pick]).value)
        except ValueError:
            continue
    if len(values) < 0.95 * _RESAMPLES:
        raise ValueError("too few prompts, or too much of the outcome is length, for an interval at equal length")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _scale(
    matches: Sequence[Match], prompts: Sequence[str], judge: Judge, accuracy: Agreement | None, seed: int
) -> list[Measured]:
    """Bradley-Terry strengths in Elo points (mean 0), with a bootstrap over prompts."""
    games: list[stats.Game] = []
    clusters: list[str] = []
    for match in matches:
        for c, prompt in zip(match.comparisons, prompts, strict=True):
            if c.p is not None:
                games.append((match.a, match.b, c.p))
                clusters.append(prompt)
    names = list(dict.fromkeys(name for match in matches for name in (match.a, match.b)))
    n, about = len(set(clusters)), _about(judge, accuracy)
    try:
        found = stats.bradley_terry_intervals(games, clusters, seed=seed)
    except ValueError as error:
        reason = str(error)
        return [Measured(f"Elo points of {name}", None, None, None, n, reason=reason, **about) for name in names]
    points = {name: [float(x) for x in stats.elo_scale([i.value, i.low, i.high])] for name, i in found.items()}
    method = "Bradley-Terry, mean 0; bootstrap over prompts"
    return [
        Measured(f"Elo points of {name}", points[name][0], points[name][1], points[name][2], n, method=method, **about)
        for name in names
    ]
