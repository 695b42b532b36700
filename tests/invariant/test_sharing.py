"""Prompts encoded once for the rows of a group: all a model says, and every gradient, is that of the rows apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sharing_cases import (
    BATCHES,
    EXACT,
    PAIRS,
    SHARING,
    apart,
    batch,
    exact_norms,
    group,
    joins,
    lora,
    made,
    make,
    tokens,
)
from torch import nn
from transformers import PreTrainedModel

from accord.batch import Batch
from accord.models import trunk
from accord.models.build import critic_from_causal, critic_from_reward, reward_from_causal, seeded, zero_head
from accord.models.lora import adapters_off
from accord.models.policy import ActorCritic, CausalModel, ScoreModel
from accord.models.recompute import recompute_activations
from accord.models.score_heads import StepScores, with_adapters, with_heads, with_models
from accord.models.sharing import Joined, join
from accord.train.loop import update
from accord.train.objectives import DPO, PPO, PolicyGradient, Ranking
from train_models import make_learner

__all__ = ["joins"]


def with_values(hf: PreTrainedModel) -> CausalModel:
    head = zero_head(hf)
    with seeded(0, "values"), torch.no_grad():
        head.weight.normal_()
    return CausalModel(hf, value_head=head, logit_chunk=7)


@pytest.mark.parametrize("kind", BATCHES)
def test_log_probs_entropies_and_values_are_those_of_the_rows_apart(kind: str, joins: list[Joined]) -> None:
    model, rows = with_values(make()), batch(*BATCHES[kind])
    with torch.no_grad():
        wanted = apart(model)(rows, entropy=True, values=True)
        assert joins == []
        got = model(rows, entropy=True, values=True)
    assert len(joins) == 1
    assert joins[0].ids_UL.shape[0] < rows.num_rows
    for name in ("logp_BT", "entropy_BT", "value_BT"):
        one, other = getattr(got, name), getattr(wanted, name)
        assert other[rows.response_mask_BT].abs().max() > 0.1
        assert (one - other).abs().max() < 1e-9


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("family", SHARING)
def test_every_family_and_kernel(family: str, kernel: str, dtype: torch.dtype, joins: list[Joined]) -> None:
    model, rows = CausalModel(make(family, dtype, kernel)), batch(*BATCHES["groups of all sizes"])
    assert rows.ids_BT.shape[1] <= 24 < join(rows, rows.shared_prefix_B()).ids_UL.shape[1]  # mistral's window
    with torch.no_grad():
        error = (apart(model)(rows).logp_BT - model(rows).logp_BT).abs().max()
    assert len(joins) == 1
    assert kernel == "eager" or not getattr(model.inner.base_model, trunk._MASKS), "attention needs no mask"
    # transformers' eager attention takes its softmax in float32.
    assert error < (max(EXACT[dtype], 1e-6) if kernel == "eager" else EXACT[dtype])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.lists(st.integers(0, 6), min_size=1, max_size=4)), min_size=1))
def test_groups_of_any_shape(shapes: list[tuple[int, list[int]]]) -> None:
    model = CausalModel(made("llama", torch.float64, "sdpa"))
    groups = [group([3] * 5 + tokens(size, number), *replies) for number, (size, replies) in enumerate(shapes)]
    rows = batch(*groups)
    shared_B = rows.shared_prefix_B()
    with torch.no_grad():
        wanted = trunk.hidden_states(model.inner.base_model, rows.replace(group_B=None))
        joined = join(rows, shared_B)
        got = joined.apart(trunk._run(model.inner.base_model, joined))
    assert (got - wanted)[rows.token_mask_BT].abs().max() < 1e-9


@pytest.mark.parametrize("dtype", EXACT)
def test_scores_are_those_of_the_rows_apart(dtype: torch.dtype, joins: list[Joined]) -> None:
    reward, rows = scorer(make(dtype=dtype)), batch(*BATCHES["groups of all sizes"])
    members = with_adapters(reward, 2, 3, r=2, alpha=4.0, targets=None)
    with torch.no_grad():
        for name, parameter in members.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    models = {
        "score_B": [reward],
        "value_BT": [critic_from_reward(reward)],
        "scores_BK": [with_heads(reward, 3, 5), with_models(reward, 2, 5), members],
        "score_BT": [StepScores(reward)],
    }
    for field, modules in models.items():
        for module in modules:
            joins.clear()
            with torch.no_grad():
                wanted = getattr(apart(module)(rows), field)
                assert joins == []
                got = getattr(module(rows), field)
            assert joins
            assert wanted.abs().max() > 0.1
            assert (got - wanted).abs().max() < EXACT[dtype], type(module).__name__


def scorer(hf: PreTrainedModel) -> ScoreModel:
    model = reward_from_causal(hf, seed=1)
    if hf.dtype == torch.float64:
        exact_norms(model)
    return model


def recomputing(hf: PreTrainedModel) -> CausalModel:
    recompute_activations(hf)
    return CausalModel(hf)


def own_critic(hf: PreTrainedModel) -> ActorCritic:
    critic = critic_from_causal(hf)
    with seeded(0, "critic"), torch.no_grad():
        critic.head.weight.normal_()
    return ActorCritic(CausalModel(hf), critic)


TRAINED: dict[str, tuple[Callable[[PreTrainedModel], nn.Module], Any, str]] = {
    "dpo": (CausalModel, DPO(beta=0.3), "pairs"),
    "dpo, replies alike": (CausalModel, DPO(beta=0.3), "replies that begin alike"),
    "dpo, adapters": (lora, DPO(beta=0.3), "pairs"),
    "dpo, blocks run again": (recomputing, DPO(beta=0.3), "pairs"),
    "grpo": (CausalModel, PolicyGradient(beta=0.1), "groups of five"),
    "ppo, value head": (lambda hf: ActorCritic(with_values(hf)), PPO(vf_coef=0.5), "groups of all sizes"),
    "ppo, own critic": (own_critic, PPO(vf_coef=0.5), "groups of five"),
    "rankings": (scorer, Ranking("plackett_luce"), "groups of five"),
}


def gradients(
    module: nn.Module, objective: Any, rows: Batch, budget: int = 10_000
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of an optimiser step."""
    loss = update(make_learner(module, token_budget=budget, max_grad_norm=0.0), rows, objective)["loss"]
    return loss, {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def same_step(module: nn.Module, objective: Any, rows: Batch, tolerance: float, joins: list[Joined]) -> None:
    loss, wanted = gradients(apart(module), objective, rows)
    assert joins == []
    for budget in (90, 10_000):
        joins.clear()
        got_loss, got = gradients(copy.deepcopy(module), objective, rows, budget)
        trunks = 1 + (getattr(module, "critic", None) is not None)
        assert len(joins) == trunks * len(rows.split(budget))
        assert abs(got_loss - loss) < tolerance * max(1.0, abs(loss))
        largest = max(float(g.abs().max()) for g in wanted.values())
        assert wanted.keys() == got.keys()
        assert largest > 0.01
        assert max(float((wanted[name] - got[name]).abs().max()) for name in wanted) < tolerance * max(1.0, largest)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("kind", TRAINED)
def test_the_gradient_is_that_of_the_rows_apart(kind: str, dtype: torch.dtype, joins: list[Joined]) -> None:
    build, objective, name = TRAINED[kind]
    rows = batch(*BATCHES[name], dtype=dtype)
    if kind == "rankings":
        rows = rows.replace(rank_B=torch.arange(rows.num_rows) % 5)
    same_step(build(make(dtype=dtype)), objective, rows, EXACT[dtype], joins)


@pytest.mark.parametrize(("family", "kernel"), [*((name, "sdpa") for name in SHARING[1:]), ("llama", "eager")])
def test_the_gradient_of_every_family(family: str, kernel: str, joins: list[Joined]) -> None:
    tolerance = 1e-6 if kernel == "eager" else 1e-9
    same_step(CausalModel(make(family, kernel=kernel)), DPO(beta=0.3), batch(*PAIRS), tolerance, joins)


def test_adapters_and_their_absence_share_alike(joins: list[Joined]) -> None:
    model, rows = lora(make()), batch(*PAIRS)
    alone = apart(model)
    with torch.no_grad():
        adapted = model(rows).logp_BT
        assert (adapted - alone(rows).logp_BT).abs().max() < 1e-9
        with adapters_off(model), adapters_off(alone):
            base = model(rows).logp_BT
            assert (base - alone(rows).logp_BT).abs().max() < 1e-9
    assert len(joins) == 2
    assert (adapted - base).abs().max() > 0.01


def test_joined_rows_in_full() -> None:
    rows = batch([[7, 8, 1], [7, 8, 2, 3]], [[4, 5, 6, 9, 3]])
    joined = join(rows, rows.shared_prefix_B())
    assert joined.ids_UL.tolist() == [[7, 8, 1, 2, 3], [4, 5, 6, 9, 3]]
    assert joined.position_UL.tolist() == [[0, 1, 2, 2, 3], [0, 1, 2, 3, 4]]
    assert joined.place_BT.tolist() == [[0, 1, 2, 0, 0], [0, 1, 3, 4, 0], [5, 6, 7, 8, 9]]
    assert joined.visible_ULL.long().tolist() == [
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]],
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
    ]
