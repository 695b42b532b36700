"""Objectives on pairs and on single replies: the same step for any split, padding, order and number format."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from accord.batch import Batch, Forward
from accord.errors import TrainingError
from accord.functional.masks import masked_sum
from accord.functional.pair_logps import PairLogps
from accord.functional.preference_losses import PAIR_LOSSES
from accord.train.loop import update
from accord.train.objectives import Pairwise, Rowwise
from accord.train.reference import whole_logp
from train_models import VOCAB, make_learner, random_batch, widen

EVERYTHING = 10**9
OBJECTIVES: dict[str, Pairwise] = {
    **{name: Pairwise(loss_type=(name,), label_smoothing=0.1) for name in PAIR_LOSSES},
    "mixture": Pairwise(loss_type=("sigmoid", "bco_pair", "sft"), loss_weights=(0.8, 0.2, 1.0)),
    "aot and sft": Pairwise(loss_type=("aot", "sft"), beta=0.5),
    "ld": Pairwise(ld_alpha=0.4, rpo_alpha=0.3),
    "js": Pairwise(f_divergence_type="js_divergence"),
    "free": Pairwise(reference_free=True),
}
SINGLE: dict[str, Rowwise] = {
    name: Rowwise(loss_type=name, desirable_weight=1.2) for name in ("kto", "bco", "apo_zero_unpaired")
}


class Bigram(nn.Module):
    """Log-probabilities from one table."""

    def __init__(self) -> None:
        super().__init__()
        rand = torch.Generator().manual_seed(1)
        self.table = nn.Parameter(torch.randn(VOCAB, VOCAB, generator=rand, dtype=torch.float64))

    def forward(self, batch: Batch) -> Forward:
        logp_BT = self.table.log_softmax(-1)[batch.ids_BT[:, :-1]].gather(-1, batch.ids_BT[:, 1:, None]).squeeze(-1)
        return Forward(nn.functional.pad(torch.where(batch.response_mask_BT[:, 1:], logp_BT, 0.0), (1, 0)))


def pairs(num: int, seed: int, *, plain: bool) -> Batch:
    batch = random_batch(num, seed=seed)
    return batch.replace(weight_B=None, target_B=None) if plain else batch


def thumbs(num: int, seed: int) -> Batch:
    """The layout of KTO: a reply, and a reply to another prompt."""
    batch = random_batch(num, seed=seed)
    rand = torch.Generator().manual_seed(seed)
    label_B = (torch.rand(num, generator=rand) < 0.5).double().repeat_interleave(2)
    return batch.replace(target_B=label_B)


def step(objective: Any, batch: Batch, budget: int) -> dict[str, Tensor]:
    module = Bigram()
    learner = make_learner(module, token_budget=budget, max_grad_norm=0.0, learning_rate=0.0)
    metrics = update(learner, batch, objective)
    return {"gradient": module.table.grad, **{name: torch.tensor(v) for name, v in metrics.items()}}


def check_equal(got: dict[str, Tensor], wanted: dict[str, Tensor], relative: float = 1e-9) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (got[name] - value).abs().max() <= relative * value.abs().max() + 1e-12, name


def plain(name: str) -> bool:
    return "aot_unpaired" in name


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(OBJECTIVES)), st.integers(1, 7), st.integers(0, 10**6), st.integers(1, 200))
def test_a_step_on_pairs_is_the_same_for_any_split(name: str, num: int, seed: int, budget: int) -> None:
    batch = pairs(num, seed, plain=plain(name))
    check_equal(step(OBJECTIVES[name], batch, budget), step(OBJECTIVES[name], batch, EVERYTHING))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(SINGLE)), st.integers(1, 7), st.integers(0, 10**6), st.integers(1, 200))
def test_a_step_on_replies_is_the_same_for_any_split(name: str, num: int, seed: int, budget: int) -> None:
    batch = thumbs(num, seed)
    batch = batch if SINGLE[name].needs_mismatches else batch.replace(group_B=torch.arange(2 * num))
    check_equal(step(SINGLE[name], batch, budget), step(SINGLE[name], batch, EVERYTHING))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_order_and_padding_of_pairs_do_not_matter(name: str) -> None:
    batch = pairs(6, 3, plain=plain(name))
    wanted = step(OBJECTIVES[name], batch, EVERYTHING)
    order = [4, 1, 5, 0, 3, 2]
    check_equal(step(OBJECTIVES[name], batch.select([2 * g + i for g in order for i in (0, 1)]), 40), wanted)
    wide = widen(batch, 4, 9)
    module = Bigram()
    ready = OBJECTIVES[name].prepare(wide, module, EVERYTHING)
    (OBJECTIVES[name](module(ready), ready).loss / OBJECTIVES[name].denominator(ready)).backward()
    check_equal({"gradient": module.table.grad}, {"gradient": wanted["gradient"]})
    assert wanted["gradient"].abs().max() > 1e-6


@pytest.mark.parametrize("name", [*OBJECTIVES, *SINGLE])
def test_what_stands_outside_the_mask_is_not_read(name: str) -> None:
    objective: Any = OBJECTIVES.get(name) or SINGLE[name]
    batch = thumbs(5, 2) if name in SINGLE else pairs(5, 2, plain=plain(name))
    mask_BT = batch.response_mask_BT
    line_BT = -torch.rand(mask_BT.shape, generator=torch.manual_seed(0), dtype=torch.float64)
    found = []
    for fill in (0.0, 3.0, math.nan):
        filled = batch.replace(ref_logp_BT=torch.where(mask_BT, batch.ref_logp_BT, fill))

        def said(part: Batch, fill: float = fill) -> Forward:
            # The row is known by its first ids, which differ in this batch.
            rows = [int((batch.ids_BT[:, : part.ids_BT.shape[1]] == ids).all(1).nonzero()[0]) for ids in part.ids_BT]
            width = part.ids_BT.shape[1]
            return Forward(torch.where(part.response_mask_BT, line_BT[rows, :width], fill))

        ready = objective.prepare(filled, said, EVERYTHING)
        leaf_BT = said(ready).logp_BT.requires_grad_()
        terms = objective(Forward(leaf_BT), ready)
        assert all(math.isfinite(mean.value) for mean in terms.metrics.values() if float(mean.count))
        found.append((terms.loss.item(), torch.autograd.grad(terms.loss, leaf_BT)[0]))
        assert not found[-1][1][~ready.response_mask_BT].any()
    assert math.isfinite(found[0][0])
    for loss, grad in found[1:]:
        assert loss == found[0][0] and torch.equal(grad, found[0][1])


IMITATING = [name for name, objective in OBJECTIVES.items() if objective.nll_weight or objective.rpo_alpha]
"""A stated deviation: the likelihood of a reply weighs 2p - 1 under a soft label."""


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if not plain(name) and name not in IMITATING])
def test_a_soft_label_is_the_expectation_over_both_orders(name: str) -> None:
    """p L(w, l) + (1 - p) L(l, w), with the rows of the batch really exchanged."""
    objective = OBJECTIVES[name]
    batch = pairs(4, 6, plain=True)
    turned = batch.select([1, 0, 3, 2, 5, 4, 7, 6])
    p = 0.7
    losses = []
    for one in (batch.replace(target_B=torch.full((8,), p, dtype=torch.float64)), batch, turned):
        ready = objective.prepare(one, Bigram(), EVERYTHING)
        losses.append(objective(Bigram()(ready), ready).loss)
    torch.testing.assert_close(losses[0], p * losses[1] + (1 - p) * losses[2])


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_optimal_transport_in_parts_is_that_of_the_whole_batch(name: str) -> None:
    batch = pairs(7, 8, plain=True)
    objective = Pairwise(loss_type=(name,), beta=0.5)
    got = step(objective, batch, 1)
    module = Bigram()
    logp_B = module(batch).logp_BT.sum(1)
    ref_B = masked_sum(batch.ref_logp_BT, batch.response_mask_BT, dim=1)
    ones_P = torch.ones(7)
    carrier = PairLogps(logp_B[0::2], logp_B[1::2], ref_B[0::2], ref_B[1::2], ones_P, ones_P)
    loss = PAIR_LOSSES[name].function(carrier, beta=0.5).mean()
    (wanted,) = torch.autograd.grad(loss, [module.table])
    check_equal({"gradient": got["gradient"]}, {"gradient": wanted})
    assert float(got["loss"]) == pytest.approx(loss.item())
    own = step(Pairwise(beta=0.5), batch, 1)["gradient"]
    assert (own - wanted).abs().max() > 1e-4, "the ranks matter in this batch"


def test_unpaired_transport_refuses_weights_and_soft_labels() -> None:
    batch = pairs(3, 1, plain=True)
    objective = Pairwise(loss_type=("aot_unpaired",))
    for field in ("weight_B", "target_B"):
        changed = batch.replace(**{field: torch.linspace(0.1, 0.9, 3).repeat_interleave(2)})
        with pytest.raises(TrainingError, match="aot_unpaired"):
            objective.prepare(changed, Bigram(), EVERYTHING)


def test_the_reference_point_of_kto_is_over_the_whole_step() -> None:
    """z0 from the mismatched rows, which are not trained; micro-batches of one example would each have their own."""
    batch = thumbs(7, 4)
    module = Bigram()
    ratio_B = masked_sum(module(batch).logp_BT - batch.ref_logp_BT, batch.response_mask_BT, dim=1).detach()
    others_B = ratio_B[1::2]
    shift = 1.0 - float(others_B.mean())  # so that z0 is 1 on average when weights are equal
    lengths_B = batch.response_mask_BT.sum(1, keepdim=True)
    moved = batch.replace(ref_logp_BT=batch.ref_logp_BT - shift / lengths_B, weight_B=None)
    objective = Rowwise(beta=0.3)
    ready = objective.prepare(moved, partial(Bigram.forward, module), 20)
    assert ready.num_rows == 7 and torch.equal(ready.lengths_B, moved.lengths_B[0::2])
    torch.testing.assert_close(ready.anchor_B, torch.ones(7, dtype=torch.float64))
    terms = objective(module(ready), ready)
    label_B = moved.target_B[0::2]
    x_B = 0.3 * (ratio_B[0::2] + shift - 1.0)
    wanted_B = torch.where(label_B > 0.5, 1 - torch.sigmoid(x_B), 1 - torch.sigmoid(-x_B))
    assert float(terms.loss.detach()) == pytest.approx(float(wanted_B.sum()), rel=1e-9)
    assert terms.metrics["kl"].value == pytest.approx(1.0)
    with pytest.raises(TrainingError, match="two rows"):
        objective.prepare(ready, module, 20)


def test_whole_log_probs_are_in_the_order_of_the_batch() -> None:
    batch = random_batch(6, seed=9)
    whole_BT = Bigram()(batch).logp_BT.detach()
    for budget in (1, 20, 60, EVERYTHING):
        assert torch.equal(whole_logp(batch, Bigram(), budget), whole_BT)


@pytest.mark.parametrize(("loss", "rpo"), list(itertools.product(("cpo", "orpo", "sft"), (0.0, 0.5))))
def test_a_likelihood_term_is_the_mean_over_all_chosen_tokens(loss: str, rpo: float) -> None:
    batch = pairs(5, 7, plain=True)
    objective = Pairwise(loss_type=("sigmoid", loss), loss_weights=(1.0, 2.0), rpo_alpha=rpo)
    bare = Pairwise(loss_type=("sigmoid",), rpo_alpha=rpo)
    how = PAIR_LOSSES[loss]
    ready = objective.prepare(batch, Bigram(), EVERYTHING)
    out = Bigram()(ready)
    mask_BT = batch.response_mask_BT[0::2]
    nll = -out.logp_BT[0::2][mask_BT].mean().item()
    alone = 0.0
    if how.function is not None:
        alone = Pairwise(loss_type=(loss,), cpo_alpha=0.0)(out, ready).loss.item()
        alone -= 5 * nll if loss == "orpo" else 0.0
    wanted = bare(out, ready).loss.item() + 2.0 * (alone + 5 * nll)
    assert objective(out, ready).loss.item() == pytest.approx(wanted, rel=1e-9)
