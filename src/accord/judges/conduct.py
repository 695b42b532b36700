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


def conduct(comparisons: Sequence[Comparison], *, unpaired: bool = False) -> Conduct:
    """Return how a judge behaved on pairs that were shown in both orders.

    Args:
        comparisons: what it said.
        unpaired: first position counts verdicts of pairs that were read in one order only, too. Where a judge can be
            asked again they are left out, since one of the orders may be unreadable more often.
    """
    failed = sum(c.p is None for c in comparisons)
    shown = [c for c in comparisons if c.p is None or c.by_order != (None, None)]
    # A judge without orders (a reward model, gold) never fails to be read.
    parsed = [side for c in shown for side in c.by_order]
    both = [c.by_order for c in comparisons if c.by_order[0] is not None and c.by_order[1] is not None]
    counted = [c.by_order for c in comparisons] if unpaired else both
    # P(the reply shown first wins) is p with a in front, and 1 - p with b in front.
    firsts = [
        p > 0.5 if place == 0 else p < 0.5 for sides in counted for place, p in enumerate(sides) if p not in (None, 0.5)
    ]
    changed = [c for c in comparisons if c.consistent is False]
    return Conduct(
        parse_failures=sum(side is None for side in parsed) / len(parsed) if parsed else None,
        inconsistent=len(changed) / len(both) if both else None,
        first_position=sum(firsts) / len(firsts) if firsts else None,
        failed=failed,
        n=len(comparisons),
    )
