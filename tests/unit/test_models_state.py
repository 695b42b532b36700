"""Training state: every bit survives the disk, and damage is an error of ours."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from accord.errors import ArtifactError
from accord.models.state import load_state, pack_optimizer, save_state, unpack_optimizer

torch.set_num_threads(1)


def trained(steps: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(steps):
        x = torch.linspace(-1, 1 + step, 12).view(4, 3)
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def fresh() -> tuple[torch.nn.Module, torch.optim.AdamW]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    groups = [{"params": list(model[0].parameters()), "lr": 0.01}, {"params": list(model[1].parameters())}]
    return model, torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.95), weight_decay=0.1)


def test_tensors_and_floats_come_back_bit_for_bit(tmp_path) -> None:
    shared = torch.randn(3, 3)
    tensors = {
        "half": torch.randn(5).bfloat16(),
        "double": torch.randn(2, dtype=torch.float64),
        "ints": torch.arange(4),
        "bytes": torch.get_rng_state(),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
        "one": shared,
        "same": shared,
        "turned": shared.t(),
        "empty": torch.zeros(0, 3),
    }
    meta = {"float": 0.1 + 0.2, "tiny": 5e-324, "list": [1, None, "x"], "big": 2**62, "third": 1 / 3}
    save_state(tmp_path / "new", tensors, meta)
    loaded, values = load_state(tmp_path / "new")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        raw = tensor.contiguous().view(-1).view(torch.uint8) if tensor.numel() else tensor
        back = loaded[name].contiguous().view(-1).view(torch.uint8) if tensor.numel() else loaded[name]
        assert torch.equal(raw, back), name
    assert values == meta
    assert math.copysign(1, float(loaded["odd"][2])) == -1


def test_a_resumed_optimiser_takes_the_same_steps(tmp_path) -> None:
    model, optimizer = fresh()
    trained(3, model, optimizer)
    tensors, meta = pack_optimizer(optimizer)
    weights = copy.deepcopy(model.state_dict())
    save_state(tmp_path, {**{f"optimizer/{k}": v for k, v in tensors.items()}}, {"optimizer": meta})
    trained(3, model, optimizer)

    again, resumed = fresh()
    again.load_state_dict(weights)
    loaded, values = load_state(tmp_path)
    unpack_optimizer(resumed, {k.removeprefix("optimizer/"): v for k, v in loaded.items()}, values["optimizer"])
    assert [g["lr"] for g in resumed.param_groups] == [0.01, 0.1]
    assert resumed.param_groups[0]["betas"] == (0.9, 0.95)
    trained(3, again, resumed)
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    for one, two in zip(*(o.state_dict()["state"].values() for o in (optimizer, resumed)), strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_an_unused_optimiser_comes_back(tmp_path) -> None:
    _, optimizer = fresh()
    tensors, meta = pack_optimizer(optimizer)
    assert not tensors
    save_state(tmp_path, tensors, meta)
    unpack_optimizer(fresh()[1], *load_state(tmp_path))


def test_the_state_of_another_model_is_refused() -> None:
    model, optimizer = fresh()
    trained(1, model, optimizer)
    tensors, meta = pack_optimizer(optimizer)
    with pytest.raises(ArtifactError, match="another model"):
        unpack_optimizer(torch.optim.AdamW(torch.nn.Linear(3, 4).parameters()), tensors, meta)
    other = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 2))
    groups = [{"params": list(other[0].parameters())}, {"params": list(other[1].parameters())}]
    with pytest.raises(ArtifactError, match="parameter 0, exp_avg"):
        unpack_optimizer(torch.optim.AdamW(groups), tensors, meta)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_damage_is_an_error(tmp_path, name, damage) -> None:
    save_state(tmp_path, {"x": torch.zeros(10)}, {"a": 1})
    file = tmp_path / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: -5 if damage == "cut" else 0])
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_state(tmp_path)


def test_what_cannot_be_written_is_an_error(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="JSON"):
        save_state(tmp_path, {}, {"x": object()})
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write"):
        save_state(tmp_path / "file", {}, {})
