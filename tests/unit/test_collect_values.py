"""Rules about groups by hand; agreement within and between groups; pairs that split them, and false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations

import numpy as np
import pytest

from accord.collect.groups import contrast, group_agreement, likeness
from accord.collect.meetings import meetings_of
from accord.collect.splits import discrete_q_values, split_p_value, splits
from accord.collect.values import aggregate, decide, group_mixture, judged_pairs, majority, worst_group
from accord.errors import ConfigError, DataError
from accord.types import Candidate, Message, Preference, Prompt


def judged(
    item: int, annotator: str, group: str, first_wins: bool | None, *, swapped: bool = False, bad: bool = False
) -> Preference:
    """A judgement of item's replies "x" and "y"; None = tie."""
    texts = ("y", "x") if swapped else ("x", "y")
    winner = "x" if first_wins else "y"
    verdict: dict[str, object] = {"tie": True} if first_wins is None else {"choice": texts.index(winner)}
    return Preference.model_validate(
        {
            "id": f"{item}-{annotator}",
            "prompt": Prompt(id=str(item), messages=(Message(role="user", content=f"question {item}"),)),
            "candidates": [Candidate(text=t) for t in texts],
            "annotator": annotator,
            "group": group,
            **({"both_bad": True} if bad else verdict),
        }
    )


VOTES = [
    judged(0, "a1", "a", True),
    judged(0, "a2", "a", True, swapped=True),
    judged(0, "a3", "a", True),
    judged(0, "a4", "a", None),
    judged(0, "b1", "b", False),
    judged(0, "b2", "b", False, swapped=True),
]
"""Group a: 3 for x and a tie; group b: 2 for y."""


def test_rules_by_hand() -> None:
    (pair,), others = judged_pairs(VOTES)
    assert others == []
    assert pair.shares() == {"a": 3.5 / 4, "b": 0.0}
    assert decide(pair, "weighted") == pytest.approx(3.5 / 6)
    assert decide(pair, "weighted", weights={"b1": 2, "b2": 2, "a4": 0}) == pytest.approx(3 / 7)
    assert decide(pair, "majority") == 1.0  # 3 against 2, the tie abstains
    assert decide(pair, "group_mixture") == pytest.approx((0.875 + 0) / 2)
    assert decide(pair, "group_mixture", population={"a": 0.9, "b": 0.1}) == pytest.approx(0.9 * 0.875)
    assert decide(pair, "worst_group", smoothing=0) == pytest.approx(0.875 / 2)
    assert decide(pair, "worst_group", smoothing=0.5) == pytest.approx((4 / 5 + 0.5 / 3) / 2)


def test_worst_group_is_maximin_and_the_nearest_label() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        shares = {str(k): float(s) for k, s in enumerate(rng.random(4))}
        p = worst_group(shares)
        first, second = min(shares.values()), min(1 - s for s in shares.values())
        assert (p > 0.5) == (first > second)
        farthest = max(abs(p - s) for s in shares.values())
        assert all(farthest <= max(abs(q - s) for s in shares.values()) + 1e-12 for q in np.linspace(0, 1, 101))


def test_majorities() -> None:
    assert majority([1, 1, 0]) == 1
    assert majority([0.9, 0.2, 0.4]) == 0
    assert majority([1, 0, 0.5]) == 0.5
    assert group_mixture({"a": 0.2}, {"b": 1.0}) is None


def test_rules_make_labels_that_say_where_they_come_from() -> None:
    rows = aggregate(VOTES, "group_mixture", population={"a": 0.75, "b": 0.25})
    (row,) = rows
    assert row.soft == pytest.approx(0.75 * 0.875) and row.choice is None
    assert row.meta["rule"] == "group_mixture" and row.meta["judgements"] == 6 and row.meta["votes"] == 6
    assert row.meta["groups"] == {"a": 0.875, "b": 0.0}
    (row,) = aggregate(VOTES, "majority")
    assert row.choice == 0 and row.soft is None
    (row,) = aggregate(VOTES[1:], "weighted")  # the first judgement names y first
    assert row.candidates[0].text == "y" and row.soft == pytest.approx(1 - 2.5 / 5)


def test_groups_that_did_not_judge_are_named() -> None:
    rows = aggregate([*VOTES, judged(1, "a1", "a", True)], "group_mixture", population={"a": 0.2, "b": 0.8})
    assert rows[1].soft == 1.0 and rows[1].meta["groups_missing"] == ["b"]
    assert "groups_missing" not in rows[0].meta


def test_the_tie_policy_is_followed() -> None:
    even = [judged(i, f"{g}{i}", g, g == "a") for i in range(40) for g in "ab"]
    assert all(r.tie for r in aggregate(even, "majority"))
    assert aggregate(even, "majority", ties="drop") == []
    drawn = aggregate(even, "majority", ties="random", seed=1)
    assert {r.choice for r in drawn} == {0, 1}
    assert drawn == aggregate(even, "majority", ties="random", seed=1)


def test_a_person_votes_once_and_both_bad_not_at_all() -> None:
    again = judged(0, "a1", "a", False, swapped=True)
    (pair,), _ = judged_pairs([VOTES[0], again, judged(0, "c", "b", None, bad=True)])
    assert [b.value for b in pair.ballots] == [1.0]
    assert len(pair.judgements) == 3
    nameless = judged(0, "", "a", True)
    (pair,), _ = judged_pairs([nameless, nameless])
    assert len(pair.ballots) == 2


def test_what_orders_nothing_is_passed_on() -> None:
    bad = judged(3, "a1", "a", None, bad=True)
    ranking = Preference(
        id="r",
        prompt=bad.prompt,
        candidates=tuple(Candidate(text=t) for t in "xyz"),
        ranking=((2,), (0, 1)),
        annotator="a1",
        group="a",
    )
    assert aggregate([ranking, bad], "worst_group") == [bad, ranking]


def test_settings_that_would_be_ignored_are_refused() -> None:
    with pytest.raises(ConfigError, match="no annotator a9"):
        aggregate(VOTES, "weighted", weights={"a9": 1})
    with pytest.raises(ConfigError, match="not be negative"):
        aggregate(VOTES, "weighted", weights={"a1": -1})
    with pytest.raises(ConfigError, match="no group c"):
        aggregate(VOTES, "group_mixture", population={"a": 1, "b": 1, "c": 1})
    with pytest.raises(ConfigError, match="no share of the population is given for b"):
        aggregate(VOTES, "group_mixture", population={"a": 1})
    with pytest.raises(DataError, match="1 of 7 judgements have no group"):
        aggregate([*VOTES, judged(0, "d", "", True)], "worst_group")


def counted(votes: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The permutation p-value and the smallest one, by listing every order of the votes."""
    flat = [v for g in votes for v in g]
    sizes = [len(g) for g in votes]

    def statistic(order: Sequence[float]) -> float:
        found, start = 0.0, 0
        for size in sizes:
            found += sum(order[start : start + size]) ** 2 / size
            start += size
        return found

    every = [statistic(p) for p in permutations(flat)]
    seen, most = statistic(flat), max(every)
    return sum(s >= seen - 1e-9 for s in every) / len(every), sum(s >= most - 1e-9 for s in every) / len(every)


@pytest.mark.parametrize(
    "votes",
    [
        [[1, 1, 1], [0, 0, 0]],
        [[1, 0.5], [0, 0, 0.5], [1, 1]],
        [[1], [1, 0, 0.5, 0]],
        [[1, 1], [1, 1]],
        [[0.5, 0, 1, 1], [0, 0.5, 0.5]],
    ],
)
def test_the_exact_test_counts_every_permutation(votes: list[list[float]]) -> None:
    assert split_p_value(votes) == pytest.approx(counted(votes))


def test_many_votes_are_permuted_by_chance_and_agree_with_counting() -> None:
    votes = [[1.0] * 15 + [0.0] * 5, [1.0] * 8 + [0.0] * 12]  # 40: counted
    exact, _ = split_p_value(votes)
    more, least = split_p_value([[*votes[0], 0.5], votes[1]])
    assert more == pytest.approx(exact, abs=0.02)
    assert least == pytest.approx(1e-4)
    assert split_p_value([[1.0] * 30, [1.0] * 30]) == (1.0, 1.0)


def test_tests_that_cannot_succeed_do_not_cost_anything() -> None:
    p, least = [0.01, 0.8, 1.0, 1.0], [0.001, 0.001, 1.0, 1.0]
    q, testable = discrete_q_values(p, least, 0.05)
    assert testable == 2
    assert q == pytest.approx([0.02, 0.8, 1.0, 1.0])
    assert discrete_q_values([], [], 0.05) == ([], 0)


def pool(
    seed: int, *, divided: Sequence[int] = (), items: int = 60, people: int = 6, error: Sequence[float] = (0.2, 0.2)
) -> list[Preference]:
    """Two groups judge every item; on the divided ones group b wants the other reply. Careless people err more."""
    rng = np.random.default_rng(seed)
    truth = rng.random(items) < 0.5
    found = []
    for item in range(items):
        for number, group in enumerate("ab"):
            for person in range(people):
                wants = bool(truth[item]) ^ (group == "b" and item in divided) ^ bool(rng.random() < error[number])
                found.append(judged(item, f"{group}{person}", group, wants, swapped=bool(rng.random() < 0.5)))
    return found


def test_pairs_that_split_the_groups_are_found_and_the_rest_is_not() -> None:
    divided = range(0, 60, 6)
    pairs, _ = judged_pairs(pool(1, divided=divided, people=10, error=(0.1, 0.1)))
    result = splits(pairs)
    found = {int(s.pair.first.prompt.id) for s in result.found}
    assert len(found & set(divided)) >= 9
    assert len(found - set(divided)) <= 1
    top = result.pairs[0]
    assert top.opposed and top.spread > 0.5 and top.counts == {"a": 10, "b": 10}
    assert result.testable < len(result.pairs) == 60  # unanimous pairs are not tests


def test_meetings_by_hand() -> None:
    """Everybody meets everybody else on a pair once; a second judgement and people without a name or group do not."""
    more = [
        judged(0, "a1", "a", False),  # changed their mind
        judged(0, "b3", "b", None, bad=True),
        judged(0, "", "a", True),
        judged(0, "c", "", True),
        judged(1, "b1", "b", True),
        judged(1, "a1", "a", False, swapped=True),
    ]
    pairs, _ = judged_pairs([*VOTES, *more])
    met = meetings_of(pairs)
    told = {"a1": "x", "a2": "x", "a3": "x", "a4": "tie", "b1": "y", "b2": "y", "b3": "bad"}
    vote = {"x": 1, "y": -1, "tie": 0, "bad": 0}
    expected = [
        (0, one, two, told[one] == told[two], vote[told[one]] * vote[told[two]]) for one, two in combinations(told, 2)
    ]
    expected.append((1, "a1", "b1", False, -1))
    columns = (met.prompt, met.who[:, 0], met.who[:, 1], met.same, met.product)
    assert [
        (p, met.people[one], met.people[two], same, product)
        for p, one, two, same, product in zip(*columns, strict=True)
    ] == expected
    assert [tuple(met.groups[g] for g in two) for two in met.group] == [
        (one[0], two[0]) for _, one, two, _, _ in expected
    ]
    assert met.groups == ("a", "b") and list(met.members) == [4, 3] and list(met.judgements) == [5, 4]
    assert int(met.inside.sum()) == 6 + 3 and int(met.between(0, 1).sum()) == 12 + 1
    assert group_agreement(pairs, meetings=met) == group_agreement(pairs)
    assert contrast(pairs, meetings=met) == contrast(pairs)
    assert meetings_of([]).same.size == 0 and meetings_of([]).groups == ()


def test_clean_pools_hardly_ever_raise_a_split() -> None:
    alarms = sum(bool(splits(judged_pairs(pool(seed, items=40))[0]).found) for seed in range(200))
    assert alarms <= 10, f"{alarms} of 200 clean pools have a split"


def test_agreement_within_and_between_groups_by_hand() -> None:
    pairs, _ = judged_pairs(VOTES)
    a, b = group_agreement(pairs)
    assert (a.group, a.people, a.judgements) == ("a", 4, 4)
    assert a.within is not None and a.within.value == pytest.approx(3 / 6)  # three agree, the tie with nobody
    assert b.within is not None and b.within.value == 1.0
    assert a.between is not None and a.between.value == 0.0 and a.between.n == 8
    alone = group_agreement(judged_pairs([VOTES[0], VOTES[4]])[0])
    assert [g.within for g in alone] == [None, None]


def test_the_contrast_sees_groups_and_only_groups() -> None:
    found = contrast(judged_pairs(pool(2, divided=range(0, 60, 3)))[0])
    assert found.p_value is not None and found.p_value < 0.01
    assert found.difference is not None and found.difference.low > 0.05
    nothing = contrast([])
    assert nothing.p_value is None and "two people of one group" in nothing.reason
    one = contrast(judged_pairs([r for r in VOTES if r.group == "a"])[0])
    assert one.within is not None and one.difference is None and "two groups" in one.reason


def test_the_contrast_is_calibrated_on_clean_pools() -> None:
    p_values = [
        contrast(judged_pairs(pool(seed, items=25, people=4))[0], num=99, seed=seed).p_value for seed in range(60)
    ]
    small = sum(p is not None and p <= 0.05 for p in p_values)
    assert small <= 8, f"{small} of 60"  # 3 expected; P(9 or more) < 0.005


def test_likeness_does_not_take_carelessness_for_other_values() -> None:
    careless = likeness(judged_pairs(pool(3, items=300, error=(0.05, 0.35)))[0])[0]
    assert careless.shared is not None and careless.shared.low < 1 < careless.shared.high
    assert careless.agreement is not None and careless.agreement.value < 0.7
    divided = likeness(judged_pairs(pool(3, items=300, divided=range(0, 300, 4)))[0])[0]
    assert divided.shared is not None and divided.shared.high < 0.75
    assert divided.shared.value == pytest.approx(0.5, abs=0.12)  # a quarter reversed: 1 - 2 / 4
    assert likeness(judged_pairs([VOTES[0], VOTES[4]])[0])[0].shared is None


def test_likeness_has_no_bounds_when_resamples_are_often_undefined() -> None:
    # Within each group people agree by a hair: in many resamples they do not, and then nothing is known.
    found = likeness(judged_pairs(pool(1, items=8, people=3, error=(0.42, 0.42)))[0])[0].shared
    assert found is not None and 0 < found.value < np.inf
    assert (found.low, found.high) == (-np.inf, np.inf)
