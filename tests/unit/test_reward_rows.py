"""Rows for reward models: replies to one prompt side by side in a group, groups no larger than the budget."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch

from accord.batch import Batch
from accord.rewards.learned import LearnedReward
from accord.rewards.rows import numbered_micros, prompt_groups
from train_models import BOS, PAD, STOP, VOCAB, scorer


def replies(prompts: int, n: int, seed: int = 0) -> tuple[list[list[int]], list[int]]:
    rand = random.Random(seed)
    sequences, lengths = list[list[int]](), list[int]()
    for _ in range(prompts):
        prompt = [BOS, *rand.choices(range(3, VOCAB), k=rand.randint(2, 9))]
        for _ in range(n):
            lengths.append(rand.randint(1, 8))
            sequences.append([*prompt, *rand.choices(range(3, VOCAB), k=lengths[-1] - 1), STOP])
    return sequences, lengths


def micros(budget: int, *, known: bool = True) -> list[tuple[list[int], Batch]]:
    sequences, lengths = replies(6, 4)
    known_lengths = lengths if known else None
    return list(numbered_micros(sequences, known_lengths, pad_id=PAD, token_budget=budget, device=torch.device("cpu")))


@pytest.mark.parametrize("budget", [20, 100, 10**6])
def test_every_row_comes_once_with_its_reply_marked(budget: int) -> None:
    sequences, lengths = replies(6, 4)
    seen: list[int] = []
    for places, micro in micros(budget):
        seen += places
        for row, place in enumerate(places):
            assert micro.ids_BT[row, : int(micro.lengths_B[row])].tolist() == sequences[place]
            start = len(sequences[place]) - lengths[place]
            assert micro.response_mask_BT[row].nonzero()[:, 0].tolist() == list(range(start, len(sequences[place])))
        assert micro.weight_B is None and micro.num_rows * micro.ids_BT.shape[1] <= max(budget, 18)
    assert sorted(seen) == list(range(24))


def test_replies_to_one_prompt_are_neighbours_in_one_group() -> None:
    ((places, micro),) = micros(10**6)
    assert micro.group_B is not None
    groups = micro.group_B.tolist()
    for (one, other), (first, second) in zip(pairwise(places), pairwise(groups), strict=True):
        assert (one // 4 == other // 4) == (first == second)
    assert all(micro.group_B is None and not micro.response_mask_BT.any() for _, micro in micros(10**6, known=False))


def test_many_replies_to_a_prompt_are_several_groups() -> None:
    sequences, starts = [[BOS, 5, 6, 7, STOP]] * 10, [3] * 10
    assert prompt_groups(sequences, starts, 20) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert prompt_groups(sequences, starts, 1) == list(range(10))
    # One long reply makes the rows of its group wide.
    assert prompt_groups([*sequences[:2], [BOS, 5, 6, *[7] * 7], sequences[0]], [3] * 4, 20) == [0, 0, 1, 1]
    # Neighbours only: groups of a batch must be adjacent.
    assert prompt_groups([[1, 5, 2], [1, 6, 2], [1, 5, 2]], [2, 2, 2], 100) == [0, 1, 2]


@pytest.mark.parametrize("budget", [20, 10**6])
def test_scores_do_not_depend_on_who_is_scored_together(budget: int) -> None:
    sequences, lengths = replies(6, 4)
    reward = LearnedReward(scorer(), pad_id=PAD, token_budget=budget)
    together, apart = reward.score_ids(sequences, lengths), [reward.score_ids([ids])[0] for ids in sequences]
    assert together == pytest.approx(apart, abs=1e-5)
