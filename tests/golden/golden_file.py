"""Access to the golden values: inputs and expected results are read from one file and never written here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

PATH = Path(os.environ.get("ACCORD_GOLDEN") or Path(__file__).with_name("golden.json"))
ENTRIES: dict[str, dict[str, Any]] = json.loads(PATH.read_text())["golden"]

both_dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])


def entry(name: str) -> dict[str, Any]:
    """One golden entry."""
    return ENTRIES[name]


def number_after(name: str, marker: str) -> float:
    """The number in an entry's name after `marker`: 0.01 for ("rm/bt_center0.01", "center")."""
    digits = ""
    for character in name.split(marker, 1)[1]:
        if not (character.isdigit() or character == "."):
            break
        digits += character
    return float(digits)


def padded(rows: list[list[float]], width: int, dtype: torch.dtype, fill: float = 0.0) -> Tensor:
    """Ragged rows as one tensor."""
    return torch.tensor([list(row) + [fill] * (width - len(row)) for row in rows], dtype=dtype)


def check(actual: Tensor | float, expected: Any, dtype: torch.dtype = torch.float64) -> None:
    """Compare at 1e-9 in float64 and at 1e-5 relative in float32."""
    if isinstance(actual, Tensor):
        assert actual.dtype == dtype
        actual = actual.detach()
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    rtol, atol = (0.0, 1e-9) if dtype == torch.float64 else (1e-5, 1e-6)
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64), wanted, rtol=rtol, atol=atol, check_dtype=False
    )


def differs(actual: Tensor, wrong: Any) -> bool:
    """Whether the result clearly is not that of a known mistake."""
    return bool((actual.detach().double() - torch.as_tensor(wrong, dtype=torch.float64)).abs().max() > 1e-6)
