"""What stages do around training: held-out rows, the scale of scores, frozen layers, pools of best-of-n."""

from __future__ import annotations

import pytest
import torch

from accord.errors import DataError
from accord.models.build import new_causal, reward_from_causal
from accord.models.tokenizer import train_tokenizer
from accord.stages.best_of_n import Pool, curve
from accord.stages.ensemble import joint_logit
from accord.stages.reward import _freeze, _scale  # pyright: ignore[reportPrivateUsage]
from accord.stages.score_models import moments
from accord.stages.training import hold_out
from accord.types import Completion, Message, Prompt, Rollout, Score


def test_what_has_one_key_is_held_out_together_and_a_smaller_share_lies_in_a_larger_one() -> None:
    records = [f"{i % 40}-{i}" for i in range(400)]

    def key(record: str) -> str:
        return record.split("-")[0]

    kept, small = hold_out(records, key, 0.2, seed=3)
    _, large = hold_out(records, key, 0.5, seed=3)
    assert sorted(kept + small) == sorted(records)
    assert not {key(r) for r in kept} & {key(r) for r in small}
    assert small and set(small) < set(large)
    assert hold_out(records, key, 0.2, seed=4)[1] != small
    with pytest.raises(DataError, match="none is left to train on"):
        hold_out(records, key, 1.0, seed=3)


def test_each_member_has_its_own_scale_and_a_constant_one_is_an_error() -> None:
    scores_BK = torch.tensor([[0.0, 5.0], [2.0, 9.0]])
    assert moments(scores_BK) == ((1.0, 7.0), (1.0, 2.0))
    with pytest.raises(DataError, match="the same score"):
        moments(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))


def test_the_loss_of_the_mean_of_members_is_on_their_scale() -> None:
    raw_BK = torch.tensor([[0.1, 1.0], [0.3, 5.0], [-0.2, 2.0], [0.0, 8.0]], dtype=torch.float64)
    same_BK = raw_BK[:, :1].expand(-1, 3)
    mean, std = moments(same_BK)
    # equal members are one member, up to the zero that differences do not see
    torch.testing.assert_close(joint_logit(same_BK, mean, std), raw_BK[:, 0] - mean[0])
    mean, std = moments(raw_BK)
    plain_B = ((raw_BK - torch.tensor(mean)) / torch.tensor(std)).mean(dim=1)
    assert joint_logit(raw_BK, mean, std).argsort().tolist() == plain_B.argsort().tolist()


def test_a_model_that_has_learnt_nothing_is_an_error() -> None:
    assert _scale([2.0, 6.0]) == (4.0, 2.0)
    with pytest.raises(DataError, match="the same score"):
        _scale([1.0, 1.0])


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_frozen_layers_are_the_lowest_with_the_embeddings(layers: int) -> None:
    tokenizer = train_tokenizer(["one two three\n"] * 3, 270)
    causal = new_causal(tokenizer, hidden_size=16, num_layers=3, num_heads=2, num_kv_heads=2, max_positions=32)
    model = reward_from_causal(causal, seed=0)
    _freeze(model, layers)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    low = [f".layers.{i}." for i in range(layers)]
    wanted = {n for n, _ in model.named_parameters() if any(part in n for part in low) or (layers and "embed" in n)}
    assert frozen == wanted


def pool(*scores: float, judged: tuple[float, ...] | None = None) -> Pool:
    prompt = Prompt(id="p", messages=(Message(role="user", content="x"),))
    replies = tuple(
        Rollout(
            prompt=prompt,
            prompt_ids=(1,),
            completion=Completion(token_ids=(2,), finish="stop"),
            group="p",
            score=Score(value=score),
        )
        for score in scores
    )
    return Pool(prompt, replies, scores, judged, replies[0], None)


def test_of_equal_scores_the_first_reply_is_kept_and_the_curve_shares_their_weight() -> None:
    tied = pool(1.0, 3.0, 3.0, judged=(0.0, 1.0, 5.0))
    assert tied.best == 1
    points = curve([tied], 3, seed=0)
    assert points[-1]["n"] == 3
    assert points[-1]["judged"]["value"] == pytest.approx(3.0)


def test_a_prompt_with_fewer_scored_replies_than_n_does_not_count_at_that_n() -> None:
    points = {p["n"]: p["proxy"]["value"] for p in curve([pool(1.0, 2.0, 3.0, 4.0), pool(10.0)], 4, seed=0)}
    assert points[1] == pytest.approx((2.5 + 10.0) / 2)
    assert points[4] == pytest.approx(4.0)
