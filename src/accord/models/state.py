"""Training state on disk: safetensors and JSON, nothing pickled, every bit kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from accord.errors import ArtifactError

_TENSORS, _META = "state.safetensors", "state.json"


def save_state(directory: Path | str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and JSON values; the caller makes the directory durable.

    Args:
        directory: created if needed.
        tensors: by name; shared memory is written once a name.
        meta: values JSON can hold. Floats come back bit for bit.

    Raises:
        ArtifactError: the disk refuses, or a value is not JSON.
    """
    path = Path(directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
        save_file(_apart(tensors), path / _TENSORS)
        (path / _META).write_text(json.dumps(dict(meta), indent=1) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"cannot write the training state: {error}", where=str(path), fix="free some space"
        ) from error
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"the training state holds a value JSON cannot: {error}", where=str(path)) from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU; one that shares memory with an earlier one (tied weights) is copied: safetensors refuses.

    All others are written from where they are, or a checkpoint would need the memory of the whole state again.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        place = here.untyped_storage().data_ptr()
        found[name] = here.clone() if place in seen else here
        seen.add(place)
    return found


def load_state(directory: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_state` wrote.

    Returns:
        The tensors, on the CPU, and the JSON values.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    path = Path(directory)
    try:
        tensors = load_file(path / _TENSORS)
        meta = json.loads((path / _META).read_text(encoding="utf-8"))
    except (OSError, SafetensorError, ValueError) as error:
        raise ArtifactError(
            f"the training state cannot be read: {error}",
            where=str(path),
            fix="delete this checkpoint; an older one is used then",
        ) from error
    return tensors, meta


def pack_optimizer(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take an optimiser's state apart for `save_state`.

    Args:
        optimizer: any optimiser whose state is tensors and plain numbers, such as AdamW.

    Returns:
        Tensors named ``<parameter index>/<name>``, and the parameter groups with all other values.
    """
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    other: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{name}"] = value
            else:
                other.setdefault(str(index), {})[name] = value
    return tensors, {"groups": state["param_groups"], "other": other}


def unpack_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Put back what `pack_optimizer` took apart.

    Args:
        optimizer: made over the same parameters in the same order.
        tensors: as returned by `pack_optimizer`.
        meta: as returned by `pack_optimizer`, after a journey through JSON.

    Raises:
        ArtifactError: the state belongs to other parameters.
    """
    state: dict[int, dict[str, Any]] = {int(i): dict(values) for i, values in meta["other"].items()}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    # JSON knows no tuples, and AdamW's betas are one.
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in meta["groups"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in state.items():
        for name, value in values.items():
            fits = index < len(parameters) and (
                not isinstance(value, Tensor) or value.dim() == 0 or value.shape == parameters[index].shape
            )
            if not fits:
                raise ArtifactError(
                    "the optimiser state belongs to another model",
                    where=f"parameter {index}, {name}",
                    fix="resume with the model and settings the checkpoint was written with",
                )
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as error:
        raise ArtifactError(
            f"the optimiser state belongs to another model: {error}",
            fix="resume with the model and settings the checkpoint was written with",
        ) from error
