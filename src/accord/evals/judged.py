"""Comparing models by judged answers: utilities with intervals, win rates against a baseline, rates of behaviours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from accord import stats


@dataclass(frozen=True)
class Judged:
    """What a judge said of one answer."""

    value: float
    """Utility (gold) or score (reward model)."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Parts of the utility, where the judge has them."""
    labels: Mapping[str, bool] = field(default_factory=dict)
    """Behaviours seen: refused, complied, sycophantic, ..."""


def model_summary(judged: Sequence[Judged], lengths: Sequence[int], *, seed: int) -> dict[str, Any]:
    """Mean value with a bootstrap interval over prompts, mean parts, mean length in tokens."""
    parts = list(judged[0].parts)
    return {
        "utility": asdict(stats.bootstrap_mean([j.value for j in judged], seed=seed)),
        "parts": {name: sum(j.parts[name] for j in judged) / len(judged) for name in parts},
        "length": sum(lengths) / len(lengths),
    }


def compare(
    a: tuple[str, Sequence[Judged], Sequence[int]],
    b: tuple[str, Sequence[Judged], Sequence[int]],
    *,
    seed: int,
) -> dict[str, Any]:
    """Win rate of a over b on the same prompts, ties half, with the difference in value and in every part.

    Args:
        a: name, judgements and lengths of the first model.
        b: likewise of the second, prompt by prompt.
        seed: of the bootstrap.

    Returns:
        win_rate, low, high (95 %, Wilson), n, wins, ties, losses, mean lengths, and `difference` with paired
        bootstrap intervals.
    """
    name_a, judged_a, lengths_a = a
    name_b, judged_b, lengths_b = b
    outcomes = [
        0.5 if x.value == y.value else float(x.value > y.value) for x, y in zip(judged_a, judged_b, strict=True)
    ]
    rate = stats.win_rate(outcomes)
    differences = {"utility": ([j.value for j in judged_a], [j.value for j in judged_b])}
    for part in judged_a[0].parts:
        differences[part] = ([j.parts[part] for j in judged_a], [j.parts[part] for j in judged_b])
    return {
        "a": name_a,
        "b": name_b,
        "win_rate": rate.value,
        "low": rate.low,
        "high": rate.high,
        "n": rate.n,
        "wins": sum(o == 1 for o in outcomes),
        "ties": sum(o == 0.5 for o in outcomes),
        "losses": sum(o == 0 for o in outcomes),
        "length_a": sum(lengths_a) / len(lengths_a),
        "length_b": sum(lengths_b) / len(lengths_b),
        "difference": {
            name: asdict(stats.paired_bootstrap_diff(x, y, seed=seed)) for name, (x, y) in differences.items()
        },
    }


def rates(judged: Sequence[Judged], groups: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """How often each behaviour occurs in each group of prompts: group -> label -> Wilson interval."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for group in sorted(set(groups)):
        rows = [j for j, g in zip(judged, groups, strict=True) if g == group]
        found[group] = {
            name: asdict(stats.wilson(sum(j.labels[name] for j in rows), len(rows))) for name in rows[0].labels
        }
    return found
