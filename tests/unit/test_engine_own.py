"""Memory for rows' own tokens that grows and moves: what is kept stays what it was, and the rest is finite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from accord.engines.own import OwnCache

LAYERS, SLOTS, HEADS, SIZE, MOST = 3, 4, 2, 8, 100


def cache() -> OwnCache:
    made = OwnCache(
        layers=LAYERS,
        slots=SLOTS,
        heads=HEADS,
        size=SIZE,
        columns=MOST,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    for memory in [*made._memory, made._spare]:  # as memory that others have used may be
        memory.fill_(torch.nan)
    return made


def written(own: OwnCache, seed: int) -> list[Tensor]:
    """Fill all columns with numbers and return copies of them."""
    draw = torch.Generator().manual_seed(seed)
    for layer in own.layers:
        layer.copy_(torch.randn(layer.shape, generator=draw))
    return [layer.clone() for layer in own.layers]


@pytest.mark.parametrize(("first", "end", "rows"), [(0, 16, 4), (0, 16, 2), (5, 16, 4), (13, 14, 1), (16, 16, 3)])
def test_what_is_kept_moves_to_the_left_of_more_room_and_the_rest_is_empty(first: int, end: int, rows: int) -> None:
    own = cache()
    own.make_room(0, 0, 0)
    assert own.columns == 16
    before = written(own, 0)
    own.make_room(first, end, rows)
    kept = end - first
    for layer, old in zip(own.layers, before, strict=True):
        assert layer.shape == (2, SLOTS, HEADS, own.columns, SIZE)
        assert layer.is_contiguous(), "there are no gaps"
        assert torch.equal(layer[:, :rows, :, :kept], old[:, :rows, :, first:end])
        assert not layer[:, :, :, kept:].any()
        assert not layer[:, rows:].any()


def test_layers_have_memory_of_their_own_however_often_they_move() -> None:
    own = cache()
    own.make_room(0, 0, 0)
    sizes = []
    for seed in range(4):
        before = written(own, seed)
        sizes.append(own.columns)
        own.make_room(0, own.columns, SLOTS)
        for layer, old in zip(own.layers, before, strict=True):
            assert torch.equal(layer[:, :, :, : old.shape[3]], old)
    assert sizes == [16, 32, 48, 64]


def test_room_grows_by_a_share_and_ends_where_the_longest_row_does() -> None:
    own = cache()
    own.make_room(0, 0, 0)
    own.make_room(0, 80 if own.columns >= 80 else own.columns, SLOTS)
    while own.columns < 80:
        own.make_room(0, own.columns, SLOTS)
    assert own.columns == 80
    own.make_room(0, 80, SLOTS)
    assert own.columns == MOST, "a quarter more, rounded to sixteens, but no more than there will be"
    own.make_room(90, 95, SLOTS)
    assert own.columns == 32, "room that nobody needs any more is given up: it would be read"
