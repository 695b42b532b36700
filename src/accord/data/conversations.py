"""Messages out of the ways data sets write a conversation.

Known: chat lists with role and content, sharegpt lists with from and value, HH-RLHF transcripts, plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, cast

from accord.data.rows import Columns, RowError, check_list, check_text, content_id
from accord.types import Message, Prompt, Role

Messages = tuple[Message, ...]

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    # A call is what the model wrote; the observation is what came back.
    "function_call": "assistant",
    "tool_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
}

_TURN = re.compile(r"(?:^|\n\n)[ \t]*(Human|Assistant):")
_PRINTED_LIST = re.compile(r"\s*\[\{'(role|content|from|value)'")


def last_role(value: Any) -> Role | None:
    """Return the role of the last turn of a raw message list, or None when it is not one."""
    if not isinstance(value, list) or not value:
        return None
    last = cast(list[Any], value)[-1]
    if not isinstance(last, dict):
        return None
    turn = cast(dict[str, Any], last)
    return ROLES.get(str(turn.get("role", turn.get("from", ""))).lower())


def parse_messages(value: Any, what: str) -> Messages:
    """Return the messages of a chat or sharegpt list, or of a single such object.

    An empty system turn is the same as none and is left out.

    Args:
        value: list of {"role", "content"} or {"from", "value"} objects; content may be a list of text parts.
        what: how messages name it, e.g. "column 'messages'".

    Raises:
        RowError: not a list of such objects, an unknown role, a part that is not text, an empty turn.
    """
    items = [cast(Any, value)] if isinstance(value, dict) else check_list(value, what)
    messages = [_parse_turn(item, f"{what}, turn {number}") for number, item in enumerate(items, 1)]
    kept = tuple(m for m in messages if m.content.strip() or m.role != "system")
    for number, message in enumerate(kept[:-1], 1):
        if not message.content.strip():
            raise RowError(f"{what}, turn {number} ({message.role}) is empty")
    if not kept:
        raise RowError(f"{what} has no turn with text")
    return kept


def _parse_turn(item: Any, what: str) -> Message:
    if not isinstance(item, dict):
        raise RowError(f"{what} is not an object with role and content")
    turn = cast(dict[str, Any], item)
    name = turn.get("role", turn.get("from"))
    if name is None:
        raise RowError(f"{what} has no role (keys: {', '.join(map(str, turn))})")
    role = ROLES.get(str(name).lower())
    if role is None:
        raise RowError(f"{what} has the unknown role {str(name)[:40]!r}")
    content = turn["content"] if "content" in turn else turn.get("value")
    text = _content_text(content, what) if content is not None else ""
    if turn.get("tool_calls"):
        text = "\n".join(part for part in (text, json.dumps(turn["tool_calls"], ensure_ascii=False)) if part)
    elif content is None:
        raise RowError(f"{what} has no content")
    return Message(role=role, content=text)


def _content_text(content: Any, what: str) -> str:
    if not isinstance(content, list):
        return check_text(content, what, empty=True)
    texts: list[str] = []
    for part in cast(list[Any], content):
        kind = cast(dict[str, Any], part).get("type", "text") if isinstance(part, dict) else None
        if kind != "text":
            raise RowError(f"{what} has a part of type {kind!r}; only text is supported")
        texts.append(check_text(cast(dict[str, Any], part).get("text"), what, empty=True))
    return "".join(texts)


def is_transcript(value: Any) -> bool:
    """Return whether `value` is text in the HH-RLHF form: "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def parse_transcript(text: str, what: str) -> Messages:
    """Return the turns of an HH-RLHF transcript (Bai et al. 2022, arXiv:2204.05862, data release).

    Turns of the same speaker in a row are joined, since the release has a few and chat templates refuse them.
    The last turn may be empty.

    Args:
        text: "\\n\\nHuman: ...\\n\\nAssistant: ...".
        what: how messages name it.

    Raises:
        RowError: an empty turn before the last.
    """
    check_text(text, what)
    parts = _TURN.split(text.strip("\n"))
    merged: list[tuple[Role, str]] = []
    turns: list[tuple[Role, str]] = [
        (ROLES[name.lower()], content.strip()) for name, content in zip(parts[1::2], parts[2::2], strict=True)
    ]
    for number, (role, content) in enumerate(turns, 1):
        if merged and merged[-1][0] == role:
            joined = "\n\n".join(part for part in (merged[-1][1], content) if part)
            merged[-1] = (role, joined)
            continue
        merged.append((role, content))
        if not content and number < len(turns) and turns[number][0] != role:
            raise RowError(f"{what}, turn {number} ({role}) is empty")
    return tuple(Message(role=role, content=content) for role, content in merged)


def parse_prompt(value: Any, what: str) -> Messages:
    """Return the messages of a prompt given as text, transcript or message list.

    Args:
        value: text becomes one user turn; a transcript may end with an open "Assistant:".
        what: how messages name it.

    Raises:
        RowError: unusable text or messages.
    """
    if not isinstance(value, str):
        return parse_messages(value, what)
    refuse_printed_list(value, what)
    if is_transcript(value):
        turns = parse_transcript(value, what)
        return turns[:-1] if turns[-1].role == "assistant" and not turns[-1].content else turns
    return (Message(role="user", content=check_text(value, what)),)


def parse_reply(value: Any, what: str) -> Messages:
    """Return the turns of a completion; text is one assistant turn, lists may carry the prompt.

    Raises:
        RowError: unusable text or messages.
    """
    if not isinstance(value, str):
        return parse_messages(value, what)
    refuse_printed_list(value, what)
    if is_transcript(value):
        return parse_transcript(value, what)
    return (Message(role="assistant", content=check_text(value, what)),)


def refuse_printed_list(text: str, what: str) -> None:
    """Refuse a Python list printed into a CSV cell, which would otherwise be taken for the text itself.

    Raises:
        RowError: `text` is such a list.
    """
    if _PRINTED_LIST.match(text):
        raise RowError(f"{what} is a Python list printed as text; export the data as JSON lines or Parquet")


def alpaca_prompt(columns: Columns) -> Messages:
    """Return the prompt of alpaca columns: system, history, instruction and input (joined by a line break).

    Raises:
        RowError: no instruction, or a history that is not a list of pairs.
    """
    messages: list[Message] = []
    if columns.has("history") and columns.row["history"] != "":
        for number, pair in enumerate(cast(Sequence[Any], columns.get("history", "prompt")), 1):
            what = f"column 'history', pair {number}"
            if not isinstance(pair, list | tuple) or len(cast(Sequence[Any], pair)) != 2:
                raise RowError(f"{what} is not [question, answer]")
            question, answer = cast(Sequence[Any], pair)
            messages.append(Message(role="user", content=check_text(question, what)))
            messages.append(Message(role="assistant", content=check_text(answer, what)))
    instruction = columns.text("instruction", "prompt", empty=True)
    context = next((name for name in ("input", "context") if columns.has(name)), None)
    given = columns.text(context, "prompt", empty=True) if context else ""
    text = "\n".join(part for part in (instruction, given) if part.strip())
    messages.append(Message(role="user", content=check_text(text, "column 'instruction'")))
    return with_system(columns, tuple(messages))


def with_system(columns: Columns, messages: Messages) -> Messages:
    """Return `messages` with the `system` column in front, when there is one and no system turn yet."""
    system = columns.optional_text("system", "prompt")
    if not system.strip() or messages[0].role == "system":
        return messages
    return (Message(role="system", content=system), *messages)


def make_prompt(messages: Messages) -> Prompt:
    """Return the prompt record of `messages`; equal prompts have equal ids."""
    return Prompt(id=content_id("prompt", messages), messages=messages)
