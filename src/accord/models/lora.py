"""LoRA adapters (Hu et al. 2021) through peft: several on one frozen base, switched off for the reference.

PEFT switches `requires_grad` off on every adapter but the active one, which silently stops a value adapter
from learning while the policy adapter is active. Everything here restores the flags after it has touched
the adapters.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from accord.errors import ModelError
from accord.rng import derive

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""Names of the attention projections in Llama-like models (the choice of the LoRA paper, plus the output)."""

HEADS = frozenset({"lm_head", "embed_out", "score", "embed_tokens", "wte"})
"""Heads and embeddings, which carry no adapters."""


def unwrap(hf: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside, whether or not it carries adapters.

    Raises:
        ModelError: `hf` is neither a transformers nor a peft model.
    """
    inner = hf.get_base_model() if isinstance(hf, PeftModel) else hf
    if not isinstance(inner, PreTrainedModel):
        raise ModelError(f"{type(hf).__name__} is not a transformers model", fix="load it with load_causal")
    return inner


def add_lora(
    hf: PreTrainedModel | PeftModel,
    *,
    r: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    targets: Sequence[str] | None = ATTENTION,
    name: str = "policy",
    seed: int = 0,
) -> PeftModel:
    """Add a trainable adapter and freeze everything below it (Hu et al. 2021, eq. 3).

    Args:
        hf: a transformers model (changed in place), or one that already has adapters.
        r: rank of the update.
        alpha: the update is scaled by ``alpha / r``.
        dropout: probability of dropping an input of the adapter; anything but 0 makes the PPO ratio differ
            from 1.
        targets: names of the linear layers to adapt; None adapts every linear layer except the heads.
        name: name of the adapter.
        seed: seeds the first matrix; the second is zero, so the new adapter changes nothing yet.

    Returns:
        The peft model, with `name` active and every adapter trainable.

    Raises:
        ModelError: the name is taken, no layer matches, or the output head or the embeddings are a target.
    """
    heads = HEADS & set(targets or ())
    if heads:
        raise ModelError(f"LoRA on {sorted(heads)} is not supported", fix="name only layers inside the blocks")
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,  # type: ignore[arg-type]  # annotated int, used as a float
        lora_dropout=dropout,
        target_modules="all-linear" if targets is None else list(targets),
        exclude_modules=sorted(HEADS) if targets is None else None,
        bias="none",
    )
    kept = {} if not isinstance(hf, PeftModel) else _flags(hf)
    if isinstance(hf, PeftModel) and name in hf.peft_config:
        raise ModelError(f"there is an adapter named {name!r} already", fix="choose another name")
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, "lora", name))
        try:
            if isinstance(hf, PeftModel):
                hf.add_adapter(name, config)
                model = hf
                model.set_adapter(name)
            else:
                with _without_peft_warning():
                    model = get_peft_model(hf, config, adapter_name=name)  # type: ignore[assignment]
        except ValueError as error:
            raise ModelError(f"cannot add a LoRA adapter: {error}", fix="name layers the model has") from error
    assert isinstance(model, PeftModel)
    _restore(model, kept)
    return model


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Run the block with the pristine base model: the reference of a LoRA policy.

    Args:
        model: any module that holds a peft model, or is one.

    Raises:
        ModelError: there are no adapters to switch off.
    """
    peft = _find(model)
    kept = _flags(peft)
    try:
        with peft.disable_adapter():
            yield
    finally:
        _restore(peft, kept)


@contextmanager
def adapter_on(hf: nn.Module, name: str | None) -> Iterator[None]:
    """Run the block with the adapter `name` active, the others idle but still trainable.

    Args:
        hf: the model; without adapters when `name` is None.
        name: adapter to use; None leaves things as they are.

    Raises:
        ModelError: there is no such adapter.
    """
    if name is None or (isinstance(hf, PeftModel) and hf.active_adapter == name):
        yield
        return
    peft = _find(hf)
    before = cast(str, peft.active_adapter)
    activate(peft, name)
    try:
        yield
    finally:
        activate(peft, before)


def activate(model: PeftModel, name: str) -> None:
    """Make `name` the active adapter without freezing the others.

    Raises:
        ModelError: there is no such adapter.
    """
    if name not in model.peft_config:
        raise ModelError(f"no adapter named {name!r}", fix=f"choose one of {sorted(model.peft_config)}")
    kept = _flags(model)
    model.set_adapter(name)
    _restore(model, kept)


def merge_lora(model: PeftModel, name: str | None = None) -> PreTrainedModel:
    """Add an adapter to the weights below it and return the plain transformers model, trainable again.

    Args:
        model: a model with adapters; its layers are reused, so it must not be used afterwards.
        name: which adapter to merge; the others are dropped. None: the active one.
    """
    merged = model.merge_and_unload(adapter_names=[name or cast(str, model.active_adapter)])
    assert isinstance(merged, PreTrainedModel)
    return merged.requires_grad_(True)


@contextmanager
def _without_peft_warning() -> Iterator[None]:
    # peft 0.21 asks transformers 5.23 for a property under its old name.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.* is deprecated", FutureWarning)
        yield


def _find(model: nn.Module) -> PeftModel:
    for module in model.modules():
        if isinstance(module, PeftModel):
            return module
    raise ModelError(f"{type(model).__name__} has no LoRA adapters", fix="add one with add_lora")


def _flags(model: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _restore(model: nn.Module, flags: dict[str, bool]) -> None:
    for name, parameter in model.named_parameters():
        if name in flags:
            parameter.requires_grad_(flags[name])
