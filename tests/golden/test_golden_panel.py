"""Coefficients of a panel, plain and in both orientations, against golden values."""

from __future__ import annotations

import pytest
from golden_file import check, entry

from accord.stats.panel import Bootstrap, alpha, cohen, fleiss, panel

FEW = Bootstrap(num=100)


@pytest.mark.parametrize("scale", ["nominal", "ordinal", "interval", "ratio"])
def test_alpha_of_the_canonical_example(scale):
    coders = entry("agree/krippendorff_fixture")["coders_by_units"]
    votes = [
        (unit, coder, label)
        for coder, labels in enumerate(coders)
        for unit, label in enumerate(labels)
        if label is not None
    ]
    found = alpha(panel(votes), scale, FEW)
    check(found.value, entry(f"agree/krippendorff_{scale}")["value"])
    assert found.low <= found.value <= found.high


def test_fleiss_of_the_textbook_table():
    want = entry("agree/fleiss_kappa")
    votes = [
        (unit, number, label)
        for unit, row in enumerate(want["counts"])
        for number, label in enumerate(label for label, n in enumerate(row) for _ in range(int(n)))
    ]
    check(fleiss(panel(votes), FEW).value, want["value"])


def test_cohen_plain_and_quadratic():
    table = entry("agree/cohen_kappa_20_5_10_15")
    pairs = ["yy"] * 20 + ["yn"] * 5 + ["ny"] * 10 + ["nn"] * 15
    given = panel([(unit, who, pair[who]) for unit, pair in enumerate(pairs) for who in (0, 1)])
    check(cohen(given, how=FEW).value, table["value"])
    want = entry("agree/cohen_kappa_quadratic")
    votes = [(unit, who, label) for who in "ab" for unit, label in enumerate(want[who])]
    check(cohen(panel(votes), "quadratic", FEW).value, want["value"])
