"""Offline losses on exact preference probabilities reach the optima that are known in closed form."""

from __future__ import annotations

import itertools

import pytest
import torch
from test_train_exact import ARMS, REWARD, START, Table, all_replies, enumerated
from torch import Tensor

from accord.batch import Batch
from accord.models.build import copy_frozen
from accord.train.examples import Example, Row
from accord.train.loop import fit, update
from accord.train.objectives import Pairwise
from accord.train.sources import Offline, with_reference
from train_models import make_learner

CPU = torch.device("cpu")
WORDS, BETA = 3, 0.5


def bandit() -> tuple[list[Row], Tensor, Table]:
    """One token a reply."""
    return [Row((ARMS, arm), (False, True)) for arm in range(ARMS)], REWARD, Table(ARMS, 1, seed=3, spread=0.5)


def two_tokens() -> tuple[list[Row], Tensor, Table]:
    """Replies of one or two tokens, the stop token included."""
    replies = all_replies()
    rows = [Row((START, *ids), (False,) + (True,) * len(ids)) for ids in replies]
    return rows, torch.linspace(-1, 2, len(replies), dtype=torch.float64).sin(), Table(WORDS, 2, seed=5, spread=0.5)


def log_probs(policy: Table, rows: list[Row]) -> Tensor:
    batch: Batch = enumerated([row.ids[1:] for row in rows])
    if rows[0].ids[0] != START:
        batch = batch.replace(ids_BT=torch.tensor([row.ids for row in rows]))
    with torch.no_grad():
        return policy(batch).logp_BT.sum(1)


def trained(objective: Pairwise, rows: list[Row], prefers: Tensor, policy: Table, steps: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the replies before and after training on all pairs with exact probabilities."""
    ref = copy_frozen(policy)
    examples = [
        Example(f"{a}>{b}", (rows[a], rows[b]), target=float(prefers[a, b]))
        for a, b in itertools.combinations(range(len(rows)), 2)
    ]
    examples = list(with_reference(examples, ref, pad_id=0, token_budget=100, device=CPU))
    source = Offline(examples, batch_size=len(examples), pad_id=0, seed=0)
    fit(make_learner(policy, learning_rate=0.05, steps=steps), source, objective, steps=steps)
    return log_probs(ref, rows), log_probs(policy, rows)


def distance(got: Tensor, ref: Tensor, exponent: Tensor) -> float:
    """Total variation between the policy and pi_ref exp(exponent) / Z."""
    best = (ref + exponent).softmax(0)
    return 0.5 * float((got.exp() - best).abs().sum())


@pytest.mark.parametrize("world", [bandit, two_tokens])
def test_dpo_reaches_the_reference_tilted_by_the_reward(world) -> None:
    """pi_ref exp(r / beta): in a Bradley-Terry world every pair's loss is at its minimum there."""
    rows, reward, policy = world()
    prefers = torch.sigmoid(reward[:, None] - reward[None, :])
    ref, got = trained(Pairwise(beta=BETA), rows, prefers, policy, 200)
    assert distance(ref, ref, reward / BETA) > 0.1
    assert distance(got, ref, reward / BETA) < 0.005


@pytest.mark.parametrize("world", [bandit, two_tokens])
def test_ipo_reaches_the_reference_tilted_by_the_mean_preference(world) -> None:
    """pi_ref exp(E_b[P(a > b)] / beta), b uniform over the replies, itself included (Azar et al. 2023, eq. 6 to 8).

    Least squares over all pairs: h = (2 P - 1) / (2 beta) cannot hold for every pair, and its best fit is that mean.
    It is not DPO's optimum, and stays finite where preferences are certain.
    """
    rows, reward, _ = world()
    for sharp in (1.0, 1e6):
        prefers = torch.sigmoid(sharp * (reward[:, None] - reward[None, :]))
        ref, got = trained(Pairwise(loss_type=("ipo_sum",), beta=BETA), rows, prefers, world()[2], 200)
        assert distance(got, ref, prefers.mean(1) / BETA) < 0.005
        assert distance(got, ref, reward / BETA) > 0.05
    assert distance(ref, ref, prefers.mean(1) / BETA) > 0.05


def test_f_dpo_reaches_the_optimum_of_its_divergence() -> None:
    """Under KL(pi_ref || pi) the optimum is pi = pi_ref beta / (lambda - r), summing to 1 (2309.16240)."""
    rows, reward, policy = bandit()
    prefers = torch.sigmoid(reward[:, None] - reward[None, :])
    objective = Pairwise(beta=BETA, f_divergence_type="forward_kl")
    ref, got = trained(objective, rows, prefers, policy, 300)
    low, high = float(reward.max()) + 1e-9, float(reward.max()) + 10.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if (ref.exp() * BETA / (middle - reward)).sum() > 1 else (low, middle)
    best = ref.exp() * BETA / (low - reward)
    assert 0.5 * float((ref.exp() - best).abs().sum()) > 0.05
    assert 0.5 * float((got.exp() - best).abs().sum()) < 0.005


def test_weights_a_pair_are_the_same_as_repeated_pairs() -> None:
    rows, _, _ = bandit()
    examples = [Example(f"{a}", (rows[a], rows[a + 1])) for a in range(3)]
    grads = []
    for weighted in (True, False):
        policy = Table(ARMS, 1, seed=3)
        ref = Table(ARMS, 1, seed=4)
        made = (
            [Example(e.id, e.rows, weight=1.0 + i) for i, e in enumerate(examples)]
            if weighted
            else [e for i, e in enumerate(examples) for _ in range(1 + i)]
        )
        made = list(with_reference(made, ref, pad_id=0, token_budget=100, device=CPU))
        batch = next(iter(Offline(made, batch_size=len(made), pad_id=0, seed=0)))
        objective = Pairwise(loss_type=("sigmoid", "sft", "apo_zero"))
        update(make_learner(policy, max_grad_norm=0.0), batch, objective)
        grads.append(policy.logits.grad.clone())
    assert (grads[0] - grads[1]).abs().max() < 1e-7
    assert grads[0].abs().max() > 0.01
