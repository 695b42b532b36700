"""Agreement, aggregation and rankings against golden values."""

from __future__ import annotations

import numpy as np
import pytest
from golden_file import check, entry

from accord.stats import (
    bradley_terry,
    cohen_kappa,
    dawid_skene,
    elo,
    elo_scale,
    fleiss_kappa,
    krippendorff_alpha,
    krippendorff_alpha_nominal,
    krippendorff_interval,
)


def votes() -> list[tuple[int, int, float]]:
    coders = entry("agree/krippendorff_fixture")["coders_by_units"]
    return [
        (unit, coder, label)
        for coder, labels in enumerate(coders)
        for unit, label in enumerate(labels)
        if label is not None
    ]


@pytest.mark.parametrize(
    "scale, name",
    [
        ("nominal", "agree/krippendorff_nominal"),
        ("ordinal", "agree/krippendorff_ordinal"),
        ("interval", "agree/krippendorff_interval"),
        ("ratio", "agree/krippendorff_ratio"),
    ],
)
def test_krippendorff_alpha(scale, name):
    check(krippendorff_alpha(votes(), scale), entry(name)["value"])
    found = krippendorff_interval(votes(), scale, num=200)
    assert found is not None
    check(found.value, entry(name)["value"])
    assert found.low <= found.value <= found.high


def test_krippendorff_alpha_nominal():
    check(krippendorff_alpha_nominal(votes()), entry("agree/krippendorff_nominal")["value"])


def test_krippendorff_alpha_of_the_documented_example():
    # The inputs of this entry are not in the file: three items, two annotators, one disagreement.
    given = ["YY", "YN", "NN"]
    found = krippendorff_alpha([(item, who, labels[who]) for item, labels in enumerate(given) for who in (0, 1)])
    check(found, entry("agree/krippendorff_crowdkit_doc")["value"])


def test_cohen_kappa_of_a_table():
    name = "agree/cohen_kappa_20_5_10_15"
    both_yes, yes_no, no_yes, both_no = (int(number) for number in name.split("_")[-4:])
    pairs = ["yy"] * both_yes + ["yn"] * yes_no + ["ny"] * no_yes + ["nn"] * both_no
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    check(cohen_kappa(a, b), entry(name)["value"])
    # With two labels a distance is 0 or 1, whatever the weights.
    check(cohen_kappa(a, b, "linear"), entry(name)["value"])
    check(cohen_kappa(a, b, "quadratic"), entry(name)["value"])


def test_cohen_kappa_with_quadratic_weights():
    want = entry("agree/cohen_kappa_quadratic")
    check(cohen_kappa(want["a"], want["b"], "quadratic"), want["value"])


def test_fleiss_kappa():
    want = entry("agree/fleiss_kappa")
    check(fleiss_kappa(want["counts"]), want["value"])


@pytest.mark.parametrize("name, iterations", [("agree/dawid_skene_toy_iter1", 1), ("agree/dawid_skene_toy_iter10", 10)])
def test_dawid_skene(name, iterations):
    want = entry(name)
    data = want["data"] or entry("agree/dawid_skene_toy_iter1")["data"]
    given = [(task, who, label) for who, task, label in data]
    found = dawid_skene(given, labels=want["labels"], iterations=iterations)
    rows = [found.items.index(task) for task in want["tasks"]]
    check(found.posterior[rows].copy(), want["value"])
    check(found.prior, want["priors"])
    assert found.labels == tuple(want["labels"])
    best = np.array(want["value"]).argmax(axis=1)
    assert [found.best[task] for task in want["tasks"]] == [want["labels"][i] for i in best]


def test_bradley_terry():
    want = entry("rank/bt_mle_log_strength_centred")
    found = bradley_terry(want["wins"])
    check(found, want["value"])
    check(elo_scale(found), want["elo_scale"])


def test_bradley_terry_with_ties():
    want = entry("rank/bt_mle_ties_half")
    wins = np.array(entry("rank/bt_mle_log_strength_centred")["wins"])
    check(bradley_terry(wins + np.array(want["ties"]) / 2), want["value"])


def test_elo():
    want = entry("rank/elo_k32")
    found = elo([tuple(game) for game in want["games"]], k=32)
    check([found[name] for name in sorted(found)], want["value"])
