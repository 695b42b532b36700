"""Replies that give away who wrote them."""

from __future__ import annotations

import pytest

from accord.collect.importing.leaks import MASK, leaks, masked


@pytest.mark.parametrize(
    "text, names",
    [
        ("As ChatGPT, I cannot help.", ["ChatGPT"]),
        ("I am Claude, made by Anthropic.", ["Claude", "Anthropic"]),
        ("I'm an AI language model developed by OpenAI.", ["OpenAI"]),
        ("I\u2019m actually Gemini.", ["Gemini"]),
        ("My name is Bard.", ["Bard"]),
        ("As an assistant from Google, I try.", ["Google"]),
        ("You are talking to Vicuna-13b.", ["Vicuna-13b"]),
        ("I was trained by Meta AI.", ["Meta AI"]),
    ],
)
def test_replies_that_speak_of_themselves(text: str, names: list[str]) -> None:
    found = leaks(text)
    assert [leak.text for leak in found] == names
    assert {leak.kind for leak in found} == {"identity"}


@pytest.mark.parametrize(
    "text",
    [
        "Llamas eat grass, and so does the llama next door.",
        "Claude Monet painted water lilies.",
        "Android is developed by Google.",
        "As a pilot I like the Gemini constellation.",
        "I am happy. Phones are made by Microsoft too.",
        "",
    ],
)
def test_ordinary_replies_are_left_alone(text: str) -> None:
    assert leaks(text) == ()


def test_a_mention_counts_only_when_nobody_asked() -> None:
    text = "GPT-4 is larger than GPT-3.5."
    assert [leak.text for leak in leaks(text)] == ["GPT-4", "GPT-3.5."[:-1]] or len(leaks(text)) == 2
    assert {leak.kind for leak in leaks(text)} == {"mention"}
    assert leaks("ChatGPT is a chatbot.", asked="What is ChatGPT?") == ()
    assert len(leaks("I am ChatGPT.", asked="What is ChatGPT?")) == 1


def test_its_own_name_is_looked_for_when_it_tells_something() -> None:
    assert [leak.kind for leak in leaks("This is my-model-7b speaking.", model="org/my-model-7b")] == ["model_name"]
    assert leaks("The sft stage is done.", model="sft") == ()
    assert leaks("Tell me about my-model-7b.", model="my-model-7b", asked="my-model-7b?") == ()


def test_masking_replaces_every_name_and_nothing_else() -> None:
    text = "I am Claude, made by Anthropic. I like blue."
    hidden = masked(text, leaks(text))
    assert hidden == f"I am {MASK}, made by {MASK}. I like blue."
    assert leaks(hidden) == ()
    assert masked(text, ()) == text
