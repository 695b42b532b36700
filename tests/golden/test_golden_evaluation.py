"""Win rates, best-of-n and curves of over-optimisation against golden values."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from golden_file import check, entry

from accord.stats import (
    Curve,
    best_of_n_gold,
    best_of_n_kl,
    best_of_n_kl_exact,
    best_of_n_win_rate,
    bootstrap_mean,
    length_controlled_win_rate,
    pass_at_k,
    wilson,
    win_rate,
)


def test_win_rate():
    want = entry("eval/winrate_ties_half")
    outcomes = np.array(want["outcomes"])
    found = win_rate(outcomes)
    check(found.value, want["value"])
    assert found == wilson(outcomes.sum(), outcomes.size)
    assert bootstrap_mean(outcomes, num=20).value == found.value


def test_standard_error_of_the_win_rate_is_the_width_of_the_bootstrap():
    want = entry("eval/winrate_ties_half")
    outcomes = np.repeat(want["outcomes"], 50)
    found = bootstrap_mean(outcomes, num=4000)
    # `se` is that of as many outcomes as the file holds (n - 1 in the variance).
    size = len(want["outcomes"])
    se = want["se"] * np.sqrt((size - 1) / size * size / outcomes.size)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * se, rel=0.06)


def test_wilson_interval_is_the_published_one():
    # The inputs of this entry are not in the file: 8 of 12, which is also what the outcomes above add up to.
    found = wilson(8, 12)
    check([found.low, found.high], [0.39062208887279953, 0.8618799089087867])
    outcomes = np.array(entry("eval/winrate_ties_half")["outcomes"])
    ends = [[i.low, i.high] for i in (found, wilson(outcomes.sum(), outcomes.size))]
    assert any(pair == pytest.approx(entry("eval/wilson95")["value"], abs=1e-9) for pair in ends)


def test_length_controlled_win_rate():
    want = entry("eval/lc_winrate_minimal")
    raw = entry("eval/winrate_ties_half")
    found = length_controlled_win_rate(raw["outcomes"], want["length_delta"])
    check(found.value, want["value"])
    check([found.intercept, found.slope], want["coef"])
    check(found.raw, raw["value"])


def test_divergence_of_best_of_n():
    want = entry("eval/bon_kl_nats")
    check([best_of_n_kl(n) for n in want["n"]], want["value"])


def test_exact_divergence_of_best_of_n():
    want = entry("eval/bon_kl_exact_discrete")
    check([best_of_n_kl_exact(want["base"], n) for n in want["n"]], want["value"])
    check([best_of_n_kl(n) for n in want["n"]], want["bound"])


def test_win_rate_of_best_of_n():
    # n is not in the entry: the whole number whose n / (n + 1) is nearest.
    for value in entry("eval/bon_winrate_vs_base")["value"]:
        check(best_of_n_win_rate(round(value / (1 - value))), value)


def test_gold_score_of_best_of_n():
    want = entry("eval/bon_unbiased_gold")
    check([best_of_n_gold(want["proxy"], want["gold"], n) for n in want["n"]], want["value"])


def test_pass_at_k():
    want = entry("eval/pass_at_k")
    check([pass_at_k(*args) for args in want["args"]], want["value"])
    check([1 - comb(n - c, k) / comb(n, k) for n, c, k in want["args"]], want["value"])


@pytest.mark.parametrize("form, name", [("best_of_n", "eval/gao_bon_peak"), ("rl", "eval/gao_rl_peak")])
def test_peak_of_the_curve(form, name):
    want = entry(name)
    curve = Curve(form, want["alpha"], want["beta"])
    peak = curve.peak
    assert peak is not None
    check([peak.d, peak.kl, peak.gold], want["value"])
    check(curve(peak.d)[0], peak.gold)
