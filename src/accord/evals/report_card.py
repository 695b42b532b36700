"""The report card of a reward model: accuracy by slice, biases, annotators, and seven numbers before optimising it.

Every number is computed from the held-out judgements; what they cannot say is `unknown` with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from accord import rng, stats
from accord.evals.biases import EDITS, PADDING, Scored, feature_bias, finite, markup, position_bias, ties
from accord.evals.preferences import accuracy
from accord.types import Preference

ENOUGH = 30
"""Fewest observations from which a number is judged."""
ENOUGH_FOR_BINS = 200
"""Fewest pairs from which a calibration error is judged; it has no interval, and below noise alone is too large."""
SHOWN = 20
"""Most entries of one kind of slice, the largest first."""
_EQUAL_LENGTH = "lengths within 10 %"
_NOTHING: dict[str, Any] = {"value": None, "low": None, "high": None, "n": 0}


@dataclass(frozen=True)
class Number:
    """One of the seven: passes when its whole interval is on the good side of the limit, fails when none of it is."""

    name: str
    question: str
    limit: float
    good: Literal["at least", "at most", "within"]
    """within: the absolute value is at most the limit."""
    value: float | None
    low: float | None
    high: float | None
    n: int
    status: Literal["pass", "fail", "unknown"]
    reason: str = ""
    """Why it is unknown."""


def report_card(
    rows: Sequence[Scored],
    *,
    judgements: Sequence[Scored] | None,
    ceiling: Mapping[str, Any],
    edits: Mapping[str, Mapping[str, Any]],
    ece: float | None,
    seed: int = 0,
) -> dict[str, Any]:
    """Put the card together.

    Args:
        rows: held-out pairs as the model was tested on them.
        judgements: the single judgements behind them with their annotators; None = not known.
        ceiling: see `human_ceiling`.
        edits: by name of the edit, see `edit_shifts`.
        ece: expected calibration error of the raw score differences.
        seed: of the bootstraps over prompts.

    Returns:
        What eval.json holds under `card`.
    """
    temperature, calibrated = temperature_of(rows, seed)
    t = temperature or 1.0
    length = feature_bias(rows, lambda text: float(len(text)), temperature=t, seed=seed)
    slices = by_slice(rows, seed)
    people = by_annotator(judgements or (), seed)
    single = _accuracy(judgements, seed) if judgements else _NOTHING
    half = _accuracy(top_half(rows), seed)
    gain = best_of_n_gain(rows, seed)
    seven = [
        _share_of_ceiling(single, ceiling),
        number(
            "accuracy at equal length",
            "Does it tell replies of nearly equal length apart, where length cannot help?",
            slices["difference in length"].get(_EQUAL_LENGTH, _NOTHING),
            limit=0.5,
            good="at least",
            missing="no held-out pair has lengths within 10 %",
        ),
        number(
            "length bias",
            "Does it favour the longer reply by more than the labels do?",
            length["excess"],
            limit=0.1,
            good="within",
            missing="no held-out pair differs in length",
        ),
        number(
            "calibration error",
            "Does 70 % mean 70 %?",
            _NOTHING | {"value": ece, "n": len(rows)},
            limit=0.1,
            good="at most",
            enough=ENOUGH_FOR_BINS,
            interval=False,
            missing="nothing is held out",
        ),
        number(
            "padding",
            f"Do replies gain by padding ({' or '.join(PADDING)}; the worse of the two, in deviations of the score)?",
            _worst([edits[name] for name in PADDING if name in edits]),
            limit=0.1,
            good="at most",
            missing="no padded reply fits into the model's positions",
        ),
        number(
            "accuracy at the top",
            "Is it still right among the half of the pairs that it scores highest, where an optimiser goes?",
            half,
            limit=0.5,
            good="at least",
            missing="no held-out pair has an order",
        ),
        number(
            "best-of-n gain",
            "Which share of the gain in true utility that choosing among a prompt's replies can give does it give?",
            gain,
            limit=0.3,
            good="at least",
            missing="true utility is known in the lab only",
        ),
    ]
    return {
        "seven": [asdict(x) for x in seven],
        "verdict": verdict(seven),
        "slices": slices,
        "ties": ties(rows, t),
        "length": length,
        "format": feature_bias(rows, lambda text: float(markup(text)), temperature=t, seed=seed),
        "position": position_bias(judgements or rows, seed=seed),
        "temperature": temperature,
        "ece_calibrated": calibrated,
        "annotators": people[0],
        "annotator_groups": people[1],
        "judgement_accuracy": single,
        "ceiling": dict(ceiling),
        "edits": {name: dict(value) for name, value in edits.items()},
    }


def number(
    name: str,
    question: str,
    found: Mapping[str, Any],
    *,
    limit: float,
    good: Literal["at least", "at most", "within"],
    missing: str,
    enough: int = ENOUGH,
    interval: bool = True,
) -> Number:
    """Judge one number; `unknown` when it is missing or rests on too little, or its interval holds the limit."""
    value, low, high, n = (found[k] for k in ("value", "low", "high", "n"))
    status: Literal["pass", "fail", "unknown"] = "unknown"
    if value is None:
        return Number(name, question, limit, good, None, None, None, n, status, missing)
    reason = f"only {n} observations, {enough} are needed"
    if n >= enough and interval and (low is None or high is None):
        reason = "all observations are of one prompt, so it has no interval"
    elif n >= enough:
        status, reason = _side(value if low is None else low, value if high is None else high, limit, good), ""
        if status == "unknown":
            reason = "the interval reaches across the limit; more held-out judgements would tell"
    return Number(name, question, limit, good, value, low, high, n, status, reason)


def verdict(numbers: Iterable[Number]) -> Literal["pass", "fail", "unknown"]:
    """fail when one number fails, pass when all pass, else unknown."""
    found = {x.status for x in numbers}
    return "fail" if "fail" in found else "unknown" if "unknown" in found else "pass"


def summary(card: Mapping[str, Any]) -> list[str]:
    """The seven numbers as lines of text."""
    lines = [f"fit to optimise against: {card['verdict']}"]
    for x in card["seven"]:
        shown = "-" if x["value"] is None else f"{x['value']:.3f}"
        if x["low"] is not None and x["high"] is not None:
            shown += f" [{x['low']:.3f}, {x['high']:.3f}]"
        lines.append(f"  {x['status']:<8}{x['name']:<28}{shown:<25}{x['good']} {x['limit']:g}  {x['reason']}".rstrip())
    return lines


def by_slice(rows: Sequence[Scored], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Accuracy by who wrote the replies, difference in length, strength of the preference, and tags."""
    kinds: dict[str, Callable[[Scored], Iterable[str]]] = {
        "source of the replies": lambda s: [" against ".join(sorted(set(s.models)))] if all(s.models) else [],
        "difference in length": lambda s: [_length_bucket(len(s.pair.chosen), len(s.pair.rejected))],
        "strength": _strength_bucket(rows),
        "tags": lambda s: s.tags,
    }
    return {kind: _by(rows, names, seed) for kind, names in kinds.items()}


def by_annotator(judgements: Sequence[Scored], seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """How often the model agrees with each annotator, and with each group of annotators."""
    return (
        _by(judgements, lambda s: [s.annotator] if s.annotator else [], seed),
        _by(judgements, lambda s: [s.group] if s.group else [], seed),
    )


def human_ceiling(preferences: Iterable[Preference], seed: int = 0) -> dict[str, Any]:
    """How often one annotator agrees with the mean of the others about the same pair; a split of the others is half.

    What a model that knew the mean opinion would score against single judgements: it can be no more right than this.

    Args:
        preferences: single judgements of two replies, those that order nothing left out; ties count for the others.
        seed: of the bootstrap over pairs.

    Returns:
        value, low, high, n = judgements of pairs that several people judged.
    """
    votes: dict[tuple[str, ...], list[tuple[str, float]]] = {}
    for p in preferences:
        if len(p.candidates) != 2 or p.both_bad or (p.choice is None and not p.tie) or not p.annotator:
            continue
        texts = [c.text for c in p.candidates]
        first = 0.5 if p.tie else float(p.choice == 0)
        prompt = "\x1e".join(f"{m.role}: {m.content}" for m in p.prompt.messages)
        votes.setdefault((prompt, *sorted(texts)), []).append(
            (p.annotator, first if texts == sorted(texts) else 1 - first)
        )
    agreed: list[float] = []
    items: list[tuple[str, ...]] = []
    for item, given in votes.items():
        for who, vote in given:
            others = [v for other, v in given if other != who]
            if others and vote != 0.5:
                mean = sum(others) / len(others)
                agreed.append(0.5 if mean == 0.5 else float((mean > 0.5) == (vote > 0.5)))
                items.append(item)
    return finite(stats.bootstrap_mean(agreed, items, seed=seed)) if agreed else dict(_NOTHING)


def temperature_of(rows: Sequence[Scored], seed: int = 0) -> tuple[float | None, float | None]:
    """Temperature of the score differences, and the ECE it gives on pairs it was not fitted on.

    Args:
        rows: held-out pairs.
        seed: of the division of the prompts into two halves, each tested with the temperature of the other.

    Returns:
        (T fitted on all pairs, ECE); None where the labels are separated perfectly, the scores say nothing, or there
        are no pairs.
    """
    fold = [rng.derive(seed, "fold", s.pair.prompt) % 2 for s in rows]
    halves = [[s for s, f in zip(rows, fold, strict=True) if f == side] for side in (0, 1)]
    p: list[float] = []
    y: list[float] = []
    for mine, other in (halves, halves[::-1]):
        t = _temperature(other)
        if t is None or not mine:
            return _temperature(rows), None
        for s in mine:
            q = float(1 / (1 + np.exp(-s.delta / t)))
            p += [q, 1 - q]
            y += [s.pair.target, 1 - s.pair.target]
    return _temperature(rows), stats.ece(p, y)


def top_half(rows: Sequence[Scored]) -> list[Scored]:
    """Ordered pairs whose mean score is above the median of all."""
    ordered = [s for s in rows if s.pair.target != 0.5]
    if not ordered:
        return []
    middle = float(np.median([sum(s.scores) for s in ordered]))
    return [s for s in ordered if sum(s.scores) > middle]


def best_of_n_gain(rows: Sequence[Scored], seed: int = 0, resamples: int = 2000) -> dict[str, Any]:
    """Gain in true utility of the reply scored highest over the mean of a prompt's replies, as a share of the most.

    Returns:
        value, low, high (bootstrap over prompts), n = prompts whose replies differ in truth; value None without gold.
    """
    replies: dict[str, dict[str, tuple[float, float]]] = {}
    for s in rows:
        if s.gold is None:
            return dict(_NOTHING)
        here = replies.setdefault(s.pair.prompt, {})
        for text, score, gold in zip((s.pair.chosen, s.pair.rejected), s.scores, s.gold, strict=True):
            here[text] = (score, gold)
    gains: list[tuple[float, float]] = []
    for found in replies.values():
        gold = [g for _, g in found.values()]
        top = max(score for score, _ in found.values())
        chosen = [g for score, g in found.values() if score == top]
        if max(gold) > min(gold):
            mean = sum(gold) / len(gold)
            gains.append((sum(chosen) / len(chosen) - mean, max(gold) - mean))
    if not gains:
        return dict(_NOTHING)
    table = np.asarray(gains)
    picks = rng.generator(seed, "best-of-n").integers(0, len(gains), size=(resamples, len(gains)))
    sums = table[picks].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    total = table.sum(axis=0)
    return {"value": float(total[0] / total[1]), "low": float(low), "high": float(high), "n": len(gains)}


def _accuracy(rows: Sequence[Scored], seed: int) -> dict[str, Any]:
    return accuracy([s.delta for s in rows], [s.pair for s in rows], seed=seed)


def _by(rows: Sequence[Scored], names: Callable[[Scored], Iterable[str]], seed: int) -> dict[str, Any]:
    groups: dict[str, list[Scored]] = {}
    for s in rows:
        for name in names(s):
            groups.setdefault(name, []).append(s)
    largest = sorted(groups, key=lambda name: (-len(groups[name]), name))[:SHOWN]
    return {name: _accuracy(groups[name], seed) for name in largest}


def _length_bucket(a: int, b: int) -> str:
    apart = abs(a - b) / max(a, b, 1)
    return _EQUAL_LENGTH if apart <= 0.1 else "10 to 40 % apart" if apart <= 0.4 else "over 40 % apart"


def _strength_bucket(rows: Sequence[Scored]) -> Callable[[Scored], list[str]]:
    """Each value when there are few, else thirds."""
    given = sorted({s.strength for s in rows if s.strength is not None})
    if len(given) <= 5:
        return lambda s: [] if s.strength is None else [f"strength {s.strength:g}"]
    low, high = np.quantile([s.strength for s in rows if s.strength is not None], [1 / 3, 2 / 3])

    def name(s: Scored) -> list[str]:
        if s.strength is None:
            return []
        return ["weak third" if s.strength <= low else "middle third" if s.strength <= high else "strong third"]

    return name


def _share_of_ceiling(single: Mapping[str, Any], ceiling: Mapping[str, Any]) -> Number:
    """(accuracy - 1/2) / (ceiling - 1/2)."""
    found, missing = dict(_NOTHING), "no pair was judged by two annotators, or single judgements are not at hand"
    if single["value"] is not None and ceiling["value"] is not None:
        found["n"] = min(single["n"], ceiling["n"])
        if ceiling["low"] is not None and single["low"] is not None and ceiling["low"] > 0.5:
            found |= _ratio(single, ceiling)
        else:
            missing = "annotators do not agree with each other better than by chance, as far as can be told"
    return number(
        "share of the human ceiling",
        "How much of what one annotator shares with the others, beyond chance, does the model share with annotators?",
        found,
        limit=0.8,
        good="at least",
        missing=missing,
    )


def _ratio(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, float]:
    """(a - 1/2) / (b - 1/2); the interval adds the squares of what each one's interval does (Zou and Donner 2008)."""

    def share(x: float, y: float) -> float:
        return (x - 0.5) / (y - 0.5)

    value = share(a["value"], b["value"])
    down, up = (a["low"], b["high"]), (a["high"], b["low"])
    if value < 0:  # a smaller divisor makes a negative share smaller still
        down, up = (a["low"], b["low"]), (a["high"], b["high"])
    low = math.hypot(value - share(down[0], b["value"]), value - share(a["value"], down[1]))
    high = math.hypot(share(up[0], b["value"]) - value, share(a["value"], up[1]) - value)
    return {"value": value, "low": value - low, "high": value + high}


def _side(low: float, high: float, limit: float, good: str) -> Literal["pass", "fail", "unknown"]:
    if good == "at least":
        return "pass" if low >= limit else "fail" if high < limit else "unknown"
    if good == "at most":
        return "pass" if high <= limit else "fail" if low > limit else "unknown"
    inside = -limit <= low and high <= limit
    return "pass" if inside else "fail" if low > limit or high < -limit else "unknown"


def _worst(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    known = [x for x in found if x["value"] is not None]
    return max(known, key=lambda x: x["value"], default=_NOTHING)


def _temperature(rows: Sequence[Scored]) -> float | None:
    if not rows:
        return None
    found = stats.temperature_mle([s.delta for s in rows], [s.pair.target for s in rows])
    return found if 0 < found < math.inf else None


__all__ = ["EDITS", "Number", "best_of_n_gain", "by_annotator", "by_slice", "human_ceiling", "report_card", "summary"]
