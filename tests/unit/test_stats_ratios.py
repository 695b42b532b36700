"""Ratios of sums and weighted shares."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accord.stats import bootstrap_mean, bootstrap_ratio, weighted_share


def test_a_ratio_with_equal_weights_is_a_mean() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(200)
    found, mean = bootstrap_ratio(x, np.ones(200), seed=3), bootstrap_mean(x, seed=3)
    assert found.value == pytest.approx(mean.value)
    assert (found.low, found.high) == pytest.approx((mean.low, mean.high), abs=0.01)


def test_clusters_are_drawn_whole() -> None:
    x = np.repeat([0.0, 1.0] * 10, 20)
    names = [str(i // 20) for i in range(400)]
    apart, together = bootstrap_ratio(x, np.ones(400)), bootstrap_ratio(x, np.ones(400), names)
    assert together.high - together.low > 3 * (apart.high - apart.low)
    alone = bootstrap_ratio([1.0, 2.0], [2.0, 2.0], ["a", "a"])
    assert (alone.value, alone.low, alone.high) == (0.75, -math.inf, math.inf)


def test_bad_ratios_are_refused() -> None:
    with pytest.raises(ValueError, match="1 numerators but 2"):
        bootstrap_ratio([1.0], [1.0, 1.0])
    for bottom in ([0.0, 0.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match="at least 0 and not all 0"):
            bootstrap_ratio([1.0, 1.0], bottom)


def test_a_weighted_share_weighs_strata_not_rows() -> None:
    found = weighted_share([1, 1, 1, 0, 0], [3, 3, 3, 1, 1], ["a", "a", "a", "b", "b"])
    assert found.value == pytest.approx(0.75)
    assert found.low < 0.75 < found.high and found.n == 5
    with pytest.raises(ValueError, match="several weights"):
        weighted_share([1, 0], [1, 2], ["a", "a"])
