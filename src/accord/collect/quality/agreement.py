"""Agreement of annotators on pairs, rankings and ratings, with intervals over prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from accord.collect.quality.judged import SWAP, VERDICTS, Judged
from accord.data.splits import prompt_text
from accord.stats.intervals import Estimate
from accord.stats.panel import Bootstrap, Couple, Panel, alpha, cohen, couples, fleiss, panel, raw
from accord.stats.rank_agreement import rank_agreement
from accord.types import Preference


@dataclass(frozen=True)
class Coefficient:
    """One number of a table, as the names of the replies are and in both orientations."""

    name: str
    given: Estimate
    """With the pair's first reply as it happens to be named; depends on the names."""
    symmetric: Estimate
    """With every pair in both orientations; the one to report."""


@dataclass(frozen=True)
class PairAgreement:
    """What is known from pairs judged by two or more people."""

    pairable: int
    """Pairs judged by two or more."""
    lone: int
    """Pairs judged once: they say nothing about agreement."""
    raw: Estimate
    decided: Estimate
    """Raw agreement where both had a preference, on the direction alone."""
    coefficients: tuple[Coefficient, ...]
    couples: tuple[Couple, ...]
    """Every two annotators, symmetric, those with most common pairs first."""


def pair_agreement(data: Judged, how: Bootstrap | None = None) -> PairAgreement:
    """Return agreement on pairs.

    Verdicts are first, second, tie, both bad. On the ordered scales (signed strength from -3 to 3, or direction alone
    where no strength was asked) a tie and both bad are 0.

    Args:
        data: the judgements; of several by one person on a pair the first counts.
        how: of the intervals.
    """
    sides, steps = panels(data)
    named = sides[0]
    direction = panel([vote for vote in data.votes if vote[2] in SWAP], labels=list(SWAP), clusters=data.prompts)

    def both(name: str, kinds: tuple[Panel, Panel], one: str, weights: str = "") -> Coefficient:
        found = [_coefficient(one, kind, weights, how) for kind in kinds]
        return Coefficient(name, found[0], found[1])

    return PairAgreement(
        pairable=named.units,
        lone=named.lone,
        raw=raw(named, how),
        decided=raw(direction, how),
        coefficients=(
            both("Cohen's kappa", sides, "cohen"),
            both("Cohen's kappa, linear weights", steps, "cohen", "linear"),
            both("Cohen's kappa, quadratic weights", steps, "cohen", "quadratic"),
            both("Fleiss' kappa", sides, "fleiss"),
            both("Krippendorff's alpha, nominal", sides, "alpha", "nominal"),
            both("Krippendorff's alpha, ordinal", steps, "alpha", "ordinal"),
            both("Krippendorff's alpha, interval", steps, "alpha", "interval"),
        ),
        couples=tuple(couples(sides[1])),
    )


def panels(data: Judged) -> tuple[tuple[Panel, Panel], tuple[Panel, Panel]]:
    """Return the verdicts, and the signed strengths, each as the replies are named and in both orientations.

    Args:
        data: the judgements.
    """
    named = panel(data.votes, labels=VERDICTS, clusters=data.prompts)
    values = sorted({sign * score for _, _, score in data.scores for sign in (1, -1)})
    scores = panel(data.scores, labels=values or [0.0], clusters=data.prompts)
    mirrored: Mapping[Hashable, Hashable] = {value: -value for value in values}
    return (named, named.symmetric(SWAP)), (scores, scores.symmetric(mirrored))


def _coefficient(name: str, given: Panel, option: str, how: Bootstrap | None) -> Estimate:
    if name == "fleiss":
        return fleiss(given, how)
    if name == "alpha":
        return alpha(given, option, how)  # pyright: ignore[reportArgumentType]
    return cohen(given, option or None, how)  # pyright: ignore[reportArgumentType]


def ranking_agreement(rankings: Sequence[Preference], *, seed: int = 0) -> dict[str, Estimate]:
    """Return Kendall's tau-b and W of rankings of the same replies.

    Args:
        rankings: of three or more replies; the same replies in another order are the same item.
        seed: of the bootstrap over prompts.
    """
    rows: list[tuple[Hashable, Hashable, Sequence[float]]] = []
    prompts: dict[Hashable, Hashable] = {}
    for number, p in enumerate(rankings):
        texts = [c.text for c in p.candidates]
        rank = {index: float(place) for place, group in enumerate(p.ranking or ()) for index in group}
        order = sorted(range(len(texts)), key=texts.__getitem__)
        item = (prompt_text(p), *(texts[i] for i in order))
        prompts[item] = item[0]
        rows.append((item, p.annotator or f"unnamed {number}", [rank[i] for i in order]))
    return rank_agreement(rows, clusters=prompts, seed=seed)


def rating_agreement(preferences: Sequence[Preference], how: Bootstrap | None = None) -> dict[str, Estimate]:
    """Return agreement of the ratings 1..7 of single replies, kept in `meta.ratings`.

    Args:
        preferences: judgements; those without ratings are ignored.
        how: of the intervals.
    """
    rows: list[tuple[Hashable, Hashable, Hashable]] = []
    prompts: dict[Hashable, Hashable] = {}
    for number, p in enumerate(preferences):
        ratings = p.meta.get("ratings")
        if not isinstance(ratings, list | tuple):
            continue
        for candidate, rating in zip(p.candidates, ratings, strict=False):
            if isinstance(rating, int | float):
                item = (prompt_text(p), candidate.text)
                prompts[item] = item[0]
                rows.append((item, p.annotator or f"unnamed {number}", float(rating)))
    given = panel(rows, clusters=prompts)
    return {"raw": raw(given, how), "ordinal": alpha(given, "ordinal", how), "interval": alpha(given, "interval", how)}


def agreement_with_others(data: Judged) -> dict[str, tuple[float, int]]:
    """Return for each annotator how often others said the same of the same pair, and of how many verdicts that is.

    Args:
        data: the judgements.
    """
    by_pair: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    for pair, who, verdict in data.votes:
        by_pair[pair].append((who, verdict))
    same: defaultdict[str, int] = defaultdict(int)
    met: defaultdict[str, int] = defaultdict(int)
    for votes in by_pair.values():
        for who, verdict in votes:
            same[who] += sum(v == verdict for w, v in votes if w != who)
            met[who] += len(votes) - 1
    return {who: (same[who] / met[who], met[who]) for who in met if met[who]}
