"""Judgements as the statistics want them: which pair, which verdict, what was shown where, and what it looks like."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from accord.collect.values import JudgedPair, judged_pairs
from accord.types import Preference

FIRST, SECOND, TIE, BOTH_BAD = "first", "second", "tie", "both bad"
VERDICTS: tuple[str, ...] = (FIRST, SECOND, TIE, BOTH_BAD)
SWAP: dict[Hashable, Hashable] = {FIRST: SECOND, SECOND: FIRST}
"""What a verdict becomes when the two replies change places."""
_STEPS = 3
"""Strengths of the usual scale: slightly, better, much better."""


@dataclass(frozen=True)
class Judgement:
    """One person's verdict on a pair; "first" is the first reply of the pair's first judgement, wherever it stood."""

    pair: int
    prompt: str
    annotator: str
    group: str
    verdict: str
    score: float
    """Signed strength for the first reply, -3..3; 0 for a tie or both bad."""
    texts: tuple[str, str]
    """As shown: left or upper one first. Without an order, as stored."""
    turned: bool
    """Whether the second of `texts` is the pair's first reply."""
    ordered: bool
    """Whether it is known what was shown first."""
    seconds: float | None
    preference: Preference
    repeat: bool
    """Not the first judgement of this pair by this person: measures consistency and is no second opinion."""

    @property
    def upper(self) -> bool | None:
        """Whether the first of `texts` is preferred; None for ties and both bad."""
        return None if self.verdict not in SWAP else (self.verdict == FIRST) != self.turned


@dataclass(frozen=True)
class Judged:
    """All judgements of pairs, and what is none."""

    pairs: tuple[JudgedPair, ...]
    judgements: tuple[Judgement, ...]
    rankings: tuple[Preference, ...]
    unclear: int
    """Probabilities instead of verdicts, which nobody said."""
    steps: bool
    """Whether strengths are the integers of a scale; else only their direction counts."""

    @property
    def votes(self) -> list[tuple[int, str, str]]:
        """(pair, annotator, verdict), one a person and pair."""
        return [(j.pair, j.annotator, j.verdict) for j in self.judgements if not j.repeat]

    @property
    def scores(self) -> list[tuple[int, str, float]]:
        """(pair, annotator, signed strength), one a person and pair."""
        return [(j.pair, j.annotator, j.score) for j in self.judgements if not j.repeat]

    @property
    def prompts(self) -> dict[Hashable, Hashable]:
        """Pair -> prompt."""
        return {j.pair: j.prompt for j in self.judgements}


def judged(preferences: Sequence[Preference]) -> Judged:
    """Sort judgements by pair.

    Args:
        preferences: in any order. Rankings of three or more are kept apart. A person without a name is a new person
            on every judgement.
    """
    pairs, rankings = judged_pairs(preferences)
    strengths = [p.strength for p in preferences if p.strength is not None and p.choice is not None]
    steps = bool(strengths) and all(s in (1.0, 2.0, 3.0) for s in strengths)
    found: list[Judgement] = []
    unclear = 0
    for number, pair in enumerate(pairs):
        seen: set[str] = set()
        for place, p in enumerate(pair.judgements):
            verdict = _verdict(p, pair.first)
            if verdict is None:
                unclear += 1
                continue
            who = p.annotator or f"unnamed {number}/{place}"
            found.append(_judgement(number, pair, p, verdict, who, who in seen, steps))
            seen.add(who)
    return Judged(tuple(pairs), tuple(found), tuple(p for p in rankings if p.ranking), unclear, steps)


def _verdict(p: Preference, first: Preference) -> str | None:
    if p.tie:
        return TIE
    if p.both_bad:
        return BOTH_BAD
    choice = p.choice
    if choice is None and p.ranking is not None:
        if len(p.ranking) == 1:
            return TIE
        choice = p.ranking[0][0]
    if choice is None:
        return None
    return FIRST if _same(p, first) == (choice == 0) else SECOND


def _same(p: Preference, first: Preference) -> bool:
    """Whether a judgement names the replies in the same order as the pair's first one."""
    return p.candidates[0].text == first.candidates[0].text


def _judgement(
    number: int, pair: JudgedPair, p: Preference, verdict: str, who: str, repeat: bool, steps: bool
) -> Judgement:
    size = min(p.strength or 1.0, float(_STEPS)) if steps else 1.0
    order = p.order_shown or (0, 1)
    return Judgement(
        pair=number,
        prompt=pair.key[0],
        annotator=who,
        group=p.group,
        verdict=verdict,
        score={FIRST: size, SECOND: -size}.get(verdict, 0.0),
        texts=(p.candidates[order[0]].text, p.candidates[order[1]].text),
        turned=(order[0] == 0) != _same(p, pair.first),
        ordered=p.order_shown is not None,
        seconds=p.seconds,
        preference=p,
        repeat=repeat or bool(p.meta.get("repeat_of")),
    )
