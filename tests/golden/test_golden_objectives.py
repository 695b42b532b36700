"""Objectives on pairs and single replies, from log-probabilities of tokens to the mean loss, against golden values."""

from __future__ import annotations

import pytest
import torch
from golden_file import ENTRIES as GOLDEN
from golden_file import number_after

from accord.batch import Batch, Forward, collate
from accord.train.objectives import DPO, Pairwise, Rowwise


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


def beta_of(name: str) -> float:
    return GOLDEN[name]["beta"]


BETA = beta_of("pref/dpo_beta0.1")
"""Of entries that do not hold theirs; their name or formula is that of DPO or CPO."""


@pytest.mark.parametrize(
    ("entry", "objective"),
    [
        ("pref/dpo_beta0.1", DPO(beta=BETA)),
        ("pref/dpo_beta0.5", DPO(beta=beta_of("pref/dpo_beta0.5"))),
        ("pref/cdpo_eps0.1", DPO(beta=BETA, label_smoothing=GOLDEN["pref/cdpo_eps0.1"]["label_smoothing"])),
        ("pref/dpo_reference_free_beta0.1", DPO(beta=BETA, reference_free=True)),
        ("pref/dpo_plus_sft_seq_mean_w1", DPO(beta=BETA, rpo_alpha=1.0)),
        ("pref/dpo_plus_sft_token_mean_w1", Pairwise(beta=BETA, loss_type=("sigmoid", "sft"))),
        ("pref/cpo_total_alpha1", Pairwise(beta=beta_of("pref/cpo_prefer_beta0.1"), loss_type=("cpo",))),
        (
            "pref/orpo_total_completion_nll",
            Pairwise(beta=number_after("pref/orpo_or_term_lambda0.1", "lambda"), loss_type=("orpo",)),
        ),
        ("pref/dpo_norm_beta5", Pairwise(beta=beta_of("pref/dpo_norm_beta5"), loss_type=("sigmoid_norm",))),
        ("pref/ipo_avg_tau0.1", Pairwise(beta=beta_of("pref/ipo_avg_tau0.1"), loss_type=("ipo",))),
        ("pref/ipo_sum_tau0.1", Pairwise(beta=beta_of("pref/ipo_sum_tau0.1"), loss_type=("ipo_sum",))),
        ("pref/ld_dpo_alpha0.5", Pairwise(beta=BETA, ld_alpha=number_after("pref/ld_dpo_alpha0.5", "alpha"))),
        ("pref/js_fdpo", Pairwise(beta=beta_of("pref/js_fdpo"), f_divergence_type="js_divergence")),
        (
            "pref/exo_pair_eps1e-3",
            Pairwise(
                beta=beta_of("pref/exo_pair_eps1e-3"),
                label_smoothing=GOLDEN["pref/exo_pair_eps1e-3"]["label_smoothing"],
                loss_type=("exo_pair",),
            ),
        ),
        ("pref/aot", Pairwise(beta=beta_of("pref/aot"), loss_type=("aot",))),
        ("pref/aot_unpaired", Pairwise(beta=beta_of("pref/aot_unpaired"), loss_type=("aot_unpaired",))),
    ],
)
@pytest.mark.parametrize("budget", [1, 10**6], ids=["split", "whole"])
def test_mean_loss_is_the_golden_one(entry: str, objective: Pairwise, budget: int) -> None:
    out, batch = pairs()
    assert out.logp_BT is not None
    known_BT = out.logp_BT

    def forward(part: Batch) -> Forward:
        # Nothing but reference log-probs tells the rows of the fixture apart.
        width = part.ids_BT.shape[1]
        rows = [int((batch.ref_logp_BT[:, :width] == ref).all(1).nonzero()[0]) for ref in part.ref_logp_BT]
        return Forward(known_BT[rows, :width])

    ready = objective.prepare(batch, forward, budget)
    total = sum(float(objective(forward(part), part).loss) for part in ready.split(budget))
    assert total / float(objective.denominator(ready)) == pytest.approx(GOLDEN[entry]["value"], abs=1e-9)


@pytest.mark.parametrize("entry", ["pref/kto", "pref/kto_lu1.33", "pref/apo_zero_unpaired"])
def test_mean_loss_of_single_replies_is_the_golden_one(entry: str) -> None:
    """Mismatched log-ratios of the fixture are one number a reply, so they come as a reply of one token."""
    want, fixture = GOLDEN[entry], GOLDEN["pref/fixture"]
    objective = Rowwise(
        beta=want["beta"],
        loss_type="kto" if "kto" in entry else "apo_zero_unpaired",
        desirable_weight=want.get("lambda_d", 1.0),
        undesirable_weight=want.get("lambda_u", 1.0),
    )
    out, batch = pairs()
    assert out.logp_BT is not None and batch.ref_logp_BT is not None
    mismatches = zip(fixture["kl_policy"], fixture["kl_ref"], strict=True)
    policy, ref, masks, targets = [], [], [], []
    for b, (kl, kl_ref) in enumerate(mismatches):
        policy += [out.logp_BT[b], torch.tensor([0, kl], dtype=torch.float64)]
        ref += [batch.ref_logp_BT[b], torch.tensor([0, kl_ref], dtype=torch.float64)]
        masks += [batch.response_mask_BT[b].tolist(), [False, True]]
        targets += [float(b % 2 == 0)] * 2
    ids = [[b + 1] * len(mask) for b, mask in enumerate(masks)]
    rows = collate(ids, masks, pad_id=0, group=[b // 2 for b in range(len(ids))])
    logp_BT, ref_BT = (
        torch.stack([torch.nn.functional.pad(x.double(), (0, rows.ids_BT.shape[1] - len(x))) for x in side])
        for side in (policy, ref)
    )
    rows = rows.replace(ref_logp_BT=ref_BT, target_B=torch.tensor(targets, dtype=torch.float64))

    def forward(part: Batch) -> Forward:
        return Forward(logp_BT[part.ids_BT[:, 0] - 1, : part.ids_BT.shape[1]])

    if not objective.needs_mismatches:
        rows = rows.select(range(0, rows.num_rows, 2))
    ready = objective.prepare(rows, forward, 5)
    total = sum(float(objective(forward(part), part).loss) for part in ready.split(5))
    assert total / float(objective.denominator(ready)) == pytest.approx(want["value"], abs=1e-9)


def test_a_barely_preferred_reply_is_not_imitated() -> None:
    out, batch = pairs()
    even = batch.replace(target_B=torch.full((batch.num_rows,), 0.5, dtype=torch.float64))
    assert float(DPO(rpo_alpha=1.0)(out, even).loss) == pytest.approx(float(DPO()(out, even).loss), abs=1e-12)
