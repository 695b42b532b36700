"""One optimiser step does not depend on how its batch is cut into micro-batches, padded or ordered."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from accord.batch import Batch, Forward
from accord.train.loop import update
from accord.train.objectives import DPO, NLL, PPO, BradleyTerry
from train_models import CASES, VOCAB, make_learner, random_batch, widen

BATCH = random_batch(6)
EVERYTHING = 10**9
BUDGETS = [1, 17, 40, 75, EVERYTHING]


class Bigram(nn.Module):
    """Everything a model can say about a row, from one table: cheap enough for hundreds of examples."""

    def __init__(self) -> None:
        super().__init__()
        rand = torch.Generator().manual_seed(1)
        self.table = nn.Parameter(torch.randn(VOCAB, VOCAB, generator=rand, dtype=torch.float64))

    def forward(self, batch: Batch) -> Forward:
        logp_BTV = self.table.log_softmax(-1)[batch.ids_BT[:, :-1]]
        logp_BT = logp_BTV.gather(-1, batch.ids_BT[:, 1:, None]).squeeze(-1)
        entropy_BT = -(logp_BTV.exp() * logp_BTV).sum(-1)
        value_BT = self.table[batch.ids_BT[:, :-1], 0]
        mask_BT = batch.response_mask_BT[:, 1:]
        score_B = torch.where(batch.token_mask_BT, self.table[batch.ids_BT, 1], 0.0).sum(1)

        def place(x: Tensor) -> Tensor:
            return nn.functional.pad(torch.where(mask_BT, x, 0.0), (1, 0))

        return Forward(place(logp_BT), place(entropy_BT), place(value_BT), score_B)


def step(module: nn.Module, objective, batch: Batch, budget: int, forward=None) -> dict[str, Tensor | float]:
    """Gradients and metrics of one update."""
    learner = make_learner(module, forward, token_budget=budget, max_grad_norm=0.0, learning_rate=0.0)
    metrics = update(learner, batch, objective)
    grads = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    assert grads
    return {**grads, **metrics}


def check_equal(got: dict, wanted: dict, relative: float = 1e-11) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        a, b = torch.as_tensor(got[name]), torch.as_tensor(value)
        assert (a - b).abs().max() <= relative * b.abs().max() + 1e-14, name


@pytest.mark.parametrize("case", CASES)
def test_gradient_and_metrics_are_the_same_for_any_split_of_a_real_model(case: str) -> None:
    make, objective, asked = CASES[case]
    module = make(torch.float64)
    whole = step(module, objective, BATCH, EVERYTHING, partial(module, **asked))
    assert max(float(torch.as_tensor(v).abs().max()) for v in whole.values()) > 1e-3
    for budget in BUDGETS[:-1]:
        assert len(BATCH.split(budget)) > 1
        check_equal(step(module, objective, BATCH, budget, partial(module, **asked)), whole)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fill", [0, 2, 9])
def test_gradient_does_not_depend_on_padding(case: str, fill: int) -> None:
    make, objective, asked = CASES[case]
    module = make(torch.float64)
    forward = partial(module, **asked)
    wanted = step(module, objective, BATCH, EVERYTHING, forward)
    wide = widen(BATCH, 1 + fill, fill)
    learner = make_learner(module, forward, max_grad_norm=0.0)
    # `split` would trim the padding: the objective has to stand it on its own.
    learner.optimizer.zero_grad()
    (objective(forward(wide), wide).loss / objective.denominator(wide)).backward()
    check_equal(
        {name: p.grad for name, p in module.named_parameters() if p.grad is not None},
        {name: value for name, value in wanted.items() if isinstance(value, Tensor)},
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([NLL(), BradleyTerry(), DPO(), PPO(entropy_coef=0.2), PPO(loss_aggregation="seq-mean-token-mean")]),
    st.integers(1, 7),
    st.integers(0, 10**6),
    st.integers(1, 200),
)
def test_gradient_is_the_same_for_any_batch_and_any_split(objective, groups: int, seed: int, budget: int) -> None:
    batch = random_batch(groups, seed=seed)
    check_equal(step(Bigram(), objective, batch, budget), step(Bigram(), objective, batch, EVERYTHING), relative=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.sampled_from([NLL(), BradleyTerry(), DPO(), PPO()]))
def test_gradient_does_not_depend_on_the_order_of_groups(order: list[int], objective) -> None:
    shuffled = BATCH.select([row for g in order for row in (2 * g, 2 * g + 1)])
    check_equal(step(Bigram(), objective, shuffled, 40), step(Bigram(), objective, BATCH, EVERYTHING), relative=1e-10)


def test_the_gradient_of_nll_is_that_of_the_mean_over_tokens() -> None:
    module = Bigram()
    got = step(module, NLL(), BATCH, 30)
    logp_BT = module(BATCH).logp_BT
    (wanted,) = torch.autograd.grad(-logp_BT[BATCH.response_mask_BT].mean(), [module.table])
    assert (got["table"] - wanted).abs().max() < 1e-14


def test_the_gradient_of_pairs_is_that_of_the_weighted_mean() -> None:
    module = Bigram()
    got = step(module, BradleyTerry(), BATCH, 30)
    score_B = module(BATCH).score_B
    target_P, margin_P, weight_P = (x[::2] for x in (BATCH.target_B, BATCH.margin_B, BATCH.weight_B))
    delta_P = score_B[::2] - score_B[1::2]
    logsigmoid = nn.functional.logsigmoid
    loss_P = -target_P * logsigmoid(delta_P - margin_P) - (1 - target_P) * logsigmoid(-delta_P - margin_P)
    (wanted,) = torch.autograd.grad((loss_P * weight_P).sum() / weight_P.sum(), [module.table])
    assert (got["table"] - wanted).abs().max() < 1e-14


def test_metrics_are_means_over_the_batch_and_not_means_of_means() -> None:
    """Micro-batches of very different sizes: a mean of their means would be off."""
    batch = random_batch(5, longest=30, seed=4)
    module = Bigram().requires_grad_(False)
    counts = [int(part.response_mask_BT.sum()) for part in batch.split(1)]
    means = [float(-module(part).logp_BT.sum()) / n for part, n in zip(batch.split(1), counts, strict=True)]
    wanted = -float(module(batch).logp_BT.sum()) / sum(counts)
    assert abs(sum(means) / len(means) - wanted) > 1e-3
    got = step(Bigram(), NLL(), batch, 1)
    assert abs(got["nll"] - wanted) < 1e-12
    assert abs(got["loss"] - wanted) < 1e-12
