"""Rules that turn the votes of people who may want different things into one label a pair.

With s_g the share of group g that prefers the first reply (a tie is half a vote), and w, pi weights that sum to 1:

    weighted        p = sum_a w_a vote_a              every person counts as much as said
    majority        p = 1, 1/2 or 0                   the side with more votes; ties by a stated policy
    group_mixture   p = sum_g pi_g s_g                what a person drawn from the population would say
    worst_group     p = (min_g s_g + max_g s_g) / 2   the label whose distance to the farthest group is smallest

The last is arg min over p of max over g of |p - s_g|; p is above 1/2 exactly when the first reply is the better choice
for the group that likes it least (maximin). A majority can overrule a small group on every pair; the worst-group rule
looks at the two most extreme groups only, however small they are, and the others pay for it. Which is right is for
those who run the collection to say, so every label names the rule that made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from accord.data.aggregate import vote
from accord.data.splits import prompt_text
from accord.errors import ConfigError, DataError
from accord.rng import generator
from accord.types import Preference

Rule = Literal["weighted", "majority", "group_mixture", "worst_group"]
RULES: tuple[Rule, ...] = ("weighted", "majority", "group_mixture", "worst_group")
TiePolicy = Literal["tie", "drop", "random"]
PairKey = tuple[str, str, str]


@dataclass(frozen=True)
class Ballot:
    """One person's vote on a pair."""

    annotator: str
    group: str
    value: float
    """1 = the first reply is better, 0 = the second, 1/2 = neither; between for soft judgements."""


@dataclass(frozen=True)
class JudgedPair:
    """Everything that was said about the same two replies to the same prompt."""

    key: PairKey
    """Text of the prompt and both replies, the replies sorted."""
    first: Preference
    """The first judgement; its order of the replies counts."""
    judgements: tuple[Preference, ...]
    ballots: tuple[Ballot, ...]
    """One a person, of the person's first judgement (a swapped repeat measures consistency and is no second vote);
    "both bad" orders nothing and does not vote."""

    def shares(self, smoothing: float = 0.0) -> dict[str, float]:
        """Share of each group that prefers the first reply, groups in order of name.

        Args:
            smoothing: votes added to either side of each group, (k + s) / (n + 2 s); 1/2 is Jeffreys' prior.
        """
        found: dict[str, list[float]] = {}
        for ballot in self.ballots:
            found.setdefault(ballot.group, []).append(ballot.value)
        return {g: (sum(v) + smoothing) / (len(v) + 2 * smoothing) for g, v in sorted(found.items())}


def judged_pairs(preferences: Iterable[Preference]) -> tuple[list[JudgedPair], list[Preference]]:
    """Bring judgements of the same pair together, whichever reply was named first.

    Args:
        preferences: judgements in any order.

    Returns:
        (pairs in order of first appearance, what is no judgement of a pair: rankings).
    """
    groups: dict[PairKey, list[Preference]] = {}
    others: list[Preference] = []
    for p in preferences:
        if len(p.candidates) != 2:
            others.append(p)
            continue
        low, high = sorted(c.text for c in p.candidates)
        groups.setdefault((prompt_text(p), low, high), []).append(p)
    return [_judged(key, group) for key, group in groups.items()], others


def aggregate(
    preferences: Iterable[Preference],
    rule: Rule,
    *,
    weights: Mapping[str, float] | None = None,
    population: Mapping[str, float] | None = None,
    ties: TiePolicy = "tie",
    smoothing: float = 0.5,
    seed: int = 0,
) -> list[Preference]:
    """Merge the judgements of each pair into one label by a rule.

    Args:
        preferences: judgements in any order; rankings, and pairs that nobody ordered, are passed on as they are.
        rule: see the top of the file.
        weights: weighted: annotator -> weight, not negative; who is not named has weight 1. None = all 1, the mean.
        population: group_mixture: group -> share of the population; None = all groups alike. On a pair that some
            groups did not judge, the others' shares are scaled up (`groups_missing` in `meta` says which).
        ties: majority: what becomes of equal votes.
        smoothing: worst_group: votes added to either side of each group, so that a group of one is not as extreme as
            a group of ten that agrees.
        seed: of `ties: random`.

    Returns:
        One preference a pair in order of first appearance: `choice` or `tie` for majority, else `soft`. `meta` has the
        rule, the number of judgements and votes, and each group's share.

    Raises:
        ConfigError: weights or shares that are negative, all 0, or name nobody in the data.
        DataError: a rule about groups, and a judgement without a group.
    """
    records = list(preferences)
    pairs, others = judged_pairs(records)
    _check(rule, records, weights, population)
    found: list[Preference] = []
    for pair in pairs:
        if not pair.ballots:
            found += pair.judgements
            continue
        p = decide(pair, rule, weights=weights, population=population, smoothing=smoothing)
        if p is None:
            continue
        if rule == "majority" and p == 0.5 and ties != "tie":
            if ties == "drop":
                continue
            p = float(generator(seed, "values", "tie", *pair.key).random() < 0.5)
        missing = sorted(set(population or _groups(records)) - set(pair.shares()))
        extra = {"groups_missing": missing} if rule == "group_mixture" and missing else {}
        found.append(labelled(pair, p, rule, hard=rule == "majority", extra=extra))
    return found + others


def decide(
    pair: JudgedPair,
    rule: Rule,
    *,
    weights: Mapping[str, float] | None = None,
    population: Mapping[str, float] | None = None,
    smoothing: float = 0.5,
) -> float | None:
    """Return P(first reply is better) by one rule; None when nobody with a weight above 0 voted.

    Args:
        pair: what was said.
        rule: see the top of the file.
        weights: see `aggregate`.
        population: see `aggregate`.
        smoothing: see `aggregate`.
    """
    if not pair.ballots:
        return None
    if rule == "weighted":
        told = weights or {}
        return _mean([(told.get(b.annotator, 1.0), b.value) for b in pair.ballots])
    if rule == "majority":
        return majority([b.value for b in pair.ballots])
    if rule == "group_mixture":
        return group_mixture(pair.shares(), population)
    return worst_group(pair.shares(smoothing))


def majority(values: Sequence[float]) -> float:
    """Return 1 when more votes are for the first reply, 0 when more are for the second, else 1/2.

    Args:
        values: votes in [0, 1]; 1/2 abstains.
    """
    lead = sum(v > 0.5 for v in values) - sum(v < 0.5 for v in values)
    return 0.5 + 0.5 * ((lead > 0) - (lead < 0))


def group_mixture(shares: Mapping[str, float], population: Mapping[str, float] | None = None) -> float | None:
    """Return the share of a population that prefers the first reply; None when no group with a share judged.

    Args:
        shares: group -> its share for the first reply.
        population: group -> part of the population; None = all alike. Groups that did not judge are left out.
    """
    return _mean([(1.0 if population is None else population.get(g, 0.0), s) for g, s in shares.items()])


def worst_group(shares: Mapping[str, float]) -> float:
    """Return the middle between the least and the most favourable group, arg min_p max_g |p - s_g|.

    Args:
        shares: group -> its share for the first reply; at least one.
    """
    return (min(shares.values()) + max(shares.values())) / 2


def labelled(
    pair: JudgedPair, p: float, how: str, *, hard: bool = False, extra: Mapping[str, object] | None = None
) -> Preference:
    """Return the preference that stands for all judgements of a pair.

    Args:
        pair: what was said.
        p: P(first reply is better).
        how: rule or estimator, for `annotator` and `meta`.
        hard: p is 0, 1/2 or 1 and becomes a choice or a tie.
        extra: more for `meta`.
    """
    first = pair.first
    verdict = {"soft": p} if not hard else {"tie": True} if p == 0.5 else {"choice": 0 if p > 0.5 else 1}
    told = {"rule": how, "judgements": len(pair.judgements), "votes": len(pair.ballots)}
    shares = {g: round(s, 4) for g, s in pair.shares().items() if g}
    return Preference.model_validate(
        {
            "id": f"{first.id}-{how}-{len(pair.judgements)}",
            "prompt": first.prompt,
            "candidates": first.candidates,
            "annotator": f"{how} of " + ", ".join(sorted({b.annotator for b in pair.ballots})),
            "source": first.source,
            "meta": {**first.meta, **told, **({"groups": shares} if shares else {}), **(extra or {})},
            **verdict,
        }
    )


def _judged(key: PairKey, group: Sequence[Preference]) -> JudgedPair:
    first = group[0]
    ballots: list[Ballot] = []
    voted: set[str] = set()
    for p in group:
        value = vote(p)
        if value is None or p.annotator in voted:
            continue
        if p.annotator:  # people without a name are different people
            voted.add(p.annotator)
        same = p.candidates[0].text == first.candidates[0].text
        ballots.append(Ballot(p.annotator, p.group, value if same else 1 - value))
    return JudgedPair(key, first, tuple(group), tuple(ballots))


def _mean(weighted: Sequence[tuple[float, float]]) -> float | None:
    total = sum(w for w, _ in weighted)
    return sum(w * v for w, v in weighted) / total if total > 0 else None


def _groups(records: Iterable[Preference]) -> list[str]:
    return sorted({r.group for r in records})


def _check(
    rule: Rule,
    records: Sequence[Preference],
    weights: Mapping[str, float] | None,
    population: Mapping[str, float] | None,
) -> None:
    """Refuse what would be ignored in silence."""
    if rule in ("group_mixture", "worst_group") and any(not r.group for r in records):
        without = sum(not r.group for r in records)
        raise DataError(
            f"{without} of {len(records)} judgements have no group, and the rule {rule} is about groups",
            fix="give every annotator a group, or use weighted or majority",
        )
    for what, given, known in (
        ("annotator", weights, {r.annotator for r in records}),
        ("group", population, {r.group for r in records}),
    ):
        if given is None:
            continue
        if any(value < 0 for value in given.values()) or not sum(given.values()) > 0:
            raise ConfigError(f"weights of {what}s must not be negative, nor all 0: {dict(given)}")
        unknown = sorted(set(given) - known) if records else []
        if unknown:
            raise ConfigError(
                f"there is no {what} {', '.join(unknown)} in the judgements", fix=f"name some of {sorted(known)}"
            )
    absent = sorted({r.group for r in records} - set(population)) if population and rule == "group_mixture" else []
    if absent:
        raise ConfigError(f"no share of the population is given for {', '.join(absent)}", fix="give one, 0 included")
