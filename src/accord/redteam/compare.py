"""Two checkpoints against each other: the same seeds, the same attacks, differences with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from accord.errors import DataError
from accord.redteam.attempts import Attempt, harmful, harmless
from accord.redteam.findings import matched
from accord.redteam.measure import by_attack, singles
from accord.stats.multiple import holm


@dataclass(frozen=True)
class Change:
    """What became of one rate between two checkpoints."""

    what: str
    """ASR@1 or over-refusal, and of which attack."""
    before: float
    after: float
    difference: float
    """After minus before, over clusters that both have."""
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    """Upper end."""
    p_worse: float
    """Of no rise, one-sided, Holm-adjusted over the table."""
    n: int
    """Clusters."""


def changes(
    before: Sequence[Attempt], after: Sequence[Attempt], *, by: Callable[[Attempt], str] = by_attack
) -> list[Change]:
    """Compare the rates of two files of attempts, all attacks together and each alone.

    Args:
        before: attempts on the earlier checkpoint.
        after: attempts on the later one.
        by: names the attack.

    Raises:
        DataError: they have no seed and attack in common, or the judges differ.
    """
    judges = {a.judge for a in (*before, *after)}
    if len(judges) > 1:
        raise DataError(
            f"the two files were judged by {' and '.join(sorted(judges))}",
            fix="judge both by the same judge: a change of judge looks like a change of model",
        )
    made: list[tuple[str, float, float, Sequence[float]]] = []
    for title, part in (("ASR@1", harmful), ("over-refusal", harmless)):
        old, new = _rates(singles(part(before)), by), _rates(singles(part(after)), by)
        names = [name for name in new if name in old]
        # All attacks together: one difference a cluster, or attacks on the same seed would count as independent.
        pooled: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for name in names:
            shared = [c for c in new[name] if c in old[name]]
            for cluster in shared:
                pooled[cluster].append((_mean(old[name][cluster]), _mean(new[name][cluster])))
            if shared and len(names) > 1:
                pairs = [(_mean(old[name][c]), _mean(new[name][c])) for c in shared]
                made.append(_line(f"{title}, {name}", pairs))
        if pooled:
            means = [(_mean([a for a, _ in v]), _mean([b for _, b in v])) for v in pooled.values()]
            made.append(_line(f"{title}, all", means))
    if not made:
        raise DataError(
            "the two files have no seed and attack in common", fix="run both with the same seeds and attacks"
        )
    tested = [matched(d) for *_, d in made]
    adjusted = holm([t.p_above for t in tested])
    return [
        Change(what, old, new, t.value, t.low, t.high, float(p), t.n)
        for (what, old, new, _), t, p in zip(made, tested, adjusted, strict=True)
    ]


def _line(what: str, pairs: Sequence[tuple[float, float]]) -> tuple[str, float, float, list[float]]:
    return what, _mean([a for a, _ in pairs]), _mean([b for _, b in pairs]), [b - a for a, b in pairs]


def _rates(attempts: Sequence[Attempt], by: Callable[[Attempt], str]) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for attempt in attempts:
        found[by(attempt)][attempt.seed.cluster].append(float(attempt.success))
    return found


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
