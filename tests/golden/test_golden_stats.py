"""Accuracy and calibration against golden values."""

from __future__ import annotations

import numpy as np
from golden_file import check, entry

from accord.stats import accuracy_ties_half, brier, ece, nll, temperature_mle


def predictions() -> tuple[np.ndarray, np.ndarray]:
    given = entry("rm/ece_5bins_prob_of_first")
    return np.array(given["p"]), np.array(given["y"])


def test_expected_calibration_error():
    check(ece(*predictions(), bins=5), entry("rm/ece_5bins_prob_of_first")["value"])
    check(ece(*predictions(), bins=5, confidence=True), entry("rm/ece_5bins_confidence")["value"])


def test_brier_and_nll():
    check(brier(*predictions()), entry("rm/brier")["value"])
    check(nll(*predictions()), entry("rm/nll")["value"])


def test_temperature():
    p, y = predictions()
    logit = np.log(p) - np.log1p(-p)
    want = entry("rm/temperature_mle")
    found = temperature_mle(logit, y)
    check(found, want["value"])
    check(nll(1 / (1 + np.exp(-logit / found)), y), want["nll_after"])


def test_accuracy():
    f = entry("rm/fixture")
    delta = np.array(f["chosen"]) - np.array(f["rejected"])
    check(accuracy_ties_half(delta), entry("rm/accuracy_ties_half")["value"])
