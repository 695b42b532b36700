"""People as judge: blind tasks on the labelling site, waiting, and what they said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from collect_world import person, say

from accord.collect import claims, submissions
from accord.collect.database import open_store
from accord.collect.records import User
from accord.errors import DataError, Waiting
from accord.judges.conduct import conduct
from accord.judges.people import HumanJudge, Place
from accord.types import Message, Prompt


def asked(number: int) -> list[tuple[Prompt, str, str]]:
    return [
        (Prompt(id=f"q{i}", messages=(Message(role="user", content=f"question {i}"),)), f"good {i}", f"bad {i}")
        for i in range(number)
    ]


def label_all(place: Place, who: str, prefers: str) -> list[str]:
    """Answer every task that somebody is given; which texts were shown."""
    shown: list[str] = []
    with open_store(place.database) as store:
        user: User = person(store, who)
        while (view := claims.claim(store, place.project, user)) is not None:
            texts = [c.text for c in view.candidates]
            shown += texts
            if view.kind == "rate":
                verdict = {"ratings": (6 if texts[0].startswith(prefers) else 2,)}
            elif prefers == "tie":
                verdict = {"tie": True}
            else:
                verdict = {"position": next(i for i, t in enumerate(texts) if t.startswith(prefers))}
            submissions.submit(store, user, say(view, **verdict))
    return shown


def judge(tmp_path: Path, **options: object) -> HumanJudge:
    return HumanJudge(Place(str(tmp_path / "labels.db"), "evaluation", **options))  # pyright: ignore


def test_it_waits_until_people_have_answered_and_then_says_what_they_said(tmp_path: Path) -> None:
    people, items = judge(tmp_path), asked(6)
    for _ in range(2):  # asking again adds nothing
        with pytest.raises(Waiting, match="6 of 6 answers of people are missing") as waiting:
            people.compare(items)
    assert "accord collect serve --db" in str(waiting.value) and "evaluation" in str(waiting.value)
    shown = label_all(people.place, "ann", "good")
    assert len(shown) == 12
    found = people.compare([(p, b, a) if i % 2 else (p, a, b) for i, (p, a, b) in enumerate(items)])
    assert [c.p for c in found] == [float(i % 2 == 0) for i in range(6)]


def test_several_people_are_averaged_and_the_order_each_saw_is_kept(tmp_path: Path) -> None:
    people, items = judge(tmp_path, overlap=3), asked(8)
    with pytest.raises(Waiting):
        people.compare(items)
    for who, prefers in (("ann", "good"), ("bob", "good"), ("eve", "bad")):
        label_all(people.place, who, prefers)
    found = people.compare(items)
    assert [c.p for c in found] == pytest.approx([2 / 3] * 8)
    firsts, seconds = ([c.by_order[side] for c in found] for side in (0, 1))
    assert any(p is not None for p in firsts) and any(p is not None for p in seconds)
    assert conduct(found).failed == 0


def test_ties_and_equal_texts(tmp_path: Path) -> None:
    people = judge(tmp_path)
    (prompt, a, b), *_ = asked(1)
    with pytest.raises(Waiting, match="1 of 1"):
        people.compare([(prompt, a, b), (prompt, "same", "same ")])
    label_all(people.place, "ann", "tie")
    assert [c.p for c in people.compare([(prompt, a, b), (prompt, "same", "same ")])] == [0.5, 0.5]


def test_ratings(tmp_path: Path) -> None:
    people = judge(tmp_path)
    items: Sequence[tuple[Prompt, str]] = [(p, text) for p, a, b in asked(2) for text in (a, b)]
    with pytest.raises(Waiting):
        people.rate(items)
    label_all(people.place, "ann", "good")
    assert [r.value for r in people.rate(items)] == [6.0, 2.0, 6.0, 2.0]


def test_tasks_that_are_over_with_too_few_answers_do_not_wait_for_ever(tmp_path: Path) -> None:
    items = asked(2)
    with pytest.raises(Waiting):
        judge(tmp_path).compare(items)
    label_all(judge(tmp_path).place, "ann", "good")
    with pytest.raises(DataError, match=r"2 of 2 tasks are over(.|\n)*name a new project"):
        judge(tmp_path, overlap=2).compare(items)


def test_nothing_that_people_are_shown_names_a_model(tmp_path: Path) -> None:
    people, items = judge(tmp_path), asked(2)
    with pytest.raises(Waiting):
        people.compare(items)
    with open_store(people.place.database) as store:
        view = claims.claim(store, "evaluation", person(store, "ann"))
    assert view is not None and view.purpose == "evaluation" and view.scale.success
    assert {c.text.split()[0] for c in view.candidates} == {"good", "bad"}


def test_the_hash_follows_the_guidelines(tmp_path: Path) -> None:
    from accord.collect import projects

    people = judge(tmp_path)
    before = people.prompt_hash
    with open_store(people.place.database) as store:
        projects.set_guidelines(store, "evaluation", "Be kind.")
    assert people.prompt_hash != before and len(before) == 12
