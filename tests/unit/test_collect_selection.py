"""Which item next: propensities by enumeration, policies by hand, mixtures, the same choice by the same seed."""

from __future__ import annotations

from itertools import combinations
from math import log

import numpy as np
import pytest

from accord.collect.priorities import (
    coverage_order,
    disagreement,
    entropy,
    interleave,
    ngram_features,
    ranked,
    uncertainty,
)
from accord.collect.selection import Signals, choose, hajek, horvitz_thompson, inclusion, select
from accord.errors import ConfigError


def by_enumeration(size: int, active: int, drawn: int, order: list[int]) -> list[tuple[set[int], float]]:
    """Every random slice of `drawn` items, what the order adds to it, and its probability."""
    slices = list(combinations(range(size), drawn))
    found = []
    for slice_ in slices:
        rest = [item for item in order if item not in slice_][:active]
        found.append(({*slice_, *rest}, 1 / len(slices)))
    return found


@pytest.mark.parametrize(
    ("size", "active", "drawn"), [(7, 3, 2), (8, 4, 4), (6, 5, 1), (9, 0, 4), (6, 2, 0), (5, 3, 2)]
)
def test_propensities_are_those_of_all_slices_counted(size: int, active: int, drawn: int) -> None:
    order = [int(i) for i in np.random.default_rng(size).permutation(size)]
    expected = np.zeros(size)
    for chosen, probability in by_enumeration(size, active, drawn, order):
        expected[list(chosen)] += probability
    found = inclusion(size, active, drawn, order)
    assert np.allclose(found, expected, atol=1e-12)
    assert found.sum() == pytest.approx(active + drawn)
    assert drawn == 0 or (found > 0).all()


def test_the_weighted_estimate_is_right_on_average_and_the_plain_mean_is_not() -> None:
    size, active, drawn = 8, 3, 2
    order = [5, 2, 7, 0, 1, 3, 4, 6]
    values = np.array([0.1, 0.4, 0.9, 0.3, 0.2, 1.0, 0.0, 0.8])  # what the order wants is large
    propensity = inclusion(size, active, drawn, order)
    weighted = plain = 0.0
    for chosen, probability in by_enumeration(size, active, drawn, order):
        index = sorted(chosen)
        weighted += probability * horvitz_thompson(values[index], propensity[index], size)
        plain += probability * float(values[index].mean())
    assert weighted == pytest.approx(values.mean(), abs=1e-12)
    assert abs(plain - values.mean()) > 0.1


def test_choices_carry_the_propensity_and_say_where_they_come_from() -> None:
    wanted = [(i, "coverage") for i in (9, 4, 7, 1, 0, 2, 3, 5)]
    picks = choose(12, 8, wanted, random_share=0.25, seed=3)
    assert len({p.index for p in picks}) == len(picks) == 8
    assert [p.slice for p in picks].count("random") == 2
    propensity = inclusion(12, 6, 2, [i for i, _ in wanted])
    assert all(p.propensity == pytest.approx(propensity[p.index]) and 0 < p.propensity <= 1 for p in picks)
    assert {p.policy for p in picks if p.slice == "active"} == {"coverage"}
    assert {p.policy for p in picks if p.slice == "random"} == {"random"}


def test_slices_are_uniform_over_seeds() -> None:
    wanted = [(i, "uncertainty") for i in range(10)]
    counts = np.zeros(10)
    for seed in range(3000):
        for pick in choose(10, 4, wanted, random_share=0.5, seed=seed):
            counts[pick.index] += 1
    expected = inclusion(10, 2, 2, list(range(10)))
    assert np.abs(counts / 3000 - expected).max() < 4 * (0.25 / 3000) ** 0.5


def test_the_same_seed_chooses_the_same_and_another_seed_does_not() -> None:
    signals = Signals(60, difference=np.linspace(-3, 3, 60))
    policies = {"random": 0.3, "uncertainty": 0.7}
    first, again, other = (select(signals, 20, policies, seed=s) for s in (1, 1, 2))
    assert first == again
    assert {p.index for p in first} != {p.index for p in other}


def test_everything_is_chosen_when_there_is_no_more() -> None:
    picks = select(Signals(5, difference=[0, 1, 2, 3, 4]), 9, {"uncertainty": 0.8, "random": 0.2}, seed=0)
    assert sorted(p.index for p in picks) == [0, 1, 2, 3, 4]
    assert all(p.propensity == pytest.approx(1.0) for p in picks)


def test_random_alone_is_a_simple_random_sample() -> None:
    picks = select(Signals(50), 10, {"random": 1}, seed=5)
    assert {p.propensity for p in picks} == {0.2}
    assert {p.slice for p in picks} == {"random"}


def test_without_a_random_slice_the_chosen_are_certain() -> None:
    picks = select(Signals(4, difference=[5, 0.1, -3, 0.0]), 2, {"uncertainty": 1}, seed=0)
    assert {(p.index, p.propensity) for p in picks} == {(1, 1.0), (3, 1.0)}


def test_uncertainty_and_entropy_by_hand() -> None:
    assert uncertainty([0.0, log(3), -log(3)]) == pytest.approx([0.5, 0.25, 0.25])
    assert entropy([0.0, log(3)]) == pytest.approx([log(2), -(0.25 * log(0.25) + 0.75 * log(0.75))])
    x = np.random.default_rng(0).normal(size=40)
    assert list(np.argsort(uncertainty(x))) == list(np.argsort(entropy(x)))
    assert entropy([800.0, -800.0]) == pytest.approx([0.0, 0.0])


def test_disagreement_is_of_members_not_of_noise() -> None:
    members = [[4.0, 0.0, 4.0], [-4.0, 0.0, 4.0]]
    against, unsure, agreed = disagreement(members)
    assert unsure == agreed == 0.0
    p = 1 / (1 + np.exp(-4.0))
    own = -(p * log(p) + (1 - p) * log(1 - p))
    assert against == pytest.approx(log(2) - own)
    with pytest.raises(ValueError, match="members x items"):
        disagreement([1.0, 2.0])


def test_coverage_takes_the_farthest_each_time() -> None:
    points = [[0.0], [1.0], [10.0], [11.0], [5.0]]
    assert coverage_order(points, 5) == [4, 3, 0, 1, 2]  # nearest to the mean 5.4, then 11 (6 away), 0 (5), ...
    assert coverage_order(points, 2, covered=[[0.0], [11.0]]) == [4, 1]
    assert coverage_order(np.zeros((0, 3)), 2) == []
    assert sorted(coverage_order(np.ones((4, 2)), 9)) == [0, 1, 2, 3]  # equal points still come once each


def test_coverage_is_within_twice_the_best_radius() -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(12, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)

    def radius(centres: list[int] | tuple[int, ...]) -> float:
        return float(distance[list(centres)].min(axis=0).max())

    best = min(radius(c) for c in combinations(range(12), 3))
    assert radius(coverage_order(points, 3)) <= 2 * best + 1e-9


def test_ngrams_are_near_when_words_are_shared() -> None:
    features = ngram_features(["the river of orla", "the river of thist", "how much is 3 plus 4", ""])
    assert np.linalg.norm(features, axis=1) == pytest.approx([1, 1, 1, 0])
    assert features[0] @ features[1] > 0.3 > abs(features[0] @ features[2])
    assert np.array_equal(
        features, ngram_features(["the river of orla", "the river of thist", "how much is 3 plus 4", ""])
    )
    order = ngram_features(["a b", "b a"])
    assert 0 < order[0] @ order[1] < 1  # bigrams know the order


def test_ties_are_in_an_order_of_the_seed_and_noise_swaps_neighbours() -> None:
    assert ranked([1.0, 3.0, 2.0], seed=0) == [1, 2, 0]
    equal = {tuple(ranked(np.zeros(6), seed=s)) for s in range(5)}
    assert len(equal) == 5
    values = np.arange(100.0)
    noisy = ranked(values, seed=1, temperature=0.2)
    assert noisy != ranked(values, seed=1)
    assert np.corrcoef(np.argsort(noisy), -values)[0, 1] > 0.9


def test_policies_take_turns_by_their_shares() -> None:
    orders = {"uncertainty": [0, 1, 2, 3, 4, 5, 6, 7], "coverage": [0, 9, 8, 1, 7, 6, 5, 4]}
    found = interleave(orders, {"uncertainty": 3, "coverage": 1}, 8)
    assert len({i for i, _ in found}) == 8
    assert [p for _, p in found].count("uncertainty") == 6
    assert found[0] == (0, "uncertainty")
    assert interleave({"a": [1, 2]}, {"a": 1.0}, 5) == [(1, "a"), (2, "a")]


def test_a_mixture_of_all_policies() -> None:
    rng = np.random.default_rng(0)
    members = rng.normal(size=(3, 200))
    signals = Signals(200, members.mean(axis=0), members, rng.normal(size=(200, 8)), rng.normal(size=(5, 8)))
    shares = {"random": 1, "uncertainty": 1, "disagreement": 1, "coverage": 1}
    picks = select(signals, 80, shares, seed=0)
    for name in shares:
        assert 14 <= sum(p.policy == name for p in picks) <= 26, name
    estimate = [hajek([p.index / 200 for p in picks], [p.propensity for p in picks])]
    assert 0 < estimate[0] < 1


@pytest.mark.parametrize(
    ("signals", "policies", "words"),
    [
        (Signals(3), {"uncertainty": 1}, "needs difference"),
        (Signals(3), {"disagreement": 1}, "needs members"),
        (Signals(3), {"coverage": 1}, "needs features"),
        (Signals(3), {"entropie": 1}, "no selection policy"),
        (Signals(3), {}, "no selection policy"),
        (Signals(3), {"random": 0.0}, "not positive"),
        (Signals(3, difference=[1.0, 2.0]), {"uncertainty": 1}, "of 2 items, and there are 3"),
        (Signals(3, members=np.zeros((2, 4))), {"disagreement": 1}, "of 4 items, and there are 3"),
    ],
)
def test_what_cannot_be_done_is_said(signals: Signals, policies: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        select(signals, 2, policies, seed=0)


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(ConfigError, match="random share"):
        choose(4, 2, [], random_share=1.5, seed=0)
    with pytest.raises(ConfigError, match="0 items"):
        choose(4, 0, [], seed=0)
    for wanted in ([(0, "x"), (0, "x")], [(4, "x"), (1, "x")], [(1, "x")]):
        with pytest.raises(ValueError, match="each once"):
            choose(4, 2, wanted, seed=0)
    with pytest.raises(ValueError, match="propensity"):
        horvitz_thompson([1.0], [0.0], 3)
    with pytest.raises(ValueError, match="1 values but 2"):
        hajek([1.0], [0.5, 0.5])
    with pytest.raises(ValueError, match="no values"):
        hajek([], [])
