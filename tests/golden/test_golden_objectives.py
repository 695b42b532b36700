"""The DPO objective, from per-token log-probabilities to the mean loss, against golden values."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from accord.batch import Batch, Forward, collate
from accord.train.objectives import DPO

GOLDEN = json.loads(Path(os.environ.get("ACCORD_GOLDEN", Path(__file__).with_name("golden.json"))).read_text())[
    "golden"
]


def pairs() -> tuple[Forward, Batch]:
    """The preference fixture as a batch: one untrained token, then the reply."""
    fixture = GOLDEN["pref/fixture"]
    policy, ref = [], []
    for side in zip(fixture["policy_chosen_tokens"], fixture["policy_rejected_tokens"], strict=True):
        policy += side
    for side in zip(fixture["ref_chosen_tokens"], fixture["ref_rejected_tokens"], strict=True):
        ref += side
    masks = [[False] + [True] * len(row) for row in policy]
    groups = [i // 2 for i in range(len(policy))]
    batch = collate([[1] * len(mask) for mask in masks], masks, pad_id=0, group=groups)
    logp_BT, ref_BT = (torch.zeros(batch.ids_BT.shape, dtype=torch.float64) for _ in range(2))
    for b, (row, ref_row) in enumerate(zip(policy, ref, strict=True)):
        logp_BT[b, 1 : 1 + len(row)] = torch.tensor(row, dtype=torch.float64)
        ref_BT[b, 1 : 1 + len(row)] = torch.tensor(ref_row, dtype=torch.float64)
    return Forward(logp_BT=logp_BT), batch.replace(ref_logp_BT=ref_BT)


@pytest.mark.parametrize(
    ("entry", "objective"),
    [
        ("pref/dpo_beta0.1", DPO(beta=0.1)),
        ("pref/dpo_beta0.5", DPO(beta=0.5)),
        ("pref/cdpo_eps0.1", DPO(beta=0.1, label_smoothing=0.1)),
        ("pref/dpo_plus_sft_seq_mean_w1", DPO(beta=0.1, rpo_alpha=1.0)),
    ],
)
def test_mean_loss_is_the_golden_one(entry: str, objective: DPO) -> None:
    out, batch = pairs()
    mean = objective(out, batch).loss / objective.denominator(batch)
    assert float(mean) == pytest.approx(GOLDEN[entry]["value"], abs=1e-9)


def test_a_barely_preferred_reply_is_not_imitated() -> None:
    out, batch = pairs()
    even = batch.replace(target_B=torch.full((batch.num_rows,), 0.5, dtype=torch.float64))
    assert float(DPO(rpo_alpha=1.0)(out, even).loss) == pytest.approx(float(DPO()(out, even).loss), abs=1e-12)
