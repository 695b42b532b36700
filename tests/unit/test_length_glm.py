"""The regression of length-controlled win rates: weights given and fitted, its interval, its warning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accord.stats.length_glm import (
    LengthGlm,
    controlled_win_rate,
    fit_length_glm,
    fitted_win_rate,
    is_extreme_change,
    length_feature,
    standard_error,
)


def simulated(seed: int, n: int = 400, weights: LengthGlm | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes in [0, 1], length feature and difficulties drawn from the model."""
    rng = np.random.default_rng(seed)
    w = weights or LengthGlm(-1.5, 0.8, -0.4)
    lengths = rng.integers(100, 3000, size=(2, n)).astype(float)
    x, d = length_feature(lengths[0], lengths[1]), rng.normal(size=n)
    p = 1 / (1 + np.exp(-(w.length * x + w.difficulty * d + w.model)))
    y = np.clip(rng.binomial(1, p) + rng.choice([0.0, 0.02, -0.02], size=n), 0, 1)
    return y, x, d


def test_the_length_feature_is_baseline_minus_model_over_the_sample_deviation() -> None:
    found = length_feature([10, 20, 40], [10, 10, 10])
    spread = math.sqrt(((0 - 40 / 3) ** 2 + (10 - 40 / 3) ** 2 + (30 - 40 / 3) ** 2) / 2)
    np.testing.assert_allclose(found, np.tanh([0, 10 / spread, 30 / spread]))
    with pytest.raises(ValueError, match="same length"):
        length_feature([5, 5], [3, 3])
    with pytest.raises(ValueError, match="2 and 1 lengths"):
        length_feature([5, 5], [3])


def test_length_drops_out_of_the_controlled_win_rate() -> None:
    expected = (1 / (1 + math.exp(-(0.5 * 1 - 1))) + 1 / (1 + math.exp(-(0.5 * -2 - 1)))) / 2
    for length in (0.0, -3.0):
        assert controlled_win_rate(LengthGlm(length, 0.5, -1.0), [1.0, -2.0]).value == pytest.approx(
            expected, abs=1e-15
        )
    found = controlled_win_rate(LengthGlm(0, 0, 0.3), [0.0] * 5)
    assert found.low == found.value == found.high == pytest.approx(1 / (1 + math.exp(-0.3)))


def test_standard_errors_are_those_of_a_sample() -> None:
    assert standard_error([0.0, 1.0]) == pytest.approx(0.5)
    assert math.isnan(standard_error([1.0]))


def test_the_fit_solves_the_l1_problem_that_scikit_learn_solves() -> None:
    from sklearn.linear_model import LogisticRegression

    from accord.stats.length_glm import _l1_logistic  # pyright: ignore[reportPrivateUsage]

    y, x, d = simulated(1)
    design = np.stack([x, d, np.ones_like(x)], axis=1)
    for c in (0.01, 0.5, 20.0):
        # Targets between 0 and 1: every row twice, labelled 1 and 0, with weights y and 1 - y.
        oracle = LogisticRegression(C=c, l1_ratio=1, solver="saga", fit_intercept=False, tol=1e-10, max_iter=20_000)
        labels = np.concatenate([np.ones_like(y), np.zeros_like(y)])
        oracle.fit(np.concatenate([design, design]), labels, sample_weight=np.concatenate([y, 1 - y]))
        np.testing.assert_allclose(_l1_logistic(design, y, c, np.zeros(3)), oracle.coef_[0], atol=2e-4)


def test_the_fit_finds_the_weights_that_made_the_data() -> None:
    y, x, d = simulated(2, n=20_000)
    found = fit_length_glm(y, x, d)
    assert (found.length, found.difficulty, found.model) == pytest.approx((-1.5, 0.8, -0.4), abs=0.1)
    assert fit_length_glm(y, x).difficulty == 0.0


def test_the_interval_of_the_fit_covers_the_truth_about_as_often_as_it_says() -> None:
    w = LengthGlm(-1.5, 0.8, -0.4)
    covered = 0
    for seed in range(60):
        y, x, d = simulated(100 + seed, n=300, weights=w)
        _, interval = fitted_win_rate(y, x, d)
        # What the population of instructions would give: difficulties are standard normal.
        grid = np.random.default_rng(0).normal(size=100_000)
        truth = float(np.mean(1 / (1 + np.exp(-(w.difficulty * grid + w.model)))))
        covered += interval.low <= truth <= interval.high
    assert covered >= 52  # P(fewer than 52 of 60 at 95 %) is below 1 %


def test_the_fit_refuses_what_it_cannot_fit() -> None:
    with pytest.raises(ValueError, match="at least ten"):
        fit_length_glm([1, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="between 0"):
        fit_length_glm([2.0] * 12, np.linspace(-1, 1, 12))
    with pytest.raises(ValueError, match="no instructions"):
        controlled_win_rate(LengthGlm(0, 0, 0), [])


@pytest.mark.parametrize(
    ("raw", "controlled", "extreme"),
    [
        # Downwards a quarter of 80 is 20 and the larger of the two, of 20 it is 5 and 10 points are.
        (80.0, 60.0, False),
        (80.0, 59.9, True),
        (20.0, 10.0, False),
        (20.0, 9.9, True),
        # Upwards the room is 100 - raw.
        (20.0, 40.0, False),
        (20.0, 40.1, True),
        (80.0, 90.0, False),
        (80.0, 90.1, True),
        (50.0, 50.0, False),
        # NullModel and gpt4_gamed stay inside: the rule is no alarm for gaming.
        (76.9, 86.5, False),
        (3.7, 12.2, False),
    ],
)
def test_the_extreme_change_rule_on_both_sides_of_both_thresholds(raw: float, controlled: float, extreme: bool) -> None:
    assert is_extreme_change(raw, controlled) is extreme
