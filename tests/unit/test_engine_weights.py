"""Products of decoding and of prompts: every number of rows gives the same, and oneDNN meets few of them."""

from __future__ import annotations

import pytest
import torch

from accord.engines import weights
from accord.engines.anatomy import Activation, Matrix
from accord.engines.weights import Product


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> tuple[Matrix, Product]:
    monkeypatch.setattr(weights, "_WORTH_PACKING", 0)
    draw = torch.Generator().manual_seed(0)
    matrix = Matrix(torch.randn(24, 16, generator=draw), torch.randn(24, generator=draw))
    product = Product([matrix], None, 8, Activation(torch.nn.functional.gelu, "none"))
    if product._packed is None:
        pytest.skip("oneDNN packs nothing here")
    return matrix, product


@pytest.mark.parametrize("shape", [(5,), (128,), (129,), (300,), (2, 3), (3, 77)])
def test_many_rows_give_what_few_give(given: tuple[Matrix, Product], shape: tuple[int, ...]) -> None:
    (weight_OI, bias_O), product = given
    x = torch.randn(*shape, 16, generator=torch.Generator().manual_seed(1))
    plain = Product([Matrix(weight_OI, bias_O)], None, 8)
    onto = torch.randn(*shape, 24, generator=torch.Generator().manual_seed(2))
    wanted = torch.nn.functional.linear(x, weight_OI, bias_O)
    torch.testing.assert_close(product(x), torch.nn.functional.gelu(wanted), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain(x), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain.added(x, onto), onto + wanted, rtol=1e-5, atol=1e-5)


def test_what_is_kept_for_prompts_does_not_grow_with_their_numbers(given: tuple[Matrix, Product]) -> None:
    (weight_OI, bias_O), _ = given
    product, met = Product([Matrix(weight_OI, bias_O)], None, 8), set[int]()
    inner, fused = product._linear, product._linear_and_sum

    def seen(x: torch.Tensor, *rest: object) -> torch.Tensor:
        met.add(x.numel() // 16)
        return (inner if len(rest) == 5 else fused)(x, *rest)

    product._linear, product._linear_and_sum = seen, seen
    for rows in range(100, 512):
        product(torch.zeros(rows, 16))
        product.added(torch.zeros(rows, 16), torch.zeros(rows, 24))
        product.added(torch.zeros(1, rows, 16), torch.zeros(1, rows, 24))
    assert {rows for rows in met if rows <= 128} == set(range(100, 129))
    assert len({rows for rows in met if rows > 128}) == 24
