"""What a request may say: nothing is silently ignored, and what is refused is named."""

from __future__ import annotations

from typing import Any

import pytest
from serve_world import chat, text

from accord.serve.asked import read_chat, read_text
from accord.serve.errors import ApiError
from accord.serve.fields import NEUTRAL, NO_EFFECT, ChatFields, TextFields
from accord.types import Message


def test_a_chat_is_read_with_all_it_can_say() -> None:
    asked = read_chat(
        chat(
            "hi",
            max_completion_tokens=9,
            temperature=0.5,
            top_p=0.9,
            top_k=7,
            n=3,
            stop=["a", None, "b", "a"],
            seed=-5,
            logprobs=True,
            top_logprobs=4,
            stream=True,
            stream_options={"include_usage": True},
            user="someone",
        )
    )
    assert asked.prompts == ((Message(role="user", content="hi"),),)
    assert (asked.limit, asked.temperature, asked.top_p, asked.top_k, asked.n) == (9, 0.5, 0.9, 7, 3)
    assert (asked.stop, asked.seed, asked.top, asked.echo) == (("a", "b"), -5, 4, False)
    assert asked.stream and asked.include_usage


def test_null_is_the_same_as_absent() -> None:
    """Clients send every field they know; distilabel and the openai SDK send null for most."""
    nothing = dict.fromkeys([*ChatFields.model_fields, *NEUTRAL, *NO_EFFECT])
    asked = read_chat(nothing | chat())
    assert asked.limit is None and asked.temperature == 1.0 and asked.n == 1 and asked.top is None
    assert not asked.stream and asked.stop == ()
    of_text = read_text(dict.fromkeys([*TextFields.model_fields, *NEUTRAL, *NO_EFFECT]) | text())
    assert of_text.limit is None and not of_text.echo


def test_a_missing_seed_is_drawn_anew() -> None:
    assert read_chat(chat()).seed != read_chat(chat()).seed


def test_contents_may_be_parts_and_developers_are_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = chat() | {"messages": [{"role": "developer", "content": parts, "name": None}]}
    assert read_chat(body).prompts == ((Message(role="system", content="ab"),),)


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("ab", ("ab",)),
        (["ab", "c"], ("ab", "c")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_prompts_come_in_four_forms(prompt: Any, wanted: Any) -> None:
    assert read_text(text(prompt)).prompts == wanted


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_what_cannot_be_honoured_is_refused_by_name(name: str) -> None:
    for value in NEUTRAL[name]:
        read_chat(chat(**{name: value}))
    with pytest.raises(ApiError, match=name) as error:
        read_chat(chat(**{name: ["something"]}))
    assert error.value.status == 400 and error.value.param == name and error.value.code == "unsupported_parameter"


def test_true_is_not_one_and_false_is_not_zero() -> None:
    for name, value in (("store", 0), ("repetition_penalty", True), ("frequency_penalty", False)):
        with pytest.raises(ApiError, match=name):
            read_chat(chat(**{name: value}))


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"max_tokns": 3}, "max_tokns", "did you mean max_tokens"),
    ({"temperature": -1}, "temperature", "greater than or equal to 0"),
    ({"temperature": float("nan")}, "temperature", "finite"),
    ({"temperature": "0.5"}, "temperature", "number"),
    ({"top_p": 1.5}, "top_p", "less than or equal to 1"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": True}, "n", "integer"),
    ({"max_tokens": 0}, "max_tokens", "at least 1"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "differ"),
    ({"stop": ["a", ""]}, "stop", "stops nothing"),
    ({"stop": [f"s{i}" for i in range(65)]}, "stop", "at most 64"),
    ({"stop": [3]}, "stop.0", "string"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "20"),
    ({"top_logprobs": 3}, "top_logprobs", "needs logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "needs stream"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options", "not permitted"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
        "cannot honour",
    ),
    ({"messages": []}, "messages", "empty"),
    ({"messages": "hi"}, "messages", "list"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "one of system"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content", "a text or a list"),
    ({"messages": [{"role": "user", "content": "x", "name": "Bo"}]}, "messages.0.name", "cannot honour"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages.0.content.0",
        "text only",
    ),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages.0.content", "no Unicode"),
]


@pytest.mark.parametrize(("fields", "param", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(ApiError) as error:
        read_chat(chat() | fields)
    assert (error.value.status, error.value.param) == (400, param)
    assert words in error.value.message


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": ""}, "prompt", "prompt 0 is empty"),
        ({"prompt": []}, "prompt", "empty"),
        ({"prompt": [[1], []]}, "prompt", "prompt 1 is empty"),
        ({"prompt": [1, "a"]}, "prompt", "must be"),
        ({"prompt": None}, "prompt", "must be"),
        ({"prompt": [True]}, "prompt", "must be"),
        ({"max_tokens": 0}, "max_tokens", "or echo"),
        ({"best_of": 3}, "best_of", "cannot honour"),
        ({"logprobs": True}, "logprobs", "integer"),
    ],
    ids=str,
)
def test_a_wrong_field_of_a_completion_is_named(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(ApiError) as error:
        read_text(text() | fields)
    assert (error.value.status, error.value.param) == (400, param)
    assert words in error.value.message


def test_what_is_required_is_said() -> None:
    for body, name in (({"messages": []}, "model"), ({"model": "m"}, "messages")):
        with pytest.raises(ApiError, match=f"{name} is required"):
            read_chat(body)
    with pytest.raises(ApiError, match="no JSON object"):
        read_chat([1])


def test_nearly_zero_is_greedy_and_a_best_of_all_is_no_choice() -> None:
    assert read_chat(chat(temperature=1e-300)).temperature == 0.0
    assert read_text(text(best_of=2, n=2)).n == 2
    assert read_text(text(max_tokens=0, echo=True)).limit == 0
