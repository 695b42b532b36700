"""Agreement with intervals: against published numbers, other libraries, and what must hold whatever the votes."""

from __future__ import annotations

import warnings
from itertools import combinations

import numpy as np
import pytest

from accord.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha, krippendorff_interval, raw_agreement
from accord.stats.panel import Bootstrap, alpha, cohen, couples, fleiss, panel, raw
from accord.stats.rank_agreement import kendall_w, rank_agreement, tau_b

SWAP = {"A": "B", "B": "A"}
FEW = Bootstrap(num=200)


def some_votes(seed: int, items: int = 60, annotators: int = 5, missing: float = 0.4, values=(-2, -1, 0, 1, 2)):
    random = np.random.default_rng(seed)
    truth = random.choice(values, size=items)
    return [
        (f"item-{i}", f"who-{w}", int(truth[i] if random.random() < 0.5 else random.choice(values)))
        for i in range(items)
        for w in range(annotators)
        if random.random() > missing
    ]


@pytest.mark.parametrize("scale", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_alpha_is_that_of_the_other_function_and_of_evalica(scale, seed):
    votes = some_votes(seed)
    found = alpha(panel(votes), scale, Bootstrap(num=2000))
    assert found.value == pytest.approx(krippendorff_alpha(votes, scale), abs=1e-12)
    old = krippendorff_interval(votes, scale, num=2000)
    assert old is not None
    assert (found.low, found.high, found.n) == (
        pytest.approx(old.low, abs=0.03),
        pytest.approx(old.high, abs=0.03),
        old.n,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pandas, evalica = pytest.importorskip("pandas"), pytest.importorskip("evalica")
        table = pandas.DataFrame(votes, columns=["item", "who", "label"]).pivot(
            index="who", columns="item", values="label"
        )
        assert found.value == pytest.approx(evalica.alpha(table, distance=scale).alpha, abs=1e-9)


def test_fleiss_is_that_of_statsmodels_and_allows_unequal_numbers():
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    votes = some_votes(3, missing=0.0)
    table, _ = inter_rater.aggregate_raters(np.array([label for _, _, label in votes]).reshape(60, 5))
    assert fleiss(panel(votes), FEW).value == pytest.approx(inter_rater.fleiss_kappa(table), abs=1e-12)
    unequal = some_votes(3)
    given = panel(unequal)
    assert len(set(given.counts.sum(axis=1))) > 2
    assert fleiss(given, FEW).value == pytest.approx(fleiss_kappa(given.counts), abs=1e-12)


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_cohen_of_two_is_that_of_scikit_learn_and_statsmodels(weights):
    metrics = pytest.importorskip("sklearn.metrics")
    votes = some_votes(4, annotators=2, missing=0.2)
    given = panel(votes)
    said = {(item, who): label for item, who, label in votes}
    both = [item for item in {i for i, _, _ in votes} if all((item, f"who-{w}") in said for w in (0, 1))]
    a, b = ([said[item, f"who-{w}"] for item in both] for w in (0, 1))
    found = cohen(given, weights, FEW)
    assert found.value == pytest.approx(metrics.cohen_kappa_score(a, b, weights=weights), abs=1e-12)
    assert found.value == pytest.approx(cohen_kappa(a, b, weights), abs=1e-12)
    assert found.n == len(both)
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    table = np.array(
        [[sum(x == i and y == j for x, y in zip(a, b, strict=True)) for j in range(-2, 3)] for i in range(-2, 3)]
    )
    theirs = inter_rater.cohens_kappa(table, wt=None if weights is None else weights, return_results=True)
    assert found.value == pytest.approx(theirs.kappa, abs=1e-12)
    # The textbook interval of one table is near the bootstrap over its items.
    assert (found.low, found.high) == (
        pytest.approx(theirs.kappa_low, abs=0.1),
        pytest.approx(theirs.kappa_upp, abs=0.1),
    )


def test_cohen_of_many_lies_among_the_pairs():
    given = panel(some_votes(5))
    kappas = [c.kappa for c in couples(given)]
    assert len(kappas) == 10
    assert min(kappas) < cohen(given, None, FEW).value < max(kappas)
    # An annotator with a constant answer adds no disagreement that could be expected, so nothing is divided by zero.
    constant = [(i, w, 1 if w == "b" else label) for i, w, label in some_votes(6, annotators=2)]
    assert cohen(panel(constant), None, FEW).value is not None


def oriented(seed: int, always_first: bool, items: int = 1500):
    """Two people who each see the better reply with some noise; the new model wins 85 % of the comparisons."""
    random = np.random.default_rng(seed)
    votes = []
    for i in range(items):
        new_wins = random.random() < 0.9
        first_is_new = always_first or random.random() < 0.5
        for who in "ab":
            says_new = new_wins if random.random() < 0.85 else not new_wins
            votes.append((i, who, "A" if says_new == first_is_new else "B"))
    return votes


def test_the_orientation_trap():
    fixed, drawn = panel(oriented(0, True)), panel(oriented(0, False))
    observed = raw(fixed, FEW).value
    assert observed == pytest.approx(0.745, abs=0.02)
    for coefficient in (fleiss, alpha, cohen):
        by_name = coefficient(fixed, how=FEW).value
        assert by_name < 0.35
        for given in (fixed, drawn):
            turned = coefficient(given.symmetric(SWAP), how=FEW)
            assert turned.value == pytest.approx(2 * raw(given, FEW).value - 1, abs=1e-3)
            assert turned.n == 1500
        assert coefficient(drawn, how=FEW).value == pytest.approx(2 * raw(drawn, FEW).value - 1, abs=0.01)
    assert raw(fixed.symmetric(SWAP), FEW).value == observed


def test_symmetric_coefficients_do_not_depend_on_names():
    votes = [(i, w, {-2: "A", -1: "A", 0: "T", 1: "B", 2: "B"}[label]) for i, w, label in some_votes(7)]
    turned = [(i, w, SWAP.get(label, label) if int(i[5:]) % 3 else label) for i, w, label in votes]
    for coefficient in (raw, fleiss, alpha, cohen):
        one, other = (coefficient(panel(v, labels="ATB").symmetric(SWAP), how=FEW) for v in (votes, turned))
        assert one.value == pytest.approx(other.value, abs=1e-12)
    scores = some_votes(8)
    mirrored = [(i, w, -label if int(i[5:]) % 3 else label) for i, w, label in scores]
    swap = {v: -v for v in (-2, -1, 0, 1, 2)}
    for scale in ("ordinal", "interval"):
        one, other = (alpha(panel(v).symmetric(swap), scale, FEW) for v in (scores, mirrored))
        assert one.value == pytest.approx(other.value, abs=1e-12)


def test_only_units_judged_twice_count_and_an_item_counts_once():
    votes = [("x", who, "A") for who in "abcde"] + [("y", "a", "A"), ("y", "b", "B"), ("z", "a", "A")]
    votes += [("y", "a", "B")]
    given = panel(votes)
    assert (given.units, given.lone, given.repeats) == (2, 1, 1)
    assert raw(given, FEW).value == 0.5
    interval = raw_agreement(votes)
    # Without panel's rule for repeats: a said A and B of y, b said B, so one of two pairs agrees.
    assert interval is not None and (interval.value, interval.n) == (0.75, 2)


def test_what_is_not_defined_says_why():
    alone = panel([(1, "a", "A"), (2, "b", "A")])
    same = panel([(i, w, "A") for i in range(5) for w in "ab"], labels="AB")
    for coefficient in (fleiss, alpha, cohen):
        assert coefficient(alone).value is None and "two annotators" in coefficient(alone).reason
        assert coefficient(same).value is None and "same label" in coefficient(same).reason
    assert raw(alone).value is None
    assert raw(same, FEW).value == 1.0
    one = raw(panel([(1, "a", "A"), (1, "b", "A")]))
    assert (one.value, one.low, one.high) == (1.0, None, None) and "single prompt" in one.reason
    # Unanimity is never called perfect: but seen from both sides two labels occur, and then it is.
    assert fleiss(same.symmetric(SWAP), FEW).value == 1.0


def test_the_bootstrap_draws_prompts():
    votes = some_votes(9, items=40)
    copied = [(f"{item}-{k}", who, label) for item, who, label in votes for k in range(5)]
    prompt = {f"{item}-{k}": item for item, _, _ in votes for k in range(5)}
    for coefficient in (raw, fleiss, alpha, cohen):
        alone, wide, naive = (
            coefficient(panel(v, clusters=c), how=Bootstrap(num=400))
            for v, c in ((votes, None), (copied, prompt), (copied, None))
        )
        assert wide.high - wide.low == pytest.approx(alone.high - alone.low, rel=0.15)
        assert naive.high - naive.low < 0.6 * (alone.high - alone.low)
    both = raw(panel(votes).symmetric(SWAP), FEW)  # the mirror image of a unit is drawn with it
    assert (both.low, both.high) == pytest.approx((raw(panel(votes), FEW).low, raw(panel(votes), FEW).high))
    assert raw(panel(votes), Bootstrap(seed=1)) == raw(panel(votes), Bootstrap(seed=1))
    assert raw(panel(votes), Bootstrap(seed=1)).low != raw(panel(votes), Bootstrap(seed=2)).low


@pytest.mark.slow
def test_intervals_cover_about_as_often_as_they_say():
    # The truth: two people right with probability 0.8 agree on 0.68; symmetric kappa 0.36.
    hits = {"raw": 0, "alpha": 0}
    for seed in range(200):
        random = np.random.default_rng(seed)
        right = random.random((120, 3)) < 0.8
        given = panel([(i, w, "A" if right[i, w] else "B") for i in range(120) for w in range(3)]).symmetric(SWAP)
        low_high = {"raw": raw(given, FEW), "alpha": alpha(given, how=FEW)}
        hits["raw"] += low_high["raw"].low <= 0.68 <= low_high["raw"].high
        hits["alpha"] += low_high["alpha"].low <= 0.36 <= low_high["alpha"].high
    assert all(180 <= h <= 199 for h in hits.values()), hits


def test_tau_is_that_of_scipy_and_w_goes_with_spearman():
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for _ in range(20):
        x, y = random.integers(0, 4, size=(2, 6))
        theirs = stats.kendalltau(x, y).statistic if len(set(x)) > 1 and len(set(y)) > 1 else np.nan
        assert tau_b(x, y) == pytest.approx(theirs, abs=1e-12, nan_ok=True)
    # Without ties W = (1 + (m - 1) mean rho) / m (Kendall 1945).
    ranks = np.stack([random.permutation(7) + 1 for _ in range(4)])
    rho = np.mean([stats.spearmanr(a, b).statistic for a, b in combinations(ranks, 2)])
    assert kendall_w(ranks) == pytest.approx((1 + 3 * rho) / 4, abs=1e-12)
    # With ties the correction makes identical rankings agree perfectly.
    assert kendall_w([[1, 2, 2, 3]] * 3) == pytest.approx(1.0)
    assert np.isnan(kendall_w([[1, 1], [1, 1]]))
    # Friedman's statistic is m (k - 1) W, ties corrected.
    tied = random.integers(1, 4, size=(5, 6))
    assert kendall_w(tied) * 5 * 5 == pytest.approx(stats.friedmanchisquare(*tied.T).statistic, abs=1e-9)


def test_agreement_of_rankings_over_prompts():
    rankings = [("x", "a", [1, 2, 3]), ("x", "b", [1, 3, 2]), ("x", "a", [3, 2, 1])]
    rankings += [("y", "a", [1, 2, 2]), ("y", "b", [1, 2, 2]), ("z", "a", [1, 2, 3])]
    found = rank_agreement(rankings)
    assert found["tau_b"].value == pytest.approx((1 / 3 + 1.0) / 2)
    assert found["w"].value == pytest.approx((0.75 + 1.0) / 2)
    assert found["tau_b"].n == 2
    assert "two annotators" in rank_agreement(rankings[:1])["w"].reason
    assert "ties everything" in rank_agreement([("x", w, [1, 1]) for w in "ab"])["tau_b"].reason
    with pytest.raises(ValueError, match="same two or more"):
        tau_b([1, 2], [1, 2, 3])
