"""Identities of agreement, aggregation, rankings and best-of-n over random inputs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.stats import (
    Curve,
    best_of_n_gold,
    best_of_n_kl,
    best_of_n_kl_exact,
    bradley_terry,
    bradley_terry_intervals,
    cohen_kappa,
    dawid_skene,
    elo,
    fit_curve,
    fleiss_kappa,
    krippendorff_alpha,
    krippendorff_interval,
    length_controlled_win_rate,
    pass_at_k,
    plackett_luce,
)

SCALES = ["nominal", "ordinal", "interval", "ratio"]


def some_votes(seed: int, items: int = 40, annotators: int = 4, labels: int = 4, missing: float = 0.3):
    random = np.random.default_rng(seed)
    truth = random.integers(1, labels + 1, size=items)
    return [
        (f"item-{i}", f"who-{w}", int(truth[i] if random.random() < 0.6 else random.integers(1, labels + 1)))
        for i in range(items)
        for w in range(annotators)
        if random.random() > missing
    ]


@given(st.integers(0, 10_000), st.permutations([1, 2, 3, 4]))
@settings(max_examples=25, deadline=None)
def test_names_of_labels_and_order_of_votes_do_not_matter(seed, renamed):
    votes = some_votes(seed)
    other = [(item, who, "abcd"[renamed[label - 1] - 1]) for item, who, label in reversed(votes)]
    assert krippendorff_alpha(other) == pytest.approx(krippendorff_alpha(votes), abs=1e-12)
    a, b = ([label for _, _, label in votes[side::2]] for side in (0, 1))
    a, b = a[: len(b)], b[: len(a)]
    swap = {label: renamed[label - 1] for label in (1, 2, 3, 4)}
    assert cohen_kappa([swap[x] for x in a], [swap[x] for x in b]) == pytest.approx(cohen_kappa(a, b), abs=1e-12)
    assert cohen_kappa(b, a) == pytest.approx(cohen_kappa(a, b), abs=1e-12)
    found, named = dawid_skene(votes, iterations=5), dawid_skene(other, iterations=5)
    columns = [named.labels.index("abcd"[renamed[label - 1] - 1]) for label in found.labels]
    rows = [named.items.index(item) for item in found.items]
    np.testing.assert_allclose(named.posterior[np.ix_(rows, columns)], found.posterior, atol=1e-9)


@given(st.integers(0, 10_000), st.floats(0.1, 5.0), st.floats(-3.0, 3.0))
@settings(max_examples=25, deadline=None)
def test_scales_forget_what_they_should(seed, factor, shift):
    votes = some_votes(seed)

    def changed(scale, function):
        return krippendorff_alpha([(item, who, function(label)) for item, who, label in votes], scale)

    assert changed("ordinal", lambda x: x**3) == pytest.approx(krippendorff_alpha(votes, "ordinal"), abs=1e-9)
    assert changed("interval", lambda x: factor * x + shift) == pytest.approx(
        krippendorff_alpha(votes, "interval"), abs=1e-9
    )
    assert changed("ratio", lambda x: factor * x) == pytest.approx(krippendorff_alpha(votes, "ratio"), abs=1e-9)


@pytest.mark.parametrize("scale", SCALES)
def test_perfect_agreement_is_one_and_chance_is_zero(scale):
    random = np.random.default_rng(3)
    same = [(i, w, 1 + i % 4) for i in range(20) for w in range(3)]
    assert krippendorff_alpha(same, scale) == pytest.approx(1.0, abs=1e-12)
    noise = [(i, w, int(random.integers(1, 5))) for i in range(3000) for w in range(3)]
    assert abs(krippendorff_alpha(noise, scale)) < 0.03
    found = krippendorff_interval(noise[:600], scale, num=200)
    assert found is not None
    assert found.low < 0 < found.high
    assert found.n == 200


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_kappa_of_agreement_and_of_chance(weights):
    random = np.random.default_rng(4)
    a, b = random.integers(0, 4, size=(2, 20_000)).tolist()
    assert cohen_kappa(a, a, weights) == 1.0
    assert abs(cohen_kappa(a, b, weights)) < 0.03
    near = [min(x + 1, 3) for x in a]
    far = [(x + 2) % 4 for x in a]
    assert cohen_kappa(a, near, weights) > cohen_kappa(a, far, weights) or weights is None


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_kappa_is_that_of_scikit_learn(weights):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(5)
    a = random.choice([1, 2, 5, 9], size=60)
    b = np.where(random.random(60) < 0.5, a, random.choice([1, 2, 5, 9], size=60))
    assert cohen_kappa(a.tolist(), b.tolist(), weights) == pytest.approx(
        metrics.cohen_kappa_score(a, b, weights=weights), abs=1e-12
    )


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_fleiss_and_nominal_alpha_differ_by_their_small_sample_term(seed):
    # With n_i = m votes an item, alpha = 1 - (1 - kappa) (N m - 1) / (N m) (Krippendorff 2011).
    counts = np.random.default_rng(seed).multinomial(5, [0.5, 0.3, 0.2], size=30)
    votes = [
        (i, w, label) for i, row in enumerate(counts) for w, label in enumerate(np.repeat([0, 1, 2], row).tolist())
    ]
    n = counts.sum()
    assert krippendorff_alpha(votes) == pytest.approx(1 - (1 - fleiss_kappa(counts)) * (n - 1) / n, abs=1e-12)


def test_items_with_one_vote_say_nothing_about_agreement():
    votes = some_votes(7)
    lone = [(f"alone-{i}", "who-0", 1 + i % 4) for i in range(50)]
    assert krippendorff_alpha(votes + lone) == krippendorff_alpha(votes)
    counts = np.random.default_rng(1).multinomial(4, [0.4, 0.6], size=10)
    assert fleiss_kappa([*counts, [1, 0], [0, 0]]) == fleiss_kappa(counts)


def test_undefined_agreement_is_said_to_be():
    assert np.isnan(krippendorff_alpha([("a", "x", 1), ("a", "y", 1)]))
    assert krippendorff_interval([("a", "x", 1), ("a", "y", 1)]) is None
    assert np.isnan(krippendorff_alpha([("a", "x", 1), ("b", "y", 2)]))
    assert np.isnan(cohen_kappa([1, 1], [1, 1]))
    assert np.isnan(fleiss_kappa([[2, 0], [2, 0]]))
    with pytest.raises(ValueError, match="must be numbers"):
        krippendorff_alpha([("a", "x", "yes"), ("a", "y", "no")], "ordinal")
    with pytest.raises(ValueError, match="not be negative"):
        krippendorff_alpha([("a", "x", -1), ("a", "y", 1)], "ratio")
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa([1], [1, 2])


def test_dawid_skene_learns_who_is_reliable():
    random = np.random.default_rng(11)
    truth = random.integers(0, 2, size=300)
    right = {"good": 0.95, "fair": 0.7, "coin": 0.5, "liar": 0.1}
    votes = [
        (i, who, int(truth[i] if random.random() < p else 1 - truth[i])) for i in range(300) for who, p in right.items()
    ]
    found = dawid_skene(votes, iterations=50)
    majority = [sum(label for i, _, label in votes if i == item) > 2 for item in range(300)]
    best = np.array([found.best[i] for i in range(300)])
    assert np.mean(best == truth) > 0.93 > np.mean(np.array(majority) == truth)
    for who, matrix in zip(found.annotators, found.confusion, strict=True):
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
        assert np.diag(matrix).mean() == pytest.approx(right[who], abs=0.07)
    assert np.all(np.diff(found.log_likelihood) > -1e-6)
    assert len(dawid_skene(votes, tolerance=1e-3).log_likelihood) < 100
    smooth = dawid_skene(votes[:8], smoothing=1.0, iterations=5)
    assert smooth.confusion.min() > 0.1


def round_robin(strengths: np.ndarray, games: int, seed: int):
    random = np.random.default_rng(seed)
    return [
        (i, j, float(random.random() < 1 / (1 + np.exp(strengths[j] - strengths[i]))))
        for i, j in combinations(range(len(strengths)), 2)
        for _ in range(games)
    ]


def test_bradley_terry_recovers_known_strengths():
    truth = np.array([1.0, 0.3, -0.2, -1.1])
    p = 1 / (1 + np.exp(-np.subtract.outer(truth, truth)))
    # With the expected number of wins the maximum is at the truth itself.
    np.testing.assert_allclose(bradley_terry(100 * p), truth, atol=1e-10)
    found = bradley_terry_intervals(round_robin(truth, 400, 0), num=100)
    assert [found[i].n for i in range(4)] == [1200] * 4
    for i, strength in enumerate(truth):
        assert found[i].low - 0.1 < strength < found[i].high + 0.1
        assert 0.1 < found[i].high - found[i].low < 0.5


def test_repeated_games_of_one_prompt_add_no_certainty():
    games = round_robin(np.array([0.5, 0.0, -0.5]), 40, 1)
    alone = bradley_terry_intervals(games, range(len(games)), num=100)
    copied = bradley_terry_intervals([g for g in games for _ in range(5)], np.repeat(range(len(games)), 5), num=100)
    assert copied[0].high - copied[0].low == pytest.approx(alone[0].high - alone[0].low, abs=1e-9)


@pytest.mark.parametrize(
    "wins",
    [
        [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]],  # two islands
        [[0, 2, 1], [0, 0, 1], [0, 1, 0]],  # nobody ever beat the first
    ],
)
def test_without_a_path_of_wins_there_are_no_strengths(wins):
    with pytest.raises(ValueError, match="never lost to another"):
        bradley_terry(wins)
    with pytest.raises(ValueError, match="anna"):
        bradley_terry([[0, 1], [0, 0]], ["anna", "bert"])
    with pytest.raises(ValueError, match="resamples"):
        bradley_terry_intervals([("a", "b", 1.0), ("b", "a", 1.0)])


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_rankings_of_two_are_comparisons(seed):
    random = np.random.default_rng(seed)
    wins = random.integers(1, 9, size=(4, 4))
    np.fill_diagonal(wins, 0)
    rankings = [(i, j) for i in range(4) for j in range(4) for _ in range(wins[i, j])]
    found = plackett_luce(rankings)
    np.testing.assert_allclose([found[i] for i in range(4)], bradley_terry(wins), atol=1e-9)


def test_plackett_luce_recovers_known_strengths():
    truth = np.array([1.2, 0.2, 0.0, -0.4, -1.0])
    random = np.random.default_rng(2)
    # The order of strengths plus Gumbel noise is a Plackett-Luce draw.
    rankings = np.argsort(-(truth + random.gumbel(size=(1500, 5))), axis=1)
    full = plackett_luce(rankings.tolist())
    np.testing.assert_allclose([full[i] for i in range(5)], truth, atol=0.12)
    # Whatever is left out of a ranking, the order of the rest follows the same law.
    partial = plackett_luce([[i for i in row if i != k % 7] for k, row in enumerate(rankings.tolist())])
    np.testing.assert_allclose([partial[i] for i in range(5)], truth, atol=0.12)
    with pytest.raises(ValueError, match="different things"):
        plackett_luce([("a", "a")])
    with pytest.raises(ValueError, match="never lost to another"):
        plackett_luce([("a", "b", "c")])


def test_elo_keeps_the_sum_and_follows_results():
    found = elo([("a", "b", 1.0)] * 50 + [("b", "c", 0.5)] * 50)
    assert sum(found.values()) == pytest.approx(3000)
    assert found["a"] > 1000
    assert found["b"] == pytest.approx(found["c"], abs=5)
    with pytest.raises(ValueError, match="two players"):
        elo([("a", "a", 1.0)])


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_best_of_n_is_the_mean_over_all_subsets(seed, n):
    random = np.random.default_rng(seed)
    proxy, gold = random.normal(size=7).round(1), random.normal(size=7)
    brute = []
    for subset in combinations(range(7), n):
        top = max(proxy[i] for i in subset)
        brute.append(np.mean([gold[i] for i in subset if proxy[i] == top]))
    assert best_of_n_gold(proxy, gold, n) == pytest.approx(float(np.mean(brute)), abs=1e-12)
    solved = gold > 0
    want = np.mean([any(solved[i] for i in subset) for subset in combinations(range(7), n)])
    assert pass_at_k(7, int(solved.sum()), n) == pytest.approx(float(want), abs=1e-12)


def test_best_of_n_of_many_samples_does_not_overflow():
    assert best_of_n_gold(np.arange(5000), np.ones(5000), 2500) == pytest.approx(1.0)
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6), st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_the_formula_bounds_the_exact_divergence(weights, n):
    base = np.array(weights) / sum(weights)
    exact = best_of_n_kl_exact(base, n)
    assert -1e-12 < exact <= best_of_n_kl(n) + 1e-12
    assert exact <= -np.log(base[-1]) + 1e-9


def test_the_bound_is_reached_by_many_outcomes():
    assert best_of_n_kl_exact(np.full(20_000, 1 / 20_000), 8) == pytest.approx(best_of_n_kl(8), abs=1e-3)
    with pytest.raises(ValueError, match="add up to 1"):
        best_of_n_kl_exact([0.5, 0.6], 2)
    with pytest.raises(ValueError, match="best of 0"):
        best_of_n_kl(0)


@pytest.mark.parametrize("form", ["best_of_n", "rl"])
def test_a_curve_is_found_again(form):
    d = np.linspace(0, 6, 25)
    truth = Curve(form, 1.3, 0.4)
    found = fit_curve(form, d, truth(d))
    assert (found.alpha, found.beta, found.r2) == pytest.approx((1.3, 0.4, 1.0))
    peak = found.peak
    assert peak is not None
    around = truth(peak.d + np.array([-0.01, 0.0, 0.01]))
    assert around[1] == pytest.approx(peak.gold)
    assert around[1] > max(around[0], around[2])
    noisy = fit_curve(form, d, truth(d) + np.random.default_rng(0).normal(0, 0.1, d.size))
    assert 0.5 < noisy.r2 < 1.0
    assert Curve(form, 1.0, -0.1).peak is None
    outlier = truth(d)
    outlier[-1] += 100
    weight = np.ones(25)
    weight[-1] = 0
    assert fit_curve(form, d, outlier, weight).beta == pytest.approx(0.4)
    with pytest.raises(ValueError, match="two different distances"):
        fit_curve(form, [0.0, 1.0], [0.0, 1.0])


def test_length_control_takes_length_out_and_leaves_skill():
    random = np.random.default_rng(6)
    delta = random.normal(100, 80, size=4000)
    x = np.tanh(delta / delta.std(ddof=1))
    wins = random.random(4000) < 1 / (1 + np.exp(-(-0.4 + 1.5 * x)))
    found = length_controlled_win_rate(wins, delta)
    assert found.raw > 0.55
    assert found.value == pytest.approx(1 / (1 + np.exp(0.4)), abs=0.04)
    assert found.slope == pytest.approx(1.5, abs=0.25)
    # The baseline's win rate over the model is the rest, and the unit of length does not matter.
    other = length_controlled_win_rate(1.0 - wins, -3 * delta)
    assert other.value == pytest.approx(1 - found.value, abs=1e-9)
    with pytest.raises(ValueError, match="separates"):
        length_controlled_win_rate([0, 0, 1, 1], [-2, -1, 1, 2])
    with pytest.raises(ValueError, match="same length"):
        length_controlled_win_rate([0, 1], [5, 5])
