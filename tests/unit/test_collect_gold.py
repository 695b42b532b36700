"""Hidden tests, the sequential gate, the quiz, disagreement and adjudication."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collect_world import answer, claim, label, many, pair, person, project, say, task_rows

from accord.collect import adjudication, claims, events, gold, people, projects, scheduling, submissions
from accord.collect.database import Store
from accord.collect.exporting import ExportOptions, export
from accord.collect.failures import Conflict, Invalid, NotAllowed, NotFound
from accord.collect.quiz import NewQuizItem
from accord.collect.records import ProjectSettings, QuizRule, Skip, Verdict
from accord.data import read
from accord.types import Message, Preference


def test_the_gate_blocks_guessers_and_keeps_good_people() -> None:
    settings = ProjectSettings()
    rng = np.random.default_rng(0)

    def blocked(skill: float, answers: int) -> bool:
        right = np.cumsum(rng.random(answers) < skill)
        return any(scheduling.blocks(int(right[i]), i + 1, settings) for i in range(answers))

    assert sum(blocked(0.5, 60) for _ in range(200)) >= 190
    assert sum(blocked(0.2, 60) for _ in range(200)) == 200
    assert sum(blocked(0.85, 60) for _ in range(200)) <= 4


def test_the_beta_gate_follows_its_posterior() -> None:
    settings = ProjectSettings(gate="beta", gate_bad=0.6, gate_miss=0.05, gate_least=1)
    # P(q < .6) is I_.6(1 + right, 1 + wrong): 1 - .4^4 = .974 after three wrong ones, 1 - .4^3 = .936 after two.
    assert scheduling.blocks(0, 3, settings) and not scheduling.blocks(0, 2, settings)
    assert not scheduling.blocks(0, 3, settings.model_copy(update={"gate_least": 4}))
    assert not scheduling.blocks(0, 3, settings.model_copy(update={"gate": "off"}))


def test_somebody_is_new_until_the_hidden_tests_speak_for_them() -> None:
    settings = ProjectSettings()
    assert all(scheduling.is_new(n, n, settings) for n in range(10)), "so many are asked anyway"
    assert not scheduling.is_new(10, 10, settings)
    assert scheduling.is_new(8, 12, settings) and scheduling.is_new(6, 12, settings)
    assert not scheduling.is_new(0, 12, settings), "this speaks against them, which is an answer too"
    assert scheduling.is_new(38, 59, settings) and not scheduling.is_new(38, 60, settings)
    assert not scheduling.is_new(0, 0, settings.model_copy(update={"gold_new": 0}))
    odd = settings.model_copy(update={"gate": "beta", "gate_bad": 0.8})
    assert scheduling.is_new(9, 9, odd) and not scheduling.is_new(6, 12, odd), "nothing to tell apart: by number alone"
    assert [scheduling.lane(0.3, *tests, settings) for tests in ((8, 12), (12, 12))] == ["gold", "queue"]


def test_exported_answers_to_hidden_tests_say_whether_they_were_right(store: Store, tmp_path: Path) -> None:
    golds = [pair(100 + i, gold={"position": 0}) for i in range(6)]
    project(store, [pair(i) for i in range(20)] + golds, gold_rate=0.5, gold_rate_new=0.5)
    ann = person(store, "ann")
    for text in "ab" * 8:
        label(store, ann, text)
    options = ExportOptions(gold=True)
    export(store, "default", tmp_path / "x.jsonl", kind="pairs", options=options)
    records = read(tmp_path / "x.jsonl", Preference).records
    found = {
        (bool(r.meta.get("gold")), r.candidates[r.choice or 0].text.startswith("a"), r.meta.get("gold_right"))
        for r in records
    }
    # Right is what prefers the first candidate, wherever it was shown; ordinary pairs have no right answer.
    assert found == {(True, True, True), (True, False, False), (False, True, None), (False, False, None)}


def test_somebody_who_fails_the_hidden_tests_gets_no_more_tasks(store: Store) -> None:
    golds = [pair(100 + i, gold={"position": 0}) for i in range(30)]
    project(store, [pair(i) for i in range(80)] + golds, gold_rate=0.5, gold_rate_new=0.9, gate="sprt")
    ann, bob = person(store, "ann"), person(store, "bob")
    while people.get_user(store, ann.id).blocked is None:
        label(store, ann, "b")
    with pytest.raises(NotAllowed, match="no more tasks"):
        claims.claim(store, "default", ann)
    right, total = gold.gold_stats(store, "default", ann)
    assert right == 0 and 5 <= total <= 8
    assert people.get_user(store, ann.id).blocked == f"0 of {total} hidden tests right"
    assert [e.verb for e in events.read_events(store, verb="block")] == ["block"]
    people.update_user(store, ann.id, actor="system", blocked=None)
    before = gold.gold_stats(store, "default", ann)[1]
    while people.get_user(store, ann.id).blocked is None:
        label(store, ann, "b")
    assert gold.gold_stats(store, "default", ann)[1] == before + total, "whoever is let in again starts anew"
    for _ in range(30):
        label(store, bob, "a")
    assert people.get_user(store, bob.id).blocked is None


@pytest.mark.parametrize(
    ("kind", "count", "rule", "right", "wrong"),
    [
        ("pair", 2, {"position": 1}, {"position": 1, "strength": 1}, {"position": 0}),
        ("pair", 2, {"tie": True}, {"tie": True}, {"both_bad": True}),
        ("pair", 2, {"accept": [{"tie": True}, {"position": 0}]}, {"position": 0}, {"position": 1}),
        ("rank", 3, {"ranking": [[2], [0], [1]]}, {"ranking": ((2,), (0,), (1,))}, {"ranking": ((2,), (1,), (0,))}),
        ("rank", 3, {"ranking": [[2], [0, 1]]}, {"ranking": ((2,), (1,), (0,))}, {"ranking": ((1,), (2,), (0,))}),
        ("rank", 3, {"ranking": [[2]]}, {"ranking": ((2,), (0,))}, {"ranking": ((2, 0),)}),
        ("rank", 4, {"ranking": [[1]]}, {"ranking": ((1,), (3,))}, {"ranking": ((3,), (1,))}),
        ("rank", 4, {"ranking": [[1], [0]]}, {"ranking": ((1,), (0,), (2,))}, {"ranking": ((1,), (0, 3))}),
        (
            "rank",
            3,
            {"accept": [{"ranking": [[2], [0], [1]]}], "concordance": 0.6},
            {"ranking": ((2,), (1,), (0,))},
            {"ranking": ((1,), (0,), (2,))},
        ),
        ("rate", 2, {"ratings": [6, None]}, {"ratings": (6, 1)}, {"ratings": (5, 1)}),
        (
            "rate",
            2,
            {"accept": [{"ratings": [6, 2]}], "tolerance": 1},
            {"ratings": (7, 1)},
            {"ratings": (6, 4)},
        ),
        ("rate", 1, {"success": [True]}, {"success": (True,)}, {"success": (False,)}),
        ("rate", 1, {"success": [True]}, {"success": (True,)}, {"ratings": (7,)}),
    ],
)
def test_gold_answers_of_every_kind(kind: Any, count: int, rule: dict, right: dict, wrong: dict) -> None:
    from accord.collect.verdicts import is_right, parse_gold

    parsed = parse_gold(rule, kind, count)
    assert is_right(Verdict(kind=kind, **right), parsed, count)
    assert not is_right(Verdict(kind=kind, **wrong), parsed, count)


@pytest.mark.parametrize("rule", [{"position": 2}, {"ranking": [[0]]}, {"nonsense": 1}, {}, {"accept": []}])
def test_gold_that_does_not_fit_is_refused(store: Store, rule: dict) -> None:
    with pytest.raises(Invalid):
        project(store, [pair(1, gold=rule)])


def test_a_hidden_test_that_every_ranking_passes_is_refused() -> None:
    from accord.collect.verdicts import parse_gold

    with pytest.raises(Invalid, match="orders nothing"):
        parse_gold({"ranking": [[0, 1, 2]]}, "rank", 3)
    assert parse_gold({"ranking": [[0, 1]]}, "rank", 3).accept[0].ranking == ((0, 1),)


def test_a_task_becomes_gold_and_an_ordinary_one_again(store: Store) -> None:
    project(store, [pair(1, overlap=2)], gold_rate=0.9, gold_rate_new=0.9)
    ann, bob, cem = (person(store, name) for name in ("ann", "bob", "cem"))
    label(store, ann)
    task = task_rows(store)[0].id
    gold.set_gold(store, "default", task, {"position": 0})
    row = task_rows(store)[0]
    assert (row.lane, row.state, row.n_done) == ("gold", "open", 0)
    seen = [(who, view) for who in (bob, cem) if (view := claims.claim(store, "default", who))]
    for who, view in seen:
        submissions.submit(store, who, answer(view))
    items = gold.items(store, "default")
    assert (items[0].task, items[0].candidates, items[0].prompt) == (task, ("a 1", "b 1"), "question 1")
    assert items[0].answered == items[0].right == len(seen)
    gold.set_gold(store, "default", task, None)
    row = task_rows(store)[0]
    assert (row.lane, row.gold, row.n_done) == ("queue", None, 1 + len(seen))
    with pytest.raises(NotFound):
        gold.set_gold(store, "default", "nothing", None)


# Disagreement


def test_disagreement_asks_for_more_labels_and_then_for_an_adjudicator(store: Store) -> None:
    project(store, [pair(1, overlap=3)], escalate_overlap=5)
    people_ = [person(store, f"p{i}") for i in range(5)]
    for who, text in zip(people_[:3], "aab", strict=True):
        label(store, who, text)
    row = task_rows(store)[0]
    assert (row.state, row.overlap, row.overlap_base, row.n_done) == ("open", 5, 3, 3)
    label(store, people_[3], "a")
    label(store, people_[4], "b")
    assert task_rows(store)[0].state == "adjudicate"


def test_agreement_needs_nothing_more(store: Store) -> None:
    project(store, [pair(1, overlap=3), pair(2, overlap=3)], escalate_overlap=5)
    for i, texts in enumerate(["aa", "aa", "aa"]):
        who = person(store, f"p{i}")
        for text in texts:
            label(store, who, text)
    assert [(row.state, row.overlap) for row in task_rows(store)] == [("done", 3)] * 2


def test_more_labels_can_settle_it(store: Store) -> None:
    project(store, [pair(1, overlap=3)], escalate_overlap=5)
    for i, text in enumerate("abaaa"):
        label(store, person(store, f"p{i}"), text)
    assert (task_rows(store)[0].state, task_rows(store)[0].n_done) == ("done", 5)


def test_an_edit_can_create_and_settle_a_disagreement(store: Store) -> None:
    project(store, [pair(1, overlap=2)], escalate_overlap=2)
    ann, bob = person(store, "ann"), person(store, "bob")
    label(store, ann, "a")
    label(store, bob, "b")
    assert task_rows(store)[0].state == "adjudicate"
    submissions.submit(store, bob, answer(submissions.undo(store, bob), "a"))
    assert task_rows(store)[0].state == "done"
    submissions.submit(store, bob, answer(submissions.undo(store, bob), "b"))
    assert task_rows(store)[0].state == "adjudicate"


def test_rankings_and_ratings_disagree_by_degrees() -> None:
    from accord.collect.verdicts import likeness

    def rank(*groups: tuple[int, ...]) -> Verdict:
        return Verdict(kind="rank", ranking=groups)

    assert likeness([rank((0,), (1,), (2,)), rank((0,), (1,), (2,))]) == 1
    assert likeness([rank((0,), (1,), (2,)), rank((2,), (1,), (0,))]) == 0
    assert likeness([rank((0,), (1,), (2,)), rank((0,), (2,), (1,))]) == pytest.approx(2 / 3)
    assert likeness([rank((0,)), rank((0,), (1,), (2,))]) == pytest.approx(2 / 3), "the rest of a top-1 is tied"
    rated = [Verdict(kind="rate", ratings=(7, None)), Verdict(kind="rate", ratings=(4, 2))]
    assert likeness(rated) == pytest.approx(0.5)
    assert likeness(rated[:1]) == 1


def test_many_skips_call_for_an_adjudicator(store: Store) -> None:
    project(store, [pair(1)], skips_to_adjudicate=2)
    for i in range(2):
        who = person(store, f"p{i}")
        view = claim(store, who)
        said = Skip(assignment=view.assignment, key="12345678", reason="unclear", comment=f"why {i}")
        submissions.skip(store, who, said)
    judge = people.create_user(store, "judge", "adjudicator")
    found = adjudication.queue(store, "default", judge)
    assert found.remaining == 1 and found.items[0].reason == "2 people skipped it"
    assert [(one.reason, one.comment) for one in found.items[0].skips] == [("unclear", "why 0"), ("unclear", "why 1")]
    assert not {"p0", "p1"} & {one.annotator for one in found.items[0].skips}


def test_nobody_decides_about_a_reply_of_their_own(store: Store) -> None:
    judge, other = (people.create_user(store, name, "adjudicator") for name in ("judge", "other"))
    project(store, [pair(1, overlap=2, authors=("judge",))], escalate_overlap=2)
    for who, text in (("ann", "a"), ("bob", "b")):
        label(store, person(store, who), text)
    assert adjudication.queue(store, "default", judge).remaining == 0
    (item,) = adjudication.queue(store, "default", other).items
    with pytest.raises(NotAllowed, match="wrote"):
        adjudication.adjudicate(store, judge, item.task, Verdict(kind="pair", position=0))


def test_the_adjudicator_sees_labels_under_pseudonyms_and_has_the_last_word(store: Store) -> None:
    project(store, [many("rank", i, 4, overlap=2) for i in range(4)], escalate_overlap=2)
    ann, bob, judge = person(store, "ann"), person(store, "bob"), people.create_user(store, "judge", "adjudicator")
    for who, best in ((ann, "0"), (bob, "3")):
        for _ in range(4):
            view = claim(store, who)
            order = sorted(range(4), key=lambda p: view.candidates[p].text, reverse=best == "3")
            submissions.submit(store, who, say(view, ranking=tuple((p,) for p in order)))
    found = adjudication.queue(store, "default", judge)
    assert found.remaining == 4 and adjudication.queue(store, "default", judge) == found
    assert not any(word in found.model_dump_json() for word in ("model-", '"ann"', '"bob"'))
    assert len({tuple(c.text[0] for c in item.candidates) for item in found.items}) > 1, "orders differ by task"
    for item in found.items:
        texts = [c.text for c in item.candidates]
        first = {label.annotator: texts[label.verdict.ranking[0][0]][0] for label in item.labels}
        assert first == {ann.pseudonym: "0", bob.pseudonym: "3"}
    assert adjudication.queue(store, "default", ann).remaining == 0, "not on one's own labels"
    item = found.items[0]
    place = [c.text[0] for c in item.candidates].index("2")
    verdict = Verdict(kind="rank", ranking=((place,),))
    decision = adjudication.adjudicate(store, judge, item.task, verdict, reason="two is best")
    assert adjudication.adjudicate(store, judge, item.task, verdict, reason="two is best") == decision
    with pytest.raises(Conflict):
        adjudication.adjudicate(store, judge, item.task, verdict, reason="again")
    with pytest.raises(NotFound):
        adjudication.adjudicate(store, judge, "nothing", verdict)
    with pytest.raises(NotAllowed):
        adjudication.adjudicate(store, ann, found.items[1].task, verdict)
    from accord.collect.schema import AdjudicationRow

    with store.read() as session:
        row = session.get(AdjudicationRow, decision)
        assert row is not None and row.verdict["ranking"] == [[2]]
    assert {r.id: r.state for r in task_rows(store)}[item.task] == "done"
    submissions.submit(store, ann, say(submissions.undo(store, ann), ranking=((0,),)))
    assert sum(r.state == "done" for r in task_rows(store)) >= 1
    assert events.verify_events(store).broken == ()


# The quiz


def question(number: int, best: int) -> NewQuizItem:
    return NewQuizItem(
        messages=(Message(role="user", content=f"quiz {number}"),),
        candidates=(f"zero {number}", f"one {number}"),
        gold={"position": best},
        explanation=f"because {number}",
    )


def answers(view: gold.Quiz, right: int) -> dict[str, Verdict]:
    """The first `right` questions answered right (the reply "zero" is), the rest wrong."""
    found = {}
    for i, item in enumerate(view.items):
        wanted = "zero" if i < right else "one"
        position = next(c.position for c in item.candidates if c.text.startswith(wanted))
        found[item.id] = Verdict(kind="pair", position=position)
    return found


def test_the_quiz_comes_before_the_first_task(store: Store) -> None:
    project(store, [pair(1)], quiz_pass=QuizRule(items=5, share=0.8, attempts=2))
    gold.add_quiz_items(store, "default", [question(i, 0) for i in range(8)])
    ann = person(store, "ann")
    assert not gold.is_qualified(store, "default", ann)
    with pytest.raises(NotAllowed, match="quiz"):
        claims.claim(store, "default", ann)
    view = gold.quiz(store, "default", ann)
    assert view == gold.quiz(store, "default", ann), "loading it again changes nothing"
    assert len(view.items) == 5 and view.required == gold.quiz(store, "default", ann).required
    assert view.required is not None and (view.required.right, view.required.of) == (4, 5)
    assert "because" not in view.model_dump_json() and "gold" not in view.model_dump_json()
    failed = gold.answer_quiz(store, "default", ann, answers(view, 3))
    assert (failed.passed, failed.right, failed.total, failed.attempts_left) == (False, 3, 5, 1)
    assert sorted(e.right for e in failed.explain) == [False, False, True, True, True]
    second = gold.quiz(store, "default", ann)
    assert second.result is not None and not second.result.passed and second.items != view.items
    assert gold.answer_quiz(store, "default", ann, answers(second, 4)).passed
    assert gold.is_qualified(store, "default", ann)
    with pytest.raises(Conflict, match="passed"):
        gold.answer_quiz(store, "default", ann, answers(second, 5))
    claim(store, ann)


def test_attempts_run_out_and_an_administrator_can_let_somebody_in(store: Store) -> None:
    project(store, [pair(1)], quiz_pass=QuizRule(items=2, attempts=1))
    gold.add_quiz_items(store, "default", [question(i, 0) for i in range(2)])
    ann = person(store, "ann")
    view = gold.quiz(store, "default", ann)
    with pytest.raises(Invalid, match="not asked"):
        gold.answer_quiz(store, "default", ann, {"other": Verdict(kind="pair", tie=True)})
    assert not gold.answer_quiz(store, "default", ann, {}).passed
    assert gold.quiz(store, "default", ann).items == ()
    with pytest.raises(Conflict, match="attempts"):
        gold.answer_quiz(store, "default", ann, answers(view, 2))
    people.update_user(store, ann.id, actor="system", qualified=True)
    claim(store, ann)


def test_projects_without_a_quiz_let_everybody_in(store: Store) -> None:
    project(store)
    ann = person(store, "ann")
    assert gold.is_qualified(store, "default", ann)
    assert gold.quiz(store, "default", ann).items == ()
    with pytest.raises(NotFound):
        gold.answer_quiz(store, "default", ann, {})


def test_questions_are_replaced_and_checked(store: Store) -> None:
    project(store, quiz_pass=QuizRule(items=5, rule="beta", share=0.5, confidence=0.9))
    with pytest.raises(Invalid, match="does not fit"):
        gold.add_quiz_items(store, "default", [question(1, 0), question(2, 7)])
    gold.add_quiz_items(store, "default", [question(i, 0) for i in range(5)])
    gold.add_quiz_items(store, "default", [question(9, 0)] * 4, replace=True)
    view = gold.quiz(store, "default", person(store, "ann"))
    assert [item.messages[0].content for item in view.items] == ["quiz 9"] * 4
    # P(q < .5 | 4 of 4) = .5^5 = .031 < .1, after 3 of 4 it is .1875.
    assert view.required is not None and view.required.right == 4
    assert projects.settings(store, "default").quiz_pass is not None
