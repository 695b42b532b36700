"""A tiny model on disk, a server with it, and requests."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from accord.models.build import new_causal
from accord.models.checkpoint import save_model
from accord.models.policy import CausalModel
from accord.models.tokenizer import train_tokenizer
from accord.serve.app import Settings
from accord.serve.model import Place
from accord.serve.running import Capacity, serving

POSITIONS = 96
TEXTS = ["the cat sat on the mat", "a dog ran to the other cat", "Was fuer ein Tag, wie sch\u00f6n, \u4f60\u597d"]
NAME = "tiny"
CHAT, TEXT = "/chat/completions", "/completions"


def make_model(place: Path, *, template: bool = True) -> Path:
    """A model with random weights, sharp enough that rounding does not decide between two tokens."""
    tokenizer = train_tokenizer(TEXTS * 3, 290)
    if not template:
        tokenizer.chat_template = None
    model = new_causal(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_positions=POSITIONS, init_std=0.6)
    with_template = train_tokenizer(TEXTS * 3, 290)
    save_model(CausalModel(model), with_template if template else tokenizer, place, "card")
    return place


@contextmanager
def client_of(
    place: Path, *, key: str = "", capacity: Capacity | None = None, **settings: Any
) -> Generator[httpx.Client]:
    """A client of a running server."""
    told = Settings(NAME, key=key, **settings)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        serving(Place(str(place), NAME), told, capacity=capacity) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as client,
    ):
        yield client


def chat(text: str = "the cat", **fields: Any) -> dict[str, Any]:
    """A body of `/v1/chat/completions`."""
    return {"model": NAME, "messages": [{"role": "user", "content": text}], **fields}


def text(prompt: Any = "the cat", **fields: Any) -> dict[str, Any]:
    """A body of `/v1/completions`."""
    return {"model": NAME, "prompt": prompt, **fields}


def answer(client: httpx.Client, route: str, body: Any) -> dict[str, Any]:
    """What a request is answered with."""
    response = client.post(route, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def error_of(response: httpx.Response) -> dict[str, Any]:
    """What a refusal says, in the form of the API."""
    said = response.json()
    assert set(said) == {"error"} and set(said["error"]) == {"message", "type", "param", "code"}
    return said["error"]
