"""Projects, guidelines, adding tasks, and reading how far things are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from collect_world import PLAIN, claim, label, many, pair, person, project, prompt, say, task_rows
from pydantic import ValidationError
from sqlalchemy import func, select

from accord.collect import adjudication, claims, events, gold, people, projects, reading, submissions, tasks
from accord.collect.database import Store, open_store
from accord.collect.failures import Invalid, NotFound
from accord.collect.records import NewTask, ProjectSettings, Skip, Verdict
from accord.collect.schema import ModelVersionRow, PromptRow, ResponseRow, TaskAuthorRow
from accord.types import Candidate, Message, Prompt


def count(store: Store, table) -> int:
    with store.read() as session:
        return int(session.scalar(select(func.count()).select_from(table)) or 0)


def test_the_same_task_again_changes_nothing(store: Store) -> None:
    project(store)
    assert tasks.add_tasks(store, "default", [pair(1), pair(2), pair(1)]).model_dump() == {"added": 2, "known": 1}
    assert tasks.add_tasks(store, "default", [pair(1, overlap=7), pair(3)]).model_dump() == {"added": 1, "known": 1}
    assert [row.overlap for row in task_rows(store)] == [1, 1, 1]
    assert (count(store, PromptRow), count(store, ResponseRow), count(store, ModelVersionRow)) == (3, 6, 2)


def test_own_keys_decide_what_is_the_same(store: Store) -> None:
    project(store, [pair(1, key="x"), pair(1, key="y")])
    assert len(task_rows(store)) == 2
    assert tasks.add_tasks(store, "default", [pair(2, key="x")]).known == 1
    projects.ensure_project(store, "other", ProjectSettings(**PLAIN))
    assert tasks.add_tasks(store, "other", [pair(1, key="x")]).added == 1, "keys are of one project"


def test_the_key_does_not_depend_on_the_database(store: Store, tmp_path: Path) -> None:
    project(store, [pair(1)])
    with open_store(tmp_path / "other.db") as other:
        project(other, [pair(1)], seed=2)
        assert task_rows(store)[0].key == task_rows(other)[0].key


@pytest.mark.parametrize(
    "bad",
    [
        lambda: pair(1, candidates=(Candidate(text="one"),)),
        lambda: many("rank", 1, 1),
        lambda: many("edit", 1, 2),
        lambda: pair(1, candidates=(Candidate(text="a\x00"), Candidate(text="b"))),
        lambda: pair(1, candidates=(Candidate(text="a", meta={"x": float("nan")}), Candidate(text="b"))),
        lambda: pair(1, prompt=Prompt(id="p", messages=(Message(role="user", content="\x00"),))),
        lambda: pair(1, prompt=Prompt(id="p", messages=(Message(role="user", content="q"),), meta={"k": "\x00"})),
        lambda: pair(1, meta={"x": object()}),
        lambda: pair(1, authors=("nobody",)),
        lambda: pair(1, candidates=(Candidate(text="a", model="m" * 301), Candidate(text="b"))),
    ],
)
def test_one_unusable_task_adds_none_and_is_named(store: Store, bad) -> None:
    project(store)
    with pytest.raises(Invalid) as error:
        tasks.add_tasks(store, "default", [pair(0), bad()])
    assert task_rows(store) == [] and count(store, PromptRow) == 0
    if "author" not in str(error.value) and "model's name" not in str(error.value):
        assert error.value.where == "task 2"


def test_the_random_slice_gets_more_labels_and_is_drawn_once(store: Store) -> None:
    new = [pair(i) for i in range(400)]
    project(store, new, random_slice=0.25, slice_overlap=3, overlap=1)
    rows = task_rows(store)
    sizes = Counter(row.slice for row in rows)
    assert 65 <= sizes["random"] <= 135, "binomial(400, .25) is outside of that once in 10,000 times"
    assert {row.overlap for row in rows if row.slice == "random"} == {3}
    assert {row.overlap for row in rows if row.slice == "active"} == {1}
    ids = {row.key: row.slice for row in rows}
    project(store, new)
    assert {row.key: row.slice for row in task_rows(store)} == ids


def test_what_a_policy_chose_keeps_its_propensity_and_is_never_called_random(store: Store) -> None:
    chosen = [pair(i, policy="uncertainty", propensity=0.25) for i in range(20)]
    project(store, [*chosen, pair(99, policy="uncertainty", slice="random", propensity=0.5)], random_slice=1)
    rows = task_rows(store)
    assert {row.slice for row in rows[:20]} == {"active"} and {row.propensity for row in rows[:20]} == {0.25}
    assert (rows[20].slice, rows[20].overlap) == ("random", 3)


def test_replies_have_one_origin(store: Store) -> None:
    ann = person(store, "ann")
    human = (Candidate(text="a", model=f"human:{ann.pseudonym}"), Candidate(text="b", model=""))
    project(store, [pair(1, candidates=human), pair(2, candidates=(Candidate(text="c", model="human:gone"), human[1]))])
    with store.read() as session:
        rows = {row.text: row for row in session.scalars(select(ResponseRow))}
        assert rows["a"].author_user_id == ann.id and rows["a"].model_version_id is None
        names = {row.id: row.name for row in session.scalars(select(ModelVersionRow))}
        assert names[rows["b"].model_version_id or ""] == "", "an import that did not say"
        assert names[rows["c"].model_version_id or ""] == "human:gone"
    assert count(store, TaskAuthorRow) == 1


def test_projects_keep_their_settings_and_tell_changes(store: Store) -> None:
    first = projects.ensure_project(store, "x", ProjectSettings(overlap=2))
    assert projects.ensure_project(store, "x", ProjectSettings(overlap=9)) == first
    assert projects.settings(store, "x").overlap == 2 and projects.settings(store, first.id).overlap == 2
    new = ProjectSettings(overlap=4, tie=False)
    projects.set_settings(store, "x", new, actor="me")
    projects.set_settings(store, "x", new, actor="me")
    assert projects.settings(store, "x") == new
    (change,) = events.read_events(store, verb="set_settings")
    assert change.before == {"overlap": 2, "tie": True} and change.after == {"overlap": 4, "tie": False}
    assert [p.name for p in projects.list_projects(store)] == ["x"]
    with pytest.raises(NotFound):
        projects.settings(store, "y")
    with pytest.raises(Invalid):
        projects.ensure_project(store, "\x00")


def test_settings_that_contradict_each_other_are_refused() -> None:
    for wrong in ({"gold_rate": 0.9, "repeat_rate": 0.2}, {"gate_bad": 0.9}, {"no_such_rule": 1}, {"overlap": 0}):
        with pytest.raises(ValidationError):
            ProjectSettings.model_validate(wrong)


@pytest.mark.parametrize("text", ["\x00", "\ud800", "x" * 5000, "' OR 1=1 --", "\u202e"])
def test_ids_that_cannot_be_are_refused_and_not_an_accident(store: Store, text: str) -> None:
    project(store, [pair(1)])
    ann = person(store, "ann")
    calls = [
        lambda: claims.claim(store, text, ann),
        lambda: claims.claim(store, "default", text),
        lambda: claims.heartbeat(store, text, ann),
        lambda: projects.settings(store, text),
        lambda: people.get_user(store, text),
        lambda: gold.set_gold(store, "default", text, None),
        lambda: adjudication.adjudicate(store, ann, text, Verdict(kind="pair", tie=True)),
        lambda: people.revoke_key(store, text, actor="system"),
        lambda: people.accept_invitation(store, text, "bob", "a long enough password"),
    ]
    for call in calls:
        with pytest.raises((NotFound, Invalid)):
            call()
    assert people.key_user(store, text) is None
    assert people.session_user(store, text) is None and people.read_invitation(store, text) is None
    reading.tasks(store, "default", after="x")


def test_guidelines_are_versions_and_labels_remember_theirs(store: Store) -> None:
    project(store, [pair(1), pair(2)])
    assert projects.guidelines(store, "default") is None
    first = projects.set_guidelines(store, "default", "# One")
    assert projects.set_guidelines(store, "default", "# One") == first, "the same text is the same version"
    ann = person(store, "ann")
    early = claim(store, ann)
    second = projects.set_guidelines(store, "default", "# Two")
    assert (first.version, second.version) == (1, 2)
    submissions.submit(store, ann, say(early, tie=True))
    late = claim(store, ann)
    assert (early.guideline and early.guideline.version, late.guideline and late.guideline.version) == (1, 2)
    assert [g.version for g in projects.guideline_versions(store, "default")] == [2, 1]
    with pytest.raises(Invalid):
        projects.set_guidelines(store, "default", "a\x00b")


def test_progress_of_a_project(store: Store) -> None:
    project(store, [pair(i, overlap=2) for i in range(3)] + [many("rate", 9, 1)] + [pair(50, gold={"position": 0})])
    ann, bob = person(store, "ann"), person(store, "bob")
    label(store, ann)
    label(store, bob)
    view = claim(store, ann)
    submissions.skip(store, ann, Skip(assignment=view.assignment, key="12345678", reason="unclear"))
    claim(store, bob)
    found = reading.progress(store, "default")
    assert found.tasks.model_dump() == {"total": 4, "open": 3, "done": 1, "adjudicate": 0, "closed": 0}
    assert found.annotations.model_dump() == {"total": 2, "today": 2}
    assert {k.kind: (k.total, k.done) for k in found.by_kind} == {"pair": (3, 1), "rate": (1, 0)}
    assert [d.count for d in found.by_day] == [2] and found.skips == {"unclear": 1}
    assert (found.open_leases, found.active_annotators, found.remaining) == (1, 2, 5)
    assert found.eta_seconds == 5 / 2 * 3600


def test_people_and_tasks_as_an_administrator_sees_them(store: Store) -> None:
    project(store, [pair(i) for i in range(5)])
    ann = person(store, "ann", groups=("g",))
    person(store, "bob")
    for _ in range(3):
        label(store, ann)
    first, second = reading.annotators(store, "default")
    assert (first.handle, first.done, first.today, first.median_seconds, first.groups) == ("ann", 3, 3, 1.0, ("g",))
    assert first.last_seen is not None and (second.done, second.last_seen) == (0, None)
    page = reading.tasks(store, "default", limit=2)
    rest = reading.tasks(store, "default", limit=9, after=page.next)
    assert [t.prompt for t in (*page.tasks, *rest.tasks)] == [f"question {i}" for i in range(5)]
    assert rest.next is None and len(reading.tasks(store, "default", state="done").tasks) == 3
    assert len(reading.preferences(store, "default")) == 3
    with pytest.raises(NotFound):
        reading.progress(store, "none")


def test_planned_labels_leave_out_those_asked_for_because_people_disagreed(store: Store) -> None:
    project(store, [pair(1, overlap=3, slice="random"), pair(2, priority=-1)], escalate_overlap=5)
    for i, text in enumerate("abaab"):
        label(store, person(store, f"p{i}"), text)
    label(store, person(store, "last"), "a")
    both = [reading.preferences(store, "default", slice="random", planned=planned) for planned in (False, True)]
    assert [[p.choice for p in found] for found in both] == [[0, 1, 0, 0, 1], [0, 1, 0]]
    assert len(reading.preferences(store, "default", planned=True)) == 4


def test_verdicts_refuse_what_means_nothing() -> None:
    for wrong in (
        {"kind": "pair"},
        {"kind": "pair", "position": 0, "tie": True},
        {"kind": "pair", "tie": True, "strength": 1},
        {"kind": "rank"},
        {"kind": "rank", "ranking": ((0,), ())},
        {"kind": "rank", "ranking": ((0, 1), (1,))},
        {"kind": "rate"},
        {"kind": "rate", "ratings": (None, None)},
        {"kind": "rate", "ratings": (8,)},
        {"kind": "edit"},
        {"kind": "edit", "edit": " ", "edit_position": 0},
        {"kind": "edit", "edit": "a\x00", "edit_position": 0},
        {"kind": "rate", "ratings": (1,), "tie": True},
    ):
        with pytest.raises(ValidationError):
            Verdict.model_validate(wrong)


def test_a_task_needs_what_its_record_says() -> None:
    with pytest.raises(ValidationError):
        NewTask(kind="pair", prompt=prompt(1), candidates=(), policy="x")
    with pytest.raises(ValidationError):
        pair(1, propensity=0.0)
