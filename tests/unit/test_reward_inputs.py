"""What ensembles read of a reply, how far that is from their training, and what the reward stages leave of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accord.batch import collate
from accord.diagnose.features import FILE, fit_space, load_space
from accord.models.members import MemberIndex
from accord.models.score_heads import with_adapters, with_heads, with_models
from accord.rewards.ensemble import MembersReward
from accord.rewards.learned import LearnedReward
from accord.stages.inputs import MOST_FEATURES, save_features
from accord.train.examples import Example, Row
from accord.types import Completion, Message, Prompt, Rollout
from train_models import scorer

FORMS = ("heads", "adapters", "models")
INDEX: dict[str, Any] = {"names": ("a", "b", "c"), "mean": (0.1, -0.2, 0.3), "std": (0.5, 1.0, 2.0)}
PROMPT = Prompt(id="p", messages=(Message(role="user", content="count"),))


def ensemble(form: Any) -> MembersReward:
    base = scorer()
    model: Any
    if form == "heads":
        model = with_heads(base, 3, 5)
    elif form == "models":
        model = with_models(base, 3, 5)
    else:
        model = with_adapters(base, 3, 5, r=2, alpha=4.0, targets=None)
        with torch.no_grad():  # a new adapter changes nothing: give it something to say
            for k, (name, parameter) in enumerate(model.named_parameters()):
                if "lora_B" in name:
                    parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(k))
    return MembersReward(model.requires_grad_(False), MemberIndex(form, "ensemble", **INDEX), pad_id=0)


def replies(num: int) -> tuple[list[list[int]], list[int]]:
    draw = np.random.default_rng(1)
    lengths = [int(n) for n in draw.integers(1, 6, size=num)]
    return [[1, 4 + k % 7, *(int(i) for i in draw.integers(5, 20, size=n))] for k, n in enumerate(lengths)], lengths


def rollouts(sequences: list[list[int]]) -> list[Rollout]:
    return [
        Rollout(
            prompt=PROMPT,
            prompt_ids=tuple(ids[:2]),
            completion=Completion(token_ids=tuple(ids[2:]), finish="stop"),
            group="g",
        )
        for ids in sequences
    ]


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_the_heads_of_what_the_features_say(form: str) -> None:
    reward = ensemble(form)
    reward.token_budget = 16  # several forwards, out of order
    sequences, lengths = replies(9)
    features = torch.from_numpy(reward.features(sequences, lengths))
    width = reward.model.states(collate([sequences[0]], [[False] * len(sequences[0])], pad_id=0))[0].shape[1]
    assert features.shape == (9, width if form == "heads" else 3 * width)
    model: Any = reward.model
    heads = [model.member(k).head.weight for k in range(3)] if form == "models" else model.head.weight
    parts = [features] * 3 if form == "heads" else features.split(width, dim=1)
    raw = torch.stack([part @ heads[k].double().flatten() for k, part in enumerate(parts)], dim=1)
    expected = (raw - torch.tensor(INDEX["mean"]).double()) / torch.tensor(INDEX["std"]).double()
    torch.testing.assert_close(reward.outputs(sequences, lengths), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_an_ensemble_says_how_far_a_reply_is_from_its_training(form: str) -> None:
    reward = ensemble(form)
    sequences, lengths = replies(9)
    before = reward(rollouts(sequences))
    assert all("distance" not in score.parts for score in before)
    reward.distances = lambda features: features[:, 0] + 100
    after = reward(rollouts(sequences))
    expected = reward.features(sequences, lengths)[:, 0] + 100
    assert [score.parts.pop("distance") for score in after] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [score.value for score in after] == pytest.approx([score.value for score in before], abs=1e-6)
    assert [set(score.parts) for score in after] == [set(score.parts) for score in before]


@pytest.mark.parametrize("most", [1, 5, 9, 20])
def test_scores_and_the_first_features_from_one_pass(most: int) -> None:
    sequences, lengths = replies(9)
    reward = LearnedReward(scorer(), pad_id=0, token_budget=16)  # several forwards, out of order
    scores, features = reward.scores_and_features(sequences, lengths, most=most)
    assert scores == reward.score_ids(sequences, lengths)
    np.testing.assert_array_equal(features, reward.features(sequences, lengths)[:most])


def test_a_stage_leaves_where_its_training_replies_lie(tmp_path: Path) -> None:
    reward = ensemble("models")
    sequences, lengths = replies(200)
    rows = [Row(tuple(ids), tuple([False] * 2 + [True] * n)) for ids, n in zip(sequences, lengths, strict=True)]
    examples = [Example("e", tuple(rows[i : i + 2])) for i in range(0, 200, 2)]
    said: list[str] = []
    save_features(reward, examples, tmp_path, said.append)
    assert load_space(tmp_path / FILE).q99 == pytest.approx(fit_space(reward.features(sequences, lengths)).q99)
    assert not said and MOST_FEATURES >= 200
    own = reward.features(sequences, lengths) + 1
    save_features(reward, examples, tmp_path, said.append, own)
    np.testing.assert_allclose(load_space(tmp_path / FILE).mean, fit_space(own).mean)
    save_features(reward, examples[:10], tmp_path / "none", said.append)
    assert "20 replies are too few" in said[0] and not (tmp_path / "none").exists()
