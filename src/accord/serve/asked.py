"""What a request asks for, read from its fields: conversations or texts, how to sample, what to tell."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from accord.serve.errors import bad
from accord.serve.fields import MOST_STOPS, ChatFields, Fields, TextFields, read_fields
from accord.types import Message, Role

SHORT_TEXT = 16
"""Tokens of a completion (not chat) when no limit is sent, as in OpenAI's API."""
_LEAST_TEMPERATURE = 1e-5
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_MESSAGE_FIELDS = {"role", "content", "tool_call_id"}
"""`tool_call_id` says which call a tool answers; templates that show one call at a time have no place for it."""

Given = tuple[Message, ...] | str | tuple[int, ...]
"""A conversation, a text, or token ids."""


@dataclass(frozen=True)
class Asked:
    """One request, checked as far as that goes without a tokenizer."""

    kind: Literal["chat", "text"]
    model: str
    prompts: tuple[Given, ...]
    limit: int | None
    """Most new tokens; None = as many as the server allows and the model has room for."""
    temperature: float
    top_p: float
    top_k: int
    n: int
    stop: tuple[str, ...]
    seed: int
    top: int | None
    """Most likely tokens to be told beside each drawn one; None = no log-probabilities."""
    echo: bool
    """Give the prompt back before the reply, with its log-probabilities where they are asked for."""
    stream: bool
    include_usage: bool

    @property
    def param(self) -> str:
        """The field that holds the prompt."""
        return "messages" if self.kind == "chat" else "prompt"


def read_chat(body: object) -> Asked:
    """Read a body of `/v1/chat/completions`.

    Raises:
        ApiError: 400 that names the field at fault.
    """
    fields = read_fields(ChatFields, body)
    limit = fields.max_tokens
    if fields.max_completion_tokens is not None:
        if limit not in (None, fields.max_completion_tokens):
            raise bad("max_tokens", "max_tokens and max_completion_tokens differ: send one of them")
        limit = fields.max_completion_tokens
    if limit == 0:
        raise bad("max_tokens", "a reply needs at least 1 token")
    if fields.top_logprobs and not fields.logprobs:
        raise bad("top_logprobs", "top_logprobs needs logprobs: true")
    if not fields.messages:
        raise bad("messages", "messages is empty")
    messages = tuple(_message(i, message) for i, message in enumerate(fields.messages))
    top = (fields.top_logprobs or 0) if fields.logprobs else None
    return _asked(fields, "chat", (messages,), limit=limit, top=top, echo=False)


def read_text(body: object) -> Asked:
    """Read a body of `/v1/completions`.

    Raises:
        ApiError: 400 that names the field at fault.
    """
    fields = read_fields(TextFields, body)
    n, echo = fields.n or 1, bool(fields.echo)
    if fields.best_of not in (None, n):
        raise bad("best_of", "this server cannot honour best_of: ask for n samples and choose", "unsupported_parameter")
    limit = fields.max_tokens
    if limit == 0 and not echo:
        raise bad("max_tokens", "a completion needs at least 1 token, or echo: true")
    return _asked(fields, "text", _prompts(fields.prompt), limit=limit, top=fields.logprobs, echo=echo)


def _asked(
    fields: Fields,
    kind: Literal["chat", "text"],
    prompts: tuple[Given, ...],
    *,
    limit: int | None,
    top: int | None,
    echo: bool,
) -> Asked:
    options = fields.stream_options
    if options is not None and not fields.stream:
        raise bad("stream_options", "stream_options needs stream: true")
    if options is not None and options.include_obfuscation:
        name = "stream_options.include_obfuscation"
        raise bad(name, "this server cannot honour include_obfuscation: leave it out", "unsupported_parameter")
    return Asked(
        kind,
        fields.model,
        prompts,
        limit,
        temperature=_temperature(fields.temperature),
        top_p=1.0 if fields.top_p is None else fields.top_p,
        top_k=max(fields.top_k or 0, 0),
        n=fields.n or 1,
        stop=_stops(fields.stop),
        seed=secrets.randbits(63) if fields.seed is None else fields.seed,
        top=top,
        echo=echo,
        stream=bool(fields.stream),
        include_usage=options is not None and bool(options.include_usage),
    )


def _temperature(given: float | None) -> float:
    """Below what float32 can divide by, a temperature means the most likely token."""
    return 1.0 if given is None else given if given >= _LEAST_TEMPERATURE else 0.0


def _stops(given: str | list[str | None] | None) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given or []
    found = tuple(dict.fromkeys(text for text in texts if text is not None))
    if "" in found:
        raise bad("stop", "an empty text stops nothing: leave it out")
    if len(found) > MOST_STOPS:
        raise bad("stop", f"{len(found)} stop texts, and at most {MOST_STOPS} are looked for")
    for text in found:
        _check_text("stop", text)
    return found


def _message(number: int, raw: Mapping[str, Any]) -> Message:
    where = f"messages.{number}"
    for name, value in raw.items():
        if name not in _MESSAGE_FIELDS and value not in (None, []):
            raise bad(f"{where}.{name}", f"this server cannot honour {name} in a message", "unsupported_parameter")
    role = _ROLES.get(str(raw.get("role")))
    if role is None:
        raise bad(f"{where}.role", f"role must be one of {', '.join(_ROLES)}", "invalid_value")
    content = raw.get("content")
    if isinstance(content, list):
        content = "".join(_part(f"{where}.content.{i}", part) for i, part in enumerate(cast(Sequence[object], content)))
    if not isinstance(content, str):
        raise bad(f"{where}.content", "content must be a text or a list of text parts", "invalid_type")
    _check_text(f"{where}.content", content)
    return Message(role=role, content=content)


def _part(where: str, part: object) -> str:
    """The text of one part of a content; this server has models of text only."""
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise bad(where, "this server reads text only: a part is {type: text, text: ...}", "unsupported_content")
    return part["text"]


def _prompts(given: str | list[str] | list[int] | list[list[int]]) -> tuple[Given, ...]:
    if isinstance(given, str):
        prompts: tuple[Given, ...] = (given,)
    elif given and all(isinstance(one, int) for one in given):
        prompts = (tuple(cast(list[int], given)),)
    else:
        prompts = tuple(one if isinstance(one, str) else tuple(cast(list[int], one)) for one in given)
    if not prompts:
        raise bad("prompt", "prompt is empty")
    for number, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise bad("prompt", f"prompt {number} is empty: give at least one token")
        if isinstance(prompt, str):
            _check_text("prompt", prompt)
    return prompts


def _check_text(where: str, text: str) -> None:
    """JSON can say half a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise bad(where, f"no Unicode text: {error.reason} at character {error.start}", "invalid_value") from error
