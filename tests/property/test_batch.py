"""Batch: collate, select, split and concat keep every row, whatever the lengths and groups."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.batch import Batch, Mean, collate, concat
from accord.errors import DataError

LIGHT = settings(max_examples=60, deadline=None)


@st.composite
def batches(draw: st.DrawFn, pad_id: int = 0) -> Batch:
    """Batches whose `score_B` is the row's number and whose token fields name row and position."""
    group_sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    group = [g for g, size in enumerate(group_sizes) for _ in range(size)]
    lengths = draw(st.lists(st.integers(1, 9), min_size=len(group), max_size=len(group)))
    masks = [[False] + draw(st.lists(st.booleans(), min_size=length - 1, max_size=length - 1)) for length in lengths]
    return collate(
        [[100 * row + t + 1 for t in range(length)] for row, length in enumerate(lengths)],
        masks,
        pad_id=pad_id,
        group=draw(st.sampled_from([group, None])),
        score_B=list(range(len(group))),
        old_logp_BT=[[row + t / 100 for t in range(length)] for row, length in enumerate(lengths)],
    )


def rows_of(batch: Batch) -> dict[int, tuple]:
    """Content of each row without its padding, by row number."""
    content = {}
    for i in range(batch.num_rows):
        n = int(batch.lengths_B[i])
        tokens = (batch.ids_BT, batch.response_mask_BT, batch.old_logp_BT)
        content[int(batch.score_B[i])] = tuple(tuple(field[i, :n].tolist()) for field in tokens)
    return content


@LIGHT
@given(batches(), st.integers(1, 60))
def test_split_holds_every_row_once_within_the_budget(batch, budget):
    parts = batch.split(budget)
    seen = [int(row) for part in parts for row in part.score_B]
    assert sorted(seen) == list(range(batch.num_rows))
    merged = {row: content for part in parts for row, content in rows_of(part).items()}
    assert merged == rows_of(batch)
    for part in parts:
        assert part.ids_BT.shape[1] == int(part.lengths_B.max())
        groups = 1 if batch.group_B is not None and len(set(part.group_B.tolist())) == 1 else part.num_rows
        assert part.ids_BT.numel() <= budget or groups == 1
    assert sum(part.num_tokens for part in parts) == batch.num_tokens


@LIGHT
@given(batches(), st.integers(1, 60))
def test_split_keeps_groups_whole_and_in_order(batch, budget):
    if batch.group_B is None:
        return
    owner = {}
    for number, part in enumerate(batch.split(budget)):
        rows, groups = part.score_B.tolist(), part.group_B.tolist()
        for position, (row, group) in enumerate(zip(rows, groups, strict=True)):
            assert owner.setdefault(group, number) == number
            if position and groups[position - 1] == group:
                assert row == rows[position - 1] + 1


@LIGHT
@given(batches(), st.integers(1, 60))
def test_split_is_deterministic_and_sorted_by_length(batch, budget):
    first, second = batch.split(budget), batch.split(budget)
    assert [p.score_B.tolist() for p in first] == [p.score_B.tolist() for p in second]
    widths = [part.ids_BT.shape[1] for part in first]
    assert widths == sorted(widths, reverse=True)


@LIGHT
@given(batches(), st.data())
def test_select_trims_to_the_longest_row(batch, data):
    rows = data.draw(st.lists(st.integers(0, batch.num_rows - 1), min_size=1, max_size=5))
    part = batch.select(rows)
    assert part.score_B.tolist() == rows
    assert part.ids_BT.shape == (len(rows), int(batch.lengths_B[rows].max()))
    assert rows_of(part) == {row: rows_of(batch)[row] for row in rows}
    assert batch.select(torch.tensor(rows)).ids_BT.equal(part.ids_BT)


@LIGHT
@given(batches(), st.integers(1, 60))
def test_concat_undoes_split(batch, budget):
    parts = batch.split(budget)
    joined = concat(parts)
    assert rows_of(joined) == rows_of(batch)
    assert joined.ids_BT.shape == batch.ids_BT.shape
    assert not joined.old_logp_BT[~joined.token_mask_BT].any()
    if batch.group_B is not None:
        assert sorted(joined.group_B.tolist()) == batch.group_B.tolist()


def test_concat_never_merges_groups_of_different_batches():
    batch = collate([[1, 2]] * 3, [[False, True]] * 3, pad_id=0, group=[4, 4, 9])
    assert concat([batch, batch]).group_B.tolist() == [0, 0, 1, 2, 2, 3]


def test_masks_come_from_lengths_even_where_the_padding_id_is_a_real_token():
    batch = collate([[5, 0, 0], [5]], [[False, True, True], [False]], pad_id=0)
    assert batch.token_mask_BT.tolist() == [[True, True, True], [True, False, False]]
    assert batch.num_tokens == 4
    assert batch.num_rows == 2


def test_every_field_is_collated_selected_and_joined_by_its_suffix():
    names = [field.name for field in dataclasses.fields(Batch)][4:]
    columns = {name: [[0.0, 1.0], [2.0]] if name.endswith("_BT") else [3.0, 4.0] for name in names}
    batch = collate([[1, 2], [3]], [[False, True], [False]], pad_id=9, group=[0, 1], **columns)
    assert batch.ids_BT.tolist() == [[1, 2], [3, 9]]
    twice = concat([batch.select([1]), batch.select([0])]).to("cpu")
    for name in names:
        expected = [[2.0, 0.0], [0.0, 1.0]] if name.endswith("_BT") else [4.0, 3.0]
        assert getattr(twice, name).tolist() == expected


@pytest.mark.parametrize(
    "sequences, masks, message",
    [
        ([], [], "at least one row"),
        ([[1]], [], "1 sequences but 0"),
        ([[1], []], [[False], []], "no tokens"),
        ([[1, 2]], [[False]], "2 tokens but 1"),
        ([[1, 2]], [[True, True]], "first token"),
    ],
)
def test_collate_refuses_rows_that_cannot_be(sequences, masks, message):
    with pytest.raises(DataError, match=message):
        collate(sequences, masks, pad_id=0)


def test_collate_refuses_columns_of_the_wrong_form():
    with pytest.raises(DataError, match="ref_logp_BT"):
        collate([[1, 2]], [[False, True]], pad_id=0, ref_logp_BT=[[0.0]])
    with pytest.raises(ValueError, match="no field"):
        collate([[1, 2]], [[False, True]], pad_id=0, reward_B=[0.0])
    with pytest.raises(ValueError, match="score_B has shape"):
        collate([[1, 2]], [[False, True]], pad_id=0, score_B=[0.0, 1.0])
    with pytest.raises(ValueError, match="not adjacent"):
        collate([[1]] * 3, [[False]] * 3, pad_id=0, group=[0, 1, 0])


def test_batch_operations_refuse_nonsense():
    batch = collate([[1, 2], [3]], [[False, True], [False]], pad_id=0)
    with pytest.raises(ValueError, match="at least one row"):
        batch.select([])
    with pytest.raises(ValueError, match="token_budget"):
        batch.split(0)
    with pytest.raises(ValueError, match="at least one batch"):
        concat([])
    with pytest.raises(ValueError, match="differ in fields"):
        concat([batch, batch.replace(score_B=torch.zeros(2))])
    with pytest.raises(ValueError, match="must be bool"):
        batch.replace(response_mask_BT=batch.ids_BT)
    with pytest.raises(ValueError, match="at least one row and token"):
        batch.replace(ids_BT=torch.zeros(0, 3))


def test_means_add_up_before_they_are_divided():
    total = Mean(torch.tensor(3.0), 1) + Mean(1.0, torch.tensor(3))
    assert total.value == 1.0
    assert Mean(0.0, 0).value != Mean(0.0, 0).value
