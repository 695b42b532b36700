"""Text to token ids, in the middle of a sequence: with control tokens, or with none at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from accord.errors import ModelError


def plain(tokenizer: PreTrainedTokenizerBase, text: str, anchor: str = "", start: list[int] | None = None) -> list[int]:
    """Encode text of a template: control tokens are recognised, none is added.

    Args:
        tokenizer: any tokenizer.
        text: the text.
        anchor: text that comes before it; encoded along and removed again, so that nothing is added or
            eaten at the start because the text looks like the beginning of a sequence.
        start: ids of `anchor`, when they are known.

    Returns:
        Token ids of `text` alone.
    """
    return _after_anchor(anchor, text, partial(_encode, tokenizer, split=False), start)


def literal(tokenizer: PreTrainedTokenizerBase, text: str, forbidden: frozenset[int], anchor: str) -> list[int]:
    """Encode text in which nothing is a control token.

    Args:
        tokenizer: any tokenizer.
        text: the text.
        forbidden: ids that must not come out.
        anchor: as for `plain`.

    Returns:
        Token ids of `text` alone.

    Raises:
        ModelError: the tokenizer makes a forbidden id even of ordinary text.
    """
    ids = _after_anchor(anchor, text, partial(_encode, tokenizer, split=True))
    if not forbidden.isdisjoint(ids):
        ids = _after_anchor(anchor, text, partial(_without_added_tokens, tokenizer))
    if not forbidden.isdisjoint(ids):
        raise ModelError(
            "the tokenizer makes a control token of ordinary text",
            where=repr(text[:200]),
            fix="remove the control token from the text, or use another tokenizer",
        )
    return ids


def _without_added_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # `split_special_tokens` passes over special tokens only; added tokens that are not special, such as
    # `<tool_call>`, are still recognised. Normaliser, splitter and model, run by hand, know neither.
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("this tokenizer cannot encode control tokens as ordinary text", fix="use its fast version")
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    words = [text]
    if backend.pre_tokenizer is not None:
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    return [token.id for word in words for token in backend.model.tokenize(word)]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, *, split: bool) -> list[int]:
    # `verbose=False`: lengths are judged where sequences are cut, not by a warning here.
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=split, verbose=False)


def _after_anchor(
    anchor: str, text: str, encode: Callable[[str], list[int]], start: list[int] | None = None
) -> list[int]:
    if anchor:
        start, whole = encode(anchor) if start is None else start, encode(anchor + text)
        if whole[: len(start)] == start:
            return whole[len(start) :]
    return encode(text)
