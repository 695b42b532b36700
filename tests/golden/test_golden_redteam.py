"""Numbers of the red team against arithmetic done by hand and against published definitions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from accord.redteam.diversity import novelty, self_bleu
from accord.redteam.findings import matched
from accord.stats.intervals import wilson
from accord.stats.misclassified import Confusion, clustered_wilson, corrected_share, effective_size, rogan_gladen
from accord.stats.multiple import holm


@pytest.mark.parametrize(
    ("apparent", "sensitivity", "specificity"),
    [(Fraction(1, 4), Fraction(9, 10), Fraction(19, 20)), (Fraction(3, 5), Fraction(4, 5), Fraction(7, 10))],
)
def test_rogan_gladen_is_the_fraction(apparent: Fraction, sensitivity: Fraction, specificity: Fraction) -> None:
    exact = (apparent + specificity - 1) / (sensitivity + specificity - 1)
    assert rogan_gladen(float(apparent), float(sensitivity), float(specificity)) == pytest.approx(
        float(exact), abs=1e-15
    )


def test_rogan_gladen_undoes_the_errors_of_the_judge() -> None:
    for true in (0.0, 0.2, 1.0):
        seen = true * 0.85 + (1 - true) * 0.1
        assert rogan_gladen(seen, 0.85, 0.9) == pytest.approx(true, abs=1e-12)
    assert rogan_gladen(0.02, 0.9, 0.95) == 0.0  # fewer positives than false alarms: cut, not negative
    with pytest.raises(ValueError, match="no better than chance"):
        rogan_gladen(0.3, 0.5, 0.5)


def test_interval_of_lang_and_reiczigel_step_by_step() -> None:
    """83 of 200 called successes, the judge right on 90 of 100 and 95 of 100: equations 2, 6, 7, 16 and 17."""
    z2 = 1.959963984540054**2
    se, sp, n_se, n_sp = 91 / 102, 96 / 102, 102, 102
    n, p = 200 + z2, (83 + z2 / 2) / (200 + z2)
    true = (p + sp - 1) / (se + sp - 1)
    shift = 2 * z2 * (true * se * (1 - se) / n_se - (1 - true) * sp * (1 - sp) / n_sp)
    variance = p * (1 - p) / n + true**2 * se * (1 - se) / n_se + (1 - true) ** 2 * sp * (1 - sp) / n_sp
    half = math.sqrt(z2 * variance) / (se + sp - 1)
    found = corrected_share(83 / 200, 200, Confusion(90, 10, 95, 5))
    assert found.value == pytest.approx((0.415 - 0.05) / 0.85, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((true + shift - half, true + shift + half), abs=1e-12)


def test_corrected_interval_covers_where_the_plain_one_does_not() -> None:
    """A judge with Se 0.9 and Sp 0.9 measured on 200 + 200 replies, a true rate of 5 %, 1,000 repetitions."""
    rng = np.random.default_rng(5)
    corrected = plain = 0
    for _ in range(1000):
        tp, tn = rng.binomial(200, 0.9), rng.binomial(200, 0.9)
        seen = rng.binomial(300, 0.05 * 0.9 + 0.95 * 0.1)
        found = corrected_share(seen / 300, 300, Confusion(tp, 200 - tp, tn, 200 - tn))
        corrected += found.low <= 0.05 <= found.high
        naive = wilson(seen, 300)
        plain += naive.low <= 0.05 <= naive.high
    assert corrected >= 930
    assert plain < 100


def test_wilson_without_clusters_is_wilson_and_perfect_clusters_count_once() -> None:
    outcomes = [1.0] * 7 + [0.0] * 13
    found, known = clustered_wilson(outcomes), wilson(7, 20)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))
    copies = [x for x in outcomes for _ in range(5)]
    clusters = [i for i in range(20) for _ in range(5)]
    assert effective_size(copies, clusters) == pytest.approx(20.0)
    assert clustered_wilson(copies, clusters).n == 20
    assert clustered_wilson([0.0] * 50, [i // 5 for i in range(50)]).high == pytest.approx(wilson(0, 10).high)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.2])


def test_matched_difference_by_hand() -> None:
    """Ten clusters of +0.5 with the pseudo-clusters +1 (half), -1 (half) and 0: 12 in all."""
    found = matched([0.5] * 10, margin=0.05)
    centre = 5 / 12
    spread = (10 * (0.5 - centre) ** 2 + 0.5 * (1 - centre) ** 2 + 0.5 * (1 + centre) ** 2 + centre**2) / 11 / 12
    assert found.value == 0.5
    assert found.low == pytest.approx(centre - 2.2621571627409915 * math.sqrt(spread))
    assert 0 < found.p_above < 0.05
    assert matched([0.0] * 10).low < 0 < matched([0.0] * 10).high  # alike is not certain
    assert matched([0.0] * 10, tries=8).high < matched([0.0] * 10).high  # and less uncertain with more tries


def test_matched_intervals_of_clusters_with_many_tries_cover() -> None:
    """Nine clusters of 16 tries whose rates differ: the true mean difference is covered in 95 % of 2,000 draws."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(2000):
        rates = np.clip(rng.normal(0.3, 0.15, 9), 0, 1)
        later = np.clip(rates + rng.normal(0.0, 0.1, 9), 0, 1)
        d = rng.binomial(16, later) / 16 - rng.binomial(16, rates) / 16
        found = matched(list(d), tries=16)
        covered += found.low <= 0.0 <= found.high
    assert 1860 <= covered <= 1960


def test_self_bleu_of_copies_is_one_and_of_strangers_near_none() -> None:
    assert self_bleu(["say yes to me now please"] * 3) == pytest.approx(1.0)
    strangers = ["one two three four five", "six seven eight nine ten", "eleven twelve thirteen fourteen fifteen"]
    # No n-gram in common: precisions 0.1/5, 0.1/4, 0.1/3, 0.1/2, no brevity penalty.
    expected = (0.1 / 5 * 0.1 / 4 * 0.1 / 3 * 0.1 / 2) ** 0.25
    assert self_bleu(strangers) == pytest.approx(expected)
    assert self_bleu(["alone"]) is None


def test_bleu_clips_counts_and_punishes_brevity() -> None:
    # "a a" against "a b c d": one of two words counts, no pair: sqrt(1/2 * 0.1/1) * exp(1 - 4/2); the other way round
    # one of four words, 0.1 for each longer run, and no penalty.
    first = math.sqrt(0.5 * 0.1) * math.exp(-1)
    second = (1 / 4 * 0.1 / 3 * 0.1 / 2 * 0.1 / 1) ** 0.25
    assert self_bleu(["a a", "a b c d"]) == pytest.approx((first + second) / 2)


def test_novelty_counts_the_others_without_the_run() -> None:
    # Of the first text's two runs of three words, one is shared by one of two others.
    assert novelty(["a b c d", "a b c", "x y z"]) == pytest.approx([(0.5 + 1) / 2, 0.5, 1.0])
    assert novelty(["same words here"] * 4) == [0.0] * 4
    assert novelty(["only one"]) == [1.0]
