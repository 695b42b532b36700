"""Passes over the rows of a round cut where learning does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from accord.batch import Batch, collate
from accord.train import passes
from accord.train.passes import over_rows


@pytest.mark.parametrize("flat", [True, False])
def test_models_that_pay_for_no_padding_read_more_rows_at_once(flat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = list(range(100))
    rows = [[*prompt, 5 + k, *([k] * 60)] for k in range(4)] + [[7, *prompt, 5 + k, *([k] * 50)] for k in range(4)]
    masks = [[place > 100 for place in range(len(row))] for row in rows]
    batch = collate(rows, masks, pad_id=0, group=[0] * 4 + [1] * 4)
    seen: list[int] = []

    def look(micro: Batch) -> dict[str, Tensor | None]:
        seen.append(micro.num_rows)
        return {"last": micro.ids_BT.float(), "none": None}

    monkeypatch.setattr(passes, "lays_flat", lambda _: flat)
    found = over_rows(batch, look, nn.Linear(1, 1), token_budget=1000)
    assert seen == ([8] if flat else [4, 4])
    assert torch.equal(found["last"], batch.ids_BT.float())
