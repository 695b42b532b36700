"""A small OpenAI-compatible server for tests: scripted answers, every request logged, a judge with planted faults."""

from __future__ import annotations

import hashlib
import json
import math
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from accord.rng import derive
from accord.types import Message, Prompt

Answer = dict[str, Any] | tuple[int, Any]
"""Fields of a choice (`text`, and `top` = first tokens with log-probabilities), or (HTTP status, body)."""
Script = Callable[[dict[str, Any]], Answer]


class MockModel:
    """Serves `/v1/chat/completions` on a free port while it is entered."""

    def __init__(self, script: Script) -> None:
        """Args:
        script: request body -> answer; called in the server's threads.
        """
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.before: Callable[[int], None] = lambda count: None
        """Called with the number of requests so far, this one included, before it is answered; no other one is let in
        meanwhile. Should it kill whoever asks, the request counts as never asked."""
        self._lock = threading.Lock()
        mock = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with mock._lock:
                    mock.before(len(mock.requests) + 1)
                    if self.gone():
                        return
                    mock.requests.append(body)
                    mock.headers.append(dict(self.headers))
                said = mock.script(body) if self.path == "/v1/chat/completions" else (404, {"error": "no such path"})
                status, answer = said if isinstance(said, tuple) else (200, completion(body, said))
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    pass  # whoever asked was killed

            def gone(self) -> bool:
                """Whether whoever asked has died meanwhile."""
                try:
                    return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
                except BlockingIOError:
                    return False
                except OSError:
                    return True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> MockModel:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def counts(self) -> Counter[str]:
        """How often each request came."""
        return Counter(json.dumps(body, sort_keys=True) for body in self.requests)


def completion(body: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """A response of the API."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": said["text"]},
        "finish_reason": said.get("finish", "stop"),
    }
    if body.get("logprobs") and "top" in said:
        top = [{"token": token, "logprob": value} for token, value in said["top"].items()]
        choice["logprobs"] = {"content": [{"token": said["text"], "logprob": 0.0, "top_logprobs": top}]}
    return {"object": "chat.completion", "model": body["model"], "choices": [choice],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3}}  # fmt: skip


def shown_qualities(body: dict[str, Any]) -> tuple[float, float]:
    """Qualities the shown answers name themselves, as `quality=3`, in the order shown."""
    text = body["messages"][-1]["content"]
    found = [re.search(rf"<answer {x} \w+>\n(.*?)\n</answer {x}", text, re.DOTALL) for x in "AB"]
    first, second = (float(re.findall(r"quality=([\d.]+)", f[1])[0]) if f else math.nan for f in found)
    return first, second


def chance(body: dict[str, Any], name: str) -> float:
    """A number in [0, 1) that depends on the request alone, so that a repeated request gets the same answer."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return derive(0, name, digest) / 2**63


def oracle(*, first: float = 0.5, malformed: float = 0.0, logprobs: bool = False) -> Script:
    """A judge that knows the better answer, with planted faults.

    Args:
        first: rate at which its decided verdicts fall on the answer shown first; it answers by place in 2 first - 1
            of the requests, and truly in the others.
        malformed: share of replies without a verdict.
        logprobs: whether it tells log-probabilities.
    """
    by_place = 2 * first - 1

    def script(body: dict[str, Any]) -> Answer:
        if "spider" in body["messages"][-1]["content"]:
            return {"text": "A", "top": {"A": -0.01, "B": -5.0}} if logprobs else {"text": "A"}
        if chance(body, "malformed") < malformed:
            return {"text": "I would rather not say.", "top": {"I": -0.1}} if logprobs else {"text": "I cannot say."}
        a, b = shown_qualities(body)
        letter = "A" if chance(body, "place") < by_place or a > b else "B" if b > a else "C"
        if not logprobs:
            return {"text": f"It is sound. [[{letter}]]"}
        p = {"A": 0.9, "B": 0.1, "C": 0.5}[letter]
        return {"text": letter, "top": {"A": math.log(p), " B": math.log(1 - p), "The": -9.0}}

    return script


def pairs(number: int, *, seed: int = 0) -> list[tuple[Prompt, str, str]]:
    """Pairs of replies that name their quality; the first is the better one in half of them."""
    found = []
    for i in range(number):
        better = derive(seed, "better", i) % 2
        qualities = (7, 3) if better else (3, 7)
        prompt = Prompt(id=f"q{i}", messages=(Message(role="user", content=f"Question {i}?"),))
        found.append((prompt, *(f"Answer {i}, quality={q}" for q in qualities)))
    return found
