"""Answers: once however often they are sent, kept however late they come, taken back only by adding."""

from __future__ import annotations

import pytest
from collect_world import (
    answer,
    assignment,
    claim,
    expire,
    label,
    many,
    pair,
    person,
    project,
    say,
    task_rows,
)
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import DBAPIError

from accord.collect import claims, events, gold, people, submissions, tasks
from accord.collect.database import Store
from accord.collect.failures import Conflict, Invalid, NotAllowed, NotFound
from accord.collect.records import Skip, Submission, Verdict
from accord.collect.schema import AdjudicationRow, AnnotationRow, EventRow, ResponseRow


def annotations(store: Store) -> list[AnnotationRow]:
    with store.read() as session:
        return list(session.scalars(select(AnnotationRow).order_by(AnnotationRow.id)))


def test_positions_become_candidate_indexes(store: Store) -> None:
    project(store, [many("pair", i, 2) for i in range(12)])
    ann = person(store, "ann")
    orders = set()
    for _ in range(12):
        view = claim(store, ann)
        submissions.submit(store, ann, answer(view, "1", strength=3, flags={0: ("opinion",)}, ratings=(1, 7)))
        row, order = annotations(store)[-1], tuple(assignment(store, view.assignment).shown_order)
        orders.add(order)
        assert row.choice == 1 and row.outcome == "choice" and row.verdict["position"] == 1
        assert row.verdict["flags"] == {str(order[0]): ["opinion"]}
        assert row.verdict["ratings"] == ([1, 7] if order == (0, 1) else [7, 1])
    assert orders == {(0, 1), (1, 0)}


def test_the_same_request_again_returns_what_is_stored(store: Store) -> None:
    project(store, [pair(1)])
    ann = person(store, "ann")
    sent = answer(claim(store, ann))
    first = submissions.submit(store, ann, sent)
    again = submissions.submit(store, ann, sent.model_copy(update={"dwell_ms": 5}))
    assert (again.annotation, again.repeated, first.repeated) == (first.annotation, True, False)
    assert len(annotations(store)) == 1
    other = sent.model_copy(update={"verdict": Verdict(kind="pair", tie=True)})
    with pytest.raises(Conflict, match="another answer"):
        submissions.submit(store, ann, other)
    with pytest.raises(Conflict, match="answered already"):
        submissions.submit(store, ann, other.model_copy(update={"key": "another key"}))


def test_one_key_is_one_answer_over_all_tasks_of_a_person_but_not_over_people(store: Store) -> None:
    project(store, [pair(i, overlap=2) for i in range(2)])
    ann, bob = person(store, "ann"), person(store, "bob")
    submissions.submit(store, ann, answer(claim(store, ann), key="the same key"))
    with pytest.raises(Conflict):
        submissions.submit(store, ann, answer(claim(store, ann), key="the same key"))
    submissions.submit(store, bob, answer(claim(store, bob), key="the same key"))


def test_only_the_owner_may_answer(store: Store) -> None:
    project(store, [pair(1)])
    ann, bob = person(store, "ann"), person(store, "bob")
    view = claim(store, ann)
    with pytest.raises(NotAllowed):
        submissions.submit(store, bob, answer(view))
    with pytest.raises(NotAllowed):
        submissions.skip(store, bob, Skip(assignment=view.assignment, key="12345678", reason="other"))
    with pytest.raises(NotFound):
        submissions.submit(store, ann, answer(view).model_copy(update={"assignment": "none"}))


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({}, {"position": 2}),
        ({}, {"position": 0, "ratings": (1, 2, 3)}),
        ({}, {"position": 0, "flags": {0: ("no such flag",)}}),
        ({}, {"position": 0, "flags": {7: ("opinion",)}}),
        ({"tie": False}, {"tie": True}),
        ({"both_bad": False}, {"both_bad": True}),
        ({"strength": False}, {"position": 0, "strength": 1}),
        ({"require_rationale": True}, {"position": 0, "rationale": "  "}),
        ({"require_ratings": True}, {"position": 0}),
        ({"require_ratings": True}, {"position": 0, "ratings": (1, None)}),
    ],
)
def test_verdicts_that_do_not_fit_are_refused_and_change_nothing(store: Store, settings: dict, verdict: dict) -> None:
    project(store, [pair(1)], **settings)
    ann = person(store, "ann")
    view = claim(store, ann)
    with pytest.raises(Invalid):
        submissions.submit(store, ann, say(view, **verdict))
    assert assignment(store, view.assignment).state == "open" and annotations(store) == []
    other_kind = Submission(assignment=view.assignment, key="12345678", verdict=Verdict(kind="rate", ratings=(1, 2)))
    with pytest.raises(Invalid):
        submissions.submit(store, ann, other_kind)


def test_a_late_answer_counts_while_there_is_room(store: Store) -> None:
    project(store, [pair(1)])
    ann, bob = person(store, "ann"), person(store, "bob")
    mine = claim(store, ann)
    expire(store, mine.assignment)
    with store.write() as session:
        assert claims.reclaim(session, mine.lease_expires_at) == 1
    done = submissions.submit(store, ann, answer(mine))
    assert not done.extra
    row = annotations(store)[0]
    assert row.late and row.ordinal == 1
    assert (task_rows(store)[0].n_claimed, task_rows(store)[0].n_done, task_rows(store)[0].state) == (0, 1, "done")
    assert claims.claim(store, "default", bob) is None


def test_a_late_answer_without_room_is_kept_as_extra(store: Store) -> None:
    project(store, [pair(1)])
    ann, bob = person(store, "ann"), person(store, "bob")
    mine = claim(store, ann)
    expire(store, mine.assignment)
    label(store, bob)
    done = submissions.submit(store, ann, answer(mine))
    assert done.extra
    assert [row.extra for row in annotations(store)] == [False, True]
    assert annotations(store)[1].ordinal is None
    assert (task_rows(store)[0].n_claimed, task_rows(store)[0].n_done) == (0, 1)
    view = submissions.undo(store, ann)
    submissions.skip(store, ann, Skip(assignment=view.assignment, key="12345678", reason="cannot_judge"))
    assert (task_rows(store)[0].state, task_rows(store)[0].n_done) == ("done", 1), "it had no place to give back"


def test_while_somebody_else_holds_the_place_a_late_answer_is_extra(store: Store) -> None:
    project(store, [pair(1)])
    ann, bob = person(store, "ann"), person(store, "bob")
    mine = claim(store, ann)
    expire(store, mine.assignment)
    theirs = claim(store, bob)
    assert submissions.submit(store, ann, answer(mine)).extra
    assert not submissions.submit(store, bob, answer(theirs)).extra
    assert task_rows(store)[0].n_done == 1


def test_answers_to_closed_tasks_are_kept(store: Store) -> None:
    project(store, [pair(1)])
    ann = person(store, "ann")
    view = claim(store, ann)
    tasks.close_tasks(store, "default", [task_rows(store)[0].id])
    assert submissions.submit(store, ann, answer(view)).extra
    assert task_rows(store)[0].state == "closed" and task_rows(store)[0].n_claimed == 0


def test_undo_opens_the_last_answer_and_a_new_one_supersedes_it(store: Store) -> None:
    project(store, [pair(i) for i in range(3)])
    ann = person(store, "ann")
    first = claim(store, ann)
    submissions.submit(store, ann, answer(first, "a", strength=2))
    current = claim(store, ann)
    again = submissions.undo(store, ann)
    assert again.assignment == first.assignment and again.candidates == first.candidates
    assert again.previous == answer(first, "a", strength=2).verdict
    assert task_rows(store)[0].n_done + task_rows(store)[1].n_done + task_rows(store)[2].n_done == 1
    done = submissions.submit(store, ann, answer(again, "b"))
    old, new = annotations(store)
    assert (new.supersedes_id, new.ordinal, new.choice, old.choice) == (old.id, 1, 1, 0)
    assert [a.annotation for a in submissions.history(store, ann)] == [done.annotation]
    assert claim(store, ann).assignment == current.assignment
    assert events.verify_events(store).broken == ()


def test_undo_twice_goes_two_back_and_gives_the_first_back(store: Store) -> None:
    project(store, [pair(i) for i in range(3)])
    ann = person(store, "ann")
    views = []
    for _ in range(3):
        views.append(claim(store, ann))
        submissions.submit(store, ann, answer(views[-1]))
    assert submissions.undo(store, ann).assignment == views[2].assignment
    assert submissions.undo(store, ann).assignment == views[1].assignment
    assert assignment(store, views[2].assignment).state == "submitted"
    assert submissions.undo(store, ann, "default").assignment == views[0].assignment
    assert submissions.undo(store, ann).assignment == views[0].assignment, "there is nothing before it"


def test_undo_needs_an_answer_of_ones_own(store: Store) -> None:
    project(store, [pair(1)])
    ann, bob = person(store, "ann"), person(store, "bob")
    label(store, ann)
    with pytest.raises(NotFound):
        submissions.undo(store, bob)


def test_an_undo_that_is_given_up_leaves_the_answer_as_it_was(store: Store) -> None:
    project(store, [pair(1)])
    ann = person(store, "ann")
    view = claim(store, ann)
    submissions.submit(store, ann, answer(view))
    submissions.undo(store, ann)
    claims.release(store, view.assignment, ann)
    assert assignment(store, view.assignment).state == "submitted"
    assert len(annotations(store)) == 1 and task_rows(store)[0].state == "done"


def test_skipping_a_revision_retracts_the_answer_and_frees_the_place(store: Store) -> None:
    project(store, [pair(1)])
    ann, bob = person(store, "ann"), person(store, "bob")
    label(store, ann)
    view = submissions.undo(store, ann)
    submissions.skip(store, ann, Skip(assignment=view.assignment, key="12345678", reason="cannot_judge"))
    old, new = annotations(store)
    assert (new.outcome, new.supersedes_id, new.verdict) == ("retracted", old.id, None)
    assert (task_rows(store)[0].state, task_rows(store)[0].n_done) == ("open", 0)
    assert submissions.history(store, ann) == []
    label(store, bob)
    assert events.verify_events(store).broken == ()


def test_a_skip_keeps_its_reason_and_can_be_sent_twice(store: Store) -> None:
    project(store, [pair(1)])
    ann = person(store, "ann")
    view = claim(store, ann)
    request = Skip(assignment=view.assignment, key="12345678", reason="offensive", comment="<script>")
    submissions.skip(store, ann, request)
    submissions.skip(store, ann, request)
    row = assignment(store, view.assignment)
    assert (row.state, row.skip_reason, row.skip_comment) == ("skipped", "offensive", "<script>")
    assert task_rows(store)[0].n_skipped == 1 and task_rows(store)[0].n_claimed == 0
    label_later = submissions.submit(store, ann, answer(view))
    assert not label_later.extra, "somebody who thought better of it is heard"


def test_what_is_answered_cannot_be_skipped(store: Store) -> None:
    project(store, [pair(1)])
    ann = person(store, "ann")
    view = claim(store, ann)
    submissions.submit(store, ann, answer(view))
    with pytest.raises(Conflict):
        submissions.skip(store, ann, Skip(assignment=view.assignment, key="12345678", reason="other"))


def test_an_edit_becomes_a_reply_of_its_author(store: Store) -> None:
    project(store, [many("edit", 1, 1), many("edit", 2, 1)])
    ann = person(store, "ann")
    view = claim(store, ann)
    submissions.submit(store, ann, say(view, edit="better", edit_position=0))
    row = annotations(store)[0]
    with store.read() as session:
        reply = session.get(ResponseRow, row.edit_response_id)
        assert reply is not None and reply.text == "better"
        assert reply.author_user_id == ann.id and reply.model_version_id is None
    again = submissions.undo(store, ann)
    submissions.submit(store, ann, say(again, edit="better", edit_position=0))
    assert len({r.edit_response_id for r in annotations(store)}) == 1, "the same text is the same reply"


def test_partial_rankings_ratings_and_success_are_kept(store: Store) -> None:
    ann = person(store, "ann")
    project(store, [many("rank", 1, 5), many("rate", 2, 2, purpose="evaluation")])
    for _ in range(2):
        view = claim(store, ann)
        if view.kind == "rank":
            submissions.submit(store, ann, say(view, ranking=((1,), (0, 4))))
        else:
            assert view.scale.success
            submissions.submit(store, ann, say(view, ratings=(7, None), success=(True, False)))
    rows = {row.kind: row for row in annotations(store)}
    with store.read() as session:
        order = session.scalar(select(AnnotationRow.verdict).where(AnnotationRow.kind == "rank"))
    assert [len(group) for group in order["ranking"]] == [1, 2]
    assert sorted(rows["rate"].verdict["ratings"], key=str) == [7, None]


def test_labels_and_events_cannot_be_changed_or_deleted(store: Store) -> None:
    from accord.collect import adjudication

    project(store, [pair(1, overlap=2)], escalate_overlap=2)
    ann, bob, judge = person(store, "ann"), person(store, "bob"), people.create_user(store, "judge", "adjudicator")
    label(store, ann, "a")
    label(store, bob, "b")
    adjudication.adjudicate(store, judge, task_rows(store)[0].id, Verdict(kind="pair", position=0))
    for table, values in (
        (AnnotationRow, {"choice": 1}),
        (EventRow, {"verb": "nothing"}),
        (AdjudicationRow, {"reason": "other"}),
    ):
        for statement in (update(table).values(**values), delete(table)):
            with pytest.raises(DBAPIError, match="never changed or deleted"), store.write() as session:
                session.execute(statement)
    if store.dialect == "postgresql":
        with pytest.raises(DBAPIError, match="never changed or deleted"), store.write() as session:
            session.connection().exec_driver_sql("TRUNCATE annotation CASCADE")
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(AnnotationRow)) == 2


def test_the_database_refuses_a_counter_beyond_the_overlap(store: Store) -> None:
    from accord.collect.schema import TaskRow

    project(store, [pair(1)])
    with pytest.raises(DBAPIError, match="overlap"), store.write() as session:
        session.execute(update(TaskRow).values(n_claimed=2))


def test_gold_answers_are_graded_once_and_do_not_count(store: Store) -> None:
    project(store, [pair(1, gold={"position": 0}), pair(2)], gold_rate=0.9, gold_rate_new=0.9)
    ann = person(store, "ann")
    view = claim(store, ann)
    while min(c.text for c in view.candidates) != "a 1":
        submissions.submit(store, ann, answer(view))
        view = claim(store, ann)
    submissions.submit(store, ann, answer(view, "b"))
    again = submissions.undo(store, ann)
    submissions.submit(store, ann, answer(again, "a"))
    assert gold.gold_stats(store, "default", ann) == (0, 1), "correcting it after the fact does not help"
    row = next(row for row in task_rows(store) if row.lane == "gold")
    assert (row.n_done, row.state) == (0, "open")
