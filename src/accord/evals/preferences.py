"""How well scores order preferences: accuracy with interval, calibration, slices, and two baselines to beat."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from accord import stats
from accord.types import Preference


@dataclass(frozen=True)
class LabelledPair:
    """Two replies to one prompt; the first is the better one with probability `target`."""

    prompt: str
    """Text that identifies the prompt; pairs of one prompt are one cluster."""
    chosen: str
    rejected: str
    target: float = 1.0
    slice: str = ""
    """Name of the subset it belongs to, if any."""


def labelled(preference: Preference, better: int, worse: int, target: float | None) -> LabelledPair:
    """A pair of a preference, with the family, subset or tag of its prompt as slice."""
    meta = preference.prompt.meta
    name = next((str(meta[k]) for k in ("family", "subset", "tag", "dataset") if meta.get(k)), "")
    prompt = "\x1e".join(f"{m.role}: {m.content}" for m in preference.prompt.messages)
    replies = preference.candidates
    return LabelledPair(prompt, replies[better].text, replies[worse].text, 1.0 if target is None else target, name)


def accuracy(deltas: Sequence[float], pairs: Sequence[LabelledPair], *, seed: int = 0) -> dict[str, Any]:
    """Share of pairs ordered as labelled, an exact tie of scores counting half; pairs labelled a tie are left out.

    Args:
        deltas: score of the first reply minus score of the second.
        pairs: in the same order.
        seed: of the bootstrap over prompts.

    Returns:
        value, low, high (95 %), n; value None when no pair has a preferred side, low and high None when several pairs
        are all of one prompt.
    """
    outcomes: list[float] = []
    clusters: list[str] = []
    for delta, pair in zip(deltas, pairs, strict=True):
        if pair.target == 0.5:
            continue
        right = 0.5 if delta == 0 else float(delta > 0)
        outcomes.append(right if pair.target > 0.5 else 1 - right)
        clusters.append(pair.prompt)
    if not outcomes:
        return {"value": None, "low": None, "high": None, "n": 0}
    if len(set(clusters)) == len(clusters):
        return finite(stats.win_rate(outcomes))
    return finite(stats.win_rate(outcomes, clusters, seed=seed))


def finite(interval: stats.Interval) -> dict[str, Any]:
    """An interval as JSON: ends that are not known are null."""
    return {k: v if isinstance(v, int) or math.isfinite(v) else None for k, v in asdict(interval).items()}


def report(deltas: Sequence[float], pairs: Sequence[LabelledPair], *, seed: int = 0) -> dict[str, Any]:
    """Accuracy, calibration and slices of a reward model on labelled pairs."""
    probability = 1 / (1 + np.exp(-np.asarray(deltas, dtype=np.float64)))
    target = np.asarray([p.target for p in pairs])
    # Each pair is looked at from both sides, so that the diagram does not depend on which reply is named first.
    both_p, both_t = np.concatenate([probability, 1 - probability]), np.concatenate([target, 1 - target])
    slices: dict[str, dict[str, Any]] = {}
    for name in sorted({p.slice for p in pairs} - {""}):
        rows = [i for i, p in enumerate(pairs) if p.slice == name]
        slices[name] = accuracy([deltas[i] for i in rows], [pairs[i] for i in rows], seed=seed)
    longer = [i for i, p in enumerate(pairs) if len(p.chosen) > len(p.rejected)]
    shorter = [i for i, p in enumerate(pairs) if len(p.chosen) < len(p.rejected)]
    for name, rows in (("preferred reply is longer", longer), ("preferred reply is shorter", shorter)):
        slices[name] = accuracy([deltas[i] for i in rows], [pairs[i] for i in rows], seed=seed)
    return {
        "accuracy": accuracy(deltas, pairs, seed=seed),
        "ece": stats.ece(both_p, both_t),
        "brier": stats.brier(both_p, both_t),
        "nll": stats.nll(both_p, both_t),
        "reliability": [asdict(b) for b in stats.reliability(both_p, both_t)],
        "slices": slices,
    }


def longer_wins(pairs: Sequence[LabelledPair]) -> list[float]:
    """Baseline: the longer reply (characters) wins."""
    return [float(len(p.chosen) - len(p.rejected)) for p in pairs]


def words(text: str) -> list[str]:
    """Lower-case words and punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def bag_of_words(train: Sequence[LabelledPair], l2: float = 1.0) -> Callable[[Sequence[LabelledPair]], list[float]]:
    """Baseline: logistic regression on the difference of word counts (log 1 + n) and of log length.

    Args:
        train: pairs to fit on.
        l2: strength of the ridge penalty, in pairs.

    Returns:
        A function from pairs to score differences.
    """
    vocabulary: dict[str, int] = {}
    for pair in train:
        for word in (*words(pair.chosen), *words(pair.rejected)):
            vocabulary.setdefault(word, len(vocabulary))
    features = _features(train, vocabulary)
    target = np.asarray([p.target for p in train])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = features @ weights
        value = float(np.sum(np.logaddexp(0, logits) - target * logits) + 0.5 * l2 * weights @ weights)
        gradient = features.T @ (1 / (1 + np.exp(-logits)) - target) + l2 * weights
        return value, np.asarray(gradient)

    start = np.zeros(len(vocabulary) + 1)
    fitted: Any = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})

    def score(pairs: Sequence[LabelledPair]) -> list[float]:
        return [float(x) for x in _features(pairs, vocabulary) @ fitted.x]

    return score


def _features(pairs: Sequence[LabelledPair], vocabulary: Mapping[str, int]) -> Any:
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for row, pair in enumerate(pairs):
        difference: dict[int, float] = {len(vocabulary): 0.0}
        for sign, text in ((1.0, pair.chosen), (-1.0, pair.rejected)):
            counts: dict[str, int] = {}
            for word in words(text):
                counts[word] = counts.get(word, 0) + 1
            for word, count in counts.items():
                if word in vocabulary:
                    column = vocabulary[word]
                    difference[column] = difference.get(column, 0.0) + sign * float(np.log1p(count))
            difference[len(vocabulary)] += sign * float(np.log1p(len(text)))
        rows += [row] * len(difference)
        columns += list(difference)
        values += list(difference.values())
    return csr_matrix((values, (rows, columns)), shape=(len(pairs), len(vocabulary) + 1))
