"""A language model and its tokenizer, loaded together and refused when they do not fit each other."""

from __future__ import annotations

from typing import Any

import torch

from accord.errors import ModelError
from accord.models import chat
from accord.models.checkpoint import check_vocabulary, load_causal, load_tokenizer


def device() -> torch.device:
    """The device models run on: the first CUDA device, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_pair(
    location: str,
    dtype: str | torch.dtype = "float32",
    pad_token: str | None = None,
    *,
    load_in_4bit: bool = False,
    needs_template: bool = True,
) -> tuple[Any, Any]:
    """Load a causal model and its tokenizer onto the device.

    Args:
        location: directory or hub id.
        dtype: of the weights.
        pad_token: of the vocabulary, for tokenizers that have none.
        load_in_4bit: see `load_causal`.
        needs_template: whether a tokenizer without a chat template is refused.

    Raises:
        ModelError: the model, tokenizer or chat template cannot be used, or their vocabularies differ.
    """
    tokenizer = load_tokenizer(location, pad_token=pad_token)
    hf: Any = load_causal(location, dtype=dtype, load_in_4bit=load_in_4bit)
    try:
        check_vocabulary(hf, tokenizer)
        if needs_template or tokenizer.chat_template:
            chat.check_template(tokenizer, hf.generation_config)
    except ModelError as error:
        where = location if error.where is None else f"{location}: {error.where}"
        raise ModelError(error.what, where=where, fix=error.fix) from error
    return (hf if load_in_4bit else hf.to(device())), tokenizer  # 4 bits were loaded to where they work
