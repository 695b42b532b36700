"""Labels from votes: against crowd-kit, on known truth, and what must not change the result."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from accord.stats.aggregation import dawid_skene
from accord.stats.combine import combine, majority_vote, vote_shares
from accord.stats.consensus import glad, mace, one_coin

SKILLS = {"ann": 0.9, "ben": 0.8, "cem": 0.75, "dea": 0.7, "spam": 0.5, "foe": 0.15}
SWAP = {"A": "B", "B": "A"}


def pool(seed: int, items: int = 300, overlap: int = 3, labels: str = "AB"):
    """Votes of annotators of known skill, each item judged by `overlap` of them, and the truth."""
    random = np.random.default_rng(seed)
    names = list(SKILLS)
    truth = {i: labels[random.integers(len(labels))] for i in range(items)}
    votes = []
    for i in range(items):
        for w in random.choice(len(names), size=overlap, replace=False):
            wrong = [label for label in labels if label != truth[i]]
            right = random.random() < SKILLS[names[w]]
            votes.append((i, names[w], truth[i] if right else wrong[random.integers(len(wrong))]))
    return votes, truth


def accuracy(best, truth):
    return np.mean([best[i] == label for i, label in truth.items() if i in best])


def models(votes, **settings):
    return {
        "dawid_skene": dawid_skene(votes, smoothing=1.0, tolerance=1e-8, iterations=500, **settings),
        "one_coin": one_coin(votes, **settings),
        "mace": mace(votes, **settings).consensus,
        "glad": glad(votes, **{k: v for k, v in settings.items() if k != "swap"}).consensus,
    }


def frame(votes):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(votes, columns=["task", "worker", "label"])


def crowd_kit(votes, make):
    """Posterior of a model of crowd-kit, tasks and labels sorted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        aggregation = pytest.importorskip("crowdkit.aggregation")
        found = make(aggregation).fit(frame(votes))
        return found.probas_.sort_index().sort_index(axis=1).to_numpy(), found


def ours(found):
    order = np.argsort([int(i) for i in found.items])
    return found.posterior[order]


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["AB", "ABT"])
def test_dawid_skene_is_that_of_crowd_kit(labels):
    votes, _ = pool(0, labels=labels)
    theirs, _ = crowd_kit(votes, lambda kit: kit.DawidSkene(n_iter=20, tol=-1.0))
    np.testing.assert_allclose(ours(dawid_skene(votes, iterations=20)), theirs, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["AB", "ABT"])
def test_one_coin_is_that_of_crowd_kit(labels):
    votes, _ = pool(1, labels=labels)
    theirs, model = crowd_kit(votes, lambda kit: kit.OneCoinDawidSkene(n_iter=20, tol=-1.0))
    found = one_coin(votes, prior=(0.0, 0.0), iterations=20, tolerance=-1.0)
    np.testing.assert_allclose(ours(found), theirs, atol=1e-12)
    for who, skill in model.skills_.items():
        assert found.skills[who] == pytest.approx(skill, abs=1e-3)  # theirs are one step further


@pytest.mark.slow
def test_mace_reaches_what_crowd_kit_reaches_with_restarts():
    votes, _ = pool(2)
    theirs, model = crowd_kit(votes, lambda kit: kit.MACE(method="em", n_restarts=3, n_iter=150))
    found = mace(votes, smoothing=0.01 / 2, iterations=400)
    sure = np.abs(theirs[:, 0] - 0.5) > 0.1
    assert np.mean((ours(found.consensus)[:, 0] > 0.5)[sure] == (theirs[:, 0] > 0.5)[sure]) > 0.98
    assert np.abs(ours(found.consensus) - theirs).mean() < 0.03
    workers = list(dict.fromkeys(who for _, who, _ in votes))
    for who, competence in zip(workers, model.spamming_[:, 1], strict=True):
        assert found.competence[found.consensus.annotators.index(who)] == pytest.approx(competence, abs=0.05)


@pytest.mark.slow
def test_glad_is_that_of_crowd_kit():
    votes, _ = pool(3, items=150)
    theirs, model = crowd_kit(votes, lambda kit: kit.GLAD(n_iter=30, tol=1e-9))
    found = glad(votes, iterations=300, tolerance=1e-9)
    np.testing.assert_allclose(ours(found.consensus), theirs, atol=0.02)
    for who, alpha in model.alphas_.items():
        assert found.ability[found.consensus.annotators.index(who)] == pytest.approx(alpha, abs=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_maximised_never_falls(seed):
    votes, truth = pool(seed, labels="ABT")
    for gold in ({}, {i: truth[i] for i in range(0, 300, 10)}):
        for swap in (None, SWAP):
            for name, found in models(votes, gold=gold, swap=swap).items():
                steps = np.diff(found.objective)
                assert len(steps) > 3, name
                assert steps.min() > -1e-7, (name, steps.min())


def test_models_of_annotators_beat_the_majority_when_some_are_bad():
    votes, truth = pool(4, items=1000)
    majority = accuracy(majority_vote(votes, "random").label, truth)
    found = {name: accuracy(model.best, truth) for name, model in models(votes, swap=SWAP).items()}
    assert min(found.values()) > majority + 0.02, (majority, found)
    skills = one_coin(votes, swap=SWAP).skills
    for who, skill in SKILLS.items():
        assert skills[who] == pytest.approx(skill, abs=0.06)
    assert dict(zip(models(votes)["dawid_skene"].annotators, models(votes)["dawid_skene"].skill, strict=True))[
        "foe"
    ] == pytest.approx(0.15, abs=0.06)


def test_names_of_labels_and_order_of_votes_do_not_matter():
    votes, _ = pool(5, items=80, labels="ABT")
    name = {"A": "z", "B": "y", "T": "x"}
    renamed = [(i, who, name[label]) for i, who, label in reversed(votes)]
    here, there = models(votes), models(renamed)
    for model, found in here.items():
        other = there[model]
        rows = [other.items.index(i) for i in found.items]
        columns = [other.labels.index(name[label]) for label in found.labels]
        np.testing.assert_allclose(other.posterior[np.ix_(rows, columns)], found.posterior, atol=1e-5, err_msg=model)


def test_which_reply_comes_first_does_not_matter_with_swap():
    votes, _ = pool(6, items=120, labels="ABT")
    random = np.random.default_rng(0)
    turned = {i for i in range(120) if random.random() < 0.4}
    other = [(i, who, SWAP.get(label, label) if i in turned else label) for i, who, label in votes]
    for model, found in models(votes, swap=SWAP).items():
        mirrored = models(other, swap=SWAP)[model]
        a, b = found.labels.index("A"), found.labels.index("B")
        for row, i in enumerate(found.items):
            column = b if i in turned else a
            assert mirrored.posterior[row, column] == pytest.approx(found.posterior[row, a], abs=1e-5), model


def test_swap_keeps_the_frequency_of_a_name_out_of_it():
    # 9 of 10 items are called A first; without symmetry the frequency of A is learnt and decides split items.
    random = np.random.default_rng(7)
    votes = []
    for i in range(200):
        truth = "A" if random.random() < 0.9 else "B"
        votes += [(i, who, truth if random.random() < 0.75 else SWAP[truth]) for who in ("ann", "ben")]
    split = [i for i in range(200) if len({label for j, _, label in votes if j == i}) == 2]
    plain, symmetric = one_coin(votes), one_coin(votes, swap=SWAP)
    a = plain.labels.index("A")
    assert plain.posterior[split, a].mean() > 0.7
    assert symmetric.posterior[split, a].mean() == pytest.approx(0.5, abs=0.1)


def test_gold_is_certain_and_teaches():
    votes, truth = pool(8, items=60, overlap=2)
    gold = {i: truth[i] for i in range(0, 60, 2)}
    for model, found in models(votes, gold=gold).items():
        for row, i in enumerate(found.items):
            if i in gold:
                assert found.posterior[row, found.labels.index(gold[i])] == 1.0, model
    error = {
        known: np.mean([abs(one_coin(votes, gold=g).skills[who] - skill) for who, skill in SKILLS.items()])
        for known, g in (("nothing", {}), ("half", gold))
    }
    assert error["half"] < error["nothing"]
    with pytest.raises(ValueError, match="not among"):
        one_coin(votes, labels=["A", "B"], gold={0: "C"})


def test_majority_says_what_it_does_with_ties():
    votes = [(1, "a", "A"), (1, "b", "B"), (2, "a", "A"), (2, "b", "A"), (3, "a", "B"), (3, "b", "A")]
    assert majority_vote(votes).label == {2: "A"}
    assert majority_vote(votes).to_adjudicate == (1, 3)
    assert majority_vote(votes, "drop").to_adjudicate == ()
    assert majority_vote(votes, "tie").label == {1: "tie", 2: "A", 3: "tie"}
    assert majority_vote(votes, decided={1: "B"}).label == {1: "B", 2: "A"}
    drawn = [majority_vote(votes, "random", seed=s).label for s in range(40)]
    assert {d[1] for d in drawn} == {"A", "B"}
    assert any(d[1] != d[3] for d in drawn)
    assert majority_vote(list(reversed(votes)), "random", seed=3).label == majority_vote(votes, "random", seed=3).label
    with pytest.raises(ValueError, match="no tie policy"):
        majority_vote(votes, "first")


def test_few_votes_are_not_certain():
    found = vote_shares([(1, "a", "A"), (2, "a", "A"), (2, "b", "B")], labels=["A", "B"])
    assert found.posterior.tolist() == [[0.75, 0.25], [0.5, 0.5]]


def test_a_rare_tie_does_not_make_votes_count_for_more():
    random = np.random.default_rng(0)
    truth = {i: "AB"[random.integers(2)] for i in range(1500)}
    votes = []
    for i, label in truth.items():
        for w in random.choice(6, size=2, replace=False):
            right = random.random() < 0.75
            said = label if right else "AB".replace(label, "")
            votes.append((i, f"w{w}", "T" if random.random() < 0.03 else said))

    def excess(found):
        """How much surer of its best label it is than it is right."""
        sure = found.posterior.max(axis=1).mean()
        return sure - accuracy(found.best, truth)

    even, shares = (one_coin(votes, swap=SWAP, spread=how) for how in ("even", "shares"))
    assert excess(even) > 0.04 > abs(excess(shares))
    assert combine(votes, "one_coin", swap=SWAP).posterior == pytest.approx(shares.posterior)
    assert combine(votes, swap=SWAP).posterior == pytest.approx(shares.posterior)  # two votes: one-coin instead


def test_little_data_fall_back_to_one_coin_and_say_so():
    votes, _ = pool(9, items=20, overlap=3)
    small = combine(votes, labels=["A", "B"], swap=SWAP)
    assert small.method == "one_coin" and "20 are needed" in small.note
    votes, _ = pool(9, items=300, overlap=2)
    assert "votes an item" in combine(votes, swap=SWAP).note
    votes, _ = pool(9, items=300, overlap=3)
    full = combine(votes, swap=SWAP)
    assert (full.method, full.note) == ("dawid_skene", "")
    assert {combine(votes, m).method for m in ("shares", "mace", "glad", "one_coin")} == {
        "shares",
        "mace",
        "glad",
        "one_coin",
    }
    with pytest.raises(ValueError, match="no method"):
        combine(votes, "voting")


@pytest.mark.parametrize("settings", [{"prior": (-1.0, 0.0)}])
def test_settings_without_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="negative"):
        one_coin([(1, "a", "A")], **settings)
    with pytest.raises(ValueError, match="negative"):
        mace([(1, "a", "A")], smoothing=-1.0)
    with pytest.raises(ValueError, match="no votes"):
        glad([])
    with pytest.raises(ValueError, match="mirror image"):
        dawid_skene([(1, "a", "A"), (1, "b", "B")], swap={"A": "B"})
