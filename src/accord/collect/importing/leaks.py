"""Replies that say which model wrote them: annotators who can tell are not blind (Chiang et al. 2024, 2403.04132).

Two kinds are told apart. An *identity* leak is a reply that speaks of itself ("As ChatGPT, I ...", "I am Claude",
"developed by OpenAI"). A *mention* is a model or maker named in a reply to a prompt that names neither. A reply about
models to a question about models is neither.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_MODELS = (
    "chat-?gpt",
    r"gpt-?\d[\w.]*(?:-turbo|-mini|-nano)?",
    r"claude[ -](?:\d[\w.]*|instant|opus|sonnet|haiku)",
    r"gemini (?:pro|ultra|flash|nano|advanced|\d[\w.]*)",
    "google bard",
    r"(?:code)?llama[ -]?\d[\w.]*(?:-chat)?",
    r"alpaca-?\d+b",
    r"vicuna[\w-]*",
    r"koala-?\d+b",
    r"mixtral[\w-]*",
    r"mistral-?\d[\w-]*",
    r"qwen[\w.-]*",
    r"deepseek[\w.-]*",
    r"grok-\d[\w.]*",
    r"chatglm[\w-]*",
    "open ?assistant",
    r"starling-?lm[\w-]*",
    r"wizardlm[\w-]*",
    r"zephyr-\d+b",
    "t[u\u00fc]lu ?[0-9]",
    r"olmo[\w-]*",
)
_MAKERS = (
    "open ?ai",
    "anthropic",
    "google deepmind",
    "deepmind",
    "meta ai",
    "mistral ai",
    "alibaba cloud",
    "moonshot ai",
    "zhipu ai",
    "lmsys",
    "laion",
    "allen institute for ai",
    "stability ai",
    r"x\.?ai",
)
_OWN_NAMES = "|".join(
    (*_MODELS, "claude", "bard", "gemini", "grok", "llama", "pi", "bing chat", "copilot", "mistral", "alpaca", "koala")
)
_OWN_MAKERS = "|".join((*_MAKERS, "google", "meta", "microsoft", "alibaba", "cohere", "baidu", "tencent"))
_SELF = r"(?:i am|i'm|i\u2019m|as|my name is|call me|you are (?:talking|speaking|chatting) (?:to|with))"
_IDENTITY = re.compile(
    rf"\b{_SELF}(?: (?:called|named|actually|just|only|indeed|an?|the))* (?P<name>{_OWN_NAMES})\b"
    rf"|\b(?:developed|created|trained|made|built|designed|powered) by (?P<maker>{_OWN_MAKERS})\b"
    r"|\b(?:language model|ai model|assistant|chatbot) (?:from|of|called|named)"
    rf" (?P<origin>{_OWN_MAKERS}|{_OWN_NAMES})\b",
    re.IGNORECASE,
)
_MENTION = re.compile(rf"\b(?P<name>{'|'.join((*_MODELS, *_MAKERS))})\b", re.IGNORECASE)
_SPEAKS_OF_ITSELF = re.compile(
    r"\b(?:i|i'm|i\u2019m|me|my|myself|as an? (?:ai|language|large|virtual|assistant))\b", re.IGNORECASE
)
_TELLING = re.compile(r"\d|-")
MASK = "[name]"

Kind = Literal["identity", "mention", "model_name"]


@dataclass(frozen=True)
class Leak:
    """One place in a reply that names a model or its maker."""

    kind: Kind
    start: int
    end: int
    """The name itself is text[start:end]."""
    text: str


def leaks(text: str, *, asked: str = "", model: str = "") -> tuple[Leak, ...]:
    """Return the places where a reply gives away who wrote it, in order.

    "Developed by Google" counts only where the sentence speaks of the writer, since other things are developed too.

    Args:
        text: the reply.
        asked: the prompt; what it names may be named in the reply.
        model: name of the model that wrote the reply, looked for as it is when it has a digit or a hyphen.
    """
    found: dict[tuple[int, int], Leak] = {}
    for match in _IDENTITY.finditer(text):
        group = str(match.lastgroup)
        if group == "maker" and not _SPEAKS_OF_ITSELF.search(_sentence(text, match.start())):
            continue
        found[match.span(group)] = Leak("identity", *match.span(group), match.group(group))
    named = asked.casefold()
    for match in _MENTION.finditer(text):
        if match.group("name").casefold() not in named:
            found.setdefault(match.span("name"), Leak("mention", *match.span("name"), match.group("name")))
    short = model.rpartition("/")[2]
    if len(short) >= 4 and _TELLING.search(short) and short.casefold() not in named:
        for match in re.finditer(rf"(?<!\w){re.escape(short)}(?!\w)", text, re.IGNORECASE):
            found.setdefault(match.span(), Leak("model_name", *match.span(), match.group()))
    return tuple(found[span] for span in sorted(found))


def _sentence(text: str, at: int) -> str:
    """Return the sentence around a place."""
    start = max(text.rfind(mark, 0, at) for mark in ".!?\n") + 1
    ends = [place for mark in ".!?\n" if (place := text.find(mark, at)) >= 0]
    return text[start : min(ends, default=len(text))]


def masked(text: str, found: Sequence[Leak]) -> str:
    """Return the reply with every name replaced by `MASK`; overlapping places are replaced as one."""
    parts: list[str] = []
    done = 0
    for leak in sorted(found, key=lambda one: (one.start, -one.end)):
        if leak.start >= done:
            parts += [text[done : leak.start], MASK]
        done = max(done, leak.end)
    return "".join([*parts, text[done:]])
