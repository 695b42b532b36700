"""Soft labels from a model of the annotators."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accord import lab, rng
from accord.collect.exporting.combine import combine
from accord.collect.exporting.options import Combine
from accord.collect.labels import estimated_labels, votes_of
from accord.collect.rules import LEARNT, Aggregate
from accord.collect.values import aggregate, judged_pairs
from accord.lab.demonstrations import sample_reply
from accord.stats.combine import combine as estimate
from accord.types import Candidate, Message, Preference, Prompt


def judged(item: int, annotator: str, choice: int | None, texts: tuple[str, str] = ("x", "y")) -> Preference:
    prompt = Prompt(id=str(item), messages=(Message(role="user", content=f"question {item}"),))
    replies = tuple(Candidate(text=t) for t in texts)
    return Preference(
        id=f"{item}-{annotator}",
        prompt=prompt,
        candidates=replies,
        choice=choice,
        tie=choice is None,
        annotator=annotator,
    )


def lab_votes(seed: int, items: int = 250, *, hostile: bool) -> tuple[list[Preference], dict[str, float]]:
    """Four of eight people judge each pair of demonstrators' replies; also the true gap of each prompt's pair."""
    people = list(lab.pool(seed, 8))
    if hostile:
        nothing = dict.fromkeys(people[0].weights, 0.0)
        people[6] = replace(people[6], id="spammer", weights=nothing, biases={}, position_bias=1.0, noise=0.0, flip=0.0)
        people[7] = replace(people[7], id="adversary", flip=1.0 - people[7].flip)
    draw = rng.generator(seed, "test")
    found: list[Preference] = []
    gap: dict[str, float] = {}
    for prompt in lab.prompts(seed, items, "train"):
        texts = [sample_reply(prompt, draw)[0] for _ in range(2)]
        golds = [lab.score(prompt, t) for t in texts]
        if texts[0] == texts[1]:
            continue
        gap[prompt.id] = golds[0].utility - golds[1].utility
        replies = [Candidate(text=t) for t in texts]
        for k in draw.permutation(8)[:4]:
            found.append(people[int(k)].prefer(prompt, replies, rng.derive(seed, prompt.id, int(k)), golds))
    return found, gap


def share_right(rows: list[Preference], gap: dict[str, float]) -> float:
    known = [(r, gap[r.prompt.id]) for r in rows if r.soft is not None and abs(gap[r.prompt.id]) > 1e-9]
    return sum(0.5 if r.soft == 0.5 else float((r.soft or 0) > 0.5) == float(g > 0) for r, g in known) / len(known)


def test_dawid_skene_is_right_more_often_than_the_mean_vote_among_spammers_and_adversaries() -> None:
    gains = []
    for seed in range(3):
        votes, gap = lab_votes(seed, hostile=True)
        gains.append(share_right(estimated_labels(votes), gap) - share_right(aggregate(votes, "weighted"), gap))
    assert min(gains) > 0.03, gains


def test_and_it_costs_nothing_in_a_clean_pool() -> None:
    for seed in range(3):
        votes, gap = lab_votes(seed, hostile=False)
        assert share_right(estimated_labels(votes), gap) > share_right(aggregate(votes, "weighted"), gap) - 0.02


def test_labels_are_about_the_first_judgements_first_reply() -> None:
    rows = [judged(i, who, i % 2) for i in range(30) for who in "abc"]
    swapped = [judged(i, "d", 1 - i % 2, ("y", "x")) for i in range(30)]
    made = estimated_labels([*rows, *swapped])
    assert [r.candidates[0].text for r in made] == ["x"] * 30
    assert all((r.soft or 0) > 0.9 for r in made[0::2]) and all((r.soft or 0) < 0.1 for r in made[1::2])
    assert made[0].meta["rule"] == "dawid_skene" and made[0].meta["votes"] == 4


def test_swapping_the_names_of_all_replies_mirrors_the_labels() -> None:
    votes, _ = lab_votes(1, 60, hostile=True)
    mirrored = [
        p.model_copy(
            update={
                "candidates": p.candidates[::-1],
                "choice": None if p.choice is None else 1 - p.choice,
                "order_shown": tuple(1 - i for i in p.order_shown or ()),
            }
        )
        for p in votes
    ]
    for method in ("one_coin", "dawid_skene", "mace", "glad"):
        one, two = (estimated_labels(v, method) for v in (votes, mirrored))  # type: ignore[arg-type]
        assert [r.soft for r in one] == pytest.approx([None if r.soft is None else 1 - r.soft for r in two], abs=1e-6)


def test_ties_are_half_and_the_nameless_are_different_people() -> None:
    made = estimated_labels([judged(0, "a", None), judged(0, "b", None), judged(0, "c", None)], "one_coin")
    assert made[0].soft == pytest.approx(0.5, abs=1e-6)
    pairs, _ = judged_pairs([judged(0, "", 0), judged(0, "", 0), judged(1, "", 1)])
    assert len({who for _, who, _ in votes_of(pairs)}) == 3


def test_a_tie_that_nobody_gave_takes_nothing() -> None:
    votes, _ = lab_votes(2, 40, hostile=False)
    rows = [p for p in votes if not p.tie]
    pairs, _ = judged_pairs(rows)
    known = estimate(votes_of(pairs), "glad", labels=("first", "second")).posterior[:, 0]
    assert [r.soft for r in estimated_labels(rows, "glad")] == pytest.approx(known.tolist())


def test_what_orders_nothing_is_passed_on_and_few_votes_are_said() -> None:
    bad = judged(9, "a", None).model_copy(update={"tie": False, "both_bad": True})
    assert estimated_labels([bad]) == [bad]
    made = estimated_labels([judged(0, "a", 0), judged(0, "b", 1), bad])
    assert made[1] == bad and made[0].meta["rule"] == "one_coin" and "instead of" in made[0].meta["note"]


def test_gold_teaches_who_is_worth_what() -> None:
    rows = [judged(i, who, 0 if who == "good" else 1) for i in range(40) for who in ("good", "bad", "worse")]
    plain = estimated_labels(rows, "one_coin")
    taught = estimated_labels(rows, "one_coin", gold={i: "first" for i in range(25)})
    assert plain[30].soft is not None and plain[30].soft < 0.5  # two against one
    assert taught[30].soft is not None and taught[30].soft > 0.9


@pytest.mark.parametrize("rule", LEARNT)
def test_an_export_takes_gold_for_the_text_that_is_right(rule: Aggregate) -> None:
    rows = [
        judged(i, who, int(who != "good") if i % 2 else int(who == "good"), ("x", "y") if i % 2 else ("y", "x"))
        for i in range(40)
        for who in ("good", "bad", "worse")
    ]
    known = {pair.key: "x" for pair in judged_pairs(rows)[0][:25]}
    found = combine(rows, Combine(aggregate=rule), gold=known).labels[25:]
    assert all((p.soft or 0.0) > 0.6 if p.candidates[0].text == "x" else (p.soft or 0.0) < 0.4 for p in found)


@pytest.mark.parametrize(("hostile", "least"), [(False, -0.02), (True, 0.02)])
def test_annotator_bt_holds_among_good_people_and_gains_among_bad_ones(hostile: bool, least: float) -> None:
    """Two replies a prompt, four votes a pair: the shape on which a joint fit of strengths and skills collapses."""
    for seed in range(2):
        votes, gap = lab_votes(seed, hostile=hostile)
        found = combine(votes, Combine(aggregate="annotator_bt"))
        gain = share_right(list(found.labels), gap) - share_right(aggregate(votes, "weighted"), gap)
        assert gain >= least, (seed, gain)
