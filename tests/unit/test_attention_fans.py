"""Replies that ask together are softmax(q k^T) v over what each token sees, and so are their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from joined_rows import SCALE, in_full, inputs
from torch import Tensor

from accord.batch import collate
from accord.models import attention
from accord.models.attention import AttentionInParts, Part, parts_of, parts_of_unit, runs_of
from accord.models.fans import Fan
from accord.models.sharing import Joined, join

EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}
EVEN, UNEVEN = (6, 6, 6), (6, 4, 6, 5)


def joined(*replies: Sequence[int], shared: int = 5, flat: bool = True) -> Joined:
    """Groups of replies of these lengths behind prompts of `shared` tokens."""
    rows = [[*range(shared), 50 + k, *range(size - 1)] for sizes in replies for k, size in enumerate(sizes)]
    groups = [number for number, sizes in enumerate(replies) for _ in sizes]
    batch = collate(rows, [[False] + [True] * (len(row) - 1) for row in rows], pad_id=0, group=groups)
    shared_B = batch.shared_prefix_B()
    assert shared_B is not None
    return join(batch, shared_B, flat=flat)


def same(found: Tensor, wanted: Tensor, given: list[Tensor], tolerance: float) -> None:
    weight = torch.linspace(-1, 2, wanted.numel(), dtype=wanted.dtype).view_as(wanted)
    results = [[out, *torch.autograd.grad((out * weight).sum(), given)] for out in (found, wanted)]
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= tolerance * max(1.0, float(other.detach().abs().max()))


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("queries", [1024, 12])
@pytest.mark.parametrize("replies", [(EVEN,), (UNEVEN, EVEN), ((3, 9), UNEVEN)])
@pytest.mark.parametrize("flat", [True, False])
def test_values_and_gradients(
    flat: bool,
    replies: Sequence[Sequence[int]],
    queries: int,
    kept: bool,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "_FAN_QUERIES", queries)
    rows = joined(*replies, flat=flat)
    given = inputs(rows, dtype)
    parts = tuple(parts_of(rows.units))
    fans = [part for part in parts if isinstance(part, Fan)]
    assert len(fans) == sum(-(-len(sizes) // (queries // 6)) for sizes in replies if len(sizes) > 2)
    if not kept:
        monkeypatch.setattr(attention, "_KEPT_KEYS", 0)
    real = (rows.row_UL >= -1)[:, None, :, None]
    wanted = torch.where(real, in_full(rows, *given), 0.0)
    same(AttentionInParts.apply(*given, parts, SCALE), wanted, given, EXACT[dtype])


def test_tokens_that_do_not_ask_are_left_out() -> None:
    rows = joined(UNEVEN, EVEN)
    given = inputs(rows, torch.float64)
    asks = torch.zeros(rows.ids_UL.shape[1], dtype=torch.bool)
    # Of the first group one reply is silent, and others ask from or up to somewhere.
    for start, stop in ((3, 5), (6, 10), (15, 19), (21, 26), (31, 47)):
        asks[start:stop] = True

    def stretch(run: slice) -> slice | None:
        places = asks[run].nonzero()[:, 0]
        return slice(run.start + int(places[0]), run.start + int(places[-1]) + 1) if len(places) else None

    parts: list[Part | Fan] = []
    chosen: list[Tensor] = []
    for unit in rows.units:
        parts += parts_of_unit(unit, stretch, at=sum(map(len, chosen)))
        chosen += [torch.arange(s.start, s.stop) for run, _ in runs_of(unit) if (s := stretch(run))]
    place = torch.cat(chosen)
    assert set(asks.nonzero()[:, 0].tolist()) <= set(place.tolist())
    assert len(place) < len(asks)
    found = AttentionInParts.apply(given[0][:, :, place], *given[1:], tuple(parts), SCALE)
    same(found, in_full(rows, *given)[:, :, place], given, 1e-12)


@pytest.mark.parametrize(
    ("replies", "shared"),
    [
        ((6, 6), 5),  # two ask one after the other
        ((6, 6, 6), 0),  # nothing is shared
        ((12, 2, 2, 2), 5),  # most of it would be padding
        ((130, 130, 130), 5),  # long replies are cut
        ((6, 6, 6), 510),  # the softmax would not be kept
    ],
)
def test_groups_that_ask_one_reply_after_the_other(replies: tuple[int, ...], shared: int) -> None:
    assert not any(isinstance(part, Fan) for part in parts_of(joined(replies, shared=shared).units))


def test_a_fan_is_no_larger_than_allowed_and_every_token_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_FAN_QUERIES", 14)
    rows = joined((6, 5, 6, 6, 6), UNEVEN)
    parts = list(parts_of(rows.units))
    assert max(part.shape[0] * part.shape[1] for part in parts if isinstance(part, Fan)) <= 14
    asked = [place for part in parts for place in range(part.queries.start, part.queries.stop)]
    assert asked == list(range(rows.ids_UL.shape[1]))
