"""How a judge behaved, seen from its verdicts alone: unreadable ones, winners that change with the order, the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.judges.base import Comparison


@dataclass(frozen=True)
class Conduct:
    """Rates over the comparisons of one judge; None where nothing of the kind was asked."""

    parse_failures: float | None
    """Share of verdicts (two a pair) that could not be read; None for judges that give no verdicts to read."""
    inconsistent: float | None
    """Share of the pairs read in both orders whose winner changes with the order; a tie is a winner of its own."""
    first_position: float | None
    """Share of the decided verdicts that are for the reply shown first; 0.5 = no bias, whatever the replies are,
    because every pair is shown in both orders."""
    failed: int
    """Pairs without any readable verdict."""
    n: int
    """Pairs."""


def conduct(comparisons: Sequence[Comparison]) -> Conduct:
    """Return how a judge behaved on pairs that were shown in both orders.

    First position counts only pairs read in both orders: of the others one order would be seen more often.
    """
    failed = sum(c.p is None for c in comparisons)
    shown = [c for c in comparisons if c.p is None or c.by_order != (None, None)]
    # A judge without orders (a reward model, gold) never fails to be read.
    parsed = [side for c in shown for side in c.by_order] if any(c.p is not None for c in shown) or failed else []
    both = [c.by_order for c in comparisons if c.by_order[0] is not None and c.by_order[1] is not None]
    first = [1.0 for a, b in both for wins in (a > 0.5, b < 0.5) if wins]  # pyright: ignore[reportOptionalOperand]
    decided = sum((a != 0.5) + (b != 0.5) for a, b in both)
    changed = [c for c in comparisons if c.consistent is False]
    return Conduct(
        parse_failures=sum(side is None for side in parsed) / len(parsed) if parsed else None,
        inconsistent=len(changed) / len(both) if both else None,
        first_position=len(first) / decided if decided else None,
        failed=failed,
        n=len(comparisons),
    )
