"""Reward models with several outputs on disk: the scalar model as usual, its members in the directory beside it.

model/                          the scalar model, AutoModelForSequenceClassification with one label
model/members/members.json      form, names, and how outputs become scores
model/members/heads/            K heads: the same with num_labels = K
model/members/base/             K adapters: their base, and each adapter in the layout of peft
model/members/<name>/           K adapters or K whole models, by name
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from accord.errors import ArtifactError, ModelError
from accord.models.adapters import read_adapter, save_adapter
from accord.models.build import set_score_stats
from accord.models.checkpoint import load_classifier, load_reward, save_model
from accord.models.lora import activate, add_lora, unwrap
from accord.models.policy import ScoreModel
from accord.models.score_heads import AdapterScores, HeadScores, ModelScores

Form = Literal["heads", "adapters", "models"]
Members = HeadScores | AdapterScores | ModelScores
MEMBERS = "members"
_INDEX, _HEADS, _BASE = "members.json", "heads", "base"


@dataclass(frozen=True)
class MemberIndex:
    """What the files of the members are."""

    form: Form
    """K heads on one trunk, K adapters on one base, or K models."""
    kind: Literal["ensemble", "attributes"]
    """Opinions about the same thing, or ratings of different things."""
    names: tuple[str, ...]
    """Of the outputs."""
    mean: tuple[float, ...]
    """Subtracted from each raw output. Ensemble: its mean on reference replies. Attributes: see `std`."""
    std: tuple[float, ...]
    """What the difference is divided by. Attributes: rating = (output - mean) / std, in units of the ratings."""
    weights: tuple[float, ...] | None = None
    """Attributes: weight of each rating in the scalar score."""


def save_members(model: Members, index: MemberIndex, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write the members of a reward model below the directory of its scalar model.

    Args:
        model: K outputs.
        index: what they are.
        tokenizer: goes with every model that is written.
        directory: of the scalar model.

    Raises:
        ArtifactError: the disk refuses.
        ModelError: the index does not fit the model, or holds numbers that cannot be used.
    """
    _check(index, model.outputs, str(directory))
    place = directory / MEMBERS
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / _INDEX).write_text(json.dumps(asdict(index), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"the members cannot be written: {error}", where=str(place)) from error
    card = "A member of the reward model in the directory above; made by Accord.\n"
    if isinstance(model, HeadScores):
        save_model(model.inner, tokenizer, place / _HEADS, card)
    elif isinstance(model, AdapterScores):
        _save_adapters(model, index, tokenizer, place, card)
    else:
        for k, name in enumerate(index.names):
            set_score_stats(model.member(k), index.mean[k], index.std[k])
            save_model(model.member(k), tokenizer, place / name, card)


def has_members(location: str | Path) -> bool:
    """Whether a model directory holds members beside its scalar model."""
    return (Path(location) / MEMBERS / _INDEX).is_file()


def load_members(location: str | Path, dtype: str | torch.dtype = "float32") -> tuple[Members, MemberIndex]:
    """Load what `save_members` wrote.

    Args:
        location: directory of the scalar model.
        dtype: type of the weights.

    Raises:
        ModelError: a file is missing, damaged or does not fit.
    """
    place = Path(location) / MEMBERS
    index = _read_index(place / _INDEX)
    model: Members
    if index.form == "heads":
        model = HeadScores(load_classifier(place / _HEADS, dtype))
    elif index.form == "adapters":
        model = _load_adapters(place, index.names, dtype)
    else:
        model = ModelScores([load_reward(place / name, dtype) for name in index.names])
    _check(index, model.outputs, str(place))
    return model, index


def members_apart(model: Members) -> list[ScoreModel]:
    """Return each member as a plain reward model."""
    if isinstance(model, HeadScores):
        return [model.scalar(row) for row in torch.eye(model.outputs)]
    return [model.member(k) for k in range(model.outputs)]


def _save_adapters(
    model: AdapterScores, index: MemberIndex, tokenizer: PreTrainedTokenizerBase, place: Path, card: str
) -> None:
    inner: Any = unwrap(model.hf)
    base: Any = AutoModelForSequenceClassification.from_config(inner.config)
    base.load_state_dict(_without_adapters(inner))
    save_model(base.to(inner.dtype), tokenizer, place / _BASE, card)
    before: Any = model.hf.active_adapter
    try:
        for k, (adapter, name) in enumerate(zip(model.names, index.names, strict=True)):
            activate(model.hf, adapter)
            with torch.no_grad():  # the base's own head is read by nothing but this
                inner.score.weight.copy_(model.head.weight[k : k + 1])
            member = ScoreModel(model.hf)
            set_score_stats(member, index.mean[k], index.std[k])
            save_adapter(member, place / name, base=f"../{_BASE}")
    finally:
        activate(model.hf, before)


def _without_adapters(inner: nn.Module) -> dict[str, Tensor]:
    return {
        name.replace(".base_layer", ""): weights for name, weights in inner.state_dict().items() if "lora_" not in name
    }


def _load_adapters(place: Path, names: Sequence[str], dtype: str | torch.dtype) -> AdapterScores:
    hf: PreTrainedModel | PeftModel = load_classifier(place / _BASE, dtype)
    rows: list[Tensor] = []
    own = [f"member_{k}" for k in range(len(names))]  # peft warns about names that occur in its own
    for name, mine in zip(names, own, strict=True):
        adapter = read_adapter(place / name)
        if adapter.head is None:
            raise ModelError("the adapter of a reward model has no head", where=str(place / name))
        hf = add_lora(hf, r=adapter.r, alpha=adapter.alpha, targets=adapter.targets, name=mine)
        set_peft_model_state_dict(hf, dict(adapter.tensors), adapter_name=mine)
        rows.append(adapter.head)
    assert isinstance(hf, PeftModel)
    weight_KD = torch.cat(rows)
    inner = unwrap(hf)
    head = nn.Linear(weight_KD.shape[1], len(names), bias=False, device=inner.device, dtype=inner.dtype)
    with torch.no_grad():
        head.weight.copy_(weight_KD)
    return AdapterScores(hf, own, head)


def _read_index(path: Path) -> MemberIndex:
    fix = "make the reward model again"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
        index = MemberIndex(**values)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"the list of members cannot be read: {error}", where=str(path), fix=fix) from error
    if index.form not in ("heads", "adapters", "models") or index.kind not in ("ensemble", "attributes"):
        raise ModelError(f"unknown form '{index.form}' or kind '{index.kind}' of members", where=str(path), fix=fix)
    return index


def _check(index: MemberIndex, outputs: int, where: str) -> None:
    per_output = [index.names, index.mean, index.std, *([] if index.weights is None else [index.weights])]
    if any(len(values) != outputs for values in per_output):
        raise ModelError(f"the model has {outputs} outputs and its list of members another number", where=where)
    if any(not name or Path(name).name != name or name in (_HEADS, _BASE) for name in index.names):
        raise ModelError(f"the names {list(index.names)} cannot name directories", where=where)
    numbers = [*index.mean, *index.std, *(index.weights or ())]
    if not all(math.isfinite(x) for x in numbers) or min(index.std) <= 0:
        raise ModelError(f"outputs cannot be normalised with mean {index.mean} and deviation {index.std}", where=where)
