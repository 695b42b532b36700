"""Micro-batches: nothing is lost, the budget holds, and no other cuts of the order would be cheaper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord import batch as batches
from accord.batch import Batch, collate
from accord.microbatches import FLAT_FROM, OVERHEAD_TOKENS, GroupSize, cuts

LIGHT = settings(max_examples=150, deadline=None)
LENGTHS = st.lists(st.one_of(st.integers(1, 60), st.just(FLAT_FROM)), min_size=1, max_size=4)


@st.composite
def sizes(draw: st.DrawFn, most: int = 7) -> list[GroupSize]:
    """Groups of one to four rows, some of which share a prefix."""
    made = []
    for lengths in draw(st.lists(LENGTHS, min_size=1, max_size=most)):
        shared = draw(st.integers(0, min(lengths) - 1)) if len(lengths) > 1 else 0
        made.append(GroupSize.of(lengths, shared))
    return made


def counted(part: Sequence[int], groups: Sequence[GroupSize], flat: bool = False) -> int:
    """What the budget limits."""
    if flat and max(groups[i].encoded for i in part) >= FLAT_FROM:
        return sum(groups[i].tokens for i in part)
    return sum(groups[i].rows for i in part) * max(groups[i].longest for i in part)


def cost(part: Sequence[int], groups: Sequence[GroupSize], flat: bool = False) -> int:
    """Tokens the model runs, and the overhead of a forward."""
    if flat and max(groups[i].encoded for i in part) >= FLAT_FROM:
        return sum(groups[i].tokens for i in part) + OVERHEAD_TOKENS
    run = sum(groups[i].encoded_rows for i in part) * max(groups[i].encoded for i in part)
    return run + OVERHEAD_TOKENS


def all_cuts(order: Sequence[int]) -> Iterator[list[list[int]]]:
    """Every way to cut an order into runs."""
    for bits in range(2 ** (len(order) - 1)):
        parts = [[order[0]]]
        for place, group in enumerate(order[1:]):
            if bits >> place & 1:
                parts.append([])
            parts[-1].append(group)
        yield parts


def allowed(parts: list[list[int]], groups: Sequence[GroupSize], budget: int, flat: bool = False) -> bool:
    return all(len(part) == 1 or counted(part, groups, flat) <= budget for part in parts)


@LIGHT
@given(sizes(most=20), st.integers(1, 600), st.booleans(), st.booleans())
def test_every_group_is_there_once_and_only_a_single_group_exceeds_the_budget(groups, budget, fill, flat) -> None:
    parts = cuts(groups, budget, fill=fill, flat=flat)
    assert sorted(i for part in parts for i in part) == list(range(len(groups)))
    assert all(parts)
    assert allowed(parts, groups, budget, flat)


@LIGHT
@given(sizes(most=20), st.integers(1, 600), st.booleans())
def test_the_longest_come_first(groups, budget, fill) -> None:
    found = [groups[i].encoded for part in cuts(groups, budget, fill=fill) for i in part]
    assert found == sorted(found, reverse=True)


@LIGHT
@given(sizes(), st.integers(1, 600), st.booleans())
def test_no_other_cuts_of_the_order_are_cheaper(groups, budget, flat) -> None:
    found = cuts(groups, budget, fill=False, flat=flat)
    order = [i for part in found for i in part]
    others = [parts for parts in all_cuts(order) if allowed(parts, groups, budget, flat)]
    least = min(sum(cost(part, groups, flat) for part in parts) for parts in others)
    assert sum(cost(part, groups, flat) for part in found) == least


@LIGHT
@given(sizes(), st.integers(1, 600))
def test_filled_micro_batches_are_as_few_as_the_order_allows(groups, budget) -> None:
    found = cuts(groups, budget, fill=True)
    order = [i for part in found for i in part]
    assert len(found) == min(len(parts) for parts in all_cuts(order) if allowed(parts, groups, budget))


def test_groups_much_shorter_than_the_rest_get_a_forward_of_their_own_when_that_is_cheaper() -> None:
    long, short = GroupSize.of([200], 0), GroupSize.of([10], 0)
    assert cuts([short, long, short], 10_000, fill=False) == [[1], [0, 2]]
    assert cuts([short, long, short], 10_000, fill=True) == [[1, 0, 2]]
    # One short row in the padding costs less than a forward more.
    near = GroupSize.of([200 - OVERHEAD_TOKENS // 2], 0)
    assert cuts([near, long], 10_000, fill=False) == [[1, 0]]


def test_rows_without_padding_are_put_together_and_short_ones_have_padding() -> None:
    long, short, middle = GroupSize.of([FLAT_FROM], 0), GroupSize.of([10], 0), GroupSize.of([FLAT_FROM - 1], 0)
    assert cuts([short, long, short], 10_000, fill=False, flat=True) == [[1, 0, 2]]
    assert cuts([short, middle, short], 10_000, fill=False, flat=True) == [[1], [0, 2]]
    # The budget is for what is run.
    assert len(cuts([short, long, short], FLAT_FROM + 20, fill=False, flat=True)) == 1
    assert len(cuts([short, long, short], FLAT_FROM + 19, fill=False, flat=True)) == 2


def test_sharing_lowers_what_is_encoded_and_not_what_the_budget_counts() -> None:
    apart, shared = GroupSize.of([30, 20, 25], 0), GroupSize.of([30, 20, 25], 18)
    assert (apart.rows, apart.longest, apart.encoded_rows, apart.encoded) == (3, 30, 3, 30)
    assert (shared.rows, shared.longest, shared.encoded_rows, shared.encoded) == (3, 30, 1, 18 + 12 + 2 + 7)
    for group in (apart, shared):
        assert len(cuts([group] * 4, 2 * 3 * 30, fill=True)) == 2
        assert len(cuts([group] * 4, 2 * 3 * 30 - 1, fill=True)) == 4
    # Padding in rows that are encoded once is cheap, so groups are put together that would stay apart.
    smaller = [20, 10, 15]
    assert len(cuts([apart] * 6 + [GroupSize.of(smaller, 0)] * 6, 10_000, fill=False)) == 2
    assert len(cuts([shared] * 6 + [GroupSize.of(smaller, 8)] * 6, 10_000, fill=False)) == 1


PROMPT = [7, 8, 9]


def rows(groups: Sequence[Sequence[list[int]]], **columns: torch.Tensor) -> Batch:
    """A batch with one group a list of rows."""
    flat = [row for group in groups for row in group]
    numbers = [number for number, group in enumerate(groups) for _ in group]
    masks = [[place > 0 for place in range(len(row))] for row in flat]
    return collate(flat, masks, pad_id=0, group=numbers, **columns)


@pytest.mark.parametrize(
    ("group", "shared"),
    [
        ([[*PROMPT, 1], [*PROMPT, 2, 3]], 3),
        ([[*PROMPT, 1, 2], [*PROMPT, 1, 3]], 4),  # replies may begin alike
        ([PROMPT, [*PROMPT, 2, 3]], 2),  # a row inside another keeps a token of its own
        ([[*PROMPT, 5, 0], [*PROMPT, 5]], 3),  # the id that pads is a token like others
        ([PROMPT, PROMPT], 2),
        ([[*PROMPT, 1], [7, 1, 9, 1]], 1),  # what is alike behind a difference is not shared
        ([[1, 2, 3], [2, 2, 3]], 0),
        ([[7], [7]], 0),
        ([PROMPT], 0),
        ([[*PROMPT, 1], [*PROMPT, 2], [7, 8, 1]], 2),
    ],
)
def test_what_the_rows_of_a_group_share(group: list[list[int]], shared: int) -> None:
    beside = [[*PROMPT, 4], [*PROMPT, 6]]
    batch = rows([group, beside, [PROMPT]])
    assert batch.shared_prefix_B().tolist() == [shared] * len(group) + [3, 3, 0]
    assert (batch.shared_prefix_B() < batch.lengths_B).all()


def test_packed_rows_and_rows_without_groups_share_nothing() -> None:
    batch = rows([[PROMPT, PROMPT]])
    assert batch.replace(group_B=None).shared_prefix_B() is None
    assert batch.replace(segment_BT=torch.ones_like(batch.ids_BT)).shared_prefix_B() is None


def test_a_batch_is_cut_by_what_its_groups_share(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [[[*PROMPT, 1], [*PROMPT, 2, 3]], [[1, 2], [3, 4, 5]], [PROMPT]]
    seen: list[Sequence[GroupSize]] = []

    def spy(groups: Sequence[GroupSize], token_budget: int, *, fill: bool, flat: bool) -> list[list[int]]:
        seen.append(groups)
        assert (token_budget, fill, flat) == (70, False, True)  # on a processor the cheapest cuts, not the fewest
        return cuts(groups, token_budget, fill=fill, flat=flat)

    monkeypatch.setattr(batches, "cuts", spy)
    rows(groups).split(70, flat=True)
    assert seen == [[GroupSize(2, 5, 1, 6, 6), GroupSize(2, 3, 2, 3, 5), GroupSize(1, 3, 1, 3, 3)]]


def test_a_short_shared_prompt_is_not_counted_on() -> None:
    assert GroupSize.of([100, 100], 24) == GroupSize(2, 100, 2, 100, 200)
    assert GroupSize.of([100, 100], 25) == GroupSize(2, 100, 1, 175, 175)
    assert GroupSize.of([100] * 5, 15) == GroupSize(5, 100, 5, 100, 500)
    assert GroupSize.of([100] * 5, 16) == GroupSize(5, 100, 1, 436, 436)
