"""Reward models of rankings and ties: known strengths come back, and how a batch is cut or ordered changes nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from accord.batch import Batch, Forward, collate
from accord.functional.ranking_losses import best_of_k, davidson, plackett_luce, rao_kupper
from accord.functional.reward_losses import bradley_terry
from accord.models.ties import TiedScores
from accord.train.loop import update
from accord.train.objectives import BradleyTerry, Ranking, Ties
from train_models import PAD, make_learner

STRENGTHS = torch.tensor([1.3, 0.4, -0.2, -1.5], dtype=torch.float64)


class Items(nn.Module):
    """One score an item; a row is an item's token."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rand = torch.Generator().manual_seed(seed)
        self.score = nn.Parameter(torch.randn(len(STRENGTHS), generator=rand, dtype=torch.float64))

    def forward(self, batch: Batch) -> Forward:
        return Forward(score_B=self.score[batch.ids_BT[:, 1]])


def groups_of(orders: list[tuple[int, ...]], ranks: list[tuple[int, ...]], weights: Tensor | None = None) -> Batch:
    """Each order is one group of rows, one item a row."""
    sizes = [len(order) for order in orders]
    batch = collate(
        [[0, item] for order in orders for item in order],
        [[False, True]] * sum(sizes),
        pad_id=PAD,
        group=[g for g, size in enumerate(sizes) for _ in range(size)],
        rank_B=[float(r) for rank in ranks for r in rank],
    )
    if weights is None:
        return batch
    return batch.replace(weight_B=weights.repeat_interleave(torch.tensor(sizes)))


def fitted(module: nn.Module, objective, batch: Batch, steps: int = 60) -> None:
    """Minimise the mean loss of a batch exactly."""
    optimizer = torch.optim.LBFGS(
        module.parameters(), max_iter=20, tolerance_grad=1e-13, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )
    for _ in range(steps // 20):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = objective(module(batch), batch).loss / objective.denominator(batch)
            loss.backward()
            return loss

        optimizer.step(closure)


def centred(score: Tensor) -> Tensor:
    return score.detach() - score.detach().mean()


def probability(order: tuple[int, ...]) -> float:
    """Of a ranking under Plackett-Luce with the known strengths, by multiplying choices."""
    total = 1.0
    for k in range(len(order)):
        rest = STRENGTHS[list(order[k:])].exp()
        total *= float(rest[0] / rest.sum())
    return total


@pytest.mark.parametrize("length", [2, 3, 4])
def test_plackett_luce_recovers_known_strengths(length: int) -> None:
    """From the exact probabilities of all rankings of all subsets of `length` items."""
    orders, weights = [], []
    for subset in itertools.combinations(range(4), length):
        for order in itertools.permutations(subset):
            orders.append(order)
            weights.append(probability(order))
    batch = groups_of(orders, [tuple(range(length))] * len(orders), torch.tensor(weights, dtype=torch.float64))
    module = Items()
    fitted(module, Ranking("plackett_luce"), batch)
    assert (centred(module.score) - centred(STRENGTHS)).abs().max() < 1e-6


def test_the_choice_of_the_best_recovers_known_strengths() -> None:
    share = STRENGTHS.softmax(0)
    orders = [(best, *(i for i in range(4) if i != best)) for best in range(4)]
    module = Items()
    fitted(module, Ranking("best_of_k"), groups_of(orders, [(0, 1, 1, 1)] * 4, share))
    assert (centred(module.score) - centred(STRENGTHS)).abs().max() < 1e-6


def test_strengths_are_recovered_from_sampled_rankings_by_the_training_loop() -> None:
    """5000 rankings drawn from Plackett-Luce; all-pairs Bradley-Terry is consistent for them as well."""
    rand = torch.Generator().manual_seed(0)
    gumbel = -(-torch.rand(5000, 4, generator=rand, dtype=torch.float64).log()).log()
    orders = [tuple(order) for order in (STRENGTHS + gumbel).argsort(dim=1, descending=True).tolist()]
    counts = {order: orders.count(order) for order in sorted(set(orders))}
    weights = torch.tensor(list(counts.values()), dtype=torch.float64)
    batch = groups_of(list(counts), [(0, 1, 2, 3)] * len(counts), weights)
    for objective in (Ranking("plackett_luce"), BradleyTerry()):
        learner = make_learner(Items(), learning_rate=0.1, steps=150, token_budget=40)
        for _ in range(150):
            update(learner, batch, objective)
        assert (centred(learner.module.score) - centred(STRENGTHS)).abs().max() < 0.1


@pytest.mark.parametrize(
    ("model", "function", "log_tie"), [("rao_kupper", rao_kupper, 0.6), ("davidson", davidson, -0.3)]
)
def test_strengths_and_tie_parameter_are_recovered(model, function, log_tie: float) -> None:
    """From the exact probabilities of win, loss and tie of every pair; the parameter starts elsewhere."""
    orders, ranks, weights = [], [], []
    for first, second in itertools.combinations(range(4), 2):
        chances = function(STRENGTHS[[first]], STRENGTHS[[second]], log_tie).exp()[0]
        for rank, chance in zip([(0, 1), (1, 0), (0, 0)], chances.tolist(), strict=True):
            orders.append((first, second))
            ranks.append(rank)
            weights.append(chance)
    batch = groups_of(orders, ranks, torch.tensor(weights, dtype=torch.float64))
    module = TiedScores(Items(), model, 1.5, learnt=True).double()
    fitted(module, Ties(model), batch)
    assert (centred(module.scores.score) - centred(STRENGTHS)).abs().max() < 1e-5
    assert abs(float(module.log_tie.detach()) - log_tie) < 1e-5


def test_a_fixed_tie_parameter_is_not_trained() -> None:
    module = TiedScores(Items(), "davidson", 0.7, learnt=False)
    learner = make_learner(module, learning_rate=0.1)
    update(learner, groups_of([(0, 1)], [(0, 0)]), Ties("davidson"))
    assert float(module.log_tie.detach()) == pytest.approx(0.7)
    assert "tie" not in learner.trainable()
    with pytest.raises(ValueError, match="ties would be impossible"):
        TiedScores(Items(), "rao_kupper", 0.0, learnt=True)


def mixed(seed: int = 0) -> Batch:
    """Rankings of two, three and four, some places shared, of different weight and margin."""
    orders = [(0, 1), (2, 0, 3), (3, 1, 2, 0), (1, 2), (0, 1, 2, 3)]
    ranks = [(0, 1), (1, 0, 2), (0, 1, 1, 2), (1, 0), (2, 0, 1, 1)]
    rand = torch.Generator().manual_seed(seed)
    weights = torch.rand(len(orders), generator=rand, dtype=torch.float64) + 0.5
    batch = groups_of(orders, ranks, weights)
    return batch.replace(margin_B=0.3 * batch.weight_B)


OBJECTIVES = {
    "pairs": BradleyTerry(center=0.1, label_smoothing=0.1),
    "flat pairs": BradleyTerry(mean="pair"),
    "plackett_luce": Ranking("plackett_luce", center=0.1),
    "best_of_k": Ranking("best_of_k"),
    "rao_kupper": Ties("rao_kupper", center=0.1),
    "davidson": Ties("davidson"),
}


def gradient(name: str, batch: Batch, budget: int) -> Tensor:
    module = Items()
    wrapped: nn.Module = (
        TiedScores(module, name, 0.5, learnt=True).double() if name in ("rao_kupper", "davidson") else module
    )
    learner = make_learner(wrapped, token_budget=budget, max_grad_norm=0.0)
    update(learner, batch, OBJECTIVES[name])
    return torch.cat([p.grad.reshape(-1) for p in wrapped.parameters()])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_do_not_depend_on_how_a_batch_is_cut_or_ordered(name: str) -> None:
    batch = mixed()
    whole = gradient(name, batch, 10**6)
    assert whole.abs().max() > 0.01
    for budget in (1, 8, 14):
        assert (gradient(name, batch, budget) - whole).abs().max() < 1e-12
    # rows inside the groups the other way round, and the groups as well
    turned = batch.select(list(range(batch.num_rows))[::-1])
    assert (gradient(name, turned, 8) - whole).abs().max() < 1e-12


def test_two_replies_make_every_ranking_loss_bradley_terry() -> None:
    score, group, rank = torch.tensor([0.3, 1.1]), torch.tensor([4, 4]), torch.tensor([1, 0])
    wanted = float(bradley_terry(score[1], score[0]))
    assert float(plackett_luce(score, group, rank).sum()) == pytest.approx(wanted)
    assert float(best_of_k(score, group, rank).sum()) == pytest.approx(wanted)
    none = rao_kupper(score[:1], score[1:], 1e-9)[0]
    assert float(-none[1]) == pytest.approx(wanted, rel=1e-6)
    assert float(none[2].exp()) < 1e-8


def test_a_shared_last_place_is_not_compared() -> None:
    score, group = STRENGTHS.clone().requires_grad_(True), torch.zeros(4, dtype=torch.long)
    loss = plackett_luce(score, group, torch.tensor([0, 1, 1, 1]))
    assert loss.sum().item() == pytest.approx(best_of_k(score, group, torch.tensor([0, 1, 1, 1])).sum().item())
    assert loss[1:].abs().max() < 1e-12


def test_tie_models_do_not_overflow() -> None:
    far = torch.tensor([500.0, -500.0, 0.0], requires_grad=True)
    for function, parameter in ((rao_kupper, 200.0), (rao_kupper, 1e-6), (davidson, 50.0)):
        logp = function(far, -far, parameter)
        assert torch.isfinite(logp).all()
        assert torch.isfinite(torch.autograd.grad(logp.sum(), far)[0]).all()
