"""Formats with labelled replies: thumbs up or down (KTO) and step by step (process rewards)."""

from __future__ import annotations

from accord.data.conversations import (
    Messages,
    alpaca_prompt,
    make_prompt,
    parse_messages,
    parse_prompt,
    parse_reply,
    with_system,
)
from accord.data.demonstrations import join_reply
from accord.data.rows import Columns, Format, RowError, check_bool, check_text, content_id, has, has_list
from accord.types import Stepwise, Unpaired


def _unpaired(columns: Columns, conversation: Messages, label_name: str) -> Unpaired:
    label = check_bool(columns.get(label_name, "label"), f"column '{label_name}'")
    if conversation[-1].role != "assistant":
        raise RowError(f"the conversation ends with {conversation[-1].role}, not with the reply that is labelled")
    completion = check_text(conversation[-1].content, "the reply")
    if len(conversation) < 2:
        raise RowError("there is no prompt before the reply")
    given, meta, prompt = columns.id(), columns.meta(), make_prompt(conversation[:-1])
    row_id = given or content_id("unpaired", prompt.id, completion, label, meta)
    return Unpaired(id=row_id, prompt=prompt, completion=completion, label=label, meta=meta)


def _from_trl(columns: Columns) -> Unpaired:
    prompt = with_system(columns, parse_prompt(columns.get("prompt", "prompt"), "column 'prompt'"))
    reply = parse_reply(columns.get("completion", "completion"), "column 'completion'")
    return _unpaired(columns, join_reply(prompt, reply), "label")


def _from_llama_factory(columns: Columns) -> Unpaired:
    name = columns.first("messages", "conversations")
    if name:
        conversation = with_system(columns, parse_messages(columns.get(name, "prompt, completion"), f"column '{name}'"))
        return _unpaired(columns, conversation, "kto_tag")
    prompt_name = columns.first("instruction", "prompt") or "instruction"
    if prompt_name == "instruction":
        prompt = alpaca_prompt(columns)
    else:
        prompt = with_system(columns, parse_prompt(columns.get("prompt", "prompt"), "column 'prompt'"))
    reply_name = columns.first("output", "completion", "response") or "output"
    reply = parse_reply(columns.get(reply_name, "completion"), f"column '{reply_name}'")
    return _unpaired(columns, join_reply(prompt, reply), "kto_tag")


def _from_steps(columns: Columns) -> Stepwise:
    prompt = make_prompt(with_system(columns, parse_prompt(columns.get("prompt", "prompt"), "column 'prompt'")))
    steps = columns.list("completions", "completions")
    marks = columns.list("labels", "labels")
    texts = tuple(check_text(step, f"step {number}") for number, step in enumerate(steps, 1))
    labels = tuple(check_bool(mark, f"label {number}") for number, mark in enumerate(marks, 1))
    if len(texts) != len(labels):
        raise RowError(f"{len(texts)} completions but {len(labels)} labels")
    given, meta = columns.id(), columns.meta()
    row_id = given or content_id("steps", prompt.id, texts, labels, meta)
    return Stepwise(id=row_id, prompt=prompt, completions=texts, labels=labels, meta=meta)


FORMATS = (
    Format(
        "stepwise",
        Stepwise,
        "prompt, completions (list of steps), labels (list of booleans)",
        lambda row: has(row, "prompt", "labels") and has_list(row, "completions"),
        _from_steps,
    ),
    Format(
        "kto-tag",
        Unpaired,
        "kto_tag with alpaca or sharegpt columns",
        lambda row: has(row, "kto_tag"),
        _from_llama_factory,
    ),
    Format(
        "unpaired",
        Unpaired,
        "prompt, completion, label",
        lambda row: has(row, "prompt", "completion", "label"),
        _from_trl,
    ),
)
