"""Any model behind an OpenAI-compatible address: chat completions with retries, limits, and a cache by request.

The API key comes from the environment and goes nowhere but into the `Authorization` header: not into the cache, not
into errors (should a server echo it, it is cut out), and redirects are not followed. What a server sends is bounded in
size and in time. No torch.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from accord import rng
from accord.errors import AccordError, ConfigError, EngineError
from accord.judges.cache import ReplyCache, request_key
from accord.judges.wire import KEY_VARIABLE, Reply, Request, checked_address, parsed
from accord.types import Message

if TYPE_CHECKING:
    import httpx

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses after which the same request may succeed."""
_LARGEST = 16 * 2**20
"""Bytes of a response; a completion is never that large."""
_LONGEST_WAIT_S = 120.0


@dataclass
class Usage:
    """What a client has done so far."""

    calls: int = 0
    """Requests that were answered by the server."""
    cached: int = 0
    """Requests answered by the cache."""
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Limits:
    """How hard a client tries, and how much it may spend."""

    timeout_s: float = 120.0
    """Seconds for one whole attempt."""
    retries: int = 6
    """Further attempts after a failed one, with exponential backoff or as the server asks."""
    concurrency: int = 8
    """Requests in flight."""
    max_calls: int | None = None
    """Budget of calls of one client, cached ones not counted; None = no limit."""


class ChatClient:
    """A model at an address; use it as a context manager."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        cache: Path | None = None,
        key_variable: str | None = None,
        limits: Limits | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            base_url: up to and including the version, e.g. `http://localhost:8000/v1`.
            model: name the server knows it by.
            cache: SQLite file of replies; None = in memory.
            key_variable: environment variable that holds the API key; None takes `ACCORD_JUDGE_API_KEY` if set.
            limits: of time, attempts and calls; None = the defaults.
            transport: how requests travel; None = over the network.
            sleep: waits between attempts.

        Raises:
            ConfigError: the address is not HTTP or holds a secret, or the named variable is not set.
        """
        import httpx

        self.base_url = checked_address(base_url)
        self.model = model
        self.usage = Usage()
        self._limits = limits or Limits()
        self._begun = 0
        self._lock = threading.Lock()
        self._sleep = sleep
        self._key = _key(key_variable)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        pool = httpx.Limits(
            max_connections=self._limits.concurrency, max_keepalive_connections=self._limits.concurrency
        )
        self._http = httpx.Client(headers=headers, timeout=self._limits.timeout_s, transport=transport, limits=pool)
        self._cache = ReplyCache(cache)
        self._length_field = "max_tokens"

    def __enter__(self) -> Self:
        """The client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close connections and cache."""
        self._http.close()
        self._cache.close()

    def complete(self, messages: Iterable[Message], *, max_tokens: int, **sampling: Any) -> Reply:
        """Ask for one completion.

        Args:
            messages: the conversation.
            max_tokens: most tokens of the reply.
            sampling: other fields of `Request`.

        Raises:
            EngineError, ConfigError: as `complete_many`.
        """
        return self.complete_many([Request(tuple(messages), max_tokens, **sampling)])[0]

    def complete_many(
        self, requests: Sequence[Request], *, progress: Callable[[int], None] | None = None
    ) -> list[Reply]:
        """Ask for many completions, several at a time; equal requests are asked once.

        Args:
            requests: what is asked for.
            progress: called with the number of requests that were answered.

        Returns:
            Replies in the order of the requests.

        Raises:
            EngineError: the server does not answer, or the budget is used up; what was answered is in the cache.
            ConfigError: the server does not know the address, the model or the key.
        """
        asked = [request.described(self.base_url, self.model) for request in requests]
        keys = [request_key(described) for described in asked]
        wanted = Counter(keys)
        found: dict[str, Reply] = {}
        missing: dict[str, int] = {}
        for number, key in enumerate(keys):
            if key in found or key in missing:
                continue
            stored = self._cache.get(key)
            if stored is None:
                missing[key] = number
            else:
                found[key] = Reply(**{**stored, "cached": True})
        with self._lock:
            self.usage.cached += len(found)
        if progress is not None:
            progress(sum(wanted[key] for key in found))

        def ask(key: str, number: int) -> tuple[str, Reply]:
            reply = self._ask(key, requests[number])
            if reply.text is not None:
                self._cache.put(key, asked[number], reply.stored())
            if progress is not None:
                progress(wanted[key])
            return key, reply

        with ThreadPoolExecutor(max_workers=self._limits.concurrency) as pool:
            pending = [pool.submit(ask, key, number) for key, number in missing.items()]
            try:
                wait(pending, return_when=FIRST_EXCEPTION)
            finally:
                for future in pending:
                    future.cancel()
        found.update(_results(pending))
        return [found[key] for key in keys]

    def _ask(self, key: str, request: Request) -> Reply:
        """One answered request, however many attempts it takes."""
        import httpx

        self._spend()
        for attempt in range(self._limits.retries + 1):
            last = attempt == self._limits.retries
            length_field = self._length_field
            try:
                status, headers, content = self._send(request.body(self.model, length_field))
            except (httpx.TransportError, TimeoutError) as error:
                if last:
                    raise self._silent(str(error) or type(error).__name__) from error
                self._again(key, attempt, None)
                continue
            if status == 200:
                reply = parsed(content)
                if reply is not None:
                    self._count(reply)
                    return reply
                if last:
                    raise self._silent(f"its answer is no chat completion: {self._excerpt(content)!r}")
            elif status not in _AGAIN:
                if status == 400 and length_field == "max_tokens" and b"max_completion_tokens" in content:
                    self._length_field = "max_completion_tokens"  # what newer servers call it, refusing the older name
                    continue
                return self._refused(status, content)
            elif last:
                raise self._silent(f"HTTP {status}: {self._excerpt(content)}")
            self._again(key, attempt, headers.get("retry-after"))
        raise self._silent("it wants another name for the length limit every time")

    def _send(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one attempt, which is bounded in bytes and in seconds."""
        deadline = time.monotonic() + self._limits.timeout_s
        content = bytearray()
        # Through ASCII: a text with half a surrogate pair, which JSON can say, has no UTF-8.
        sent = {"content": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}
        with self._http.stream("POST", f"{self.base_url}/chat/completions", **sent) as answer:
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _LARGEST:
                    raise self._silent(f"its answer is larger than {_LARGEST} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no whole answer within {self._limits.timeout_s:g} s")
            return answer.status_code, answer.headers, bytes(content)

    def _spend(self) -> None:
        with self._lock:
            self._begun += 1
            spent = self._limits.max_calls is not None and self._begun > self._limits.max_calls
        if spent:
            raise EngineError(
                f"the budget of {self._limits.max_calls} calls is used up",
                where=f"{self.model} at {self.base_url}",
                fix="run the same command again to spend as much once more (answers are kept), or raise the limit",
            )

    def _count(self, reply: Reply) -> None:
        with self._lock:
            self.usage.calls += 1
            self.usage.prompt_tokens += reply.prompt_tokens
            self.usage.completion_tokens += reply.completion_tokens

    def _again(self, key: str, attempt: int, asked: str | None) -> None:
        """Wait before the next attempt: as long as the server asks, else 1, 2, 4, ... s, less up to half by chance."""
        with self._lock:
            self.usage.retries += 1
        if asked is not None and asked.strip().isdecimal():
            self._sleep(min(float(asked), _LONGEST_WAIT_S))
            return
        share = 0.5 + rng.derive(attempt, key) / 2**64  # callers that failed together must not come back together
        self._sleep(min(2.0**attempt, _LONGEST_WAIT_S) * share)

    def _refused(self, status: int, content: bytes) -> Reply:
        """What a refusal means: a wrong address, key or model ends everything, a wrong request only itself."""
        said = self._excerpt(content)
        where = f"{self.model} at {self.base_url}"
        if status in (401, 403):
            held = "the key was not accepted" if self._key else "no key was sent"
            raise ConfigError(
                f"HTTP {status}: {held}: {said}", where=where, fix=f"put the key into the environment as {KEY_VARIABLE}"
            )
        if status in (404, 405) or 300 <= status < 400:
            raise ConfigError(
                f"HTTP {status}: there is no such address or model: {said}",
                where=where,
                fix="the address usually ends in /v1; `curl ADDRESS/models` lists the models",
            )
        return Reply(None, error=f"HTTP {status}: {said}")

    def _silent(self, why: str) -> AccordError:
        return EngineError(
            f"the model gave no answer: {self._without_key(why)}",
            where=f"{self.model} at {self.base_url}",
            fix="is the server running? Run the same command again to go on: answers so far are kept",
        )

    def _excerpt(self, content: bytes) -> str:
        text = " ".join(content[:2000].decode("utf-8", "replace").split())
        return self._without_key(text)[:300]

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _key(variable: str | None) -> str:
    value = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable is not None and not value:
        raise ConfigError(f"the environment variable {variable} is not set", fix=f"export {variable}=...")
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"the environment variable {variable or KEY_VARIABLE} is no key: it has other than ASCII")
    return value


def _results(futures: Sequence[Future[tuple[str, Reply]]]) -> list[tuple[str, Reply]]:
    """Results, or the first error in the order of the requests."""
    return [future.result() for future in sorted(futures, key=lambda f: f.cancelled())]
