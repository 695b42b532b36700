"""LoRA: the reference is the pristine base, several adapters learn, merging gives a plain model."""

from __future__ import annotations

import copy

import pytest
import torch

from accord.batch import collate
from accord.errors import ModelError
from accord.models.build import new_causal, zero_head
from accord.models.lora import adapter_on, adapters_off, add_lora, merge_lora, unwrap
from accord.models.policy import ActorCritic, CausalModel, ValueModel
from accord.models.tokenizer import train_tokenizer
from accord.models.trunk import write_out

torch.set_num_threads(1)

BATCH = collate([[1, 5, 9, 13, 22, 2], [1, 7, 8, 2]], [[False] * 3 + [True] * 3, [False] * 2 + [True] * 2], pad_id=0)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the cat sat on the mat"], 263)


@pytest.fixture
def base(tokenizer):
    return new_causal(tokenizer, hidden_size=32, num_layers=2, num_heads=4, max_positions=64, seed=1)


def adapted(model, name: str) -> list[torch.nn.Parameter]:
    return [p for key, p in model.named_parameters() if f".{name}." in key]


def step(module, loss) -> None:
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.05)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_a_new_adapter_changes_nothing_and_only_it_trains(base) -> None:
    write_out(base, on=False)  # a model with adapters runs its own forward, and equal bits are asked for
    before = CausalModel(base)(BATCH).logp_BT.detach()
    model = add_lora(base, r=4, alpha=8)
    assert torch.equal(CausalModel(model)(BATCH).logp_BT, before)
    trainable = {key for key, p in model.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora_" in key and ".policy." in key for key in trainable)


def test_adapters_off_is_the_pristine_base_exactly(base) -> None:
    pristine = copy.deepcopy(base)
    write_out(pristine, on=False)
    policy = CausalModel(add_lora(base, r=4, alpha=8))
    for _ in range(3):
        step(policy, -policy(BATCH).logp_BT.sum())
    ids = BATCH.ids_BT[:1]
    with torch.no_grad():
        assert (policy(BATCH).logp_BT - CausalModel(pristine)(BATCH).logp_BT).abs().max() > 0.01
        with adapters_off(policy):
            assert torch.equal(policy(BATCH).logp_BT, CausalModel(pristine)(BATCH).logp_BT)
            assert torch.equal(policy.hf(input_ids=ids).logits, pristine(input_ids=ids).logits)
        assert (policy(BATCH).logp_BT - CausalModel(pristine)(BATCH).logp_BT).abs().max() > 0.01
    assert all(p.requires_grad for p in adapted(policy, "policy"))


def test_adapters_come_back_after_an_error(base) -> None:
    model = add_lora(base, r=2)
    with pytest.raises(ZeroDivisionError), adapters_off(model):
        _ = 1 / 0
    assert all(p.requires_grad for p in adapted(model, "policy"))


def test_policy_and_value_adapters_both_learn(base) -> None:
    model = add_lora(base, r=4, name="policy", seed=1)
    model = add_lora(model, r=4, name="value", seed=2)
    head = zero_head(unwrap(model))
    torch.nn.init.normal_(head.weight)
    both = ActorCritic(CausalModel(model, adapter="policy"), ValueModel(model, head, adapter="value"))
    start = {name: [p.detach().clone() for p in adapted(model, name)] for name in ("policy", "value")}
    frozen = {k: p.detach().clone() for k, p in model.named_parameters() if "lora_" not in k}
    for _ in range(3):
        with torch.no_grad(), adapters_off(both):
            both.policy(BATCH)
        out = both(BATCH)
        step(both, -out.logp_BT.sum() + (out.value_BT - 1).square().sum())
    for name, old in start.items():
        assert old
        assert all((p != q).any() for p, q in zip(adapted(model, name), old, strict=True)), name
    for key, p in model.named_parameters():
        if key in frozen:
            assert torch.equal(p, frozen[key]), key


def test_adapters_do_not_mix(base) -> None:
    model = add_lora(add_lora(base, r=4, name="policy"), r=4, name="value")
    policy = CausalModel(model, adapter="policy")
    before = policy(BATCH).logp_BT.detach()
    with torch.no_grad():
        for p in adapted(model, "value"):
            p.add_(0.3)
    assert torch.equal(policy(BATCH).logp_BT, before)
    value = CausalModel(model, adapter="value")
    assert (value(BATCH).logp_BT - before).abs().max() > 0.01
    assert torch.equal(policy(BATCH).logp_BT, before)


def test_the_seed_decides(base) -> None:
    other = copy.deepcopy(base)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = adapted(add_lora(base, r=2, seed=3), "policy")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    two = adapted(add_lora(other, r=2, seed=3), "policy")
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_merging_gives_a_plain_model_that_says_the_same(base) -> None:
    model = add_lora(base, r=4)
    policy = CausalModel(model)
    for _ in range(3):
        step(policy, -policy(BATCH).logp_BT.sum())
    before = policy(BATCH).logp_BT.detach()
    merged = merge_lora(model)
    assert type(merged).__name__ == "LlamaForCausalLM"
    assert not any("lora" in key for key in merged.state_dict())
    assert all(p.requires_grad for p in merged.parameters())
    assert (CausalModel(merged)(BATCH).logp_BT - before).abs().max() < 1e-5


def test_mistakes_are_named(base) -> None:
    with pytest.raises(ModelError, match="lm_head"):
        add_lora(base, targets=["q_proj", "lm_head"])
    with pytest.raises(ModelError, match="no LoRA adapters"), adapters_off(base):
        pass
    with pytest.raises(ModelError, match="cannot add"):
        add_lora(base, targets=["no_such_layer"])
    model = add_lora(base, r=2)
    with pytest.raises(ModelError, match="already"):
        add_lora(model, r=2)
    with pytest.raises(ModelError, match="no adapter named 'value'"), adapter_on(model, "value"):
        pass
