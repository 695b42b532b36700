"""LoRA adapters on disk, in the layout of peft, each with the digest of the base it was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from accord.errors import ArtifactError, ModelError
from accord.models.build import score_stats
from accord.models.lora import HEADS, add_lora, unwrap
from accord.models.policy import CausalModel, ScoreModel

CONFIG, WEIGHTS, ORIGIN = "adapter_config.json", "adapter_model.safetensors", "accord_adapter.json"
_HEAD = "base_model.model.score.weight"
_UNKNOWN = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "layers_to_transform", "bias")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as it lies on disk."""

    r: int
    """Rank."""
    alpha: float
    """Scale; the update is multiplied by alpha / r."""
    targets: tuple[str, ...]
    """Names of the adapted layers."""
    tensors: Mapping[str, Tensor]
    """Matrices by peft's names."""
    head: Tensor | None
    """Score head [1, D] of a reward model."""
    base: str
    """Digest of the base, see `base_digest`."""
    mean: float
    """Of the raw score on reference samples."""
    std: float
    """Of the raw score on reference samples."""


def base_digest(hf: nn.Module) -> str:
    """SHA-256 of the weights of a trunk, adapters and heads left out.

    Two models with one digest are the same base, as a language model or a classifier: what an adapter adds to the one
    it adds to the other. The type of the numbers counts: a base in bfloat16 or 4 bits is another base.

    Args:
        hf: a transformers model, with or without adapters.
    """
    sha = hashlib.sha256()
    for name, weights in unwrap(hf).base_model.named_parameters():
        if "lora_" in name:
            continue
        sha.update(f"{name.replace('.base_layer', '')} {weights.dtype} {tuple(weights.shape)}".encode())
        sha.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def save_adapter(model: CausalModel | ScoreModel, directory: Path, *, base: str) -> None:
    """Write the adapter of a model so that peft loads it over `base`.

    A reward model's adapter comes with its score head, as peft saves a sequence classifier, and with the statistics of
    its scores.

    Args:
        model: with LoRA adapters; the one it uses is written.
        directory: created if needed.
        base: where the base came from, for the reader of the files.

    Raises:
        ModelError: there are no adapters.
        ArtifactError: the disk refuses.
    """
    hf = model.hf
    if not isinstance(hf, PeftModel):
        raise ModelError(f"{type(hf).__name__} has no LoRA adapters", fix="set use_peft: true")
    name = (model.adapter if isinstance(model, CausalModel) else None) or cast(str, hf.active_adapter)
    known = cast(LoraConfig, hf.peft_config[name])
    scored = isinstance(model, ScoreModel)
    config = LoraConfig(
        r=known.r,
        lora_alpha=known.lora_alpha,
        lora_dropout=known.lora_dropout,
        target_modules=sorted(set(cast(Any, known.target_modules)) - HEADS),
        base_model_name_or_path=base,
        task_type="SEQ_CLS" if scored else "CAUSAL_LM",
        modules_to_save=["score"] if scored else None,
        inference_mode=True,
    )
    found = cast(dict[str, Tensor], get_peft_model_state_dict(hf, adapter_name=name, save_embedding_layers=False))
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in found.items() if "lora_" in key}
    origin: dict[str, Any] = {"base_sha256": base_digest(hf)}
    if scored:
        tensors[_HEAD] = model.head.weight.detach().cpu().contiguous()
        origin["score_mean"], origin["score_std"] = score_stats(model.inner.config)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(str(directory))
        save_file(tensors, directory / WEIGHTS)
        (directory / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"the adapter cannot be written: {error}", where=str(directory)) from error


def find_adapter(location: str) -> Path | None:
    """Directory of the adapter that belongs to a model directory: itself, or its `adapter`; None without one."""
    for directory in (Path(location), Path(location) / "adapter"):
        if (directory / CONFIG).is_file():
            return directory
    return None


def read_adapter(directory: Path) -> Adapter:
    """Read what `save_adapter` wrote.

    Raises:
        ModelError: a file is missing or damaged, or the adapter is not plain LoRA.
    """
    where = str(directory)
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        origin = json.loads((directory / ORIGIN).read_text(encoding="utf-8"))
        tensors = load_file(directory / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"the adapter cannot be read: {error}",
            where=where,
            fix="train the reward model with use_peft: true",
        ) from error
    odd = [key for key in _UNKNOWN if config.get(key) not in (None, False, "none", {}, [])]
    if config.get("peft_type") != "LORA" or odd:
        raise ModelError(f"only plain LoRA adapters can share a base, not {config.get('peft_type')} {odd}", where=where)
    head = tensors.pop(_HEAD, None)
    return Adapter(
        r=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        targets=tuple(config["target_modules"]),
        tensors=tensors,
        head=head,
        base=str(origin.get("base_sha256", "")),
        mean=float(origin.get("score_mean", 0.0)),
        std=float(origin.get("score_std", 1.0)),
    )


def put_adapter(hf: PeftModel, name: str, adapter: Adapter) -> None:
    """Add a stored adapter, frozen, to a model that has others; the active adapter stays the active one.

    Args:
        hf: the shared base with at least one adapter.
        name: of the new one.
        adapter: see `read_adapter`.

    Raises:
        ModelError: the name is taken, or the matrices are not those of the adapted layers.
    """
    active = cast(str, hf.active_adapter)
    add_lora(hf, r=adapter.r, alpha=adapter.alpha, targets=adapter.targets, name=name)
    own = {key for key in cast(dict[str, Tensor], get_peft_model_state_dict(hf, adapter_name=name)) if "lora_" in key}
    if own != set(adapter.tensors):
        odd = min(own ^ set(adapter.tensors))
        raise ModelError(f"the adapter does not fit the model: {odd}", fix="use the adapter of this base")
    set_peft_model_state_dict(hf, dict(adapter.tensors), adapter_name=name)
    kept = {key: parameter.requires_grad for key, parameter in hf.named_parameters()}
    hf.set_adapter(active)
    for key, parameter in hf.named_parameters():
        parameter.requires_grad_(kept[key] and f".{name}." not in key)
