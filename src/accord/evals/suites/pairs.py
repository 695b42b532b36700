"""How far a judge agrees with labels: accuracy in each order and in both, consistency, position, length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accord import stats
from accord.evals.measured import Measured
from accord.evals.suites.base import GoldPair, accuracy_of
from accord.judges.base import Comparison
from accord.judges.conduct import conduct

WILSON, BOOTSTRAP = "Wilson", "bootstrap over prompts"


def judged_by(row: Measured, comparisons: Sequence[Comparison]) -> Measured:
    """The number with how the judge behaved on these comparisons beside it."""
    return row.beside(conduct(comparisons, unpaired=True))


def share(name: str, outcomes: Sequence[float], clusters: Sequence[str] | None = None, **about: Any) -> Measured:
    """Return a share with its interval: Wilson, or a bootstrap over clusters where a cluster occurs more than once."""
    if not outcomes:
        return Measured(name, None, None, None, 0, reason="no rows", **about)
    repeated = clusters is not None and len(set(clusters)) < len(clusters)
    found = stats.win_rate(list(outcomes), clusters if repeated else None)
    if repeated and len(set(clusters or ())) < 2:
        return Measured(name, found.value, None, None, found.n, reason="all of one prompt: no interval", **about)
    return Measured(
        name, found.value, found.low, found.high, found.n, method=BOOTSTRAP if repeated else WILSON, **about
    )


def right(pair: GoldPair, p: float | None) -> float | None:
    """Return 1 when P(a is better) names the labelled winner, 0 when the other, 0.5 for a tie, None unreadable.

    Where the label is a tie: 1 for a tie, else 0.
    """
    if p is None:
        return None
    if pair.gold == 0.5:
        return float(p == 0.5)
    return 0.5 if p == 0.5 else float((p > 0.5) == (pair.gold > 0.5))


def agreement(
    pairs: Sequence[GoldPair],
    comparisons: Sequence[Comparison],
    *,
    judge: str,
    prompt_hash: str,
    on: str,
    unreadable_is_wrong: bool = True,
) -> list[Measured]:
    """Return the judge's accuracy over all pairs with a preferred reply, by subset, and right in both orders.

    Args:
        pairs: with labels.
        comparisons: in the same order.
        judge: its name.
        prompt_hash: of its prompts.
        on: which labels, e.g. "LLMBar labels".
        unreadable_is_wrong: a pair without a readable verdict counts 0; else 1/2. It is never left out.
    """
    missing = 0.0 if unreadable_is_wrong else 0.5
    decided = [(pair, c) for pair, c in zip(pairs, comparisons, strict=True) if pair.gold != 0.5]

    def rate(name: str, chosen: Sequence[tuple[GoldPair, Comparison]]) -> Measured:
        found = [missing if (r := right(pair, c.p)) is None else r for pair, c in chosen]
        row = share(name, found, [_key(p) for p, _ in chosen], unit="pairs", judge=judge, prompt_hash=prompt_hash)
        return judged_by(row, [c for _, c in chosen])

    overall = rate("accuracy", decided)
    known = accuracy_of(overall, on)
    rows = [overall]
    if any(all(p is not None for p in c.by_order) for _, c in decided):
        both = [float(all(right(pair, p) == 1.0 for p in c.by_order)) for pair, c in decided]
        row = share("right in both orders", both, [_key(p) for p, _ in decided], unit="pairs", judge=judge)
        rows.append(judged_by(replace(row, prompt_hash=prompt_hash), comparisons))
    subsets = list(dict.fromkeys(p.subset for p, _ in decided if p.subset))
    if len(subsets) > 1:
        rows += [rate(f"accuracy, {name}", [(p, c) for p, c in decided if p.subset == name]) for name in subsets]
    tied = [(p, c) for p, c in zip(pairs, comparisons, strict=True) if p.gold == 0.5]
    if tied:
        rows.append(rate("called a tie where the label is a tie", tied))
    return [replace(row, judge_accuracy=known) for row in rows]


def longer_is_better(pairs: Sequence[GoldPair], *, on: str) -> Measured:
    """Return the share of pairs whose preferred reply is the longer one, in characters; equal lengths count half.

    The accuracy of "the longer reply wins". A judge that is right where this is high and wrong where it is low is
    counting characters.
    """
    decided = [p for p in pairs if p.gold != 0.5]
    outcomes = [0.5 if len(p.a) == len(p.b) else float((len(p.a) > len(p.b)) == (p.gold > 0.5)) for p in decided]
    return share(f"the preferred reply is the longer one, {on}", outcomes, [_key(p) for p in decided], unit="pairs")


def _key(pair: GoldPair) -> str:
    return "\x1e".join(m.content for m in pair.prompt.messages)
