"""The signals of one rollout round: numbers with their sampling error, computed from the rollouts alone.

Every signal is a mean over prompts (over blocks of replies for the diversity of many texts), so that its error is
known and a shift can be told from noise. Pure functions; nothing here runs a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from accord.diagnose import texts
from accord.diagnose.rules import Reading
from accord.evals.refusal import classify
from accord.stats.within import within_groups
from accord.types import Rollout

BLOCK = 16
"""Replies whose n-grams are counted together."""
CUT = 32
"""Tokens of each reply that count for diversity: longer replies must not look less diverse for their length."""
SATURATED = 0.01
"""A bounded score within this share of its range from one of its ends pays for nothing any more."""
DISTANCE, VARIANCE = "distance", "variance"
"""Parts of a score: Mahalanobis distance of the reward model's input, and variance of an ensemble's members."""
POOLED_ROUNDS = 3
"""Rounds whose correlations are taken together: in one of 100 replies their error is 0.1."""
PAID_FOR = ("length", "repetition", "refusal", "flattery", "endorsed")
"""Features of a reply whose correlation with the score is watched."""
OF_REPLIES = (
    "length",
    "repetition",
    "copying",
    "cut",
    "refusal",
    "flattery",
    "hedging",
    "certainty",
    "endorsed",
    "spread",
    "distance",
)
"""Signals that are means of what is counted in a reply."""
OF_ROUNDS = ("distinct_2", "compressibility", "identical", "outside", "saturation", "kl", "entropy")
"""Signals of a round as a whole."""
ROUND_SIGNALS = (*OF_REPLIES, *(f"{name}_corr" for name in PAID_FOR), *OF_ROUNDS)
"""All that `round_readings` gives."""
BEHAVIOURS = ("sycophancy", "over_refusal", "compliance")
PROBE_SIGNALS = (*BEHAVIOURS, *(f"{name}_rise" for name in BEHAVIOURS), "gold_drop", "win_rate", "peak_kl")
"""All that a measurement gives."""


def mean_of(values: Sequence[float], group: Sequence[str]) -> Reading:
    """Mean over replies, with the error of the mean over prompts.

    Args:
        values: one a reply; those that are not finite are left out.
        group: prompt of each reply.
    """
    sums: dict[str, list[float]] = {}
    for value, name in zip(values, group, strict=True):
        if math.isfinite(value):
            sums.setdefault(name, []).append(value)
    return over([sum(v) / len(v) for v in sums.values()])


def over(values: Sequence[float]) -> Reading:
    """Mean and its standard error; both nan without values, the error 0 for a single one."""
    known = [v for v in values if math.isfinite(v)]
    n = len(known)
    if not n:
        return Reading(float("nan"), 0.0)
    mean = sum(known) / n
    variance = sum((v - mean) ** 2 for v in known) / (n - 1) if n > 1 else 0.0
    return Reading(mean, math.sqrt(variance / n))


def pooled(readings: Sequence[Reading]) -> Reading:
    """One reading out of the last few of a signal that is noisy in a single round.

    Args:
        readings: independent of each other, at least one.
    """
    n = len(readings)
    return Reading(sum(r.value for r in readings) / n, math.sqrt(sum(r.error**2 for r in readings)) / n)


def reply_values(rollout: Rollout) -> dict[str, float]:
    """What is counted in one reply: the numbers whose means are signals, and by which suspicious samples are found.

    Args:
        rollout: scored or not.
    """
    ids, text = rollout.completion.token_ids, rollout.completion.text
    parts = {} if rollout.score is None else rollout.score.parts
    values = {
        "length": float(len(ids)),
        "repetition": texts.repetition(ids),
        "copying": texts.copied(ids, rollout.prompt_ids),
        "cut": float(rollout.completion.finish == "length"),
        "refusal": float(classify(text) == "refusal"),
        **texts.manners(text),
    }
    claim, answer = rollout.prompt.meta.get("claim"), rollout.prompt.meta.get("answer")
    if claim is not None and answer is not None and not rollout.prompt.meta.get("claim_true", False):
        values["endorsed"] = float(texts.endorses(text, str(claim), str(answer)))
    for name, value in parts.items():
        last = name.rpartition("/")[2]
        if last == VARIANCE:
            values["spread"] = math.sqrt(max(value, 0.0))
        # A reward model was trained on whole replies: one that was cut is strange to it by its last token, whatever it
        # says, and has a light of its own.
        if last == DISTANCE and rollout.completion.finish == "stop":
            values["distance"] = value
    return values


def round_readings(
    rollouts: Sequence[Rollout],
    *,
    report: Mapping[str, float] | None = None,
    q99: float | None = None,
    shaped: Callable[[Sequence[Rollout]], Sequence[float]] | None = None,
    bounds: tuple[float, float] | None = None,
) -> tuple[dict[str, Reading], list[dict[str, float]]]:
    """All signals of a round, and what was counted in each reply.

    Args:
        rollouts: of the round, with scores.
        report: statistics of the source: `objective/kl` and `objective/rollout_entropy` are taken from it.
        q99: distance that 99 % of the reward model's training replies do not exceed; None = distances are not known.
        shaped: scores as they are optimised, after clip and shaping; with `bounds` their saturation is a signal.
        bounds: range of these; an end that is not finite cannot be reached.

    Returns:
        Signal -> reading, without those that have no value; and one dict a rollout, see `reply_values`.
    """
    counted = [reply_values(r) for r in rollouts]
    group = [r.group for r in rollouts]
    found: dict[str, Reading] = {}
    for name in dict.fromkeys(name for values in counted for name in values):
        column = [values.get(name, float("nan")) for values in counted]
        found[name] = mean_of(column, group)
    score = [r.score.value for r in rollouts if r.score is not None and r.score.value is not None]
    if len(score) == len(rollouts):
        for name in PAID_FOR:
            here = [i for i, values in enumerate(counted) if name in values]
            linked = within_groups([counted[i][name] for i in here], [score[i] for i in here], [group[i] for i in here])
            found[f"{name}_corr"] = Reading(linked.r, linked.error)
    blocks = [rollouts[i : i + BLOCK] for i in range(0, len(rollouts) - BLOCK + 1, BLOCK)] or [rollouts]
    found["distinct_2"] = over([texts.distinct([r.completion.token_ids[:CUT] for r in block]) for block in blocks])
    found["compressibility"] = over([texts.compressibility([r.completion.text for r in block]) for block in blocks])
    replies: dict[str, list[str]] = {}
    for r in rollouts:
        replies.setdefault(r.group, []).append(r.completion.text)
    found["identical"] = over([texts.identical(said) for said in replies.values()])
    if q99 is not None and "distance" in found:
        here = [i for i, values in enumerate(counted) if "distance" in values]
        found["outside"] = mean_of([float(counted[i]["distance"] > q99) for i in here], [group[i] for i in here])
    if shaped is not None and bounds is not None:
        low, high = bounds
        near = SATURATED * (high - low) if math.isfinite(high - low) else 0.0
        found["saturation"] = mean_of([float(v <= low + near or v >= high - near) for v in shaped(rollouts)], group)
    for name, metric in (("kl", "objective/kl"), ("entropy", "objective/rollout_entropy")):
        if report is not None and metric in report:
            found[name] = Reading(report[metric], 0.0)
    return {name: reading for name, reading in found.items() if math.isfinite(reading.value)}, counted
