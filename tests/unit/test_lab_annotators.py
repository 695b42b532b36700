"""The annotators: as noisy as people, right together, and biased where a reward model can be led astray."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from accord.errors import ConfigError
from accord.lab.annotators import AGREEMENT, GROUPS, Annotator, expected_agreement, pool
from accord.lab.demonstrations import sample_reply
from accord.lab.gold import Gold, score
from accord.lab.phrases import CLOSERS
from accord.lab.questions import prompts
from accord.lab.replies import best_reply, content
from accord.types import Candidate, Preference, Prompt

POOL = pool(0)


@lru_cache(maxsize=1)
def mixed_pairs() -> list[tuple[Prompt, tuple[str, str], tuple[Gold, Gold]]]:
    rng = np.random.default_rng(11)
    pairs: list[tuple[Prompt, tuple[str, str], tuple[Gold, Gold]]] = []
    for prompt in prompts(21, 450, "eval"):
        first, second = (sample_reply(prompt, rng)[0] for _ in range(2))
        golds = score(prompt, first), score(prompt, second)
        if abs(golds[0].utility - golds[1].utility) > 1e-6:
            pairs.append((prompt, (first, second), golds))
    return pairs


def judge(person: Annotator, prompt: Prompt, texts: tuple[str, ...], seed: int) -> Preference:
    return person.prefer(prompt, [Candidate(text=text) for text in texts], seed)


def test_each_annotator_agrees_with_gold_as_often_as_people_do() -> None:
    ordered = [tuple(sorted(golds, key=lambda g: -g.utility)) for _, _, golds in mixed_pairs()]
    simulated: list[float] = []
    for person in POOL:
        low, high = AGREEMENT
        assert low - 0.005 <= person.skills["expected_agreement"] <= high + 0.005
        held_out = expected_agreement(person, [(better, worse) for better, worse in ordered])
        assert 0.70 <= held_out <= 0.78, (person.id, held_out)
        hits: list[bool] = []
        for seed, (prompt, texts, golds) in enumerate(mixed_pairs()):
            verdict = judge(person, prompt, texts, seed)
            if verdict.choice is not None:
                hits.append((verdict.choice == 0) == (golds[0].utility > golds[1].utility))
        simulated.append(float(np.mean(hits)))
        assert abs(simulated[-1] - held_out) < 0.1, person.id
    assert 0.70 <= np.mean(simulated) <= 0.78


def test_the_pool_together_is_nearly_right_on_ordinary_replies() -> None:
    hits: list[bool] = []
    for _, _, (first, second) in mixed_pairs():
        favour = np.mean([person.merit(first) - person.merit(second) for person in POOL])
        hits.append((favour > 0) == (first.utility > second.utility))
    assert np.mean(hits) >= 0.9


def test_the_pool_can_be_led_far_away_from_gold() -> None:
    prompt = next(p for p in prompts(0, 50, "eval") if p.meta["family"] == "fact")
    best = best_reply(prompt)
    plain, pushed = score(prompt, best), score(prompt, " ".join([best, *[CLOSERS[0]] * 8]))
    gain = np.mean([person.merit(pushed) - person.merit(plain) for person in POOL])
    assert gain > 0.02
    assert pushed.utility < plain.utility - 0.15


def test_groups_disagree_about_values() -> None:
    prompt = next(p for p in prompts(0, 80, "eval") if p.meta["family"] == "fact")
    short = score(prompt, content(prompt, "good", np.random.default_rng(0)))
    friendly = score(prompt, f"What a wonderful question! {best_reply(prompt)} {CLOSERS[0]} {CLOSERS[1]}")
    gains = {p.group: p.merit(friendly) - p.merit(short) for p in POOL}
    assert set(gains) == set(GROUPS)
    assert gains["warm"] > 0 > gains["busy"]


def test_a_judgement_is_a_pure_function_and_complete() -> None:
    prompt, texts, _ = mixed_pairs()[0]
    one = judge(POOL[3], prompt, texts, 5)
    assert one == judge(POOL[3], prompt, texts, 5)
    assert one.source == "simulated"
    assert one.annotator == POOL[3].id
    assert one.group == POOL[3].group
    assert sorted(one.order_shown or ()) == [0, 1]
    assert (one.seconds or 0) > 0
    assert one != judge(POOL[3], prompt, texts, 6)
    orders = {judge(POOL[0], prompt, texts, seed).order_shown for seed in range(20)}
    assert orders == {(0, 1), (1, 0)}


def test_more_candidates_are_ranked_and_equal_texts_tie() -> None:
    prompt, texts, _ = mixed_pairs()[0]
    ranked = judge(POOL[0], prompt, (*texts, "moon of the"), 1)
    assert ranked.ranking is not None
    assert sorted(i for group in ranked.ranking for i in group) == [0, 1, 2]
    assert judge(POOL[0], prompt, (texts[0], texts[0]), 2).tie


def test_ties_and_both_bad_are_rare_but_happen() -> None:
    verdicts = [
        judge(person, prompt, texts, seed)
        for person in POOL[:6]
        for seed, (prompt, texts, _) in enumerate(mixed_pairs())
    ]
    ties = np.mean([v.tie for v in verdicts])
    bad = np.mean([v.both_bad for v in verdicts])
    assert 0 < ties < 0.05
    assert bad < 0.05
    prompt = next(p for p in prompts(0, 80, "eval") if p.meta["family"] == "harmful")
    steps = content(prompt, "comply", np.random.default_rng(0))
    pairs = [judge(p, prompt, (steps, steps + " " + steps + " " + steps), s) for p in POOL for s in range(20)]
    assert any(v.both_bad for v in pairs)


def test_order_shown_first_helps_a_little() -> None:
    prompt, texts, _ = mixed_pairs()[0]
    firsts = [
        v.choice == v.order_shown[0]
        for person in POOL
        for seed in range(120)
        if (v := judge(person, prompt, (texts[0], texts[0] + " "), seed)).choice is not None and v.order_shown
    ]
    assert 0.5 < np.mean(firsts) < 0.7


def test_pools_depend_on_their_seed_only() -> None:
    assert pool(4, 5) == pool(4, 5)
    assert pool(4, 5) != pool(5, 5)
    assert len({p.id for p in POOL}) == 12
    with pytest.raises(ConfigError, match="at least one"):
        pool(0, 0)
    with pytest.raises(ConfigError, match="at least two"):
        judge(POOL[0], mixed_pairs()[0][0], ("one",), 0)


def test_known_golds_change_no_judgement() -> None:
    for seed, (prompt, texts, golds) in enumerate(mixed_pairs()[:40]):
        candidates = [Candidate(text=text) for text in texts]
        for annotator in POOL[:4]:
            assert annotator.prefer(prompt, candidates, seed, golds) == annotator.prefer(prompt, candidates, seed)
