"""The fields of a request: which are honoured, which change nothing, and which are refused unless they are neutral.

A field is never silently ignored: what the server cannot do is refused by name, what it does not know is refused too.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from accord.serve.errors import ApiError, bad

MOST_TOP = 20
"""Most likely tokens that can be asked for a position, as in OpenAI's API."""
MOST_STOPS = 64

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("frequency_penalty", "presence_penalty", "min_p", "min_tokens"), (0,)),
    **dict.fromkeys(("repetition_penalty", "length_penalty"), (1,)),
    **dict.fromkeys(("tools", "functions"), ([],)),
    **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "logit_bias": ({},),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "ignore_eos": (False,),
    "skip_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template_kwargs": ({},),
    **dict.fromkeys(("audio", "prediction", "web_search_options", "moderation", "prompt_cache_options"), ()),
}
"""Fields that the server cannot honour, and the values (besides null) that ask for nothing."""
NO_EFFECT = frozenset(
    {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"},
)
"""Labels for the sender's own books: they say nothing about the reply, and are not kept."""


class StreamOptions(BaseModel):
    """How to stream."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Fields(BaseModel):
    """What both routes take; null is the same as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str | None] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatFields(Fields):
    """Body of `/v1/chat/completions`."""

    messages: list[dict[str, Any]]
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None


class TextFields(Fields):
    """Body of `/v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    best_of: int | None = None


F = TypeVar("F", bound=Fields)


def read_fields(kind: type[F], body: object) -> F:
    """The fields of a parsed JSON body.

    Raises:
        ApiError: 400 that names the first field at fault.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "the body is no JSON object")
    known = {key: value for key, value in body.items() if key not in NO_EFFECT}
    for name, values in NEUTRAL.items():
        value = known.pop(name, None)
        if value is not None and not any(
            value == one and isinstance(value, bool) == isinstance(one, bool) for one in values
        ):
            raise bad(name, f"this server cannot honour {name}: leave it out", "unsupported_parameter")
    for name in known:
        if name not in kind.model_fields:
            near = get_close_matches(name, [*kind.model_fields, *NEUTRAL], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise bad(name, f"there is no parameter {name}{hint}", "unknown_parameter")
    try:
        return kind.model_validate(known)
    except ValidationError as error:
        raise _first(error) from error


def _first(error: ValidationError) -> ApiError:
    """The first field at fault; of its alternatives, what was said about the one that came furthest."""
    said = error.errors(include_url=False, include_input=False)
    first = max((one for one in said if one["loc"][0] == said[0]["loc"][0]), key=lambda one: len(one["loc"]))
    place = [str(part) for part in first["loc"]]
    name = place[0]
    if first["type"] == "missing":
        return bad(name, f"{name} is required", "missing_required_parameter")
    if name == "prompt":
        what = "a text, a list of texts, a list of token ids, or a list of lists of token ids"
        return bad(name, f"prompt must be {what}", "invalid_type")
    inner = [part for part in place[1:] if part.isdecimal() or part in StreamOptions.model_fields]
    return bad(".".join([name, *inner]), f"{'.'.join([name, *inner])}: {first['msg']}", "invalid_value")
