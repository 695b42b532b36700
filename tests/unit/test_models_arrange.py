"""Four models over one base say what four separate models say; frozen models that wait move once a phase."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForSequenceClassification

from accord.engines.base import Sampling
from accord.engines.native import NativeEngine
from accord.errors import ModelError
from accord.models.adapters import base_digest, put_adapter, read_adapter, save_adapter
from accord.models.arrange import Parked, SharedBase, own_parameters, share_base
from accord.models.build import copy_frozen, critic_from_reward, reward_from_causal, set_score_stats
from accord.models.lora import adapters_off, add_lora, merge_lora
from accord.models.policy import ActorCritic, CausalModel, ScoreModel
from accord.models.recompute import recompute_activations
from accord.train.loop import update
from accord.train.objectives import NLL, PPO
from train_models import PAD, STOP, make_learner, random_batch, tiny_llama, words

F64 = torch.float64
BATCH = random_batch(4, seed=2)


def shake(model: nn.Module, seed: int, part: str = "lora_") -> None:
    rand = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if part in name:
                p.add_(0.2 * torch.randn(p.shape, generator=rand, dtype=F64))


def trained_reward(seed: int = 0) -> ScoreModel:
    plain = reward_from_causal(tiny_llama(F64, seed=seed, layers=2), 3)
    model = ScoreModel(add_lora(plain.inner, r=3, alpha=6, targets=None))
    shake(model, 5)
    set_score_stats(model, 0.7, 1.3)
    return model


def lora_policy(seed: int = 0) -> CausalModel:
    policy = CausalModel(add_lora(tiny_llama(F64, seed=seed, layers=2), r=2, alpha=4), logit_chunk=5)
    shake(policy, 6)
    return policy


@pytest.fixture
def stored(tmp_path: Path) -> str:
    save_adapter(trained_reward(), tmp_path / "adapter", base="somewhere")
    return str(tmp_path)


@pytest.fixture
def shared(stored: str) -> SharedBase:
    return share_base(lora_policy(), stored)


def separate() -> tuple[CausalModel, Any, ScoreModel, CausalModel]:
    """Policy, critic, reward model and reference as four models of their own."""
    policy = lora_policy()
    reward = trained_reward()
    merged = ScoreModel(merge_lora(copy.deepcopy(reward.hf)))
    return policy, critic_from_reward(merged), merged, CausalModel(tiny_llama(F64, layers=2))


def test_every_model_says_what_it_says_alone(shared: SharedBase) -> None:
    policy, critic, reward, ref = separate()
    for _ in range(2):  # in any order, and again after the others have run
        assert (shared.reward(BATCH).score_B - reward(BATCH).score_B).abs().max() < 1e-12
        assert (shared.critic(BATCH).value_BT - critic(BATCH).value_BT).abs().max() < 1e-12
        assert (shared.policy(BATCH).logp_BT - policy(BATCH).logp_BT).abs().max() < 1e-12
        with adapters_off(shared.policy):
            assert (shared.policy(BATCH).logp_BT - ref(BATCH).logp_BT).abs().max() < 1e-12
    assert (shared.mean, shared.std) == (0.7, 1.3)
    normalised = (shared.reward(BATCH).score_B - 0.7) / 1.3
    assert critic.head.bias.item() == pytest.approx(-0.7 / 1.3)
    assert normalised.shape == (8,)


def test_there_is_one_set_of_base_weights(shared: SharedBase) -> None:
    base = sum(p.numel() for p in tiny_llama(layers=2).parameters())
    held = nn.ModuleList([shared.module, shared.reward])
    extra = {name: p.numel() for name, p in held.named_parameters() if "lora_" in name or "head" in name}
    assert sum(p.numel() for p in held.parameters()) == base + sum(extra.values())


def test_gradients_reach_only_the_adapter_that_was_used(shared: SharedBase) -> None:
    def touched(loss: torch.Tensor) -> set[str]:
        module = nn.ModuleDict({"all": shared.module, "reward": shared.reward})
        module.zero_grad(set_to_none=True)
        loss.backward()
        found = [name for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.any())]
        return {
            next((part for part in ("policy.", "critic.", "reward.") if f".{part}" in f".{n.split('lora_')[-1]}"), n)
            if "lora_" in n
            else n.split(".", 1)[1]
            for n in found
        }

    assert touched(shared.policy(BATCH).logp_BT.sum()) == {"policy."}
    assert touched(shared.critic(BATCH).value_BT.square().sum()) == {
        "critic.",
        "critic.head.weight",
        "critic.head.bias",
    }
    frozen = {name for name, p in shared.policy.named_parameters() if not p.requires_grad}
    assert any(".reward." in name for name in frozen) and not any(".critic." in name for name in frozen)
    assert not shared.reward(BATCH).score_B.requires_grad


def test_ppo_updates_are_those_of_separate_adapters(shared: SharedBase) -> None:
    """The same step, policy and critic on bases of their own."""
    policy, _, reward, _ = separate()
    alone = share_base(lora_policy(), _stored_again(shared))
    both = ActorCritic(policy, alone.critic)
    objective = PPO(vf_coef=0.5, entropy_coef=0.1)
    for module in (shared.module, both):
        learner = make_learner(module, lambda b, m=module: m(b, entropy=True), token_budget=30)
        for _ in range(3):
            update(learner, BATCH, objective)
    assert (shared.policy(BATCH).logp_BT - policy(BATCH).logp_BT).abs().max() < 1e-12
    assert (shared.critic(BATCH).value_BT - alone.critic(BATCH).value_BT).abs().max() < 1e-12
    assert (shared.policy(BATCH).logp_BT - lora_policy()(BATCH).logp_BT).abs().max() > 1e-4
    assert (shared.reward(BATCH).score_B - reward(BATCH).score_B).abs().max() < 1e-12, "the judge must not move"


def _stored_again(shared: SharedBase) -> str:
    return str(shared.policy.hf.location)


@pytest.fixture(autouse=True)
def _remember(request: pytest.FixtureRequest) -> None:
    if "shared" in request.fixturenames:
        request.getfixturevalue("shared").policy.hf.location = request.getfixturevalue("stored")


def test_the_engine_samples_with_the_policy_adapter(shared: SharedBase) -> None:
    shared.critic(BATCH)
    shared.reward(BATCH)
    prompts = [(1, 5, 9), (1, 7)]
    sampling = Sampling(8, n=3)
    drawn = []
    for policy in (shared.policy, lora_policy()):
        engine = NativeEngine(policy.hf, stop_ids=(STOP,), pad_id=PAD, decode=words, check=False)
        drawn.append([c.token_ids for c in engine.generate(prompts, sampling, seeds=[1, 2])])
    assert drawn[0] == drawn[1]


def test_the_critic_can_have_its_own_learning_rate(shared: SharedBase) -> None:
    names = own_parameters(shared.module, "critic")
    assert {"critic.head.weight", "critic.head.bias"} < set(names)
    assert all(".critic." in name or name.startswith("critic.") for name in names)
    learner = make_learner(shared.module, overrides=dict.fromkeys(names, 0.5))
    rates = {id(p): group["lr"] for group in learner.optimizer.param_groups for p in group["params"]}
    assert all((rates[id(p)] == 0.5) == (name in names) for name, p in learner.trainable().items())


def test_another_base_is_refused(stored: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="another base"):
        share_base(lora_policy(seed=1), stored)
    moved = lora_policy()
    with torch.no_grad():
        next(p for n, p in moved.named_parameters() if "down_proj" in n and "lora_" not in n)[0, 0] += 1e-9
    with pytest.raises(ModelError, match="another base"):
        share_base(moved, stored)
    with pytest.raises(ModelError, match="not a LoRA adapter"):
        share_base(lora_policy(), str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match="needs LoRA"):
        share_base(CausalModel(tiny_llama(F64, layers=2)), stored)


def test_a_policy_adapter_is_no_reward_model(tmp_path: Path) -> None:
    save_adapter(lora_policy(), tmp_path / "adapter", base="x")
    with pytest.raises(ModelError, match="no score head"):
        share_base(lora_policy(), str(tmp_path))


def test_a_damaged_or_foreign_adapter_is_refused(stored: str) -> None:
    config = Path(stored) / "adapter" / "adapter_config.json"
    known = json.loads(config.read_text())
    config.write_text(json.dumps(known | {"use_dora": True}))
    with pytest.raises(ModelError, match="use_dora"):
        share_base(lora_policy(), stored)
    config.write_text(json.dumps(known | {"target_modules": ["q_proj"]}))
    with pytest.raises(ModelError, match="does not fit"):
        share_base(lora_policy(), stored)
    config.write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        share_base(lora_policy(), stored)


def test_the_digest_is_of_the_trunk_alone() -> None:
    plain = tiny_llama(F64, layers=2)
    digest = base_digest(plain)
    assert base_digest(reward_from_causal(plain, 9).inner) == digest
    adapted = add_lora(copy.deepcopy(plain), targets=None)
    shake(adapted, 1)
    assert base_digest(adapted) == digest
    assert base_digest(copy.deepcopy(plain).float()) != digest


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_peft_itself_loads_the_reward_adapter(stored: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_llama(F64, layers=2).save_pretrained(base)
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=F64)
    loaded = PeftModel.from_pretrained(plain, str(Path(stored) / "adapter"))
    reward = trained_reward()
    rows = BATCH.select([0])
    score = loaded(input_ids=rows.ids_BT).logits
    assert (score.flatten() - reward(rows).score_B).abs().max() < 1e-6


def test_a_stored_policy_adapter_comes_back(tmp_path: Path) -> None:
    policy = lora_policy()
    save_adapter(policy, tmp_path, base="x")
    hf = add_lora(tiny_llama(F64, layers=2), r=1, name="other")
    put_adapter(hf, "again", read_adapter(tmp_path))
    assert hf.active_adapter == "other"
    assert {n for n, p in hf.named_parameters() if p.requires_grad} == {
        n for n, _ in hf.named_parameters() if ".other." in n
    }
    assert (CausalModel(hf, adapter="again")(BATCH).logp_BT - policy(BATCH).logp_BT).abs().max() < 1e-12


class Mover:
    """Copies tensors as a device would get them, and counts."""

    def __init__(self) -> None:
        self.moved = 0

    def __call__(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        self.moved += 1
        return tensor.clone()


def test_parked_models_move_once_a_phase_and_are_never_copied_back() -> None:
    ref, judge = copy_frozen(lora_policy()), copy_frozen(trained_reward())
    mover = Mover()
    parked = Parked(ref, judge, device=torch.device("cuda"), to=mover)
    tensors = {id(t): t for m in (ref, judge) for t in (*m.parameters(), *m.buffers())}.values()
    home = {id(t): t.data_ptr() for t in tensors}
    before = ref(BATCH).logp_BT
    for visits in (1, 2):
        with parked.visit():
            assert mover.moved == visits * len(home)
            assert all(t.data_ptr() != home[id(t)] for t in tensors)
            with parked.visit():
                assert torch.equal(ref(BATCH).logp_BT, before)
            assert all(t.data_ptr() != home[id(t)] for t in tensors), "the inner visit ended the outer one"
        assert all(t.data_ptr() == home[id(t)] for t in tensors)
    with pytest.raises(ZeroDivisionError), parked.visit():
        _ = 1 / 0
    assert all(t.data_ptr() == home[id(t)] for t in tensors)


def test_on_the_processor_nothing_moves_and_trained_models_cannot_be_parked() -> None:
    mover = Mover()
    with Parked(copy_frozen(lora_policy()), device=torch.device("cpu"), to=mover).visit():
        assert mover.moved == 0
    with pytest.raises(ValueError, match="frozen"):
        Parked(lora_policy(), device=torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_visit_to_the_gpu_leaves_nothing_there() -> None:
    device = torch.device("cuda")
    ref = copy_frozen(CausalModel(tiny_llama(layers=2)))
    before = ref(BATCH).logp_BT
    parked = Parked(ref, device=device)
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    with parked.visit():
        assert torch.cuda.memory_allocated() > held
        assert (ref(BATCH.to(device)).logp_BT.cpu() - before).abs().max() < 1e-4
    assert torch.cuda.memory_allocated() == held
    assert torch.equal(ref(BATCH).logp_BT, before)


def gradients(module: nn.Module, forward: Any, objective: Any) -> dict[str, torch.Tensor]:
    update(make_learner(module, forward, max_grad_norm=0.0, token_budget=30), BATCH, objective)
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_recomputed_activations_give_the_same_gradient(kind: str) -> None:
    found = []
    for again in (False, True):
        policy = CausalModel(tiny_llama(F64, layers=2)) if kind == "full" else lora_policy()
        if again:
            recompute_activations(policy.hf)
        found.append(gradients(policy, policy, NLL()))
    assert found[0].keys() == found[1].keys()
    assert all((found[0][name] - found[1][name]).abs().max() < 1e-12 for name in found[0])


def test_recomputing_saves_activations() -> None:
    sizes = []
    for again in (False, True):
        policy = CausalModel(tiny_llama(F64, layers=4))
        if again:
            recompute_activations(policy.hf)
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            policy(BATCH)
        sizes.append(sum(kept.values()))
    assert sizes[1] < 0.6 * sizes[0]


def test_blocks_are_run_again_under_the_adapter_they_ran_under(stored: str) -> None:
    """The critic's forward leaves the policy active; the backward pass must not mix them up."""
    found = []
    for again in (False, True):
        shared = share_base(lora_policy(), stored)
        if again:
            recompute_activations(shared.policy.hf)
        module = shared.module
        found.append(gradients(module, lambda b, m=module: m(b, entropy=True), PPO(vf_coef=0.5, entropy_coef=0.1)))
        assert shared.policy.hf.active_adapter == "policy"
    assert found[0].keys() == found[1].keys() and any(".critic." in name for name in found[0])
    assert all((found[0][name] - found[1][name]).abs().max() < 1e-12 for name in found[0])
