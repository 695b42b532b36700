"""The server over HTTP: both routes whole and streamed, who may use it, and how it refuses."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from serve_world import CHAT, NAME, POSITIONS, TEXT, answer, chat, client_of, error_of, make_model, text
from transformers import AutoModelForCausalLM, AutoTokenizer

from accord.engines.base import Sampling
from accord.engines.native import NativeEngine
from accord.errors import EngineError
from accord.models import chat as chat_ids
from accord.rng import derive
from accord.serve import app as app_module
from accord.serve import streaming
from accord.serve.jobs import Job
from accord.serve.model import load_model
from accord.serve.worker import Worker
from accord.types import Message

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / NAME)


@pytest.fixture(scope="module")
def client(place: Path) -> Generator[httpx.Client]:
    with client_of(place, default_limit=12) as opened:
        yield opened


def events(client: httpx.Client, route: str, body: Any) -> list[Any]:
    """The events of a stream; the last one is the word DONE."""
    found: list[Any] = []
    with client.stream("POST", route, json=body | {"stream": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        for line in response.iter_lines():
            if line:
                assert line.startswith("data: ")
                data = line.removeprefix("data: ")
                found.append("DONE" if data == "[DONE]" else json.loads(data))
    return found


def test_the_reply_is_the_engines_for_the_same_seed(client: httpx.Client, place: Path) -> None:
    made = answer(client, CHAT, chat("the dog", seed=7, n=2, max_tokens=9, temperature=0.9))
    served = load_model(str(place), max_batch=4)
    ids = chat_ids.encode_prompt(served.reader, [Message(role="user", content="the dog")])
    wanted = served.engine.generate([ids], Sampling(9, temperature=0.9, n=2), seeds=[derive(7, "serve", 0)])
    assert [c["message"]["content"] for c in made["choices"]] == [c.text for c in wanted]
    assert [c["finish_reason"] for c in made["choices"]] == [c.finish for c in wanted]
    assert [c["index"] for c in made["choices"]] == [0, 1]
    used = sum(len(c.token_ids) for c in wanted)
    assert made["usage"] == {"prompt_tokens": len(ids), "completion_tokens": used, "total_tokens": len(ids) + used}
    assert made["object"] == "chat.completion" and made["model"] == NAME and made["id"].startswith("chatcmpl-")


def test_without_a_limit_the_reply_is_bounded(client: httpx.Client) -> None:
    for n in range(4):
        assert answer(client, CHAT, chat(temperature=2, seed=n))["usage"]["completion_tokens"] <= 12
    long = "a " * 40
    made = answer(client, CHAT, chat(long))
    assert made["usage"]["total_tokens"] <= POSITIONS
    assert answer(client, TEXT, text(seed=1))["usage"]["completion_tokens"] <= 16
    assert answer(client, TEXT, text([9] * (POSITIONS - 3), seed=1))["usage"]["total_tokens"] <= POSITIONS


@pytest.mark.parametrize("route", [CHAT, TEXT])
def test_a_stream_says_what_the_whole_reply_says_in_the_order_clients_expect(client: httpx.Client, route: str) -> None:
    make = chat if route == CHAT else text
    body = make(seed=5, n=2, max_tokens=20, temperature=1.2, stop=["th", "\u00e9"])
    whole = answer(client, route, body)
    plain = events(client, route, body)
    asked = events(client, route, body | {"stream_options": {"include_usage": True}})
    assert plain.pop() == asked.pop() == "DONE"
    assert asked[-1]["choices"] == [] and asked[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in asked[:-1]) and not any("usage" in chunk for chunk in plain)
    assert all(chunk["choices"] for chunk in plain)
    for chunks in (plain, asked[:-1]):
        assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
        for index in (0, 1):
            mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
            assert [c["finish_reason"] for c in mine[:-1]] == [None] * (len(mine) - 1)
            assert mine[-1]["finish_reason"] == whole["choices"][index]["finish_reason"]
            if route == CHAT:
                assert mine[0]["delta"] == {"role": "assistant", "content": ""} and mine[-1]["delta"] == {}
                assert not any("role" in c["delta"] for c in mine[1:])
                pieces = [c["delta"].get("content", "") for c in mine]
                wanted = whole["choices"][index]["message"]["content"]
            else:
                pieces = [c["text"] for c in mine]
                wanted = whole["choices"][index]["text"]
            assert "".join(pieces) == wanted


def test_tokens_are_sent_while_others_are_still_drawn(client: httpx.Client) -> None:
    chunks = events(client, CHAT, chat(seed=2, max_tokens=30, temperature=1.5))
    assert len([c for c in chunks[:-1] if c["choices"] and c["choices"][0]["delta"].get("content")]) > 5


def test_a_stop_text_ends_the_reply_and_is_not_in_it(client: httpx.Client) -> None:
    free = answer(client, CHAT, chat(seed=3, max_tokens=30, temperature=1.5))["choices"][0]["message"]["content"]
    stop = free[len(free) // 2 : len(free) // 2 + 2]
    made = answer(client, CHAT, chat(seed=3, max_tokens=30, temperature=1.5, stop=stop))
    choice = made["choices"][0]
    assert choice["message"]["content"] == free[: free.index(stop)] and choice["finish_reason"] == "stop"


def test_log_probabilities_of_a_chat_are_the_models_own(client: httpx.Client, place: Path) -> None:
    body = chat(seed=4, max_tokens=6, temperature=0.7, top_p=0.8, logprobs=True, top_logprobs=3)
    made = answer(client, CHAT, body)
    content = made["choices"][0]["logprobs"]["content"]
    assert len(content) == made["usage"]["completion_tokens"]
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place).eval()
    ids = chat_ids.encode_prompt(tokenizer, [Message(role="user", content="the cat")])
    for entry in content:
        with torch.no_grad():
            logps = model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        best = logps.topk(3)
        assert [t["logprob"] for t in entry["top_logprobs"]] == pytest.approx(best.values.tolist(), abs=1e-4)
        near = (logps - entry["logprob"]).abs()  # temperature and top-p are not in the numbers
        assert float(near.min()) < 1e-4
        ids.append(int(near.argmin()))
    read = b"".join(bytes(entry["bytes"] or []) for entry in content)
    assert read.decode("utf-8", "replace") == made["choices"][0]["message"]["content"]
    chunks = events(client, CHAT, body)[:-1]
    streamed = [
        e for c in chunks for choice in c["choices"] for e in (choice["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == content


def test_echo_scores_the_prompt_as_lm_eval_needs_it(client: httpx.Client, place: Path) -> None:
    """Log-probabilities of prompt + 1 tokens, the first None, dicts of likely tokens that hold the largest."""
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place).eval()
    prompts = [tokenizer.encode(t, add_special_tokens=False) for t in ("the cat sat", "a dog", "the mat on the cat")]
    body = text(prompts, echo=True, logprobs=1, max_tokens=1, temperature=0, seed=1234)
    made = answer(client, TEXT, body)
    assert [choice["index"] for choice in made["choices"]] == [0, 1, 2]
    for ids, choice in zip(prompts, made["choices"], strict=True):
        with torch.no_grad():
            logps = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        told = choice["logprobs"]
        assert [len(told[name]) for name in told] == [len(ids) + 1] * 4
        assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
        given = [float(logps[i, ids[i + 1]]) for i in range(len(ids) - 1)]
        assert told["token_logprobs"][1:-1] == pytest.approx(given, abs=1e-4)
        assert told["token_logprobs"][-1] == pytest.approx(float(logps[-1].max()), abs=1e-4)
        for at in range(1, len(ids) + 1):
            assert max(told["top_logprobs"][at].values()) == pytest.approx(float(logps[at - 1].max()), abs=1e-4)
            greedy = at == len(ids) or int(logps[at - 1].argmax()) == ids[at]
            assert (told["token_logprobs"][at] == max(told["top_logprobs"][at].values())) == greedy
        assert "".join(told["tokens"]) == choice["text"]
    only = answer(client, TEXT, body | {"max_tokens": 0})
    for choice, longer in zip(only["choices"], made["choices"], strict=True):
        assert choice["logprobs"]["token_logprobs"] == longer["logprobs"]["token_logprobs"][:-1]
    several = answer(client, TEXT, body | {"max_tokens": 4})
    for choice, shorter in zip(several["choices"], made["choices"], strict=True):
        n = len(shorter["logprobs"]["token_logprobs"])
        assert choice["logprobs"]["token_logprobs"][1:n] == pytest.approx(
            shorter["logprobs"]["token_logprobs"][1:], abs=1e-5
        )


def test_texts_and_ids_are_answered_alike_and_echoed(client: httpx.Client, place: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(place)
    texts = ["the cat", "a <|end|> dog"]
    ids = [tokenizer.encode(t) for t in texts]
    how: dict[str, Any] = {"seed": 3, "max_tokens": 5, "n": 2}
    both = [answer(client, TEXT, text(prompt, **how)) for prompt in (texts, ids)]
    assert both[0]["choices"] == both[1]["choices"] and len(both[0]["choices"]) == 4
    one = answer(client, TEXT, text(texts[0], **how))
    assert one["choices"] == both[0]["choices"][:2]
    for prompt in (texts, ids):
        echoed = answer(client, TEXT, text(prompt, **how, echo=True))["choices"]
        assert [c["text"] for c in echoed] == [texts[i // 2] + c["text"] for i, c in enumerate(both[0]["choices"])]
        chunks = events(client, TEXT, text(prompt, **how, echo=True, logprobs=0))[:-1]
        streamed = ["".join(c["text"] for k in chunks for c in k["choices"] if c["index"] == i) for i in range(4)]
        assert streamed == [c["text"] for c in echoed]


def test_requests_that_arrive_together_are_answered_as_if_alone(client: httpx.Client) -> None:
    bodies = [chat(f"the cat {i}", seed=i, max_tokens=8, temperature=[0, 1][i % 2], n=1 + i % 2) for i in range(12)]
    alone = [answer(client, CHAT, body)["choices"] for body in bodies]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda body: answer(client, CHAT, body)["choices"], bodies))
    assert together == alone


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (chat("a " * 90), "messages", f"room for {POSITIONS} tokens, and the request needs"),
        (text(max_tokens=500), "prompt", "or leave the limit out"),
        (text([1] * (POSITIONS + 1), max_tokens=0, echo=True), "prompt", f"{POSITIONS + 1} in the prompt"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(
    client: httpx.Client, body: dict[str, Any], param: str, words: str
) -> None:
    response = client.post(TEXT if "prompt" in body else CHAT, json=body)
    error = error_of(response)
    assert response.status_code == 400 and error["code"] == "context_length_exceeded" and error["param"] == param
    assert words in error["message"]
    cut = answer(client, CHAT, chat("a " * 40, max_tokens=500, temperature=0))
    assert cut["choices"][0]["finish_reason"] == "stop" or cut["usage"]["total_tokens"] == POSITIONS
    full = text([1] * POSITIONS, max_tokens=0, echo=True, logprobs=1)
    assert len(answer(client, TEXT, full)["choices"][0]["logprobs"]["tokens"]) == POSITIONS


def test_refusals_have_the_form_and_status_of_the_api(client: httpx.Client) -> None:
    for method, path, body, status, words in (
        ("POST", CHAT, chat() | {"model": "gpt-4"}, 404, "this server has 'tiny'"),
        ("GET", "/models/gpt-4", None, 404, "gpt-4"),
        ("POST", "/embeddings", {}, 404, "/v1/embeddings"),
        ("GET", CHAT, None, 405, "Method Not Allowed"),
        ("POST", CHAT, chat(tools=[{"type": "function"}]), 400, "tools"),
        ("POST", TEXT, text([5000]), 400, "token id 5000"),
    ):
        response = client.request(method, path, json=body)
        assert response.status_code == status and words in error_of(response)["message"]
    for content, kind, status in (
        (b"{", "application/json", 400),
        (b'{"a":' * 100_000, "application/json", 400),
        (b"\xff", "application/json; charset=utf-8", 400),
        (json.dumps(chat()).encode(), "text/plain", 415),
    ):
        response = client.post(CHAT, content=content, headers={"Content-Type": kind})
        assert response.status_code == status and error_of(response)["message"]
    half = json.dumps(chat("\ud800")).encode()
    response = client.post(CHAT, content=half, headers={"Content-Type": "application/json"})
    assert response.status_code == 400 and error_of(response)["param"] == "messages.0.content"


def test_a_body_is_bounded(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "MAX_BODY", 1000)
    response = client.post(CHAT, json=chat("a" * 2000))
    assert response.status_code == 413 and "larger than 1000 bytes" in error_of(response)["message"]


def test_models_and_health_are_listed(client: httpx.Client) -> None:
    for path in ("/models", "/"):
        (card,) = client.get(path).json()["data"]
        assert (card["id"], card["object"], card["max_model_len"]) == (NAME, "model", POSITIONS)
    assert client.get(f"/models/{NAME}").json()["id"] == NAME
    root = str(client.base_url).removesuffix("/v1/")
    assert client.get(f"{root}/health/live").json() == {"status": "live"}
    assert client.get(f"{root}/health/ready").json() == {"status": "ready"}


def test_a_failure_on_the_way_is_an_event_with_json(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise EngineError('not "finite"\nat all')

    monkeypatch.setattr(NativeEngine, "generate_watched", broken)
    chunks = events(client, CHAT, chat())
    assert chunks[-1]["error"]["message"] == 'the model failed: not "finite"\nat all' and "DONE" not in chunks
    response = client.post(CHAT, json=chat())
    assert response.status_code == 500 and error_of(response)["code"] == "engine_error"


class Late:
    """The engine's generation, which begins when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.jobs: list[Job] = []
        real, submit = NativeEngine.generate_watched, Worker.submit

        def late(engine: NativeEngine, *call: Any, **named: Any) -> Any:
            self.entered.set()
            assert self.go.wait(60)
            return real(engine, *call, **named)

        def noted(worker: Worker, jobs: list[Job]) -> None:
            self.jobs.extend(jobs)
            submit(worker, jobs)

        monkeypatch.setattr(NativeEngine, "generate_watched", late)
        monkeypatch.setattr(Worker, "submit", noted)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_hangs_up_cancels_its_reply(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    late = Late(monkeypatch)
    body = json.dumps(chat(max_tokens=50, stream=streamed, n=2)).encode()
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        head = f"POST /v1{CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert late.entered.wait(60)
        (job,) = late.jobs
        assert not job.cancelled
    for _ in range(4000):
        if job.cancelled:
            break
        time.sleep(0.005)
    late.go.set()
    assert job.cancelled
    assert answer(client, CHAT, chat(max_tokens=1))["choices"]


def test_a_stream_without_tokens_is_kept_alive(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Late(monkeypatch)
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.01)
    lines: list[str] = []
    with client.stream("POST", CHAT, json=chat(stream=True)) as response:
        for line in response.iter_lines():
            lines.append(line)
            if line.startswith(":"):
                late.go.set()
    assert ": still at work" in lines and lines[-2:] == ["data: [DONE]", ""]
