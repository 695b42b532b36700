"""Tie models, rankings and best-of-K of reward models against golden values."""

from __future__ import annotations

import math

import pytest
import torch
from golden_file import both_dtypes, check, entry, number_after
from test_golden_reward import pairs
from torch import Tensor

from accord.batch import Batch, Forward, collate
from accord.functional.ranking_losses import (
    best_of_k,
    davidson,
    pairs_within,
    plackett_luce,
    rao_kupper,
    three_way_nll,
)
from accord.functional.reward_losses import bradley_terry
from accord.train.objectives import BradleyTerry, Ranking, Ties

TIES = {
    "rao_kupper": (rao_kupper, "rm/rao_kupper_theta1.5", "theta", "rm/rao_kupper_nll_labels_"),
    "davidson": (davidson, "rm/davidson_nu0.5", "nu", "rm/davidson_nll_labels_"),
}
LABELS = "WWTTL"


def labels() -> tuple[Tensor, Tensor]:
    """(target_P, tie_P) of the labels in the entries' names."""
    return torch.tensor([float(x == "W") for x in LABELS]), torch.tensor([x == "T" for x in LABELS])


def ranked(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, groups and ranks of the golden ranking, best first."""
    rewards = torch.tensor(entry("rm/plackett_luce_K4")["rewards"], dtype=dtype)
    return rewards, torch.zeros(len(rewards), dtype=torch.long), torch.arange(len(rewards))


def three_with_loss(wanted: float, dtype: torch.dtype) -> Tensor:
    """Scores (t, 0, -t) of three replies whose all-pairs loss is the wanted one; the file gives that loss only."""
    low, high = -50.0, 50.0
    for _ in range(200):
        t = (low + high) / 2
        value = (2 * math.log1p(math.exp(-t)) + math.log1p(math.exp(-2 * t))) / 3
        low, high = (t, high) if value > wanted else (low, t)
    return torch.tensor([low, 0.0, -low], dtype=dtype)


def two_prompts(dtype: torch.dtype) -> tuple[Tensor, Batch]:
    """A ranking of four and one of three as an objective gets them."""
    per_prompt = entry("rm/two_prompts_K4_K3_per_prompt_mean")["per_prompt"]
    score = torch.cat([ranked(dtype)[0], three_with_loss(per_prompt[1], dtype)])
    return score, rows([0, 0, 0, 0, 1, 1, 1], rank_B=[0, 1, 2, 3, 0, 1, 2])


def rows(group: list[int], **columns: list[float]) -> Batch:
    return collate([[1, 2]] * len(group), [[False, True]] * len(group), pad_id=0, group=group, **columns)


def mean_of(objective, score: Tensor, batch: Batch, tie: float | None = None) -> Tensor:
    out = Forward(score_B=score, log_tie=None if tie is None else torch.tensor(tie, dtype=score.dtype))
    return objective(out, batch).loss / objective.denominator(batch).to(score.dtype)


@both_dtypes
@pytest.mark.parametrize("model", TIES)
def test_probabilities_of_win_loss_and_tie(model, dtype):
    function, name, marker, _ = TIES[model]
    chosen, rejected, _ = pairs(dtype)
    logp = function(chosen, rejected, math.log(number_after(name, marker)))
    check(logp.exp(), entry(name)["value"], dtype)
    check(logp.exp().sum(dim=1), torch.ones(len(chosen)), dtype)


@both_dtypes
@pytest.mark.parametrize("model", TIES)
def test_likelihood_of_labels_with_ties(model, dtype):
    function, name, marker, nll = TIES[model]
    chosen, rejected, _ = pairs(dtype)
    log_tie = math.log(number_after(name, marker))
    target, tie = labels()
    want = entry(nll + LABELS)["value"]
    check(three_way_nll(function(chosen, rejected, log_tie), target.to(dtype), tie).mean(), want, dtype)
    # the objective, from interleaved rows with equal ranks where the label is a tie
    score = torch.stack([chosen, rejected], dim=1).reshape(-1)
    rank = [float(r) for x in LABELS for r in {"W": (0, 1), "T": (0, 0), "L": (1, 0)}[x]]
    batch = rows([p for p in range(len(LABELS)) for _ in range(2)], rank_B=rank)
    check(mean_of(Ties(model), score, batch, log_tie), want, dtype)


@both_dtypes
@pytest.mark.parametrize(
    ("name", "function", "loss"),
    [("rm/plackett_luce_K4", plackett_luce, "plackett_luce"), ("rm/best_of_4_softmax", best_of_k, "best_of_k")],
)
def test_rankings(name, function, loss, dtype):
    score, group, rank = ranked(dtype)
    check(function(score, group, rank).sum(), entry(name)["value"], dtype)
    batch = rows(group.tolist(), rank_B=[float(r) for r in rank])
    check(mean_of(Ranking(loss), score, batch), entry(name)["value"], dtype)


@both_dtypes
def test_all_pairs(dtype):
    score, group, rank = ranked(dtype)
    first, second, target = pairs_within(group, rank)
    want = entry("rm/all_pairs_K4_mean")["value"]
    check(bradley_terry(score[first], score[second], target=target.to(dtype)).mean(), want, dtype)
    batch = rows(group.tolist(), rank_B=[float(r) for r in rank])
    check(mean_of(BradleyTerry(), score, batch), want, dtype)


@both_dtypes
@pytest.mark.parametrize(
    ("mean", "name"),
    [("prompt", "rm/two_prompts_K4_K3_per_prompt_mean"), ("pair", "rm/two_prompts_K4_K3_flat_pair_mean")],
)
def test_two_prompts(mean, name, dtype):
    score, batch = two_prompts(dtype)
    check(mean_of(BradleyTerry(mean=mean), score, batch), entry(name)["value"], dtype)


@pytest.mark.parametrize("log_tie", [0.01, 0.405, 3.0])
@pytest.mark.parametrize("model", TIES)
def test_gradients_of_tie_models(model, log_tie):
    chosen, rejected, _ = (x.requires_grad_(True) for x in pairs(torch.float64))
    parameter = torch.tensor(log_tie, dtype=torch.float64, requires_grad=True)
    target, tie = labels()

    def loss(a, b, t):
        return three_way_nll(TIES[model][0](a, b, t), target.double(), tie)

    assert torch.autograd.gradcheck(loss, (chosen, rejected, parameter))


@pytest.mark.parametrize("function", [plackett_luce, best_of_k])
@pytest.mark.parametrize("rank", [[0, 1, 2, 3], [2, 0, 0, 1], [1, 1, 0, 1]])
def test_gradients_of_rankings(function, rank):
    score = ranked(torch.float64)[0].requires_grad_(True)
    group = torch.zeros(len(rank), dtype=torch.long)
    assert torch.autograd.gradcheck(lambda s: function(s, group, torch.tensor(rank)), (score,))
