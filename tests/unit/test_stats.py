"""Intervals, calibration and agreement."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accord.stats import (
    Interval,
    accuracy_ties_half,
    bootstrap_mean,
    bootstrap_means,
    brier,
    ece,
    krippendorff_alpha_nominal,
    nll,
    paired_bootstrap_diff,
    raw_agreement,
    reliability,
    temperature_mle,
    wilson,
    win_rate,
)


def test_wilson_stays_inside_the_unit_interval():
    none, every = wilson(0, 10), wilson(10, 10)
    assert none.value == none.low == 0.0
    assert none.high == pytest.approx(0.2775, abs=1e-4)
    assert every.value == every.high == 1.0
    assert every.low == pytest.approx(1 - 0.2775, abs=1e-4)


def test_wilson_of_nothing_and_of_nonsense():
    empty = wilson(0, 0)
    assert math.isnan(empty.value)
    assert (empty.low, empty.high, empty.n) == (0.0, 1.0, 0)
    with pytest.raises(ValueError, match="5 successes of 4"):
        wilson(5, 4)


def test_wilson_narrows_with_trials_and_widens_with_level():
    assert wilson(50, 100).high < wilson(5, 10).high
    assert wilson(50, 100, level=0.99).high > wilson(50, 100).high


def test_wilson_covers_about_as_often_as_it_says():
    draws = np.random.default_rng(0).binomial(40, 0.3, size=2000)
    covered = np.mean([found.low <= 0.3 <= found.high for found in map(lambda k: wilson(int(k), 40), draws)])
    assert 0.93 < covered < 0.98


def test_bootstrap_agrees_with_the_normal_interval():
    values = np.random.default_rng(1).normal(2.0, 3.0, size=400)
    found = bootstrap_mean(values, seed=4)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)
    assert found.n == 400


def test_bootstrap_depends_on_the_seed_only():
    values = np.random.default_rng(8).normal(size=20)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_several_means_by_the_draws_that_each_would_get_alone() -> None:
    draw = np.random.default_rng(5)
    names = [f"prompt {n}" for n in draw.integers(0, 30, 90)]
    samples = [
        (draw.normal(size=90), names),
        (draw.normal(size=40), None),  # another number of clusters
        (draw.normal(size=90), names),
        (draw.normal(size=3), ["only"] * 3),
    ]
    assert bootstrap_means(samples, seed=6, num=300) == [bootstrap_mean(*s, seed=6, num=300) for s in samples]
    numbers = np.array([int(n.split()[1]) for n in names])
    assert bootstrap_mean(samples[0][0], numbers, seed=6) == bootstrap_mean(samples[0][0], names, seed=6)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_means([([1.0, 2.0], None), ([], None)])
    with pytest.raises(ValueError, match="90 values but 2 clusters"):
        bootstrap_mean(samples[0][0], numbers[:2])


def test_repeating_every_observation_adds_no_certainty_when_clustered():
    values = np.random.default_rng(2).normal(size=30)
    names = [f"prompt-{i}" for i in range(30)]
    alone = bootstrap_mean(values, names, seed=0)
    repeated = bootstrap_mean(np.repeat(values, 10), [n for n in names for _ in range(10)], seed=0)
    naive = bootstrap_mean(np.repeat(values, 10), seed=0)
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))
    assert naive.high - naive.low < 0.5 * (repeated.high - repeated.low)


def test_clusters_of_different_size_weigh_by_their_observations():
    found = bootstrap_mean([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert found.value == 0.75
    assert (found.low, found.high) == (0.0, 1.0)


def test_bootstrap_of_too_little():
    assert bootstrap_mean([1.0, 2.0], ["a", "a"]) == Interval(1.5, -math.inf, math.inf, 2)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        bootstrap_mean([1.0, 2.0], ["a"])


def test_win_rate_counts_ties_half():
    outcomes = [1.0, 0.5, 0.0, 1.0]
    assert win_rate(outcomes) == wilson(2.5, 4)
    clustered = win_rate(outcomes * 5, [i % 4 for i in range(20)], seed=3)
    assert clustered.value == 0.625
    assert clustered.low < wilson(12.5, 20).low
    with pytest.raises(ValueError, match="between 0"):
        win_rate([2.0])


def test_paired_difference_is_narrower_than_two_means():
    random = np.random.default_rng(5)
    difficulty = random.normal(0, 5, size=100)
    a, b = difficulty + 1 + random.normal(0, 0.1, 100), difficulty + random.normal(0, 0.1, 100)
    found = paired_bootstrap_diff(a, b)
    assert found.low < 1.0 < found.high
    assert found.high - found.low < 0.1
    assert found.low == pytest.approx(-paired_bootstrap_diff(b, a).high, abs=1e-9)
    with pytest.raises(ValueError, match="differ in number"):
        paired_bootstrap_diff([1.0], [1.0, 2.0])


def test_a_constant_model_is_half_right():
    assert accuracy_ties_half([0.0, 0.0]) == 0.5
    assert accuracy_ties_half([0.1, -0.1, 0.0]) == 0.5


def test_reliability_bins():
    bins = reliability([0.0, 0.1, 0.55, 1.0], [0, 1, 1, 1], bins=2)
    assert [(b.p, b.freq, b.n) for b in bins] == [(0.05, 0.5, 2), (0.775, 1.0, 2)]
    assert ece([0.0, 0.1, 0.55, 1.0], [0, 1, 1, 1], bins=2) == pytest.approx(0.5 * 0.45 + 0.5 * 0.225)


def test_swapping_the_two_outcomes_changes_no_confidence_error():
    p, y = np.array([0.9, 0.2, 0.65, 0.4]), np.array([1.0, 1.0, 0.0, 0.0])
    assert ece(p, y, 5, confidence=True) == pytest.approx(ece(1 - p, 1 - y, 5, confidence=True))


def test_a_perfect_and_a_certain_wrong_prediction():
    assert (brier([1.0, 0.0], [1, 0]), nll([1.0, 0.0], [1, 0])) == (0.0, 0.0)
    assert brier([1.0], [0]) == 1.0
    assert nll([1.0], [0]) == math.inf
    assert nll([0.5], [0.3]) == pytest.approx(math.log(2))


def test_temperature_recovers_overconfidence():
    random = np.random.default_rng(6)
    logit = random.normal(0, 2, size=4000)
    label = random.random(4000) < 1 / (1 + np.exp(-logit))
    assert temperature_mle(3 * logit, label) == pytest.approx(3.0, rel=0.1)


def test_temperature_without_a_finite_optimum():
    assert temperature_mle([1.0, -2.0], [1, 0]) == 0.0
    assert temperature_mle([1.0, -2.0], [0, 1]) == math.inf
    # Soft labels that the logits describe already.
    assert temperature_mle([1.0], [1 / (1 + math.exp(-1.0))]) == pytest.approx(1.0)


def test_agreement_counts_pairs_of_different_annotators_and_each_item_once():
    votes = [
        ("item-1", "ann", "A"),
        ("item-1", "ben", "A"),
        ("item-1", "cem", "B"),
        ("item-2", "ann", "B"),
        ("item-2", "ben", "B"),
        ("item-3", "ann", "A"),
        ("item-3", "ann", "B"),  # the same person twice says nothing about agreement
    ]
    found = raw_agreement(votes)
    assert found is not None
    # One of three pairs agrees on the first item, the only pair on the second; the third is not pairable.
    assert (found.value, found.n) == (pytest.approx((1 / 3 + 1) / 2), 2)
    assert found.low == pytest.approx(1 / 3)
    assert found.high == 1.0
    assert raw_agreement(votes[:1]) is None


def test_krippendorff_alpha_at_its_ends():
    same = [(item, who, item % 2) for item in range(4) for who in "ab"]
    assert krippendorff_alpha_nominal(same) == 1.0
    opposite = [(item, who, (item + (who == "a")) % 2) for item in range(4) for who in "ab"]
    assert krippendorff_alpha_nominal(opposite) < 0
    assert math.isnan(krippendorff_alpha_nominal([(1, "a", 0), (1, "b", 0)]))
    assert math.isnan(krippendorff_alpha_nominal([(1, "a", 0)]))
