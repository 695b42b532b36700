"""Ratings and comparisons of models as numbers with intervals over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accord import stats
from accord.evals.measured import Measured
from accord.evals.suites.base import Report
from accord.evals.suites.pairs import BOOTSTRAP, WILSON, judged_by
from accord.judges.base import Comparison
from accord.judges.conduct import conduct

Rated = tuple[float | None, str, int]
"""(rating or None when unreadable, category, turn)."""


def mean_of(name: str, values: Sequence[float], clusters: Sequence[str], **about: Any) -> Measured:
    """Return a mean with a bootstrap interval over clusters (prompts)."""
    if not values:
        return Measured(name, None, None, None, 0, reason="no readable verdict", **about)
    found = stats.bootstrap_mean(values, clusters)
    n = len(set(clusters))
    if n < 2:
        return Measured(name, found.value, None, None, n, reason="a single prompt has no interval", **about)
    return Measured(name, found.value, found.low, found.high, n, method=BOOTSTRAP, **about)


def rating_report(
    title: str, rated: Sequence[Rated], clusters: Sequence[str], *, judge: str, prompt_hash: str, model: str
) -> Report:
    """Return the mean rating over all turns, by turn and by category.

    Args:
        title: heading.
        rated: one a judged turn.
        clusters: the question of each; the turns of a question are drawn together.
        judge: its name.
        prompt_hash: of its prompts.
        model: who was rated.
    """

    def over(name: str, chosen: Sequence[int]) -> Measured:
        read = [(value, clusters[i]) for i in chosen if (value := rated[i][0]) is not None]
        row = mean_of(name, [v for v, _ in read], [c for _, c in read], judge=judge, prompt_hash=prompt_hash)
        return replace(row, parse_failures=1 - len(read) / len(chosen))

    everything = range(len(rated))
    rows = [over(f"rating, {model}", everything)]
    rows += [
        over(f"rating, {model}, turn {turn}", [i for i in everything if rated[i][2] == turn])
        for turn in sorted({turn for _, _, turn in rated})
    ]
    rows += [
        over(f"rating, {model}, {category}", [i for i in everything if rated[i][1] == category])
        for category in dict.fromkeys(category for _, category, _ in rated if category)
    ]
    lost = sum(value is None for value, _, _ in rated)
    notes = [f"{lost} of {len(rated)} verdicts could not be read and are in no mean."] if lost else []
    return Report(title, tuple(rows), tuple(notes))


def agreed(comparison: Comparison) -> float | None:
    """Return MT-Bench's result for a: 1 or 0 only where both orders agree, else 0.5; None when one is unreadable.

    A judge that knows no order (gold, a reward model) has one verdict, which counts.
    """
    first, second = comparison.by_order
    if first is None and second is None and comparison.p is not None:
        first = second = comparison.p
    if first is None or second is None:
        return None
    if first > 0.5 and second > 0.5:
        return 1.0
    return 0.0 if first < 0.5 and second < 0.5 else 0.5


def comparison_report(
    title: str,
    comparisons: Sequence[Comparison],
    categories: Sequence[str],
    clusters: Sequence[str],
    *,
    judge: str,
    prompt_hash: str,
    model: str,
) -> Report:
    """Return adjusted win rate, win rate and loss rate of a, as MT-Bench counts two orders.

    Args:
        title: heading.
        comparisons: of a and b in both orders.
        categories: of each, "" = none.
        clusters: the question of each.
        judge: its name.
        prompt_hash: of its prompts.
        model: "a against b".
    """
    changing = conduct(comparisons).inconsistent
    results = [agreed(c) for c in comparisons]

    def over(name: str, chosen: Sequence[int], value: Any) -> Measured:
        read = [(value(r), clusters[i]) for i in chosen if (r := results[i]) is not None]
        if not read:
            row = Measured(name, None, None, None, 0, judge=judge, reason="no readable verdict")
        elif len({c for _, c in read}) < len(read):
            row = mean_of(name, [v for v, _ in read], [c for _, c in read], judge=judge)
        else:
            found = stats.wilson(sum(v for v, _ in read), len(read))
            row = Measured(name, found.value, found.low, found.high, found.n, method=WILSON, judge=judge)
        return judged_by(replace(row, prompt_hash=prompt_hash), [comparisons[i] for i in chosen])

    everything = range(len(results))
    rows = [
        over(f"adjusted win rate, {model}", everything, lambda r: r),
        over(f"win rate, {model}", everything, lambda r: float(r == 1)),
        over(f"loss rate, {model}", everything, lambda r: float(r == 0)),
    ]
    rows += [
        over(f"adjusted win rate, {model}, {name}", [i for i in everything if categories[i] == name], lambda r: r)
        for name in dict.fromkeys(c for c in categories if c)
    ]
    counts = {"win": results.count(1.0), "tie": results.count(0.5), "loss": results.count(0.0)}
    lost = results.count(None)
    notes = []
    if lost:
        notes.append(f"{lost} of {len(results)} pairs lack a readable verdict in one order and are in no rate.")
    if changing is not None and changing > 0.3:
        notes.append(f"The winner changes with the order in {changing:.0%} of pairs: a weak judge.")
    return Report(title, tuple(rows), tuple(notes), details={**counts, "unreadable": lost})
