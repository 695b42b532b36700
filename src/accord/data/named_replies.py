"""Which columns of an annotation tool hold the prompt and the replies, and which reply an answer names.

Annotation tools let a team name the columns and the answers; only the usual names are understood here, and everything
else is refused with the names that were found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from accord.data.rows import RowError, check_number

PROMPTS = ("prompt", "instruction", "question", "query", "input", "context", "messages", "conversation", "chat")
"""Columns taken for the prompt, the first one found."""
_REPLY = re.compile(
    r"(?:response|completion|generation|answer|output|reply|candidate|option|text|txt)s?[-_ ]?([0-9]{1,2}|[a-z])",
    re.IGNORECASE,
)
_TIES = ("tie", "equal", "same", "draw", "bothgood", "bothequal", "equallygood")
_BOTH_BAD = ("bothbad", "neither", "tiebothbad", "equallybad")
_LEFT_RIGHT = {"left": 0, "right": 1, "first": 0, "second": 1, "a": 0, "b": 1}


def bare(name: str) -> str:
    """Return `name` in lower case with letters and digits only, so that "Response 1" and "response-1" are the same."""
    return "".join(char for char in name.lower() if char.isalnum())


def prompt_name(fields: Mapping[str, Any]) -> str:
    """Return the name of the column that holds the prompt.

    Raises:
        RowError: none of the usual names.
    """
    found = next((name for known in PROMPTS for name in fields if bare(name) == known), None)
    if found is None:
        have = ", ".join(fields) or "no columns"
        raise RowError(f"no prompt among {have}; expected a column named {', '.join(PROMPTS[:5])}, ...")
    return found


def reply_names(fields: Mapping[str, Any]) -> list[str]:
    """Return the names of the columns that hold the replies (response-1, answer_b, ...), in the order of their number.

    Raises:
        RowError: fewer than two.
    """
    matches = {name: match.group(1).lower() for name in fields if (match := _REPLY.fullmatch(name))}
    found = sorted(matches, key=lambda name: (not matches[name].isdigit(), matches[name].zfill(2)))
    if len(found) < 2:
        raise RowError(
            f"no two replies among {', '.join(fields) or 'no columns'}; expected columns such as response-1, response-2"
        )
    return found


def reply_index(option: Any, names: Sequence[str]) -> int | None:
    """Return which of the replies `names` an answer means, or None when it means none of them.

    Known are the column's own name, however written, its number counted as in the columns, and left and right.
    """
    if not isinstance(option, str | int) or isinstance(option, bool):
        return None
    text = bare(str(option))
    own = [bare(name) for name in names]
    if text in own:
        return own.index(text)
    endings = [match.group(1).lower() for name in names if (match := _REPLY.fullmatch(name))]
    match = _REPLY.fullmatch(str(option))
    ending = match.group(1).lower() if match else text
    if len(set(endings)) == len(names) and ending in endings:
        return endings.index(ending)
    return _LEFT_RIGHT.get(text) if len(names) == 2 else None


def single_choice(option: Any, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the verdict of one chosen answer: a reply, a tie or both bad; None when it is none of these."""
    index = reply_index(option, names)
    if index is not None:
        return {"choice": index}
    text = bare(option) if isinstance(option, str) else ""
    if text in _BOTH_BAD:
        return {"both_bad": True}
    return {"tie": True} if text in _TIES else None


def ordered(groups: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the verdict of groups of replies, best first; replies of one group tie."""
    if sum(len(group) for group in groups) == 2:
        return {"choice": groups[0][0]} if len(groups) == 2 else {"tie": True}
    return {"ranking": tuple(tuple(group) for group in groups)}


def ranked_options(value: Any, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the verdict of a list of answers, best first, or of {"value", "rank"} objects in any order.

    A reply that is not named was not ranked; it is an error, since a record ranks all of its replies.

    Raises:
        RowError: the list names some of the replies only, or one twice.
    """
    if not isinstance(value, list) or len(cast(list[Any], value)) < 2:
        return None
    levels: dict[float, list[int]] = {}
    for place, item in enumerate(cast(list[Any], value)):
        rank, option = float(place), item
        if isinstance(item, Mapping):
            entry = cast(Mapping[str, Any], item)
            option = entry.get("value")
            rank = check_number(entry["rank"], "a rank") if entry.get("rank") is not None else rank
        index = reply_index(option, names)
        if index is None:
            return None
        levels.setdefault(rank, []).append(index)
    groups = [sorted(levels[rank]) for rank in sorted(levels)]
    named = sorted(index for group in groups for index in group)
    if named != list(range(len(names))):
        raise RowError(f"the ranking names {len(set(named))} of the {len(names)} replies, or one of them twice")
    return ordered(groups)
