"""Products with a packed matrix are the products, and a matrix is packed only where that pays and is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from accord.batch import collate
from accord.models import llama_trunk
from accord.models.products import filled, rows_for, times
from accord.models.sharing import join
from train_models import tiny_llama


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of the products with packed matrices."""
    seen: list[int] = []
    if torch.backends.mkldnn.is_available():
        known = torch.ops.mkldnn._linear_pointwise

        def spy(x: Tensor, *args: object) -> Tensor:
            seen.append(len(x))
            return known(x, *args)

        monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", spy)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_same_numbers_packed_or_not(dtype: torch.dtype, packed: list[int]) -> None:
    draw = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, 24, generator=draw).to(dtype) for rows in (70, 30))
    exact = x.double() @ weight.double().t()
    tolerance = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 1e-2}[dtype]
    for form in (weight, weight.t().contiguous().t()):
        product = times(form, 32, len(x))
        found = torch.cat([product(part) for part in x.split(32)])
        assert (found - exact).abs().max() <= tolerance * exact.abs().max()
    # Two full pieces each time; other sizes would be compiled by themselves.
    packs = dtype == torch.float32 and torch.backends.mkldnn.is_available()
    assert packed == [32] * 4 * packs


def test_one_piece_is_not_worth_it(packed: list[int]) -> None:
    times(torch.zeros(30, 24), 32, 63)(torch.zeros(32, 24))
    assert packed == []


def test_numbers_of_rows_are_few_and_little_is_added() -> None:
    found = [rows_for(number) for number in range(1, 8193)]
    assert all(rows >= number and rows % 16 == 0 for number, rows in enumerate(found, 1))
    assert all(16 * (rows - number) <= max(256, number) for number, rows in enumerate(found, 1))
    assert len({rows for rows in found if 512 < rows <= 1024}) == 16
    assert torch.equal(filled(torch.ones(3, 2)), torch.cat([torch.ones(3, 2), torch.zeros(13, 2)]))
    whole = torch.ones(16)
    assert filled(whole) is whole


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16])
def test_a_trunk_in_bfloat16_runs_on_numbers_of_rows_that_come_again(
    low: torch.dtype, flat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_llama(torch.float32, layers=2).base_model
    ids = [[3, 4, 5, 6, 7], [3, 4, 5, 8, 9, 10], [11, 12, 13, 14, 15, 16, 17, 18, 19]]
    rows = collate(ids, [[False] + [True] * (len(row) - 1) for row in ids], pad_id=0, group=[0, 0, 1])
    model.set_attn_implementation("accord_sdpa")
    shared_B = rows.shared_prefix_B()
    assert shared_B is not None
    joined, known, seen = join(rows, shared_B, flat=flat), llama_trunk.gated_mlp, list[int]()
    monkeypatch.setattr(llama_trunk, "gated_mlp", lambda x, *rest: (seen.append(len(x)), known(x, *rest))[1])

    where_BT = rows.response_mask_BT & (
        (rows.ids_BT > 12) | (rows.ids_BT == 10)
    )  # few enough for the last block to run on them alone

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        states = llama_trunk.states(model, joined, where_BT, flat=flat, low=low)
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        return [states.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    found = run()
    assert joined.ids_UL.shape == ((1, 17) if flat else (2, 9))
    assert len(seen) == 2
    assert all(number % 16 == 0 for number in seen) == (low == torch.bfloat16)
    monkeypatch.setattr(llama_trunk, "filled", lambda x: x)
    for one, other in zip(found, run(), strict=True):
        assert (one - other).norm() <= (1e-6 if low == torch.float32 else 5e-3) * other.norm()
