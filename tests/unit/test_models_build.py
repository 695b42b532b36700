"""New models, reward models, critics and references."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig

from accord.batch import collate
from accord.errors import ModelError
from accord.models.build import (
    copy_frozen,
    critic_from_causal,
    critic_from_reward,
    new_causal,
    reward_from_causal,
    score_stats,
    set_score_stats,
    zero_head,
)
from accord.models.lora import add_lora
from accord.models.policy import ActorCritic, CausalModel, ScoreModel
from accord.models.tokenizer import train_tokenizer

torch.set_num_threads(1)

ROWS = [[1, 4, 9, 13, 22, 2], [1, 4, 8, 2]]
BATCH = collate(ROWS, [[t > 1 for t in range(len(row))] for row in ROWS], pad_id=0)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the cat sat on the mat"] * 3, 270)


@pytest.fixture(scope="module")
def model(tokenizer):
    return new_causal(tokenizer, hidden_size=48, num_layers=1, num_heads=4, max_positions=64, seed=1)


def test_the_seed_decides_and_the_global_stream_is_left_alone(tokenizer) -> None:
    def make(seed: int) -> torch.Tensor:
        return new_causal(tokenizer, hidden_size=16, num_layers=1, num_heads=2, seed=seed).lm_head.weight

    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = make(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert torch.equal(make(5), one)
    assert not torch.equal(make(6), one)


def test_a_new_model_fits_the_tokenizer(tokenizer) -> None:
    for tie in (True, False):
        model = new_causal(tokenizer, hidden_size=48, num_layers=2, num_heads=4, num_kv_heads=2, tie=tie)
        assert model.config.vocab_size == len(tokenizer)
        assert model.config.pad_token_id == tokenizer.pad_token_id
        assert model.config.eos_token_id == tokenizer.eos_token_id
        assert model.config.intermediate_size == 128
        assert (model.lm_head.weight is model.model.embed_tokens.weight) is tie
        with torch.no_grad():
            assert 0 < model(input_ids=BATCH.ids_BT).logits.std() < 1


@pytest.mark.parametrize("sizes", [(30, 4, 4), (12, 4, 4), (32, 4, 3)])
def test_sizes_must_fit(tokenizer, sizes) -> None:
    width, heads, kv_heads = sizes
    with pytest.raises(ModelError, match="do not fit"):
        new_causal(tokenizer, hidden_size=width, num_heads=heads, num_kv_heads=kv_heads)


def test_the_reward_head_has_the_scale_of_the_literature(tokenizer) -> None:
    wide = new_causal(tokenizer, hidden_size=1024, num_layers=1, num_heads=4, intermediate_size=16)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    head = reward_from_causal(wide, 0).requires_grad_(False).head
    assert torch.equal(torch.get_rng_state(), state)
    assert head.bias is None
    assert abs(float(head.weight.std()) * math.sqrt(1025) - 1) < 0.1
    assert abs(float(head.weight.mean())) < 5e-3
    assert torch.equal(reward_from_causal(wide, 0).head.weight, head.weight)
    assert not torch.equal(reward_from_causal(wide, 1).head.weight, head.weight)


def test_a_reward_model_has_a_trunk_of_its_own(model) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    reward = reward_from_causal(model, 0)
    trunk = reward.inner.base_model.state_dict()
    assert all(torch.equal(value, trunk[key]) for key, value in model.base_model.state_dict().items())
    with torch.no_grad():
        for parameter in reward.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not hasattr(model.config, "accord_reward_mean")


def test_a_reward_model_needs_padding_and_no_adapters(tokenizer) -> None:
    fresh = new_causal(tokenizer, hidden_size=16, num_layers=1, num_heads=2)
    fresh.config.pad_token_id = None
    with pytest.raises(ModelError, match="padding token"):
        reward_from_causal(fresh, 0)
    with pytest.raises(ModelError, match="merge"):
        reward_from_causal(add_lora(fresh, r=2), 0)
    with pytest.raises(ModelError, match="no linear head `score`"):
        ScoreModel(fresh.base_model)


def test_score_stats(model) -> None:
    reward = reward_from_causal(model, 0)
    raw = reward(BATCH).score_B
    assert score_stats(reward.inner.config) == (0.0, 1.0)
    set_score_stats(reward, 0.5, 2.0)
    assert score_stats(reward.inner.config) == (0.5, 2.0)
    assert torch.equal(reward(BATCH).score_B, raw)
    for mean, std in ((0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf")), (0.0, -1.0)):
        with pytest.raises(ModelError, match="cannot be normalised"):
            set_score_stats(reward, mean, std)


def test_a_critic_from_a_reward_model_starts_at_normalised_scores(model) -> None:
    reward = reward_from_causal(model, 0)
    set_score_stats(reward, 0.5, 2.0)
    critic = critic_from_reward(reward)
    with torch.no_grad():
        # V(state before the last token) is the normalised score of the row without its last token.
        shorter = collate([row[:-1] for row in ROWS], [[False] * (len(row) - 1) for row in ROWS], pad_id=0)
        wanted = (reward(shorter).score_B - 0.5) / 2.0
        values = critic(BATCH).value_BT[torch.arange(2), BATCH.lengths_B - 1]
        assert (values - wanted).abs().max() < 1e-6
        before = reward(BATCH).score_B
        for parameter in critic.parameters():
            parameter.add_(1)
        assert torch.equal(reward(BATCH).score_B, before)


def test_zero_critics_say_zero(model) -> None:
    assert not critic_from_causal(model)(BATCH).value_BT.any()
    assert not CausalModel(model, value_head=zero_head(model))(BATCH, values=True).value_BT.any()


def test_missing_heads_are_named(model) -> None:
    with pytest.raises(ModelError, match="no value head"):
        CausalModel(model)(BATCH, values=True)
    with pytest.raises(ModelError, match="critic or a value head"):
        ActorCritic(CausalModel(model))
    with pytest.raises(ModelError, match="no output head"):
        CausalModel(model.base_model)
    with pytest.raises(ModelError, match="not a transformers model"):
        CausalModel(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="temperature"):
        CausalModel(model)(BATCH, temperature=0.0)
    with pytest.raises(ValueError, match="logit_chunk"):
        CausalModel(model, logit_chunk=0)


def test_a_frozen_copy_stays(model) -> None:
    policy = CausalModel(new_like(model))
    ref = copy_frozen(policy)
    assert not any(p.requires_grad for p in ref.parameters())
    assert not ref.training
    assert ref.inner.lm_head.weight is ref.inner.model.embed_tokens.weight
    before = ref(BATCH).logp_BT
    assert torch.equal(before, policy(BATCH).logp_BT.detach())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
    assert torch.equal(ref(BATCH).logp_BT, before)


def new_like(model) -> torch.nn.Module:
    assert isinstance(model.config, LlamaConfig)
    made = type(model)(model.config)
    made.load_state_dict(model.state_dict())
    return made
