"""Products with a packed matrix are the products, and a matrix is packed only where that pays and is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from accord.models.products import times


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
