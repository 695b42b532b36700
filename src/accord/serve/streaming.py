"""Server-sent events in the order that OpenAI's clients expect.

The role of every choice, then pieces of text, then an empty piece with the reason it ended; the usage, where it is
asked for; `[DONE]`. A failure on the way is an event with `error`, and the last one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.requests import Request

from accord.serve.errors import ApiError
from accord.serve.exchange import ClientGone, Exchange
from accord.serve.jobs import Piece, PromptScores
from accord.serve.replies import Choice, Form

HEARTBEAT_S = 15.0
"""Seconds without a token after which a comment is sent, so that nobody on the way takes the connection for dead."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def stream(exchange: Exchange, form: Form, request: Request, given: Sequence[str]) -> AsyncGenerator[str]:
    """The events of one request.

    Args:
        exchange: its jobs, already submitted.
        form: what all chunks have in common.
        request: whose client may hang up.
        given: text of each prompt, for `echo`.
    """
    asked = exchange.asked
    try:
        for choice in _first(exchange, given):
            yield _event(form.chunk([choice]))
        async for event in exchange.events(request, HEARTBEAT_S):
            if event is None:
                yield ": still at work\n\n"
                continue
            prompt, told = event
            for choice in _choices(exchange, prompt, told, given):
                yield _event(form.chunk([choice]))
        if asked.include_usage:
            yield _event(form.chunk([], exchange.usage))
        yield "data: [DONE]\n\n"
    except ApiError as error:
        yield _event(error.body())
    except ClientGone:
        return


def _first(exchange: Exchange, given: Sequence[str]) -> list[Choice]:
    """What can be said before anything is drawn."""
    asked = exchange.asked
    places = [(p, exchange.index(p, sample)) for p in range(len(exchange.jobs)) for sample in range(asked.n)]
    if asked.kind == "chat":
        return [Choice(index, "", None, None, role=True) for _, index in places]
    if asked.echo and asked.top is None:
        return [Choice(index, given[prompt], None, None) for prompt, index in places]
    return []


def _choices(exchange: Exchange, prompt: int, told: Piece | PromptScores, given: Sequence[str]) -> list[Choice]:
    asked = exchange.asked
    if isinstance(told, PromptScores):
        if asked.top is None:
            return []
        indices = [exchange.index(prompt, sample) for sample in range(asked.n)]
        return [Choice(index, given[prompt], None, told.scores) for index in indices]
    index = exchange.index(prompt, told.sample)
    made: list[Choice] = []
    if told.text or told.scores:
        made.append(Choice(index, told.text, None, None if asked.top is None else told.scores))
    if told.finish is not None:
        made.append(Choice(index, "", told.finish, None))
    return made


def _event(body: dict[str, Any]) -> str:
    # ASCII: some clients take other line separators of Unicode for the end of a line.
    return f"data: {json.dumps(body)}\n\n"
