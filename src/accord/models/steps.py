"""Where the steps of a reply end, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def step_ends(tokenizer: Any, reply_ids: Sequence[int], separator: str) -> list[int]:
    """Return the positions in the reply of the last token of each step.

    A step ends with the token that completes the separator behind it, and the last one with the last token of the
    reply: the stop token, or the cut. What holds nothing but white space is no step.

    Args:
        tokenizer: decodes tokens one by one.
        reply_ids: tokens of the reply, the stop token included.
        separator: text between two steps, e.g. a line break.

    Returns:
        Positions in ascending order; empty for a reply without text.
    """
    special = set(tokenizer.all_special_ids)
    ends: list[int] = []
    text = ""
    for position, token in enumerate(reply_ids):
        if token not in special:
            text += tokenizer.decode([token], clean_up_tokenization_spaces=False)
        last = position == len(reply_ids) - 1
        before, found, after = text.rpartition(separator)
        if found and before.replace(separator, "").strip():
            ends.append(position)
            text = after
        elif found:
            text = after
        elif last and text.strip():
            ends.append(position)
    return ends
