"""Small hand-computed cases of scores and rewards."""

from __future__ import annotations

import torch

from accord.functional.advantages import gae, missing_eos, token_rewards, whiten
from accord.functional.kl import adaptive_kl_step


def test_one_episode_by_hand():
    mask = torch.tensor([[False, True, True, False]])
    logp = torch.tensor([[9.0, -1.0, -2.0, 9.0]])
    ref = torch.tensor([[-9.0, -1.5, -1.0, -9.0]])
    rewards = token_rewards(torch.tensor([2.0]), logp, ref, mask, 0.1)
    torch.testing.assert_close(rewards, torch.tensor([[0.0, -0.05, 2.1, 0.0]]))
    advantages, returns = gae(rewards, torch.tensor([[7.0, 0.5, 1.0, 7.0]]), mask, 1.0, 0.5)
    # delta = (-0.05 + 1 - 0.5, 2.1 - 1) = (0.45, 1.1); A = (0.45 + 0.5 * 1.1, 1.1)
    torch.testing.assert_close(advantages, torch.tensor([[0.0, 1.0, 1.1, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[0.0, 1.5, 2.1, 0.0]]))


def test_price_of_a_reply_that_was_cut():
    scores, ended = torch.tensor([0.5, 0.5, -3.0]), torch.tensor([True, False, False])
    assert missing_eos(scores, ended, mode="replace", penalty=1.0).tolist() == [0.5, -1.0, -1.0]
    assert missing_eos(scores, ended, mode="subtract", penalty=1.0).tolist() == [0.5, -0.5, -4.0]


def test_equal_values_whiten_to_zero():
    x, mask = torch.full((2, 2), 3.0), torch.tensor([[True, True], [True, False]])
    assert whiten(x, mask).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert whiten(x, mask, shift_mean=False).tolist() == [[3.0, 3.0], [3.0, 0.0]]


def test_the_kl_coefficient_moves_towards_the_target_by_a_bounded_step():
    assert adaptive_kl_step(0.1, 6.0, 6.0, 10000, 512) == 0.1
    assert adaptive_kl_step(0.1, 600.0, 6.0, 1000, 100) == 0.1 * (1 + 0.2 * 0.1)
    assert adaptive_kl_step(0.1, 0.0, 6.0, 1000, 100) == 0.1 * (1 - 0.2 * 0.1)
