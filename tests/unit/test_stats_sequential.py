"""The sequential test of annotators: its error rates, exactly and by simulation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from accord.stats.sequential import GoldTest, evidence, operating, sequential_evidence, sequential_gold


def test_spammers_and_adversaries_are_blocked_within_sixty_answers_and_good_people_are_not():
    assert operating(0.5, 60).blocked >= 0.95
    assert operating(0.3, 60).blocked >= 0.999
    assert operating(0.1, 30).blocked >= 0.999
    # Ever: 2,000 answers are far beyond any sitting.
    assert 0.005 < operating(0.75, 2000).blocked < 0.02
    assert operating(0.85, 2000).blocked < 0.002
    assert operating(0.85, 30).passed > 0.8


def test_the_exact_rates_are_those_of_a_simulation():
    random = np.random.default_rng(0)
    for skill in (0.5, 0.75):
        ends = []
        for _ in range(2000):
            right = 0
            for total, answer in enumerate(random.random(60) < skill, 1):
                right += int(answer)
                if sequential_gold(right, total) == "fail":
                    ends.append(total)
                    break
        exact = operating(skill, 60)
        assert len(ends) / 2000 == pytest.approx(exact.blocked, abs=0.015)
        assert np.mean(ends) == pytest.approx(exact.answers_to_block, abs=4.0)


def test_decisions_by_hand():
    # Odds of 1/2 against 3/4 after w wrong and no right answer are 2**w; 100 to 1 are passed at the seventh.
    assert [sequential_gold(0, total) for total in range(8)] == ["continue"] * 7 + ["fail"]
    # After r right and no wrong answer they are (2/3)**r; 1 to 20 are passed at the eighth.
    assert [sequential_gold(total, total) for total in (7, 8)] == ["continue", "pass"]
    assert sequential_gold(30, 60) == "fail"
    assert sequential_gold(50, 60) == "pass"
    assert sequential_gold(50, 90) == "fail"  # good at first, guessing since
    with pytest.raises(ValueError, match="3 right answers of 2"):
        sequential_gold(3, 2)


def test_more_right_answers_never_make_it_worse():
    rank = {"fail": 0, "continue": 1, "pass": 2}
    for total in (5, 20, 59, 60, 61, 100):
        decisions = [rank[sequential_gold(right, total)] for right in range(total + 1)]
        assert decisions == sorted(decisions)


def test_nobody_is_undecided_at_the_horizon():
    test = GoldTest(horizon=30, false_block=0.05)
    assert operating(0.6, 30, test).undecided == pytest.approx(0.0, abs=1e-12)
    assert operating(0.6, 29, test).undecided > 0.1
    assert operating(0.75, 600, test).blocked <= 0.05


def test_a_decision_to_block_stays():
    answers = [0.0] * 6 + [1.0] * 60
    assert sequential_evidence(answers[:5]) == "continue"
    assert sequential_evidence(answers[:6]) == sequential_evidence(answers) == "fail"
    assert sequential_evidence([1.0] * 8) == "pass"
    assert sequential_evidence([]) == "continue"


def test_evidence_of_certain_answers_is_walds():
    assert evidence([1, 1, 0]) == pytest.approx(2 * math.log(0.5 / 0.75) + math.log(0.5 / 0.25))
    assert evidence([0.5] * 40) == pytest.approx(0.0)
    assert 0 < evidence([0.2]) < evidence([0.0])
    assert evidence([]) == 0.0
    with pytest.raises(ValueError, match="between 0 and 1"):
        evidence([1.2])


def test_votes_of_others_find_a_spammer_without_gold():
    random = np.random.default_rng(1)
    # What two others who are right 8 times in 10 say about a label: both agree, one does, none does.
    found = {0.5: 0, 0.85: 0}
    for skill in found:
        for _ in range(300):
            right = random.random(150) < skill
            others = (random.random((150, 2)) < np.where(right, 0.8, 0.2)[:, None]).sum(axis=1)
            belief = np.array([0.2**2 / (0.2**2 + 0.8**2), 0.5, 0.8**2 / (0.2**2 + 0.8**2)])[others]
            found[skill] += sequential_evidence(belief) == "fail"
    assert found[0.5] / 300 >= 0.9
    assert found[0.85] / 300 <= 0.02


@pytest.mark.parametrize("settings", [{"bad": 0.8}, {"good": 1.0}, {"false_block": 0.0}, {"horizon": 0}])
def test_settings_without_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        GoldTest(**settings)


def _beliefs(random: np.random.Generator, skill: float, n: int, others: int = 2, q: float = 0.8) -> list[float]:
    right = random.random(n) < skill
    agree = np.array([(random.random(others) < (q if r else 1 - q)).sum() for r in right])
    odds = (q / (1 - q)) ** (2.0 * agree - others)
    return list(odds / (1 + odds))


def test_the_decision_at_the_horizon_finds_more_and_blocks_no_more_good_people():
    found = {0.5: [0, 0], 0.75: [0, 0]}
    for skill, counts in found.items():
        for seed in range(300):
            beliefs = _beliefs(np.random.default_rng([seed, int(100 * skill)]), skill, 60)
            counts[0] += sequential_evidence(beliefs) == "fail"
            counts[1] += sequential_evidence(beliefs, horizon=60) == "fail"
    assert found[0.5][1] > found[0.5][0] + 20
    assert found[0.75][1] <= 300 * 0.02 + 6  # two deviations above what is allowed


def test_certain_answers_are_decided_as_gold_is():
    random = np.random.default_rng(2)
    for skill in (0.5, 0.6, 0.7, 0.75):
        for _ in range(40):
            answers = random.random(60) < skill
            right = np.cumsum(answers)
            blocked = any(sequential_gold(int(r), n) == "fail" for n, r in enumerate(right, 1))
            assert (sequential_evidence(answers, horizon=60) == "fail") == blocked


def test_the_error_at_the_horizon_is_the_one_allowed_whatever_the_items():
    # Hidden tests of several difficulties, pairs about which others are more or less sure, one nobody knows.
    sure = np.array([1.0, 0.9, 1.0, 0.5, 0.85, 1.0, 0.9, 0.8, 1.0, 0.9, 0.7])
    good = np.array([0.85, 0.75, 0.9, 0.75, 0.75, 0.8, 0.76, 0.75, 0.87, 0.74, 0.75])
    test = GoldTest(false_block=0.2)
    agrees = good * sure + (1 - good) * (1 - sure)
    blocked = early = 0.0
    for likely in product((True, False), repeat=sure.size):
        chance = float(np.where(likely, agrees, 1 - agrees).prod())
        beliefs = np.where(likely, sure, 1 - sure)
        blocked += chance * (sequential_evidence(beliefs, test, good=good, horizon=sure.size) == "fail")
        early += chance * (sequential_evidence(beliefs, test, good=good, horizon=sure.size + 1) == "fail")
    assert early > 0.02
    assert 0.17 < blocked <= 0.2, "what is left is for those the ratio blocks later"


def test_nobody_passes_whom_the_items_cannot_tell_from_a_guesser():
    assert sequential_evidence([0.5] * 80, horizon=60) == "continue"
    # Nearly every guesser is found by these, so whoever is not found is not one, although the ratio is undecided.
    answers = [1.0] * 38 + [0.0] * 22
    assert sequential_gold(38, 60) == sequential_evidence(answers, horizon=60) == "pass"
    assert sequential_evidence(answers[:59], horizon=60) == "continue"
    # Later answers still count.
    assert sequential_evidence([*answers, *[0.0] * 20], horizon=60) == "fail"


def test_good_annotators_may_be_better_on_some_items():
    # A wrong answer where good people are hardly ever wrong says more.
    assert evidence([0.0], good=[0.95]) == pytest.approx(math.log(0.5 / 0.05))
    assert evidence([1.0, 0.0], good=[0.95, 0.6]) == pytest.approx(math.log(0.5 / 0.95) + math.log(0.5 / 0.4))
    with pytest.raises(ValueError, match="2 answers but 1"):
        evidence([1.0, 0.0], good=[0.9])
    with pytest.raises(ValueError, match="above `bad`"):
        evidence([1.0], good=[0.5])
