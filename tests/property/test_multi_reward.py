"""Ensembles, attributes, ODIN and steps: identities of the functions, and one gradient however a batch is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.batch import Batch, Forward
from accord.functional.attributes import attribute_bradley_terry, attribute_mse, weighted_attributes
from accord.functional.disentangle import length_penalty, overlap, pearson
from accord.functional.ensembles import combine, disagreement, lower_bound
from accord.functional.reward_losses import bradley_terry
from accord.functional.steps import aggregate_steps, step_nll
from accord.models.score_heads import HeadScores, StepScores, with_adapters, with_heads, with_models
from accord.train.loop import prepared
from accord.train.objectives import (
    AttributeBradleyTerry,
    AttributeRegression,
    BradleyTerry,
    EnsembleBradleyTerry,
    Odin,
    StepNLL,
)
from train_models import random_batch, scorer, widen

F64 = torch.float64
WAYS: Any = ("mean", "worst", "uncertainty", "median", "lower")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("how", WAYS)
def test_equal_members_are_one_member(how: Any) -> None:
    score_B = draw(5)
    same_BK = score_B[:, None].expand(5, 4).clone().requires_grad_(True)
    combined_B = combine(same_BK, how, 0.7)
    torch.testing.assert_close(combined_B, score_B, rtol=0, atol=1e-12)
    assert float(disagreement(same_BK).detach().abs().max()) < 1e-30
    (gradient,) = torch.autograd.grad(combined_B.sum(), same_BK)
    torch.testing.assert_close(gradient.sum(1), torch.ones(5, dtype=F64))


@given(st.integers(0, 100), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_combinations_are_ordered_and_do_not_know_the_order_of_members(seed: int, members: int) -> None:
    scores_BK = draw(4, members, seed=seed)
    mean_B, worst_B = combine(scores_BK), combine(scores_BK, "worst")
    assert bool((worst_B <= mean_B + 1e-12).all())
    assert bool((combine(scores_BK, "uncertainty", 0.5) <= mean_B + 1e-12).all())
    torch.testing.assert_close(lower_bound(scores_BK, 2.0), mean_B - 2 * scores_BK.std(1, correction=0))
    shuffled_BK = scores_BK[:, torch.randperm(members, generator=torch.Generator().manual_seed(seed))]
    for how in WAYS:
        torch.testing.assert_close(combine(scores_BK, how, 0.3), combine(shuffled_BK, how, 0.3))


def test_the_median_of_an_even_number_is_between_the_middle_two() -> None:
    assert combine(torch.tensor([[4.0, 1.0, 2.0, 10.0]]), "median").tolist() == [3.0]
    assert combine(torch.tensor([[4.0, 1.0, 10.0]]), "median").tolist() == [4.0]


def test_an_unknown_rating_is_not_a_rating_of_zero() -> None:
    score_BK, target_BK = draw(3, 2).requires_grad_(True), draw(3, 2, seed=1)
    target_BK[1, 0] = torch.nan
    for loss_BK in (attribute_mse(score_BK, target_BK), attribute_bradley_terry(score_BK, -score_BK, target_BK)):
        (gradient,) = torch.autograd.grad(loss_BK.sum(), score_BK, retain_graph=True)
        assert float(loss_BK[1, 0].detach()) == 0 and float(gradient[1, 0]) == 0
        assert bool(torch.isfinite(loss_BK).all()) and int((gradient == 0).sum()) == 1
    assert weighted_attributes(torch.eye(2), torch.tensor([0.5, -2.0])).tolist() == [0.5, -2.0]


def test_correlation() -> None:
    x_B, y_B = draw(9), draw(9, seed=1)
    expected = torch.corrcoef(torch.stack([x_B, y_B]))[0, 1]
    torch.testing.assert_close(pearson(x_B, y_B), expected)
    torch.testing.assert_close(pearson(3 * x_B + 1, y_B), expected)
    constant_B = torch.ones(9, dtype=F64, requires_grad=True)
    assert torch.autograd.grad(pearson(constant_B, y_B), constant_B)[0].tolist() == [0.0] * 9
    # A quality head that reads length either way is punished, a length head is rewarded for reading it.
    assert float(length_penalty(y_B, y_B, y_B)) == pytest.approx(0)
    assert float(length_penalty(-y_B, -y_B, y_B)) == pytest.approx(2)


def test_overlap_is_of_directions() -> None:
    weight = draw(2, 5)
    assert float(overlap(weight)) == pytest.approx(float(overlap(weight * torch.tensor([[3.0], [-0.1]]))))
    assert float(overlap(weight[[0, 0]])) == pytest.approx(1)


def test_steps_that_do_not_count_change_nothing() -> None:
    mask = torch.tensor([[False, True, False, True], [False, False, False, False]])
    score_BT = draw(2, 4)
    target_BT = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    garbage_BT = torch.where(mask, score_BT, torch.nan).requires_grad_(True)
    loss_BT = step_nll(garbage_BT, torch.where(mask, target_BT, torch.nan), mask)
    p = torch.sigmoid(score_BT[0])
    assert loss_BT[0].tolist() == pytest.approx([0, -float(p[1].log()), 0, -float((1 - p[3]).log())])
    assert bool(torch.isfinite(torch.autograd.grad(loss_BT.sum(), garbage_BT)[0]).all())
    for how, expected in (("min", min(p[1], p[3])), ("product", p[1] * p[3]), ("last", p[3])):
        found_B = aggregate_steps(garbage_BT.detach(), mask, how)  # type: ignore[arg-type]
        assert float(found_B[0]) == pytest.approx(float(expected))
        assert bool(found_B[1].isnan())


def with_extras(batch: Batch) -> Batch:
    rand = torch.Generator().manual_seed(9)
    rows = batch.num_rows

    def of_pairs(values: torch.Tensor) -> torch.Tensor:
        return values.repeat_interleave(2, dim=0)

    target_BK = of_pairs(torch.rand(rows // 2, 2, generator=rand, dtype=F64))
    target_BK[0:2, 1] = torch.nan
    return batch.replace(
        weight_BK=of_pairs(torch.poisson(torch.ones(rows // 2, 2, dtype=F64), generator=rand)),
        target_BK=target_BK,
        target_BT=(torch.rand(batch.ids_BT.shape, generator=rand) > 0.5).double(),
    )


def heads(with_overlap: bool = False) -> HeadScores:
    return with_heads(scorer(F64), 2, seed=3, with_overlap=with_overlap)


CASES: dict[str, Any] = {
    "ensemble of heads": (heads, EnsembleBradleyTerry(center=0.01)),
    "ensemble of adapters": (
        lambda: with_adapters(scorer(F64), 2, 3, r=2, alpha=4.0, targets=None),
        EnsembleBradleyTerry(),
    ),
    "ensemble of models": (lambda: with_models(scorer(F64), 2, 3), EnsembleBradleyTerry()),
    "attribute regression": (heads, AttributeRegression()),
    "attribute bradley-terry": (heads, AttributeBradleyTerry()),
    "odin": (lambda: heads(with_overlap=True), Odin(center=0.01, length_weight=1.5, overlap_weight=0.5)),
    "steps": (lambda: StepScores(scorer(F64)), StepNLL()),
}


def gradient(module: Any, objective: Any, batch: Batch, budget: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient of one optimiser step, cut into micro-batches."""
    module.zero_grad()
    whole = prepared(objective, batch, module, budget)
    total = objective.denominator(whole)
    loss = torch.zeros((), dtype=F64)
    for micro in whole.split(budget):
        part = objective(module(micro), micro).loss / total
        part.backward()
        loss = loss + part.detach()
    grads = [p.grad.flatten() for p in module.parameters() if p.requires_grad and p.grad is not None]
    return loss, torch.cat(grads)


@pytest.mark.parametrize("name", CASES)
def test_micro_batches_and_padding_change_nothing(name: str) -> None:
    make, objective = CASES[name]
    module, batch = make(), with_extras(random_batch(5, seed=2))
    loss, grad = gradient(module, objective, batch, 10_000)
    assert float(grad.abs().max()) > 1e-4
    order = torch.arange(9, -1, -1).reshape(5, 2).flip(1).flatten()  # pairs in another order
    for other, budget in ((batch, 1), (batch, 30), (widen(batch, 3, 7), 10_000), (batch.select(order), 40)):
        found_loss, found_grad = gradient(module, objective, other, budget)
        torch.testing.assert_close(found_loss, loss, rtol=0, atol=1e-10)
        torch.testing.assert_close(found_grad, grad, rtol=0, atol=1e-10)


def test_odin_is_the_loss_of_the_paper() -> None:
    """Value and gradient against autograd of the formula over the whole batch."""
    module = heads(with_overlap=True)
    batch = random_batch(4, seed=5).replace(margin_B=None, target_B=None, weight_B=None)
    loss, grad = gradient(module, Odin(length_weight=0.7, overlap_weight=0.3), batch, 20)
    module.zero_grad()
    scores_BK = module(batch).scores_BK
    assert scores_BK is not None
    total_B, tokens_B = scores_BK.sum(1), batch.response_mask_BT.sum(1).double()
    expected = bradley_terry(total_B[0::2], total_B[1::2]).mean()
    expected = expected + 0.7 * (
        torch.corrcoef(torch.stack([scores_BK[:, 0], tokens_B]))[0, 1].abs()
        - torch.corrcoef(torch.stack([scores_BK[:, 1], tokens_B]))[0, 1]
    )
    first, second = module.head.weight
    expected = expected + 0.3 * torch.cosine_similarity(first, second, dim=0).abs()
    expected.backward()
    direct = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-10)
    # The micro-batches add up what rows share in another order, and transformers' norms round to float32.
    torch.testing.assert_close(grad, direct, rtol=0, atol=1e-6)


def test_a_member_of_an_ensemble_is_trained_like_a_model_of_its_own() -> None:
    """With K = 1 and no bootstrap the objective is Bradley-Terry."""
    batch = random_batch(4, seed=1)
    scores_B = draw(8, seed=4)
    ensemble, single = EnsembleBradleyTerry(center=0.02), BradleyTerry(center=0.02)
    one = ensemble(Forward(scores_BK=scores_B[:, None].expand(8, 3)), batch)
    other = single(Forward(score_B=scores_B), batch)
    torch.testing.assert_close(one.loss, other.loss)
    torch.testing.assert_close(ensemble.denominator(batch), single.denominator(batch))


def test_bootstrap_weights_are_repeated_pairs() -> None:
    batch = random_batch(3, seed=1).replace(weight_B=None)
    scores_BK = draw(6, 2, seed=4)
    weights = torch.tensor([[2.0, 0.0], [1.0, 3.0], [0.0, 1.0]], dtype=F64).repeat_interleave(2, 0)
    found = EnsembleBradleyTerry()(Forward(scores_BK=scores_BK), batch.replace(weight_BK=weights)).loss
    expected = torch.zeros((), dtype=F64)
    for k, picks in enumerate(([0, 0, 1], [1, 1, 1, 2])):
        rows = [row for p in picks for row in (2 * p, 2 * p + 1)]
        expected = expected + BradleyTerry()(Forward(score_B=scores_BK[rows, k]), _select(batch, rows)).loss / 2
    torch.testing.assert_close(found, expected)


def _select(batch: Batch, rows: list[int]) -> Batch:
    picked = batch.select(rows)
    return picked.replace(group_B=torch.arange(len(rows)) // 2)
