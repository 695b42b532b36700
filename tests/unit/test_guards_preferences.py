"""Preferences by hand: weights, soft labels, statistics of the batch, ensembles, and what the prompt must not add."""

from __future__ import annotations

import math

import pytest
import torch

from accord.batch import Batch, Forward, collate
from accord.functional.divergences import alpha, forward_kl, reverse_kl
from accord.functional.ensembles import combine, disagreement
from accord.functional.pair_logps import PairLogps
from accord.functional.preference_losses import hinge
from accord.functional.unpaired_losses import kl_estimate, reward_shift
from accord.train.objectives import DPO
from accord.train.objectives.unpaired import Rowwise


def rows(num: int, prompt: int = 2, group: bool = True) -> Batch:
    """`num` replies of 1, 2, 3, ... tokens after prompts of `prompt`."""
    masks = [[False] * prompt + [True] * (1 + i) for i in range(num)]
    ids = [[1] * len(mask) for mask in masks]
    return collate(ids, masks, pad_id=0, group=[i // 2 for i in range(num)] if group else None)


def logps(batch: Batch, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return -torch.randn(batch.ids_BT.shape, generator=random, dtype=torch.float64).abs()


def summed(logp_BT: torch.Tensor, batch: Batch) -> list[float]:
    """Of the reply alone, whatever stands at prompt and padding."""
    return [float(logp_BT[b][batch.response_mask_BT[b]].sum()) for b in range(batch.num_rows)]


def nls(x: float) -> float:
    return math.log1p(math.exp(-x))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_labels_are_smoothed_and_pairs_weighed(smoothing):
    batch = rows(4)
    new, ref = logps(batch, 1), logps(batch, 2)
    target, weight = [0.9, 0.3], [2.0, 0.5]
    given = batch.replace(
        ref_logp_BT=ref,
        target_B=torch.tensor(target, dtype=torch.float64).repeat_interleave(2),
        weight_B=torch.tensor(weight, dtype=torch.float64).repeat_interleave(2),
    )
    objective = DPO(beta=0.5, label_smoothing=smoothing)
    u = [a - b for a, b in zip(summed(new, batch), summed(ref, batch), strict=True)]
    wanted = 0.0
    for i in range(2):
        h = 0.5 * (u[2 * i] - u[2 * i + 1])
        p = target[i] * (1 - smoothing) + (1 - target[i]) * smoothing
        wanted += weight[i] * (p * nls(h) + (1 - p) * nls(-h))
    assert float(objective(Forward(logp_BT=new), given).loss) == pytest.approx(wanted, abs=1e-12)
    assert float(objective.denominator(given)) == sum(weight)


@pytest.mark.parametrize("name", ["robust", "exo_pair"])
def test_losses_with_their_own_label_noise_are_not_smoothed_again(name):
    batch = rows(2)
    new, ref = logps(batch, 3), logps(batch, 4)
    found = float(
        DPO(beta=0.5, label_smoothing=0.1, loss_type=(name,))(Forward(logp_BT=new), batch.replace(ref_logp_BT=ref)).loss
    )
    a, b = (x - y for x, y in zip(summed(new, batch), summed(ref, batch), strict=True))
    right, wrong = -nls(0.5 * (a - b)), -nls(-0.5 * (a - b))
    wanted = {
        "robust": (-0.9 * right + 0.1 * wrong) / 0.8,
        "exo_pair": math.exp(right) * (right - math.log(0.9)) + math.exp(wrong) * (wrong - math.log(0.1)),
    }
    assert found == pytest.approx(wanted[name], abs=1e-12)


def test_the_statistics_of_kto_and_bco():
    ratio, weight = torch.tensor([1.0, -2.0, 4.0]), torch.tensor([1.0, 1.0, 2.0])
    assert float(kl_estimate(ratio, weight)) == pytest.approx(7 / 4)
    assert float(kl_estimate(-ratio, weight)) == 0.0
    target = torch.tensor([1.0, 0.0, 1.0])
    assert float(reward_shift(ratio, target, weight)) == pytest.approx(((1 + 8) / 3 - 2) / 2)
    assert float(reward_shift(ratio, torch.ones(3), weight)) == pytest.approx(7 / 4)


def test_kto_compares_with_replies_to_other_prompts_and_weighs_rows():
    batch = rows(4)
    new, ref = logps(batch, 5), logps(batch, 6)
    weight = [2.0, 2.0, 0.5, 0.5]
    given = batch.replace(
        ref_logp_BT=ref,
        target_B=torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64),
        weight_B=torch.tensor(weight, dtype=torch.float64),
    )
    u = [a - b for a, b in zip(summed(new, batch), summed(ref, batch), strict=True)]
    anchor = (2.0 * u[1] + 0.5 * u[3]) / 2.5
    if anchor < 0:  # make the estimate count
        new, ref, u, anchor = ref, new, [-x for x in u], -anchor
        given = given.replace(ref_logp_BT=ref)
    objective = Rowwise(beta=0.4, desirable_weight=1.5)

    def forward(micro: Batch) -> Forward:
        assert micro.group_B is not None
        return Forward(logp_BT=new[2 * micro.group_B + 1, : micro.ids_BT.shape[1]])  # the other reply of each example

    made = objective.prepare(given, forward, 10_000)
    assert made.anchor_B is not None
    assert made.anchor_B.tolist() == pytest.approx([anchor] * 2)
    loss = objective(Forward(logp_BT=new[[0, 2], : made.ids_BT.shape[1]]), made).loss
    good = 1.5 / (1 + math.exp(0.4 * (u[0] - anchor)))
    bad = 1.0 / (1 + math.exp(-0.4 * (u[2] - anchor)))
    assert float(loss) == pytest.approx(2.0 * good + 0.5 * bad, abs=1e-9)


def test_ensembles():
    scores = torch.tensor([[1.0, 2.0, 6.0], [0.5, 0.5, 0.5]], dtype=torch.float64)
    assert disagreement(scores).tolist() == pytest.approx([14 / 3, 0.0])
    assert combine(scores, "mean").tolist() == pytest.approx([3.0, 0.5])
    assert combine(scores, "worst").tolist() == [1.0, 0.5]
    assert combine(scores, "uncertainty", 0.5).tolist() == pytest.approx([3 - 7 / 3, 0.5])


def test_a_pair_past_the_hinge_costs_nothing():
    chosen, zero = torch.tensor([30.0, 4.0, -2.0]), torch.zeros(3)
    pairs = PairLogps(chosen, zero, zero, zero, torch.ones(3), torch.ones(3))
    assert hinge(pairs, beta=0.1).tolist() == pytest.approx([0.0, 0.6, 1.2])


def test_the_alpha_divergence_runs_from_the_forward_to_the_reverse_kl():
    x = torch.tensor([-1.0, 0.2, 2.0], dtype=torch.float64)
    # f' is known up to a constant.
    torch.testing.assert_close(alpha(x, coefficient=0.0) - 1.0, forward_kl(x))
    torch.testing.assert_close(alpha(x, coefficient=1 - 1e-9), reverse_kl(x), rtol=0, atol=1e-6)
    wanted = [(math.exp(-0.7 * float(v)) - 1) / -0.7 for v in x]
    assert alpha(x, coefficient=0.3).tolist() == pytest.approx(wanted)
