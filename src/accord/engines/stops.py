"""Where a completion ends: stop ids, stop strings, or the length limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accord.types import FinishReason

Decode = Callable[[list[int]], str]


def cut(
    ids: Sequence[int], *, stop_ids: Sequence[int], stop: Sequence[str], decode: Decode
) -> tuple[int, str, FinishReason]:
    """Say how many of `ids` belong to the completion, what they read, and why it ended.

    The first stop id ends it and is kept among the ids, not in the text. A stop string that is complete
    before ends it too: the ids up to the one that completes the string are kept, the text is cut before the
    string.

    Args:
        ids: sampled ids, possibly beyond the end.
        stop_ids: ids that end a completion.
        stop: texts that end a completion.
        decode: token ids to text.

    Returns:
        (number of ids kept, text, "stop" or "length").
    """
    end = next((i for i, token in enumerate(ids) if token in stop_ids), None)
    body = list(ids if end is None else ids[:end])
    text = decode(body)
    if (found := _find(text, stop)) is not None:
        kept = len(body)
        while kept > 1 and _find(decode(body[: kept - 1]), stop) is not None:
            kept -= 1
        return kept, text[:found], "stop"
    if end is not None:
        return end + 1, text, "stop"
    return len(body), text, "length"


def completes_stop(ids: Sequence[int], stop: Sequence[str], decode: Decode) -> bool:
    """Say whether a stop string has just been completed, reading only as many last ids as can spell one.

    A token spells at least one byte; the surplus covers special tokens, which may spell nothing, and
    characters split over tokens. Should that miss a string, `cut` still finds it when the completion is
    finished.
    """
    reach = max(len(text.encode()) for text in stop) + 8
    return _find(decode(list(ids[-reach:])), stop) is not None


def _find(text: str, stop: Sequence[str]) -> int | None:
    return min((at for s in stop if (at := text.find(s)) >= 0), default=None)
