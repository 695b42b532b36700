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
    made: list[_Line] = []
    for title, part in (("ASR@1", harmful), ("over-refusal", harmless)):
        old, new = _rates(singles(part(before)), by), _rates(singles(part(after)), by)
        names = [name for name in new if name in old]
        # All attacks together: one difference a cluster, or attacks on the same seed would count as independent.
        pooled: dict[str, list[_Pair]] = defaultdict(list)
        for name in names:
            pairs = {c: _pair(old[name][c], new[name][c]) for c in new[name] if c in old[name]}
            for cluster, pair in pairs.items():
                pooled[cluster].append(pair)
            if pairs and len(names) > 1:
                made.append(_Line(f"{title}, {name}", list(pairs.values())))
        if pooled:
            made.append(_Line(f"{title}, all", [_together(pairs) for pairs in pooled.values()]))
    if not made:
        raise DataError(
            "the two files have no seed and attack in common", fix="run both with the same seeds and attacks"
        )
    tested = [matched(line.differences, tries=line.tries) for line in made]
    adjusted = holm([t.p_above for t in tested])
    return [
        Change(
            what=line.what,
            before=_mean([p.before for p in line.pairs]),
            after=_mean([p.after for p in line.pairs]),
            difference=t.value,
            low=t.low,
            high=t.high,
            p_worse=float(p),
            n=t.n,
        )
        for line, t, p in zip(made, tested, adjusted, strict=True)
    ]


@dataclass(frozen=True)
class _Pair:
    """One cluster's rates on both checkpoints, and the smaller number of tries behind them."""

    before: float
    after: float
    tries: int


@dataclass(frozen=True)
class _Line:
    """One row of the table, not yet tested."""

    what: str
    pairs: list[_Pair]

    @property
    def differences(self) -> list[float]:
        return [p.after - p.before for p in self.pairs]

    @property
    def tries(self) -> float:
        return _mean([p.tries for p in self.pairs])


def _pair(old: Sequence[float], new: Sequence[float]) -> _Pair:
    return _Pair(_mean(old), _mean(new), min(len(old), len(new)))


def _together(pairs: Sequence[_Pair]) -> _Pair:
    return _Pair(_mean([p.before for p in pairs]), _mean([p.after for p in pairs]), sum(p.tries for p in pairs))


def _rates(attempts: Sequence[Attempt], by: Callable[[Attempt], str]) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for attempt in attempts:
        found[by(attempt)][attempt.seed.cluster].append(float(attempt.success))
    return found


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
