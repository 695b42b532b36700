"""Positions and candidate indexes: showing and resolving undo each other, whatever the order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from accord.collect.records import Verdict


@st.composite
def shown(draw: st.DrawFn) -> tuple[Verdict, list[int]]:
    """A verdict of any kind in positions, with the order that was shown."""
    kind = draw(st.sampled_from(["pair", "rank", "rate", "edit"]))
    count = 2 if kind == "pair" else draw(st.integers(1 if kind in ("rate", "edit") else 2, 9))
    order = draw(st.permutations(range(count)))
    fields: dict[str, Any] = {"kind": kind}
    if kind == "pair":
        fields |= draw(
            st.sampled_from([{"position": 0, "strength": 2}, {"position": 1}, {"tie": True}, {"both_bad": True}])
        )
    if kind == "rank":
        ranked = draw(st.permutations(range(count)))[: draw(st.integers(1, count))]
        cuts = sorted({0, len(ranked), *draw(st.sets(st.integers(1, len(ranked)), max_size=3))})
        fields["ranking"] = tuple(tuple(sorted(ranked[a:b])) for a, b in pairwise(cuts))
    if kind == "rate" or draw(st.booleans()):
        ratings = draw(st.lists(st.none() | st.integers(1, 7), min_size=count, max_size=count))
        fields["ratings"] = tuple(ratings) if any(ratings) else (1,) * count
    if kind == "edit":
        fields |= {"edit": "better", "edit_position": draw(st.integers(0, count - 1))}
    flagged = draw(st.sets(st.integers(0, count - 1)))
    return Verdict(**fields, flags={p: ("opinion",) for p in flagged}), list(order)


@given(shown())
def test_resolving_and_showing_undo_each_other(case: tuple[Verdict, list[int]]) -> None:
    verdict, order = case
    assert verdict.resolved(order).shown(order) == verdict
    assert verdict.shown(order).resolved(order) == verdict


@given(shown())
def test_what_is_said_is_said_of_the_same_reply(case: tuple[Verdict, list[int]]) -> None:
    verdict, order = case
    canonical = verdict.resolved(order)
    if verdict.position is not None:
        assert canonical.position == order[verdict.position]
    if verdict.edit_position is not None:
        assert canonical.edit_position == order[verdict.edit_position]
    for position, candidate in enumerate(order):
        assert canonical.flags.get(candidate) == verdict.flags.get(position)
        if verdict.ratings is not None and canonical.ratings is not None:
            assert canonical.ratings[candidate] == verdict.ratings[position]
    groups = [{order[p] for p in group} for group in verdict.ranking or ()]
    assert [set(group) for group in canonical.ranking or ()] == groups


@given(shown())
def test_the_canonical_form_is_json_and_back(case: tuple[Verdict, list[int]]) -> None:
    canonical = case[0].resolved(case[1])
    assert Verdict.model_validate(canonical.model_dump(mode="json")) == canonical
