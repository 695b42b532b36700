"""Who gets which task next, for how long, and in which order."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from collect_world import answer, assignment, claim, expire, label, many, pair, person, project, say, task_rows
from sqlalchemy import func, select

from accord.collect import claims, people, projects, reading, submissions, tasks
from accord.collect.database import Store
from accord.collect.failures import Conflict, NotAllowed, NotFound, TooMany
from accord.collect.records import Skip
from accord.collect.schema import AssignmentRow, TaskRow
from accord.types import Candidate


def texts(view) -> list[str]:
    return [c.text for c in view.candidates]


def test_a_view_holds_texts_in_the_order_that_is_stored(store: Store) -> None:
    project(store, [pair(1)])
    projects.set_guidelines(store, "default", "# Be kind")
    view = claim(store, person(store, "ann"))
    order = assignment(store, view.assignment).shown_order
    assert texts(view) == [["a 1", "b 1"][i] for i in order]
    assert view.guideline is not None and view.guideline.version == 1
    assert "model-a" not in view.model_dump_json() and "gold" not in view.model_dump_json().replace("gold_", "")


def test_both_orders_are_shown_about_equally_often(store: Store) -> None:
    project(store, [pair(i) for i in range(60)])
    ann = person(store, "ann")
    left = Counter()
    for _ in range(60):
        view = claim(store, ann)
        left[view.candidates[0].text[0]] += 1
        submissions.submit(store, ann, answer(view))
    assert 15 <= left["a"] <= 45, "60 coin flips are outside of that once in 10,000 times"


def test_a_task_is_not_given_twice_to_one_person_nor_beyond_its_overlap(store: Store) -> None:
    project(store, [pair(i, overlap=2) for i in range(3)])
    ann, bob, cem = (person(store, name) for name in ("ann", "bob", "cem"))
    for who in (ann, bob):
        assert len({min(texts(_done(store, who))) for _ in range(3)}) == 3
        assert claims.claim(store, "default", who) is None
    assert claims.claim(store, "default", cem) is None, "every task has its two labels"


def _done(store: Store, who, text: str = "a"):
    view = claim(store, who)
    submissions.submit(store, who, answer(view, text))
    return view


def test_a_reload_goes_on_with_the_same_task_and_prefetch_gets_the_next(store: Store) -> None:
    project(store, [pair(i) for i in range(5)])
    ann = person(store, "ann")
    first = claim(store, ann)
    assert claim(store, ann).assignment == first.assignment
    second = claim(store, ann, prefetch=True)
    assert second.assignment != first.assignment
    assert claim(store, ann, prefetch=True).assignment == second.assignment, "no third lease"
    submissions.submit(store, ann, answer(first))
    assert claim(store, ann).assignment == second.assignment


def test_a_lease_holds_the_place_until_it_ends(store: Store) -> None:
    project(store, [pair(1)])
    ann, bob = person(store, "ann"), person(store, "bob")
    mine = claim(store, ann)
    assert claims.claim(store, "default", bob) is None
    expire(store, mine.assignment)
    assert texts(claim(store, bob))
    assert assignment(store, mine.assignment).state == "expired"
    with pytest.raises(Conflict):
        claims.heartbeat(store, mine.assignment, ann)


def test_who_lost_a_lease_gets_the_task_again_in_the_same_order(store: Store) -> None:
    project(store, [many("rank", 1, 6)])
    ann = person(store, "ann")
    first = claim(store, ann)
    expire(store, first.assignment)
    again = claim(store, ann)
    assert (again.assignment, texts(again)) == (first.assignment, texts(first))
    assert task_rows(store)[0].n_claimed == 1


def test_a_heartbeat_extends_the_lease_and_belongs_to_its_owner(store: Store) -> None:
    project(store, [pair(1)], lease_seconds=100)
    ann, bob = person(store, "ann"), person(store, "bob")
    view = claim(store, ann)
    assert claims.heartbeat(store, view.assignment, ann) > view.lease_expires_at
    with pytest.raises(NotAllowed):
        claims.heartbeat(store, view.assignment, bob)
    with pytest.raises(NotFound):
        claims.heartbeat(store, "nothing", ann)


def test_a_released_task_is_free_at_once(store: Store) -> None:
    project(store, [pair(1)])
    ann, bob = person(store, "ann"), person(store, "bob")
    view = claim(store, ann)
    with pytest.raises(NotAllowed):
        claims.release(store, view.assignment, bob)
    claims.release(store, view.assignment, ann)
    claims.release(store, view.assignment, ann)
    assert task_rows(store)[0].n_claimed == 0
    claim(store, bob)


def test_nobody_judges_their_own_text(store: Store) -> None:
    ann, bob, cem = (person(store, name) for name in ("ann", "bob", "cem"))
    by_ann = (Candidate(text="a 1", model=f"human:{ann.pseudonym}"), Candidate(text="b 1", model="m"))
    project(store, [pair(1, candidates=by_ann, authors=("bob",))])
    assert claims.claim(store, "default", ann) is None, "she wrote a reply"
    assert claims.claim(store, "default", bob) is None, "he wrote the prompt"
    claim(store, cem)


def test_priority_comes_first_then_policies_take_turns(store: Store) -> None:
    new = [pair(i, policy="uncertainty") for i in range(4)] + [pair(10 + i, policy="coverage") for i in range(4)]
    project(store, [*new, pair(99, priority=5)])
    ann = person(store, "ann")
    seen = [_done(store, ann) for _ in range(9)]
    numbers = [int(view.candidates[0].text.split()[1]) for view in seen]
    assert numbers[0] == 99
    policies = ["coverage" if n >= 10 else "uncertainty" for n in numbers[1:]]
    assert all(set(policies[i : i + 2]) == {"coverage", "uncertainty"} for i in range(0, 8, 2)), policies


def test_a_policy_that_starts_late_begins_where_the_queue_is(store: Store) -> None:
    project(store, [pair(i, policy="old") for i in range(6)])
    ann = person(store, "ann")
    for _ in range(4):
        label(store, ann)
    tasks.add_tasks(store, "default", [pair(100 + i, policy="new") for i in range(6)])
    numbers = [int(_done(store, ann).candidates[0].text.split()[1]) for _ in range(4)]
    assert sum(n >= 100 for n in numbers) == 2, "half and half, not six of the new ones first"


def test_the_daily_cap_counts_answers_and_open_tasks(store: Store) -> None:
    project(store, [pair(i) for i in range(5)], daily_cap=2)
    ann, bob = person(store, "ann"), person(store, "bob")
    label(store, ann)
    view = claim(store, ann)
    with pytest.raises(TooMany):
        claims.claim(store, "default", ann, prefetch=True)
    submissions.submit(store, ann, answer(view))
    with pytest.raises(TooMany):
        claims.claim(store, "default", ann)
    claim(store, bob)


def test_blocked_disabled_and_unknown_people_get_nothing(store: Store) -> None:
    project(store, [pair(1)])
    ann = person(store, "ann")
    people.update_user(store, ann.id, actor="system", blocked="sleeps")
    with pytest.raises(NotAllowed):
        claims.claim(store, "default", ann)
    people.update_user(store, ann.id, actor="system", blocked=None)
    claims.claim(store, "default", ann)
    people.disable_user(store, ann.id, actor="system")
    with pytest.raises(NotAllowed):
        claims.claim(store, "default", ann)
    with pytest.raises(NotFound):
        claims.claim(store, "default", "nobody")
    with pytest.raises(NotFound):
        claims.claim(store, "no project", ann)


def test_gold_comes_at_random_places_with_its_rate_and_once(store: Store) -> None:
    golds = [pair(1000 + i, gold={"position": 0}) for i in range(60)]
    project(store, [pair(i) for i in range(240)] + golds, gold_rate=0.2, gold_rate_new=0.2)
    ann = person(store, "ann")
    hidden = [int(_done(store, ann).candidates[0].text.split()[1]) >= 1000 for _ in range(200)]
    assert 20 <= sum(hidden) <= 60, "binomial(200, 0.2) is outside of that once in 1,000 times"
    places = [i for i, h in enumerate(hidden) if h]
    assert len({b - a for a, b in pairwise(places)}) > 4, "not every k-th"
    with store.read() as session:
        most = select(func.count()).select_from(AssignmentRow).group_by(AssignmentRow.task_id)
        assert max(session.scalars(most)) == 1


def test_new_people_get_more_gold_until_it_speaks_for_them(store: Store) -> None:
    golds = [pair(1000 + i, gold={"position": 0}) for i in range(30)]
    project(store, [pair(i) for i in range(100)] + golds, gold_rate=0, gold_rate_new=0.9, gold_new=5)
    # Eight right answers are 25 times as likely for somebody right with 3/4 as for a guesser.
    ann = person(store, "ann")
    hidden = [int(_done(store, ann).candidates[0].text.split()[1]) >= 1000 for _ in range(40)]
    assert sum(hidden) == 8 and sum(hidden[:12]) >= 7
    # Half of them right say nothing yet.
    bob = person(store, "bob")
    hidden = [int(_done(store, bob, "ab"[i % 2]).candidates[0].text.split()[1]) >= 1000 for i in range(24)]
    assert sum(hidden) >= 18


def test_everybody_can_get_the_same_gold_at_the_same_time(store: Store) -> None:
    project(store, [pair(1, gold={"position": 0}), pair(2)], gold_rate=0.9, gold_rate_new=0.9)
    seen = Counter()
    for i in range(12):
        view = claims.claim(store, "default", person(store, f"p{i}"))
        seen[view.candidates[0].text.split()[1] if view else ""] += 1
    assert seen["1"] >= 6


def test_a_repeat_is_a_task_one_has_judged_in_reverse_order(store: Store) -> None:
    project(store, [many("rank", i, 4) for i in range(40)], repeat_rate=0.4, repeat_after=5)
    ann = person(store, "ann")
    shown: dict[str, tuple[int, list[str]]] = {}
    repeats = 0
    for number in range(40):
        view = claim(store, ann)
        name = min(texts(view)).split()[1]
        if name in shown:
            repeats += 1
            before, order = shown[name]
            assert texts(view) == order[::-1]
            assert number - before >= 5
        else:
            shown[name] = (number, texts(view))
        verdict = {"ranking": ((0,), (1,), (2,), (3,))}
        submissions.submit(store, ann, say(view, **verdict))
    assert 5 <= repeats <= 25
    rows = [row for row in task_rows(store) if row.lane == "repeat"]
    assert len(rows) == repeats
    assert all(row.repeat_of and row.reserved_for == ann.id and row.state == "done" for row in rows)
    assert len({row.repeat_of for row in rows}) == repeats, "nothing is repeated twice for one person"


def test_a_repeat_that_was_not_answered_comes_again(store: Store) -> None:
    project(store, [pair(i) for i in range(20)], repeat_rate=0.5, repeat_after=1)
    ann = person(store, "ann")
    while not any(row.lane == "repeat" for row in task_rows(store)):
        view = claim(store, ann)
        if not any(row.lane == "repeat" for row in task_rows(store)):
            submissions.submit(store, ann, answer(view))
    claims.release(store, view.assignment, ann)
    seen = set()
    for _ in range(15):
        again = claim(store, ann)
        seen.add(again.assignment)
        submissions.submit(store, ann, answer(again))
    assert view.assignment in seen


def test_a_skipped_task_does_not_come_back_to_the_same_person(store: Store) -> None:
    project(store, [pair(1)])
    ann, bob = person(store, "ann"), person(store, "bob")
    view = claim(store, ann)
    submissions.skip(store, ann, Skip(assignment=view.assignment, key="12345678", reason="unclear"))
    assert claims.claim(store, "default", ann) is None
    claim(store, bob)


def test_closed_tasks_are_not_served(store: Store) -> None:
    project(store, [pair(1), pair(2)])
    first = task_rows(store)[0]
    assert tasks.close_tasks(store, "default", [first.id, "unknown"]) == 1
    ann = person(store, "ann")
    label(store, ann)
    assert claims.claim(store, "default", ann) is None


def test_progress_counts_what_is_left_for_this_person(store: Store) -> None:
    project(store, [pair(i, overlap=2) for i in range(4)])
    ann = person(store, "ann")
    assert claim(store, ann).progress.remaining == 3, "the one she holds is not left"
    label(store, ann)
    view = claim(store, ann)
    assert (view.progress.done, view.progress.today, view.progress.remaining) == (1, 1, 2)
    assert view.progress.eta_seconds == 2.0 and view.can_undo


def test_progress_does_not_say_which_task_was_a_hidden_test(store: Store) -> None:
    gold = [pair(i, gold={"position": 0}) for i in range(100, 130)]
    project(store, [*(pair(i) for i in range(40)), *gold], gold_rate=0.5, gold_rate_new=0.5, gate="off")
    ann = person(store, "ann")
    told: list[tuple[int | None, int | None]] = []
    left: dict[str, list[bool]] = {"gold": [], "queue": [], "repeat": []}
    before = 40
    for _ in range(28):
        view = claim(store, ann)
        label(store, ann)
        with store.read() as session:
            row = session.get_one(AssignmentRow, view.assignment)
            lane = session.get_one(TaskRow, row.task_id).lane
        now = reading.own_progress(store, "default", ann)
        told.append((now.gold_right, now.gold_total))
        left[lane].append(now.remaining < before)
        before = now.remaining
    with store.read() as session:
        done = session.scalars(select(AssignmentRow).where(AssignmentRow.gold_right.is_not(None))).all()
    known = len(done) - len(done) % 5
    assert known >= 5 and told[-1][1] == known, "in steps of five"
    assert {total for _, total in told} == {None, *range(5, known + 1, 5)}
    assert told[-1][0] == sum(bool(r.gold_right) for r in sorted(done, key=lambda r: r.number)[:known])
    assert left["queue"].count(False) > left["queue"].count(True), "most ordinary tasks do not lower it either"
    assert not any(left["gold"])
