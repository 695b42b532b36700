"""Several judgements of the same pair of replies as one preference with a soft label.

Averaging votes before training keeps what annotators disagree about as a probability instead of as contradicting rows;
it is the simplest estimator of P(first reply is better) and needs no model of the annotators.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from accord.data.splits import prompt_text
from accord.types import Preference


def vote(preference: Preference) -> float | None:
    """P(first reply is better) that one judgement of a pair expresses; None for "both bad" and for rankings."""
    if len(preference.candidates) != 2 or preference.both_bad:
        return None
    if preference.soft is not None:
        return preference.soft
    if preference.tie:
        return 0.5
    return None if preference.choice is None else float(preference.choice == 0)


def soft_labels(preferences: Iterable[Preference]) -> list[Preference]:
    """Merge judgements of the same pair into one preference whose `soft` is the mean vote.

    Pairs are the same when prompt and both texts are, whichever was named first. Judgements that order nothing (both
    bad) do not vote; a pair that only has such judgements, and rankings, are passed on as they are.

    Args:
        preferences: judgements in any order.

    Returns:
        One preference a pair, in order of first appearance; `meta` says how many judgements it stands for.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Preference]] = {}
    for p in preferences:
        texts = tuple(c.text for c in p.candidates)
        key = (prompt_text(p), texts if len(texts) != 2 else (min(texts), max(texts)))
        groups.setdefault(key, []).append(p)
    return [merged for group in groups.values() for merged in _merge(group)]


def _merge(group: Sequence[Preference]) -> list[Preference]:
    first = group[0]
    votes: list[float] = []
    for p in group:
        value = vote(p)
        if value is not None:
            votes.append(value if p.candidates[0].text == first.candidates[0].text else 1 - value)
    if not votes or len(first.candidates) != 2:
        return list(group)
    mean = sum(votes) / len(votes)
    return [
        Preference(
            id=f"{first.id}-merged-{len(group)}",
            prompt=first.prompt,
            candidates=first.candidates,
            soft=mean,
            annotator="mean of " + ", ".join(sorted({p.annotator for p in group})),
            source=first.source,
            meta={**first.meta, "judgements": len(group), "votes": len(votes)},
        )
    ]
