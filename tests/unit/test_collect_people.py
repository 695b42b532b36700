"""Accounts, passwords, sessions, keys, invitations, the first administrator."""

from __future__ import annotations

from datetime import timedelta

import pytest
from collect_concurrent import at_once
from collect_world import label, pair, person, project
from sqlalchemy import select, update

from accord.collect import events, passwords, people
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.failures import Conflict, Invalid, NotFound
from accord.collect.schema import ApiKeyRow, InvitationRow, SessionRow, UserRow

SECRET = "a long enough password"


def stored(store: Store) -> str:
    """Everything the database holds about access, as text."""
    with store.read() as session:
        rows = [
            row for table in (UserRow, SessionRow, ApiKeyRow, InvitationRow) for row in session.scalars(select(table))
        ]
        return repr([{c.name: getattr(row, c.name) for c in row.__table__.columns} for row in rows])


def test_passwords_are_kept_under_scrypt_and_never_as_they_are(store: Store) -> None:
    people.create_user(store, "Ann", "annotator", password=SECRET)
    assert SECRET not in stored(store) and "scrypt$2$8$1$" in stored(store)
    found = people.authenticate(store, " ANN ", SECRET)
    assert found is not None and found.handle == "ann"
    for handle, password in (("ann", SECRET + "x"), ("ann", ""), ("bob", SECRET), ("ann", SECRET.upper())):
        assert people.authenticate(store, handle, password) is None


def test_the_default_cost_is_that_of_owasp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert passwords.COST == (2**14, 8, 5)
    kept = passwords.hash_password(SECRET)
    assert kept.startswith("scrypt$16384$8$5$") and kept != passwords.hash_password(SECRET), "salted"
    assert passwords.check_password(SECRET, kept)
    assert not passwords.check_password(SECRET, None)


def test_accounts_without_password_and_disabled_ones_cannot_sign_in(store: Store) -> None:
    people.create_user(store, "bot", "service")
    assert people.authenticate(store, "bot", "") is None
    ann = people.create_user(store, "ann", "annotator", password=SECRET)
    token = people.start_session(store, ann.id)
    _, secret = people.make_api_key(store, ann.id, ["annotate"])
    people.disable_user(store, ann.id, actor="system")
    assert people.authenticate(store, "ann", SECRET) is None
    assert people.session_user(store, token) is None and people.key_user(store, secret) is None


@pytest.mark.parametrize("handle", ["", " ", "a b", "-x", "a" * 65, "<b>", "a\x00b", "\u0430nn", "a/b"])
def test_handles_that_would_confuse_are_refused(store: Store, handle: str) -> None:
    with pytest.raises(Invalid):
        people.create_user(store, handle, "annotator")


def test_handles_are_unique_whatever_their_case_also_at_once(store: Store) -> None:
    person(store, "ann")
    with pytest.raises(Conflict):
        person(store, "ANN")
    made = at_once(4, lambda _: people.create_user(store, "bob", "annotator"))
    assert sorted(type(m).__name__ for m in made) == ["Conflict"] * 3 + ["User"]
    with pytest.raises(Invalid):
        people.create_user(store, "eve", "root")  # pyright: ignore[reportArgumentType]
    with pytest.raises(Invalid, match="10 to 200"):
        people.create_user(store, "eve", "annotator", password="short")


def test_pseudonyms_say_nothing_about_the_handle(store: Store) -> None:
    users = [person(store, f"p{i}", groups=(" b ", "a", "a", "")) for i in range(3)]
    assert len({u.pseudonym for u in users}) == 3
    assert all(u.handle not in u.pseudonym for u in users) and users[0].groups == ("a", "b")


def test_sessions_rotate_expire_and_end(store: Store) -> None:
    ann = person(store, "ann")
    first = people.start_session(store, ann.id)
    second = people.start_session(store, ann.id, previous=first)
    assert first != second and first not in stored(store) and second not in stored(store)
    assert people.session_user(store, first) is None, "the one the browser came with has ended"
    assert people.session_user(store, second) == people.get_user(store, "ann")
    people.end_session(store, second)
    people.end_session(store, "unknown")
    assert people.session_user(store, second) is None
    late = people.start_session(store, ann.id, lifetime=timedelta(seconds=-1))
    assert people.session_user(store, late) is None
    assert people.csrf_token(first) != people.csrf_token(second)


def test_a_new_password_ends_every_session(store: Store) -> None:
    ann = people.create_user(store, "ann", "annotator", password=SECRET)
    token = people.start_session(store, ann.id)
    people.set_password(store, ann.id, "another long password", actor=ann.id)
    assert people.session_user(store, token) is None
    assert people.authenticate(store, "ann", SECRET) is None
    assert people.authenticate(store, "ann", "another long password") is not None
    with pytest.raises(NotFound):
        people.set_password(store, "nobody", SECRET, actor="system")


def test_keys_have_scopes_an_end_and_can_be_revoked(store: Store) -> None:
    ann = person(store, "ann")
    info, secret = people.make_api_key(store, ann.id, ["export", "read", "read"], name="nightly")
    found = people.key_user(store, secret)
    assert found is not None and found[0].id == ann.id and found[1] == ("export", "read")
    assert secret not in stored(store) and info.prefix in secret
    other_end = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    for wrong in ("", "acc_x", secret[:-1], other_end, secret + "x", f"acc_{info.prefix}_" + "a" * 43):
        assert people.key_user(store, wrong) is None
    _, old = people.make_api_key(store, ann.id, ["read"], expires_at=utcnow() - timedelta(seconds=1))
    assert people.key_user(store, old) is None
    people.revoke_key(store, info.id, actor="system")
    people.revoke_key(store, info.id, actor="system")
    assert people.key_user(store, secret) is None
    assert [k.revoked_at is not None for k in people.list_keys(store, ann.id)] == [False, True]
    with pytest.raises(Invalid):
        people.make_api_key(store, ann.id, ["everything"])
    with pytest.raises(Invalid):
        people.make_api_key(store, ann.id, [])
    with pytest.raises(NotFound):
        people.revoke_key(store, "nothing", actor="system")


def test_an_invitation_makes_one_account_with_its_role(store: Store) -> None:
    token = people.invite(store, "adjudicator", groups=("b", "a"))
    assert token not in stored(store)
    seen = people.read_invitation(store, token)
    assert seen is not None and (seen.role, seen.groups, seen.used_by) == ("adjudicator", ("a", "b"), None)
    with pytest.raises(Invalid):
        people.accept_invitation(store, token, "ann", "short")
    made = at_once(3, lambda i: people.accept_invitation(store, token, f"ann{i}", SECRET))
    assert sorted(type(m).__name__ for m in made) == ["NotFound", "NotFound", "User"]
    (user,) = [m for m in made if not isinstance(m, Exception)]
    assert (user.role, user.groups) == ("adjudicator", ("a", "b"))
    assert people.read_invitation(store, token) is None
    assert people.list_invitations(store)[0].used_by == user.id
    late = people.invite(store, "annotator", expires=timedelta(seconds=-1))
    with pytest.raises(NotFound):
        people.accept_invitation(store, late, "bob", SECRET)


def test_an_invitation_that_nobody_used_can_be_revoked(store: Store) -> None:
    token, kept = people.invite(store, "annotator"), people.invite(store, "annotator")
    found = people.read_invitation(store, token)
    assert found is not None
    for _ in range(2):
        people.revoke_invitation(store, found.id, actor="system")
    assert people.read_invitation(store, token) is None
    with pytest.raises(NotFound, match="revoked"):
        people.accept_invitation(store, token, "eve", SECRET)
    ann = people.accept_invitation(store, kept, "ann", SECRET)
    (used,) = [one.id for one in people.list_invitations(store) if one.used_by == ann.id]
    with pytest.raises(Conflict, match="was used"):
        people.revoke_invitation(store, used, actor="system")
    with pytest.raises(NotFound, match="no invitation"):
        people.revoke_invitation(store, "nothing", actor="system")
    revoked = [(e.object_type, e.object_id) for e in events.read_events(store) if e.verb == "revoke"]
    assert revoked == [("invitation", found.id)], "once, however often it is asked for"


def test_the_first_link_makes_the_first_admin_and_only_that_one(store: Store) -> None:
    old, new = people.admin_link(store), people.admin_link(store)
    assert old and new and not people.has_admin(store)
    with pytest.raises(NotFound):
        people.accept_invitation(store, old, "eve", SECRET)
    spare = new
    admin = people.accept_invitation(store, new, "ann", SECRET)
    assert admin.role == "admin" and people.has_admin(store)
    assert people.admin_link(store) is None
    with pytest.raises(NotFound):
        people.accept_invitation(store, spare, "eve", SECRET)


def test_a_first_link_is_worthless_once_there_is_an_admin(store: Store) -> None:
    link = people.admin_link(store)
    assert link
    people.create_user(store, "ann", "admin")
    assert people.read_invitation(store, link) is None
    with pytest.raises(NotFound):
        people.accept_invitation(store, link, "eve", SECRET)


def test_the_last_admin_stays_also_when_two_remove_each_other(store: Store) -> None:
    ann = people.create_user(store, "ann", "admin")
    with pytest.raises(Conflict, match="last administrator"):
        people.disable_user(store, ann.id, actor="system")
    with pytest.raises(Conflict):
        people.update_user(store, ann.id, actor="system", role="annotator")
    bob = people.create_user(store, "bob", "admin")
    both = (ann, bob)
    done = at_once(2, lambda i: people.disable_user(store, both[i].id, actor=both[1 - i].id))
    assert sorted(type(d).__name__ for d in done) == ["Conflict", "User"]
    assert people.has_admin(store)


def test_changes_of_an_account_are_told_in_the_trail(store: Store) -> None:
    ann = person(store, "ann")
    people.update_user(store, ann.id, actor="me", groups=("x",), blocked="slept")
    people.update_user(store, ann.id, actor="me", groups=("x",))
    last = events.read_events(store, verb="update")
    assert len(last) == 1, "nothing changed the second time"
    assert (last[0].before, last[0].after) == ({"groups": [], "blocked": None}, {"groups": ["x"], "blocked": "slept"})
    with pytest.raises(NotFound):
        people.update_user(store, "nobody", actor="me", groups=())
    with pytest.raises(Invalid):
        people.update_user(store, ann.id, actor="me", role="root")


# The audit trail


def test_the_chain_is_whole_and_shows_what_somebody_changed(store: Store) -> None:
    for i in range(5):
        person(store, f"p{i}")
    whole = events.verify_events(store)
    assert whole.broken == () and (whole.num_events, whole.head) == events.chain_head(store) and whole.num_events == 5
    with store.write() as session:
        # As somebody who owns the database could.
        if store.dialect == "sqlite":
            session.connection().exec_driver_sql("DROP TRIGGER event_no_update")
        else:
            session.connection().exec_driver_sql("ALTER TABLE event DISABLE TRIGGER ALL")
        session.execute(update(events.EventRow).where(events.EventRow.seq == 3).values(actor="somebody else"))
    assert [b for b in events.verify_events(store).broken if "event 3" in b and "changed" in b]


def test_the_chain_shows_what_somebody_deleted(store: Store) -> None:
    for i in range(4):
        person(store, f"p{i}")
    with store.write() as session:
        trigger = (
            "DROP TRIGGER event_no_delete" if store.dialect == "sqlite" else "ALTER TABLE event DISABLE TRIGGER ALL"
        )
        session.connection().exec_driver_sql(trigger)
        session.connection().exec_driver_sql("DELETE FROM event WHERE seq = 2")
    assert "event 2 is missing" in events.verify_events(store).broken[0]


def test_a_changed_label_does_not_fit_its_event(store: Store) -> None:
    project(store, [pair(i) for i in range(2)])
    ann = person(store, "ann")
    for _ in range(2):
        label(store, ann)
    assert events.verify_events(store).broken == ()
    off = {
        "sqlite": ("DROP TRIGGER annotation_no_update", "DROP TRIGGER annotation_no_delete"),
        "postgresql": ("ALTER TABLE annotation DISABLE TRIGGER ALL",),
    }[store.dialect]
    with store.write() as session:
        for statement in off:
            session.connection().exec_driver_sql(statement)
        session.connection().exec_driver_sql(
            "UPDATE annotation SET choice = 1 WHERE id = (SELECT min(id) FROM annotation)"
        )
    assert "was changed" in events.verify_events(store).broken[0]
    with store.write() as session:
        session.connection().exec_driver_sql("DELETE FROM annotation")
    assert len(events.verify_events(store).broken) == 2 and "is gone" in events.verify_events(store).broken[0]


def test_events_written_at_once_make_one_chain(store: Store) -> None:
    made = at_once(8, lambda i: person(store, f"p{i}"))
    assert [m for m in made if isinstance(m, Exception)] == []
    assert events.verify_events(store).broken == ()
    page = events.read_events(store, limit=3)
    assert [e.seq for e in page] == [8, 7, 6]
    assert [e.seq for e in events.read_events(store, before=6, limit=2)] == [5, 4]


def test_events_name_who_did_it_and_are_found_by_name_or_id(store: Store) -> None:
    chief = person(store, "Chief")
    people.update_user(store, person(store, "ann").id, actor=chief.id, groups=("x",))
    for actor in ("chief", "Chief", chief.id):
        assert [(e.verb, e.actor) for e in events.read_events(store, actor=actor)] == [("update", chief.handle)]
    assert {e.actor for e in events.read_events(store, actor="system")} == {"system"}
    assert events.read_events(store, actor="nobody") == []
