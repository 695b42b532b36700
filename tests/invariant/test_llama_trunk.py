"""The written-out trunk says what the model itself says, at the tokens that are asked for, and so do its gradients."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from sharing_cases import BATCHES, EXACT, PAIRS, apart, batch, lora, make
from torch import nn

from accord.batch import Batch
from accord.models import attention, blocks, llama_trunk, trunk
from accord.models.policy import CausalModel
from accord.models.recompute import recompute_activations
from accord.models.trunk import hidden_states, states_at, write_out

FAMILIES = ("llama", "mistral", "qwen2")


def last(rows: Batch) -> torch.Tensor:
    return torch.arange(rows.ids_BT.shape[1]) == rows.lengths_B[:, None] - 1


def holes(rows: Batch) -> torch.Tensor:
    return rows.response_mask_BT & (rows.ids_BT % 3 > 0)


WHERE = {
    "all": lambda rows: rows.token_mask_BT,
    "replies": lambda rows: rows.response_mask_BT,
    "holes": holes,
    "last": last,
}


def states_and_gradients(backbone: Any, rows: Batch, where_BT: torch.Tensor) -> list[torch.Tensor]:
    found = states_at(backbone, rows, where_BT)
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
    (found * weights).sum().backward()
    gradients = [p.grad for p in backbone.parameters()]
    assert all(g is not None for g in gradients)
    return [found.detach(), *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("parts_from", [0, 1000])
@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", ["groups of all sizes", "a row inside another"])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_and_gradients(
    family: str, kind: str, where: str, dtype: torch.dtype, parts_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "PARTS_FROM", parts_from)
    backbone, rows = make(family, dtype).base_model, batch(*BATCHES[kind])
    for given in (rows, rows.replace(group_B=None)):
        where_BT = WHERE[where](given)
        assert trunk._is_written_out(copy.deepcopy(backbone), given)
        wanted = states_and_gradients(apart(backbone), given, where_BT)
        got = states_and_gradients(copy.deepcopy(backbone), given, where_BT)
        for one, other in zip(got, wanted, strict=True):
            assert (one - other).abs().max() <= EXACT[dtype] * max(1.0, float(other.abs().max()))


def test_the_last_block_runs_where_it_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    mlp = blocks.gated_mlp

    def spy(x_ND: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(len(x_ND))
        return mlp(x_ND, *rest)

    backbone, rows = make().base_model, batch(*PAIRS)
    states_at(backbone, rows, last(rows))  # the probe
    monkeypatch.setattr(llama_trunk, "gated_mlp", spy)
    states_at(backbone, rows, last(rows))
    joined = sum(rows.lengths_B.tolist()) - rows.shared_prefix_B()[::2].sum()  # pyright: ignore
    assert seen == [joined, rows.num_rows]


def test_blocks_that_are_run_again_give_the_same_gradients() -> None:
    rows = batch(*PAIRS)
    model, again = make(dtype=torch.float32), make(dtype=torch.float32)
    recompute_activations(again)
    for one, other in zip(
        states_and_gradients(model.base_model, rows, holes(rows)),
        states_and_gradients(again.base_model, rows, holes(rows)),
        strict=True,
    ):
        assert torch.equal(one, other)


def hooked(model: Any) -> Any:
    model.base_model.layers[0].mlp.register_forward_hook(lambda *_: None)
    return model


def other_activation(model: Any) -> Any:
    model.config.hidden_act = "gelu"
    return model


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: make("gpt2"), "not one of"),
        (lambda: make(kernel="eager"), "torch's attention"),
        (lambda: make(dtype=torch.bfloat16), "weights are"),
        (lambda: hooked(make()), "hook"),
        (lambda: other_activation(make()), "activation"),
        (lambda: lora(make()).inner, "not a plain matrix"),
    ],
)
def test_other_models_run_their_own_forward(build: Any, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = build(), batch(*PAIRS)
    attention.use_attention(model, torch.device("cpu"))
    found = llama_trunk.obstacle(model.base_model)
    assert found is not None
    assert reason in found
    monkeypatch.setattr(llama_trunk, "states", lambda *_, **__: pytest.fail("written out"))
    with torch.no_grad():
        states_at(model.base_model, rows, last(rows))


def test_who_pays_for_no_padding() -> None:
    assert trunk.lays_flat(CausalModel(make()))
    assert not trunk.lays_flat(CausalModel(make("gpt2")))
    assert not trunk.lays_flat(nn.ModuleList([make(), make("gpt2")]))
    assert not trunk.lays_flat(nn.Linear(2, 2))
    model = CausalModel(make())
    write_out(model, on=False)
    assert not trunk.lays_flat(model)


def test_what_differs_is_noticed_once_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, rows = make().base_model, batch(*PAIRS)
    wanted = hidden_states(copy.deepcopy(backbone), rows)[last(rows)]
    monkeypatch.setattr(blocks, "silu", nn.functional.gelu)
    with pytest.warns(UserWarning, match="LlamaModel is run by its own forward: written out it differs by"):
        assert torch.equal(states_at(backbone, rows, last(rows)), wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(states_at(backbone, rows, last(rows)), wanted)


def test_the_switch_and_copies_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = CausalModel(make()), batch(*PAIRS)
    calls: list[int] = []
    states = llama_trunk.states
    monkeypatch.setattr(llama_trunk, "states", lambda *a, **k: calls.append(1) or states(*a, **k))
    write_out(model, on=False)
    model(rows)
    copy.deepcopy(model)(rows)
    assert calls == []
    write_out(model, on=True)
    model(rows)
    assert calls
