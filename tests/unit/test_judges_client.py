"""The client of OpenAI-compatible servers: cache, retries, limits, and a key that is told to nobody."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from accord.errors import ArtifactError, ConfigError, EngineError
from accord.judges.cache import ReplyCache, request_key
from accord.judges.client import ChatClient, Limits
from accord.judges.wire import Request, checked_address
from accord.types import Message
from mock_model import completion

URL = "http://judge.test/v1"


def ask(text: str, **options: Any) -> Request:
    return Request((Message(role="user", content=text),), 5, **options)


def client(script: Any, **options: Any) -> tuple[ChatClient, list[httpx.Request], list[float]]:
    """A client whose requests a function answers; also the requests and the waits."""
    sent: list[httpx.Request] = []
    waits: list[float] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        said = script(len(sent), json.loads(request.content))
        return said if isinstance(said, httpx.Response) else httpx.Response(200, content=json.dumps(said))

    made = ChatClient(URL, "m", transport=httpx.MockTransport(handle), sleep=waits.append, **options)
    return made, sent, waits


def says(text: str) -> Any:
    return lambda count, body: completion(body, {"text": text})


def test_equal_requests_are_asked_once_and_remembered_after_the_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.db"
    first, sent, _ = client(lambda count, body: completion(body, {"text": body["messages"][0]["content"]}), cache=path)
    with first:
        replies = first.complete_many([ask("x"), ask("y"), ask("x")])
        assert [r.text for r in replies] == ["x", "y", "x"] and len(sent) == 2
        assert (first.usage.calls, first.usage.prompt_tokens) == (2, 14)
    again, sent, _ = client(says("other"), cache=path)
    with again:
        replies = again.complete_many([ask("y"), ask("x")])
    assert [(r.text, r.cached) for r in replies] == [("y", True), ("x", True)] and sent == []


@pytest.mark.parametrize(
    "other",
    [ask("y"), ask("x", temperature=0.5), ask("x", sample=1), ask("x", top_logprobs=5), ask("x", stop=("z",))],
)
def test_whatever_decides_the_reply_is_in_the_key(other: Request) -> None:
    one = request_key(ask("x").described(URL, "m"))
    assert one == request_key(ask("x").described(URL, "m"))
    assert len({one, request_key(other.described(URL, "m")), request_key(ask("x").described(URL, "n"))}) == 3


def test_failures_that_pass_are_tried_again_with_growing_waits() -> None:
    def script(count: int, body: dict[str, Any]) -> Any:
        if count == 1:
            raise httpx.ConnectError("refused")
        if count == 2:
            return httpx.Response(429, headers={"Retry-After": "17"})
        if count == 3:
            return httpx.Response(503)
        if count == 4:
            return httpx.Response(200, content=b"<html>busy</html>")
        return completion(body, {"text": "ok"})

    made, sent, waits = client(script)
    assert made.complete(ask("x").messages, max_tokens=5).text == "ok"
    assert len(sent) == 5 and made.usage.retries == 4 and made.usage.calls == 1
    assert waits[1] == 17.0 and 0.5 <= waits[0] <= 1 and 2 <= waits[2] <= 4 and 4 <= waits[3] <= 8


def test_a_server_that_never_answers_is_an_error_that_says_how_to_go_on() -> None:
    made, sent, _ = client(lambda count, body: httpx.Response(500, text="down"), limits=Limits(retries=2))
    with pytest.raises(EngineError, match=r"HTTP 500: down(.|\n)*Run the same command again"):
        made.complete(ask("x").messages, max_tokens=5)
    assert len(sent) == 3


@pytest.mark.parametrize(
    ("status", "words"), [(401, "no key was sent"), (404, "no such address or model"), (307, "no such address")]
)
def test_a_wrong_address_or_key_is_not_tried_again(status: int, words: str) -> None:
    made, sent, _ = client(lambda count, body: httpx.Response(status, headers={"Location": "http://evil.test"}))
    with pytest.raises(ConfigError, match=words):
        made.complete(ask("x").messages, max_tokens=5)
    assert len(sent) == 1


def test_one_refused_request_ends_only_itself_and_is_asked_again_next_time(tmp_path: Path) -> None:
    def script(count: int, body: dict[str, Any]) -> Any:
        if body["messages"][0]["content"] == "long":
            return httpx.Response(400, json={"error": {"message": "context length exceeded"}})
        return completion(body, {"text": "ok"})

    made, sent, _ = client(script, cache=tmp_path / "c.db")
    short, long = made.complete_many([ask("short"), ask("long")])
    assert short.text == "ok" and long.text is None and "context length" in long.error
    made.complete_many([ask("short"), ask("long")])
    assert len(sent) == 3


def test_the_budget_is_kept_and_what_it_bought_stays(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    made, sent, _ = client(says("ok"), cache=path, limits=Limits(max_calls=3))
    with made, pytest.raises(EngineError, match="budget of 3 calls"):
        made.complete_many([ask(str(i)) for i in range(8)])
    assert len(sent) == 3
    more, sent, _ = client(says("ok"), cache=path, limits=Limits(max_calls=5))
    with more:
        more.complete_many([ask(str(i)) for i in range(8)])
    assert len(sent) == 5


def test_a_server_that_wants_the_newer_name_of_the_limit_gets_it() -> None:
    def script(count: int, body: dict[str, Any]) -> Any:
        if "max_tokens" in body:
            return httpx.Response(400, json={"error": "use 'max_completion_tokens' instead"})
        return completion(body, {"text": str(body["max_completion_tokens"])})

    made, sent, _ = client(script, limits=Limits(concurrency=1))
    assert [r.text for r in made.complete_many([ask("x"), ask("y")])] == ["5", "5"]
    assert len(sent) == 3


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accord.judges.client._LARGEST", 100)
    made, _, _ = client(lambda count, body: httpx.Response(200, content=b"x" * 101))
    with pytest.raises(EngineError, match="larger than 100 bytes"):
        made.complete(ask("x").messages, max_tokens=5)


def test_the_key_goes_into_the_header_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-very-secret"
    monkeypatch.setenv("ACCORD_JUDGE_API_KEY", secret)
    path = tmp_path / "c.db"

    def script(count: int, body: dict[str, Any]) -> Any:
        return completion(body, {"text": "ok"}) if count == 1 else httpx.Response(401, text=f"bad key {secret}")

    made, sent, _ = client(script, cache=path)
    with made:
        made.complete(ask("x").messages, max_tokens=5)
        with pytest.raises(ConfigError, match=r"bad key \*\*\*") as error:
            made.complete(ask("y").messages, max_tokens=5)
    assert sent[0].headers["authorization"] == f"Bearer {secret}"
    assert secret not in str(error.value) and secret.encode() not in path.read_bytes()
    assert secret not in sent[0].content.decode()


def test_a_key_variable_that_was_named_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="MY_KEY is not set"):
        ChatClient(URL, "m", key_variable="MY_KEY")


@pytest.mark.parametrize("url", ["http://user:secret@host/v1", "http://host/v1?key=secret"])
def test_an_address_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="more than host and path") as error:
        checked_address(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["judge.test/v1", "file:///etc/passwd", "http://"])
def test_an_address_is_http(url: str) -> None:
    with pytest.raises(ConfigError, match="starts with http"):
        checked_address(url)
    assert checked_address("http://h:1/v1/chat/completions") == checked_address("http://h:1/v1/") == "http://h:1/v1"


def test_half_a_surrogate_pair_can_be_asked_about_and_stored(tmp_path: Path) -> None:
    made, sent, _ = client(says("ok \ud83d"), cache=tmp_path / "c.db")
    with made:
        assert made.complete(ask("odd \ud83d").messages, max_tokens=5).text == "ok \ud83d"
        assert made.complete(ask("odd \ud83d").messages, max_tokens=5).cached
    assert len(sent) == 1


def test_a_file_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes " * 100)
    with pytest.raises(ArtifactError, match="cannot be used"):
        ReplyCache(path)
    assert path.read_text().startswith("these are my notes")


def test_a_stored_reply_is_never_replaced(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "c.db")
    cache.put("k", {}, {"text": "first"})
    cache.put("k", {}, {"text": "second"})
    assert cache.get("k") == {"text": "first"} and len(cache) == 1
    with sqlite3.connect(tmp_path / "c.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    cache.close()
