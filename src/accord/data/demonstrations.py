"""Formats of conversations to imitate, of prompts alone, and of raw text."""

from __future__ import annotations

from typing import Any, cast

from accord.data.conversations import (
    Messages,
    alpaca_prompt,
    last_role,
    make_prompt,
    parse_messages,
    parse_prompt,
    parse_reply,
    with_system,
)
from accord.data.rows import Columns, Format, Row, RowError, check_list, check_text, content_id, has, has_list
from accord.types import Demonstration, Document, Prompt

# Question and answer columns seen under other names; the first is TRL's.
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("input", "output"),
)
_PROMPTS = ("prompt", "question", "instruction", "query", "input")


def _demonstration(columns: Columns, messages: Messages) -> Demonstration:
    if messages[-1].role != "assistant":
        raise RowError(f"the conversation ends with {messages[-1].role}; nothing is left to imitate")
    check_text(messages[-1].content, "the last reply")
    given, meta = columns.id(), columns.meta()
    return Demonstration(id=given or content_id("demo", messages, meta), messages=messages, meta=meta)


def _chat_column(columns: Columns) -> Messages:
    name = columns.first("messages", "conversations") or "messages"
    return with_system(columns, parse_messages(columns.get(name, "messages"), f"column '{name}'"))


def _from_chat(columns: Columns) -> Demonstration:
    return _demonstration(columns, _chat_column(columns))


def join_reply(prompt: Messages, reply: Messages) -> Messages:
    """Return the conversation of a prompt and its reply, which may repeat the prompt."""
    return reply if reply[: len(prompt)] == prompt else (*prompt, *reply)


def _from_pair(columns: Columns) -> Demonstration:
    question, answer = next((pair for pair in _PAIRS if columns.has(*pair)), _PAIRS[0])
    prompt = with_system(columns, parse_prompt(columns.get(question, "messages"), f"column '{question}'"))
    reply = parse_reply(columns.get(answer, "messages"), f"column '{answer}'")
    return _demonstration(columns, join_reply(prompt, reply))


def _from_alpaca(columns: Columns) -> Demonstration:
    prompt = alpaca_prompt(columns)
    name = columns.first("output", "response") or "output"
    reply = parse_reply(columns.get(name, "messages"), f"column '{name}'")
    return _demonstration(columns, join_reply(prompt, reply))


def _prompt(columns: Columns, messages: Messages, **extra: Any) -> Prompt:
    """Return a prompt; the reference answer, wherever the format keeps it, is also `meta["answer"]`."""
    given = columns.id()
    meta = {**columns.meta(), **extra}
    answer = meta.get("ground_truth")
    reward_model = meta.get("reward_model")
    if isinstance(reward_model, dict):
        answer = cast(dict[str, Any], reward_model).get("ground_truth", answer)
    if answer is not None:
        meta.setdefault("answer", answer)
    return Prompt(id=given or make_prompt(messages).id, messages=messages, meta=meta)


def _from_prompt(columns: Columns) -> Prompt:
    name = columns.first(*_PROMPTS) or "prompt"
    if name == "instruction":
        messages = alpaca_prompt(columns)
    else:
        messages = with_system(columns, parse_prompt(columns.get(name, "messages"), f"column '{name}'"))
    return _prompt(columns, messages)


def _from_chat_prompt(columns: Columns) -> Prompt:
    return _prompt(columns, _chat_column(columns))


def _from_turns(columns: Columns) -> Prompt:
    """MT-bench questions (Zheng et al. 2023, arXiv:2306.05685): the first turn asks, all are in `meta`."""
    turns = [check_text(turn, "column 'turns'") for turn in check_list(columns.row["turns"], "column 'turns'")]
    columns.used["turns"] = "messages, meta.turns"
    return _prompt(columns, parse_prompt(turns[0], "column 'turns'"), turns=turns)


def _from_text(columns: Columns) -> Document:
    text = columns.text("text", "text")
    given, meta = columns.id(), columns.meta()
    return Document(id=given or content_id("doc", text, meta), text=text, meta=meta)


def _is_chat(row: Row, role: str) -> bool:
    name = "messages" if has(row, "messages") else "conversations"
    last = last_role(row.get(name))
    return last == "assistant" if role == "assistant" else last in ("user", "tool", "system")


DEMONSTRATION_FORMATS = (
    Format(
        "sharegpt",
        Demonstration,
        "conversations of {from, value}",
        lambda row: "messages" not in row and _is_chat(row, "assistant"),
        _from_chat,
    ),
    Format(
        "chat",
        Demonstration,
        "messages of {role, content}, the last from the assistant",
        lambda row: _is_chat(row, "assistant"),
        _from_chat,
    ),
    Format(
        "alpaca",
        Demonstration,
        "instruction, output (optional input, system, history)",
        lambda row: has(row, "instruction") and (has(row, "output") or has(row, "response")),
        _from_alpaca,
    ),
    Format(
        "prompt-completion",
        Demonstration,
        "prompt, completion (or question, answer; input, output)",
        lambda row: any(has(row, *pair) for pair in _PAIRS),
        _from_pair,
    ),
)

PROMPT_FORMATS = (
    Format(
        "verl",
        Prompt,
        "data_source, prompt, reward_model",
        lambda row: has(row, "data_source", "prompt", "reward_model"),
        _from_prompt,
    ),
    Format(
        "chat-prompt",
        Prompt,
        "messages of {role, content}, the last from the user (optional ground_truth, dataset)",
        lambda row: _is_chat(row, "user"),
        _from_chat_prompt,
    ),
    Format("mt-bench", Prompt, "turns, a list of questions", lambda row: has_list(row, "turns"), _from_turns),
    Format(
        "prompt",
        Prompt,
        "prompt (or question, instruction, query, input); other columns are kept for rewards",
        lambda row: any(has(row, name) for name in _PROMPTS),
        _from_prompt,
    ),
)

TEXT_FORMATS = (Format("text", Document, "text", lambda row: has(row, "text"), _from_text),)
