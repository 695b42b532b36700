"""Several rewards as one: weighted sums, and floors that no weighted sum can buy its way out of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accord.errors import RewardError
from accord.types import Score


def weighted_sum(parts: Mapping[str, Score], weights: Mapping[str, float]) -> Score:
    """Add the values of named rewards.

    Args:
        parts: scores of one rollout by name; their own parts are kept as `name/part`.
        weights: of each name; every part needs one, and every weight a part.

    Returns:
        Their weighted sum with each value as a part; an error when one of them has no value, never a sum of the rest.

    Raises:
        RewardError: the names differ.
    """
    if set(parts) != set(weights):
        raise RewardError(
            f"rewards and weights have different names: {sorted(parts)} and {sorted(weights)}",
            fix="give each reward one weight; 0 measures it without using it",
        )
    found: dict[str, float] = {}
    failed: list[str] = []
    total = 0.0
    for name, score in parts.items():
        found |= {f"{name}/{part}": value for part, value in score.parts.items()}
        if score.value is None:
            failed.append(f"{name}: {score.error}")
            continue
        found[name] = score.value
        total += weights[name] * score.value
    if failed:
        return Score(value=None, parts=found, error="; ".join(failed))
    return Score(value=total, parts=found)


def with_floors(score: Score, floors: Mapping[str, float], worst: float) -> Score:
    """Replace the value of a score that breaks a constraint.

    Args:
        score: a score with parts.
        floors: lowest allowed value by part.
        worst: value of a rollout with a part below its floor; at least as low as any that keeps to them, or breaking
            the constraint pays.

    Returns:
        The score, with the part `below_floor` (how many are) added.

    Raises:
        RewardError: a floor names a part that a valid score does not have.
    """
    if score.value is None:
        return score
    unknown = sorted(set(floors) - set(score.parts))
    if unknown:
        raise RewardError(f"there is no part {unknown} to hold above a floor", fix=f"name one of {sorted(score.parts)}")
    broken = sum(score.parts[name] < floor for name, floor in floors.items())
    value = min(worst, score.value) if broken else score.value
    return Score(value=value, parts={**score.parts, "below_floor": float(broken)})


def combine_rows(
    parts: Mapping[str, Sequence[Score]], weights: Mapping[str, float], floors: Mapping[str, float], worst: float
) -> list[Score]:
    """Combine the scores of many rollouts: weighted sum, then floors.

    Args:
        parts: scores by name, in the same order of rollouts.
        weights: see `weighted_sum`.
        floors: see `with_floors`; empty = none.
        worst: see `with_floors`.

    Returns:
        One score a rollout.

    Raises:
        RewardError: see the two functions; or the names have different numbers of scores.
    """
    if len({len(scores) for scores in parts.values()}) > 1:
        raise RewardError(f"rewards scored different numbers of rollouts: { {n: len(s) for n, s in parts.items()} }")
    count = len(next(iter(parts.values()), ()))
    rows = ({name: scores[i] for name, scores in parts.items()} for i in range(count))
    return [with_floors(weighted_sum(row, weights), floors, worst) for row in rows]
