"""Estimators against exact expectations: every reply of up to two tokens out of three, with its probability.

The expectation over the sampling of what the code computes must be the gradient of the objective meant.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from accord.functional.advantages import gae, rloo, token_rewards
from accord.functional.kl import k1, k2, k3
from accord.functional.losses import ppo_clip
from accord.functional.masks import masked_sum

V = 3
STOP = 0


class World:
    """All replies of a table policy: the first token has V logits, the second V for each first token."""

    def __init__(self, stops: bool) -> None:
        random = torch.Generator().manual_seed(5)
        tables = torch.randn(2, V + V * V, generator=random, dtype=torch.float64)
        self.parameters = tables[0].clone().requires_grad_()
        replies = [(a, b) for a in range(V) for b in range(V)]
        if stops:  # a reply that stops at once has one token; its second position is padding
            replies = [(a, b) for a, b in replies if a != STOP or b == 0]
        self.first = torch.tensor([a for a, _ in replies])
        self.second = torch.tensor([b for _, b in replies])
        self.mask = torch.ones(len(replies), 2, dtype=torch.bool)
        if stops:
            self.mask[self.first == STOP, 1] = False
        self.logp, self.ref_logp = self._logps(self.parameters), self._logps(tables[1])
        self.score = torch.randn(len(replies), generator=random, dtype=torch.float64)
        by_prefix = torch.randn(1 + V, generator=random, dtype=torch.float64)
        self.value = torch.stack([by_prefix[0].expand(len(replies)), by_prefix[1 + self.first]], dim=1)

    def _logps(self, table: Tensor) -> Tensor:
        first = table[:V].log_softmax(0)[self.first]
        second = table[V:].reshape(V, V).log_softmax(1)[self.first, self.second]
        return torch.stack([first, torch.where(self.mask[:, 1], second, 0.0)], dim=1)

    @property
    def probability(self) -> Tensor:
        return masked_sum(self.logp, self.mask, dim=1).exp()

    def gradient(self, scalar: Tensor) -> Tensor:
        return torch.autograd.grad(scalar, self.parameters, retain_graph=True)[0]

    def true_gradient(self, kl_coef: float, score: Tensor) -> Tensor:
        """Gradient of E[score] - kl_coef KL(policy || reference), the expectation differentiated exactly."""
        kl = masked_sum(self.logp - self.ref_logp, self.mask, dim=1)
        return self.gradient((self.probability * (score - kl_coef * kl)).sum())

    def expected_ppo_gradient(self, reward: Tensor, value: Tensor, gamma: float, lam: float) -> Tensor:
        """Minus the expected gradient of the PPO loss at its first step (ratio 1)."""
        logp = self.logp.detach()
        advantage, _ = gae(reward, value, self.mask, gamma, lam)
        loss, _ = ppo_clip(self.logp, logp, advantage, low=0.2, high=0.2, mask=self.mask)
        return -self.gradient((self.probability.detach() * masked_sum(loss, self.mask, dim=1)).sum())


@pytest.fixture(params=[False, True], ids=["two tokens", "with stop token"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-8)


def test_the_enumeration_is_complete(world):
    assert world.probability.sum().item() == pytest.approx(1.0, abs=1e-12)


def test_k1_in_the_reward_with_return_to_go_is_the_sequence_kl_gradient(world):
    nothing = torch.zeros_like(world.score)
    reward = token_rewards(nothing, world.logp.detach(), world.ref_logp, world.mask, 1.0)
    found = world.expected_ppo_gradient(reward, torch.zeros_like(reward), 1.0, 1.0)
    assert close(found, world.true_gradient(1.0, nothing))


def test_ppo_with_a_critic_has_the_gradient_of_the_objective(world):
    reward = token_rewards(world.score, world.logp.detach(), world.ref_logp, world.mask, 0.3)
    found = world.expected_ppo_gradient(reward, world.value, 1.0, 1.0)
    assert close(found, world.true_gradient(0.3, world.score))


def test_the_gradient_of_each_token_alone_misses_its_effect_on_later_ones(world):
    nothing = torch.zeros_like(world.score)
    reward = token_rewards(nothing, world.logp.detach(), world.ref_logp, world.mask, 1.0)
    own_token_only = world.expected_ppo_gradient(reward, torch.zeros_like(reward), 1.0, 0.0)
    truth = world.true_gradient(1.0, nothing)
    assert not close(own_token_only, truth)
    # The per-token k2 loss has exactly this incomplete gradient.
    loss = masked_sum(k2(world.logp, world.ref_logp, mask=world.mask), world.mask, dim=1)
    assert close(-world.gradient((world.probability.detach() * loss).sum()), own_token_only)


@pytest.mark.parametrize("estimator", [k2, k3])
def test_k2_and_k3_in_the_reward_have_another_gradient(world, estimator):
    reward = -estimator(world.logp.detach(), world.ref_logp, mask=world.mask)
    found = world.expected_ppo_gradient(reward, torch.zeros_like(reward), 1.0, 1.0)
    assert not close(found, world.true_gradient(1.0, torch.zeros_like(world.score)))


def test_k1_and_k3_estimate_the_same_divergence(world):
    p = world.probability.detach()
    sums = [(p * masked_sum(f(world.logp, world.ref_logp, mask=world.mask), world.mask, dim=1)).sum() for f in (k1, k3)]
    torch.testing.assert_close(sums[0], sums[1], rtol=0, atol=1e-12)


def test_leave_one_out_has_the_gradient_of_the_objective(world):
    # All ordered pairs of replies to one prompt, with the penalty in the reward before the baseline.
    kl = masked_sum(k1(world.logp.detach(), world.ref_logp), world.mask, dim=1)
    reward = world.score - 0.3 * kl
    n = len(reward)
    i, j = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    pairs = torch.stack([i, j], dim=1)
    groups = torch.arange(n * n).repeat_interleave(2)
    advantage = rloo(reward[pairs].reshape(-1), groups).reshape(n * n, 2)
    p = world.probability.detach()
    seq_logp = masked_sum(world.logp, world.mask, dim=1)
    objective = (p[i] * p[j] * (advantage * seq_logp[pairs]).mean(dim=1)).sum()
    assert close(world.gradient(objective), world.true_gradient(0.3, world.score))
