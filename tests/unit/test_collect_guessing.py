"""Who judges as if guessing: hidden tests and what others say, and how often the test is wrong in whole pools."""

from __future__ import annotations

import numpy as np
import pytest
from quality_pool import Fault, pool_of_sixty, pool_preferences

from accord.collect.quality.audit import Finding
from accord.collect.quality.conduct import conduct
from accord.collect.quality.guessing import HORIZON, guessing, others_say
from accord.collect.quality.judged import Judged, judged
from accord.types import Candidate, Message, Preference, Prompt

GOOD, BETTER, SPAMMER, ADVERSARY = (0.85, 0.75), (0.92, 0.82), (0.5, 0.5), (0.1, 0.1)


def said(number: int, who: str, choice: int | None, **meta: object) -> Preference:
    """One judgement; without a choice a tie."""
    return Preference(
        id=f"{number}-{who}-{len(meta)}",
        prompt=Prompt(id=f"p{number}", messages=(Message(role="user", content=f"question {number}"),)),
        candidates=(Candidate(text="one"), Candidate(text="two")),
        annotator=who,
        choice=choice,
        tie=choice is None,
        meta=meta,
    )


def hidden_tests(who: str, right: int, total: int) -> list[Preference]:
    """Hidden tests of one person."""
    return [said(1000 + k, who, 0, gold=True, gold_right=k < right) for k in range(total)]


def numbers(data: Judged) -> dict[str, int]:
    """Prompt -> number of its pair."""
    return {j.preference.prompt.id: j.pair for j in data.judgements}


def votes(count: int, people: int, skill: float, seed: int = 0) -> list[Preference]:
    """Pairs whose better reply is the first, judged by everybody."""
    random = np.random.default_rng(seed)
    return [said(k, f"ann-{w}", int(random.random() > skill)) for k in range(count) for w in range(people)]


def test_what_others_say_is_as_certain_as_it_is_right():
    # Both others are right with .75: when they agree they are right 9 times of 10, and not 81 times of 82.
    data = judged([*votes(400, 3, 0.75), *(said(900 + k, f"ann-{k % 3}", None) for k in range(9))])
    right = others_say(data)
    said_by = {(j.annotator, j.pair): j.verdict == "first" for j in data.judgements}
    sure = [(max(p, 1 - p), said_by[who] == (p > 0.5)) for who, p in right.items() if abs(p - 0.5) > 0.2]
    assert 0.85 < np.mean([p for p, _ in sure]) < 0.93
    assert np.mean([hit for _, hit in sure]) == pytest.approx(0.9, abs=0.03)


def test_others_who_contradict_each_other_and_ties_say_nothing():
    known = [p for who in "abc" for p in hidden_tests(who, 40, 50)]
    data = judged([*known, said(1, "a", 0), said(1, "b", 0), said(1, "c", 1), said(2, "a", 0), said(2, "b", None)])
    right = others_say(data)
    pair = numbers(data)
    assert right["a", pair["p1"]] == pytest.approx(0.5, abs=0.03)
    assert right["c", pair["p1"]] < 0.1
    assert ("a", pair["p2"]) not in right and ("b", pair["p2"]) not in right


def test_an_adversary_counts_the_other_way_round_and_a_guesser_not_at_all():
    known = [*hidden_tests("a", 40, 50), *hidden_tests("adversary", 5, 50), *hidden_tests("guesser", 25, 50)]
    pairs = [said(1, "a", 0), said(1, "adversary", 1), said(2, "a", 0), said(2, "guesser", 1)]
    data = judged([*known, *pairs])
    right, pair = others_say(data), numbers(data)
    assert right["a", pair["p1"]] > 0.85
    assert right["a", pair["p2"]] == pytest.approx(0.5, abs=0.05)
    assert right["guesser", pair["p2"]] < 0.25


def test_guessing_is_seen_in_what_others_say():
    faults = [*[Fault(skill=2.0)] * 6, Fault(skill=0.0), Fault(skill=-2.0)]
    data = judged(pool_preferences(5, faults, prompts=400, spread=1.5))
    people, _ = conduct(data)
    assert people["ann-6"].guessing == people["ann-7"].guessing == "fail"
    assert sum(people[f"ann-{k}"].guessing == "fail" for k in range(6)) == 0
    right = others_say(data)
    assert np.mean([p for (who, _), p in right.items() if who == "ann-6"]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([p for (who, _), p in right.items() if who == "ann-7"]) < 0.35


def test_guessing_is_seen_in_hidden_tests_where_nobody_else_judged():
    pool = list(pool_preferences(5, [Fault()] * 2, prompts=60, labels=1))
    tested = [p.model_copy(update={"meta": {"gold": True, "gold_right": k % 2 == 0}}) for k, p in enumerate(pool)]
    assert all(person.guessing == "fail" for person in conduct(judged(tested))[0].values() if person.judgements > 20)
    right = [p.model_copy(update={"meta": {"gold": True, "gold_right": k % 9 > 0}}) for k, p in enumerate(pool)]
    assert all(person.guessing == "pass" for person in conduct(judged(right))[0].values())


def test_it_is_decided_after_sixty_judgements_whatever_they_are():
    # 9 of 24 hidden tests wrong, and 36 judgements nobody can check: a repeat, a tie, pairs nobody else has judged.
    given = [said(k, "a", 0, gold=True, gold_right=k % 8 not in (0, 3, 6)) for k in range(24)]
    given += [said(200, "a", 0), said(200, "a", 0, repeat_of="x"), said(201, "a", None)]
    given += [said(300 + k, "a", k % 2) for k in range(HORIZON - len(given))]
    data = judged(given)
    assert guessing(data.judgements[:-1], {}) == "continue"
    assert guessing(data.judgements, {}) == "fail"
    assert guessing(judged(given[24:] * 2).judgements, {}) == "continue", "sixty judgements that nobody can check"


def test_a_repeat_is_no_second_opinion():
    data = judged([said(1, "a", 0), *(said(1, "a", 0, repeat_of="x") for _ in range(30))])
    assert guessing(data.judgements, {("a", 0): 0.01}) == "continue"


def test_tired_people_are_seen_in_hidden_tests_too():
    random = np.random.default_rng(0)

    def findings(first: float, last: float) -> list[Finding]:
        right = random.random(400) < np.linspace(first, last, 400)
        given = [said(k, "a", 0, gold=True, gold_right=bool(r)) for k, r in enumerate(right)]
        return [f for f in conduct(judged(given))[1] if f.what.startswith("agreement with hidden tests")]

    (tired,), (awake,) = findings(1.0, 0.5), findings(0.75, 0.75)
    assert tired.value is not None and tired.value < -0.3 and (tired.p_value or 1) < 0.001
    assert (awake.p_value or 0) > 0.01


def test_in_whole_pools_guessers_are_found_and_good_people_are_not_blamed():
    skills = [GOOD, GOOD, GOOD, BETTER, BETTER, BETTER, SPAMMER, SPAMMER, ADVERSARY]
    found = dict.fromkeys(skills, 0)
    pools = 15
    for seed in range(pools):
        people, _ = conduct(judged(pool_of_sixty(seed, skills)))
        for who, skill in enumerate(skills):
            found[skill] += people[str(who)].guessing == "fail"
    assert found[ADVERSARY] == pools
    assert found[SPAMMER] >= 0.9 * 2 * pools  # benchmarks/collect_quality.py does 400 pools
    assert found[GOOD] <= 0.07 * 3 * pools
    assert found[BETTER] <= 1
