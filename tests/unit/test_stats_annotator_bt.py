"""Bradley-Terry with annotators: derivatives, identification, recovery of known annotators, honest uncertainty."""

from __future__ import annotations

import numpy as np
import pytest

from accord.stats.annotator_bt import annotator_bradley_terry, annotator_bradley_terry_bootstrap
from accord.stats.annotator_pairs import MarginalDensity, annotator_pairs
from accord.stats.bt_outcomes import outcomes, share_of_first
from accord.stats.bt_posterior import Posterior, Settings
from accord.stats.ranking import bradley_terry

SKILL = [1.6, 1.2, 1.0, 0.7, 0.0, -1.0]
SIDE = [0.0, 0.1, -0.1, 0.0, 1.5, 0.0]
TIES = ["half", "davidson", "rao_kupper"]


def judgements(seed: int, votes: int = 1500, items: int = 12, nu: float = 0.0, skill=SKILL, side=SIDE):
    """Votes of a pool with an always-left spammer and an adversary, with Davidson ties of weight nu."""
    random = np.random.default_rng(seed)
    strength = random.normal(0, 1, size=items)
    strength -= strength.mean()
    judged = []
    for _ in range(votes):
        a, b = random.choice(items, size=2, replace=False)
        w = int(random.integers(len(skill)))
        x = skill[w] * (strength[a] - strength[b]) + side[w]
        odds = np.array([np.exp(x / 2), np.exp(-x / 2), nu])
        judged.append((int(a), int(b), w, [1.0, 0.0, 0.5][int(random.choice(3, p=odds / odds.sum()))]))
    return judged, strength


def by_name(names, values):
    return np.array([values[names.index(k)] for k in range(len(names))])


@pytest.mark.parametrize("ties", TIES)
def test_gradient_and_hessian_are_those_of_finite_differences(ties):
    judged, _ = judgements(0, votes=60, items=5, nu=0.7)
    data = Posterior.of(judged, Settings(ties=ties, side_sd=0.8), None, np.random.default_rng(1).uniform(0.5, 2, 60))
    x = np.random.default_rng(2).normal(0, 0.7, size=len(data.start()))
    gradient = data.loss(x, 0.3)[1]
    hessian = data.hessian(x, 0.3).toarray()
    step = 1e-5
    for k in range(len(x)):
        up, down = x.copy(), x.copy()
        up[k] += step
        down[k] -= step
        assert gradient[k] == pytest.approx((data.loss(up, 0.3)[0] - data.loss(down, 0.3)[0]) / (2 * step), abs=1e-6)
        np.testing.assert_allclose(
            hessian[:, k], (data.loss(up, 0.3)[1] - data.loss(down, 0.3)[1]) / (2 * step), atol=1e-6
        )


@pytest.mark.parametrize("ties", ["davidson", "rao_kupper"])
def test_probabilities_of_the_three_results_sum_to_one(ties):
    x = np.linspace(-4, 4, 9)
    p = [np.exp(outcomes(ties, x, -0.4, np.full(9, result)).value) for result in (1.0, 0.0, 0.5)]
    np.testing.assert_allclose(sum(p), 1.0, atol=1e-12)
    np.testing.assert_allclose(share_of_first(ties, x, -0.4), p[0] + p[2] / 2, atol=1e-12)
    np.testing.assert_allclose(p[0], p[1][::-1], atol=1e-12)
    assert p[2].argmax() == 4  # ties are commonest between equals


def test_without_annotators_it_is_bradley_terry():
    judged, _ = judgements(1, skill=[1.0], side=[0.0])
    wins = np.zeros((12, 12))
    for a, b, _, result in judged:
        wins[a, b] += result
        wins[b, a] += 1 - result
    found = annotator_bradley_terry(judged, Settings(ties="half", ridge=1e-6, skill_sd=1e-3, side_sd=0.0))
    np.testing.assert_allclose(by_name(found.items, found.strength), bradley_terry(wins), atol=1e-3)


def test_annotators_are_recovered_as_in_the_published_simulation():
    found_skill, found_side = [], []
    for seed in range(6):
        judged, _ = judgements(seed)
        found = annotator_bradley_terry(judged)
        found_skill.append(by_name(found.annotators, found.skill))
        found_side.append(by_name(found.annotators, found.side))
    # Skills are relative to their mean, which is held at 1.
    np.testing.assert_allclose(np.mean(found_skill, axis=0), np.array(SKILL) / np.mean(SKILL), atol=0.3)
    np.testing.assert_allclose(np.mean(found_side, axis=0), SIDE, atol=0.15)
    assert found.skill.mean() == pytest.approx(1.0, abs=0.02)


def test_it_beats_plain_bradley_terry_with_a_spammer_and_an_adversary():
    gain = []
    for seed in range(10):
        judged, strength = judgements(seed, votes=600)
        wins = np.full((12, 12), 0.01)
        for a, b, _, result in judged:
            wins[a, b] += result
            wins[b, a] += 1 - result
        found = annotator_bradley_terry(judged)
        plain = np.corrcoef(bradley_terry(wins), strength)[0, 1]
        own = np.corrcoef(by_name(found.items, found.strength), strength)[0, 1]
        gain.append(own - plain)
    assert min(gain) > -0.005
    assert np.mean(gain) > 0.03


@pytest.mark.parametrize("ties", ["davidson", "rao_kupper"])
def test_ties_are_part_of_the_model(ties):
    judged, strength = judgements(3, votes=3000, nu=1.0)
    found = annotator_bradley_terry(judged, Settings(ties=ties))
    assert np.corrcoef(by_name(found.items, found.strength), strength)[0, 1] > 0.98
    if ties == "davidson":
        assert found.tie == pytest.approx(np.log(1.0), abs=0.1)
    assert annotator_bradley_terry([j for j in judged if j[3] != 0.5], Settings(ties=ties)).tie is None


def test_parts_that_never_met_are_reported_and_not_compared():
    judged = [("a", "b", 0, 1.0), ("b", "c", 0, 1.0), ("x", "y", 0, 1.0), ("y", "x", 1, 0.0)]
    found = annotator_bradley_terry(judged)
    assert found.components == 2
    for part in range(2):
        assert found.strength[found.component == part].sum() == pytest.approx(0.0, abs=1e-5)
    assert 0.5 < found.preference("a", "b") < 1
    assert found.preference("a", "c") > found.preference("a", "b")
    assert found.preference("x", "y") == pytest.approx(1 - found.preference("y", "x"), abs=1e-12)
    with pytest.raises(ValueError, match="never compared"):
        found.preference("a", "x")


def pairs_of_prompts(seed: int, prompts: int = 400, labels: int = 3, spread: float = 1.5, tie: float = 0.0):
    """Each prompt has its own two replies; some of the pool judge them, in random order."""
    random = np.random.default_rng(seed)
    gap = random.normal(0, spread, size=prompts)
    skill = np.array(SKILL) / np.mean(SKILL)
    votes = []
    for i in range(prompts):
        for w in random.choice(len(SKILL), size=labels, replace=False):
            first = bool(random.random() < 0.5)
            x = skill[w] * (gap[i] if first else -gap[i]) + SIDE[w]
            odds = np.array([np.exp(x / 2), np.exp(-x / 2), tie])
            votes.append((i, first, int(w), [1.0, 0.0, 0.5][int(random.choice(3, p=odds / odds.sum()))]))
    return votes, gap


def jeffreys(votes, prompts):
    counts = np.zeros((prompts, 2))
    for i, first, _, result in votes:
        counts[i] += (result if first else 1 - result, 1)
    return (counts[:, 0] + 0.5) / (counts[:, 1] + 1)


@pytest.mark.parametrize("ties", TIES)
def test_gradient_of_the_integrated_likelihood(ties):
    votes, _ = pairs_of_prompts(0, prompts=40, tie=0.0 if ties == "half" else 0.8)
    data = MarginalDensity.of(votes, Settings(ties=ties), {1: True, 2: False}, None)
    x = np.random.default_rng(1).normal(0, 0.5, size=len(data.start()))
    step = 1e-5 * np.eye(len(x))
    numeric = [(data.loss(x + e)[0] - data.loss(x - e)[0]) / 2e-5 for e in step]
    np.testing.assert_allclose(data.loss(x)[1], numeric, atol=1e-6)


def test_pairs_judged_a_few_times_recover_annotators_and_beat_shares():
    votes, gap = pairs_of_prompts(0, prompts=1500)
    found = annotator_pairs(votes)
    assert found.spread == pytest.approx(1.5, rel=0.35)
    np.testing.assert_allclose(by_name(found.annotators, found.skill), np.array(SKILL) / np.mean(SKILL), atol=0.8)
    np.testing.assert_allclose(by_name(found.annotators, found.side), SIDE, atol=0.35)
    shares, truth = jeffreys(votes, 1500), gap > 0
    assert np.mean((found.preference > 0.5) == truth) > np.mean((shares > 0.5) == truth) + 0.06
    assert np.corrcoef(found.preference, gap)[0, 1] > np.corrcoef(shares, gap)[0, 1] + 0.15
    sure = np.maximum(found.better, 1 - found.better)
    for low, high in ((0.5, 0.7), (0.7, 0.85), (0.85, 0.95), (0.95, 1.0)):
        where = (sure >= low) & (sure < high)
        right = np.mean(((found.better > 0.5) == truth)[where])
        assert right == pytest.approx(sure[where].mean(), abs=0.06), (low, right)
    average = 1 / (1 + np.exp(-gap))  # what an average annotator would say
    assert np.mean((found.preference - average) ** 2) < 0.6 * np.mean((shares - average) ** 2)


def test_gold_and_ties_of_pairs():
    votes, gap = pairs_of_prompts(1, prompts=300, tie=0.7)
    gold = {i: bool(gap[i] > 0) for i in range(0, 300, 3)}
    found = annotator_pairs(votes, gold=gold)
    for i, first in gold.items():
        assert found.better[found.pairs.index(i)] == pytest.approx(float(first), abs=1e-12)
    assert found.tie == pytest.approx(np.log(0.7), abs=0.25)
    mirrored = annotator_pairs([(i, not first, w, r) for i, first, w, r in votes])
    np.testing.assert_allclose(mirrored.preference, 1 - annotator_pairs(votes).preference, atol=1e-3)
    with pytest.raises(ValueError, match=r"1, 0 or 0\.5"):
        annotator_pairs([(1, True, "a", 0.3)])


@pytest.mark.slow
def test_intervals_of_pairs_cover():
    hits = np.zeros((2, 6))
    for seed in range(30):
        votes, _ = pairs_of_prompts(200 + seed, prompts=600)
        # With the usual prior of skills, N(1, 1), an adversary's interval is drawn towards 1.
        found = annotator_pairs(votes, Settings(skill_sd=3.0))
        for w in range(6):
            truths = (SKILL[w] / np.mean(SKILL), SIDE[w])
            spans = (found.skill_interval[w], found.side_interval[w])
            for row, (span, truth) in enumerate(zip(spans, truths, strict=True)):
                hits[row, w] += span.low <= truth <= span.high
    assert (hits.mean(axis=1) >= 0.88 * 30).all(), hits


@pytest.mark.slow
def test_sandwich_intervals_cover():
    hits = np.zeros((2, 6))
    for seed in range(40):
        judged, _ = judgements(100 + seed, votes=1200)
        found = annotator_bradley_terry(judged)
        for w in range(6):
            for row, (span, truth) in enumerate(
                ((found.skill_interval[w], SKILL[w] / np.mean(SKILL)), (found.side_interval[w], SIDE[w]))
            ):
                hits[row, w] += span.low <= truth <= span.high
    assert hits.mean(axis=1)[0] >= 0.88 * 40 and hits.mean(axis=1)[1] >= 0.9 * 40, hits


def test_votes_on_one_prompt_are_not_independent():
    judged, _ = judgements(5, votes=400)
    copied = [j for j in judged for _ in range(4)]
    how = Settings(ridge=1e-3, skill_sd=100.0, side_sd=100.0)
    alone = annotator_bradley_terry(judged, how)
    clustered = annotator_bradley_terry(copied, how, clusters=[k for k in range(400) for _ in range(4)])
    naive = annotator_bradley_terry(copied, how)

    def width(found):
        return np.mean([found.side_interval[w].high - found.side_interval[w].low for w in range(6)])

    assert width(clustered) == pytest.approx(width(alone), rel=0.05)
    assert width(naive) == pytest.approx(width(alone) / 2, rel=0.05)


@pytest.mark.slow
def test_the_bootstrap_agrees_with_the_sandwich():
    judged, _ = judgements(6, votes=800)
    found = annotator_bradley_terry(judged, clusters=range(800))
    drawn = annotator_bradley_terry_bootstrap(judged, range(800), num=100)
    for w in range(6):
        one, other = found.side_interval[w], drawn["side"][w]
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.35)
        assert drawn["skill"][w].low < found.skill_interval[w].value < drawn["skill"][w].high
    assert drawn["strength"][0].n == sum(0 in j[:2] for j in judged)


def test_what_makes_no_judgement_is_refused():
    for wrong in ([], [("a", "a", 0, 1.0)], [("a", "b", 0, 0.7)]):
        with pytest.raises(ValueError, match="judgement"):
            annotator_bradley_terry(wrong)
