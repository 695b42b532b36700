"""What goes to and comes from an OpenAI-compatible address: requests, replies, and the address itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from accord import rng
from accord.errors import ConfigError
from accord.types import Message

KEY_VARIABLE = "ACCORD_JUDGE_API_KEY"
"""Environment variable of the key unless another one is named."""


@dataclass(frozen=True)
class Request:
    """One chat completion to ask for."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = 0.0
    """None = the server's own; some models refuse to be told."""
    top_logprobs: int = 0
    """Most likely first tokens to be told the log-probabilities of; 0 = none."""
    sample: int = 0
    """Number of the sample: equal requests with another number are asked again."""
    seed: int = 0
    """Sent unless the temperature is 0."""
    stop: tuple[str, ...] = ()

    def body(self, model: str, length_field: str) -> dict[str, Any]:
        """As JSON for the server.

        Args:
            model: name the server knows it by.
            length_field: max_tokens, or max_completion_tokens where the server wants that.
        """
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": m.role, "content": m.content} for m in self.messages],
            length_field: self.max_tokens,
        }
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        if self.temperature != 0:
            body["seed"] = rng.derive(self.seed, "sample", self.sample) % 2**31
        if self.stop:
            body["stop"] = list(self.stop)
        return body

    def described(self, url: str, model: str) -> dict[str, Any]:
        """Everything that decides the reply; the cache goes by its hash."""
        messages = [{"role": m.role, "content": m.content} for m in self.messages]
        rest = {name: value for name, value in vars(self).items() if name != "messages"}
        return {"url": url, "model": model, "messages": messages, **rest, "stop": list(self.stop)}


@dataclass(frozen=True)
class Reply:
    """What came back."""

    text: str | None
    """None = the server refused this very request (too long, filtered), see `error`."""
    finish: str = ""
    first_token: Mapping[str, float] = field(default_factory=dict[str, float])
    """Most likely first tokens and their log-probabilities in nats; empty when the server tells none."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""
    cached: bool = False
    """It came out of the cache and cost nothing."""

    def stored(self) -> dict[str, Any]:
        """What the cache keeps; `Reply(**stored)` is the reply again."""
        kept = asdict(self)
        return {name: kept[name] for name in ("text", "finish", "first_token", "prompt_tokens", "completion_tokens")}


def parsed(content: bytes) -> Reply | None:
    """The reply in a response, or None when it is no chat completion."""
    try:
        response = json.loads(content)
        choice = response["choices"][0]
        text = choice["message"].get("content")
        usage = response.get("usage") or {}
        if not isinstance(text, str | None):
            return None
        return Reply(
            text=text or "",  # a reasoning model that was cut before its answer has none
            finish=str(choice.get("finish_reason") or ""),
            first_token=_first_token(choice.get("logprobs")),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None


def _first_token(logprobs: Any) -> dict[str, float]:
    """Most likely first tokens; nothing when the server tells none in the form of the API."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        return {}
    told: dict[str, float] = {}
    for entry in content[0].get("top_logprobs") or []:
        value = float(entry["logprob"])
        if value <= 1e-6:  # rounding above 0 is forgiven; nan is left out
            told[str(entry["token"])] = max(min(value, 0.0), -1e4)
    return told


def checked_address(url: str) -> str:
    """The address without a trailing slash or `/chat/completions`.

    Raises:
        ConfigError: it is not http or https, or it carries a user, password, query or fragment.
    """
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not repeated in the message: what is wrong with it may be that it holds a secret.
        raise ConfigError(
            "the address of a model holds more than host and path",
            fix=f"write http(s)://host/path only; a key goes into the environment as {KEY_VARIABLE}",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "the address of a model starts with http:// or https://", where=url, fix="e.g. http://localhost:8000/v1"
        )
    return url.rstrip("/").removesuffix("/chat/completions")


def is_address(text: str) -> bool:
    """Whether a judge or model is given by its address."""
    return text.startswith(("http://", "https://"))
