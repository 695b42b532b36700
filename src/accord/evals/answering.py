"""Who answers the prompts of an evaluation: a model on disk, a model behind a URL, or a file of earlier answers.

Every reply is kept in a cache by all that decides it, so that an evaluation that was killed answers only what is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from accord.data.files import read_file
from accord.errors import ConfigError, DataError
from accord.judges.cache import ReplyCache, request_key
from accord.judges.client import ChatClient, Limits
from accord.judges.identity import identity_of
from accord.judges.wire import Request, is_address
from accord.rng import derive
from accord.storage import hash_file
from accord.types import Prompt

if TYPE_CHECKING:
    from accord.engines.native import NativeEngine

Say = Callable[[str], None]


class Answerer(Protocol):
    """Turns prompts into replies; batched, in the order of the prompts."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    @property
    def identity(self) -> str:
        """First 12 hex digits of a SHA-256 of what answers: files of the model, address and model name, or file."""
        ...

    def answer(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[str]]:
        """Return n replies a prompt.

        Args:
            prompts: conversations up to the reply.
            max_tokens: most tokens of a reply.
            temperature: 0 = greedy.
            seed: of the sampling; the same seed gives the same replies where the answerer can promise that.
            n: replies a prompt.
        """
        ...


class DirectoryAnswerer:
    """A Hugging Face model, in this process; its replies depend on a prompt and the seed alone, not on the batch."""

    def __init__(
        self, location: str | Path, *, cache: Path | None = None, max_batch: int = 64, name: str = "", say: Say = print
    ) -> None:
        """Prepare it; the model is loaded when something has to be answered.

        Args:
            location: directory or hub id.
            cache: SQLite file of replies; None = in memory.
            max_batch: sequences decoded at a time, and replies lost by a kill at most.
            name: for tables; empty = last part of the location.
            say: told once, at the first batch with prompts that leave no room for a whole reply.
        """
        self.name = name or Path(location).name
        self.identity = identity_of(str(location))
        self.progress: Callable[[int], None] | None = None
        self._location, self._max_batch, self._say = str(location), max_batch, say
        self._cache = ReplyCache(cache)
        self._loaded: tuple[Any, NativeEngine, int] | None = None
        self._said = False

    def answer(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[str]]:
        """See `Answerer.answer`; a prompt that leaves room for no token is answered by an empty text.

        Raises:
            ModelError: the model cannot be used.
            EngineError: generation failed.
        """
        asked = [
            {
                "model": self.identity,
                "messages": _messages(prompt),
                "max_tokens": max_tokens,
                "temperature": temperature,
                "seed": seed,
                "n": n,
            }
            for prompt in prompts
        ]
        keys = [request_key(request) for request in asked]
        found = {key: stored["texts"] for key in dict.fromkeys(keys) if (stored := self._cache.get(key)) is not None}
        missing = list({key: i for i, key in enumerate(keys) if key not in found}.values())
        if self.progress is not None:
            self.progress(len(prompts) - len(missing))
        for start in range(0, len(missing), self._max_batch):
            part = missing[start : start + self._max_batch]
            texts = self._generate([prompts[i] for i in part], max_tokens, temperature, seed, n)
            for i, replies in zip(part, texts, strict=True):
                self._cache.put(keys[i], asked[i], {"texts": replies})
                found[keys[i]] = replies
            if self.progress is not None:
                self.progress(len(part))
        return [list(found[key]) for key in keys]

    def close(self) -> None:
        """Let go of model and cache."""
        self._loaded = None
        self._cache.close()

    def _generate(
        self, prompts: Sequence[Prompt], max_tokens: int, temperature: float, seed: int, n: int
    ) -> list[list[str]]:
        from accord.engines.base import Sampling
        from accord.models import chat

        tokenizer, engine, longest = self._load()
        ids = [tuple(chat.encode_prompt(tokenizer, p.messages)) for p in prompts]
        room = [min(max_tokens, longest - len(row)) for row in ids]
        cut = sum(r < max_tokens for r in room)
        if cut and not self._said:
            self._said = True
            self._say(f"  {self.name}: {cut} prompts leave room for fewer than {max_tokens} tokens of reply")
        replies: list[list[str]] = [[""] * n for _ in prompts]
        for size in sorted({r for r in room if r > 0}):
            rows = [i for i, r in enumerate(room) if r == size]
            seeds = [derive(seed, "answer", request_key({"messages": _messages(prompts[i])})) for i in rows]
            made = engine.generate([ids[i] for i in rows], Sampling(size, temperature=temperature, n=n), seeds=seeds)
            for place, i in enumerate(rows):
                replies[i] = [c.text for c in made[place * n : (place + 1) * n]]
        return replies

    def _load(self) -> tuple[Any, NativeEngine, int]:
        if self._loaded is None:
            from accord.engines.native import engine_for
            from accord.models.checkpoint import max_positions
            from accord.models.pair import load_pair

            hf, tokenizer = load_pair(self._location)
            engine = engine_for(hf.requires_grad_(False), tokenizer, self._max_batch)
            self._loaded = tokenizer, engine, max_positions(hf)
        return self._loaded


class UrlAnswerer:
    """A model behind an OpenAI-compatible address."""

    def __init__(self, client: ChatClient, *, name: str = "", say: Say = print) -> None:
        """Wrap a client.

        Args:
            client: to the model.
            name: for tables; empty = the model's.
            say: told about prompts the server refuses.
        """
        self.client = client
        self.name = name or client.model
        self.identity = request_key({"url": client.base_url, "model": client.model})[:12]
        self.progress: Callable[[int], None] | None = None
        self._say = say

    def answer(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[str]]:
        """See `Answerer.answer`; a prompt that the server refuses is answered by an empty text, and that is said.

        Raises:
            EngineError: the server does not answer, or the budget is used up; replies so far are kept.
            ConfigError: address, model or key are wrong.
        """
        asked = [
            Request(p.messages, max_tokens, temperature, sample=sample, seed=seed)
            for p in prompts
            for sample in range(n)
        ]
        replies = self.client.complete_many(asked, progress=self.progress)
        refused = [r.error for r in replies if r.text is None]
        if refused:
            self._say(f"  {self.name}: {len(refused)} requests were refused and count as empty; first: {refused[0]}")
        texts = [r.text or "" for r in replies]
        return [texts[i : i + n] for i in range(0, len(texts), n)]

    def close(self) -> None:
        """Close the client."""
        self.client.close()


class FileAnswerer:
    """Answers that were written before, found by the id of a prompt and its turn, or by its conversation."""

    def __init__(self, path: Path, *, name: str = "") -> None:
        """Read them.

        Rows are `{"id" or "question_id" or "task_id", "replies" or "output" ...}` or have a prompt (`prompt`,
        `instruction` or `messages`) instead of an id; MT-Bench answers (`choices[].turns`) have a reply a turn. Several
        rows of one prompt are several samples.

        Args:
            path: JSON, JSON lines, CSV or Parquet.
            name: for tables; empty = `generator` or `model` of the rows, else the file's name.

        Raises:
            DataError: the file cannot be read, or a row has no prompt or no reply.
        """
        self._path = path
        self._by_id: dict[tuple[str, int], list[str]] = {}
        self._by_text: dict[str, list[str]] = {}
        writers: set[str] = set()
        for raw in read_file(path):
            if raw.row is None:
                raise DataError(f"not an answer: {raw.problem}", where=raw.where, fix="mend or remove the row")
            self._take(raw.row, raw.where)
            writer = next((raw.row[k] for k in _WRITERS if isinstance(raw.row.get(k), str)), "")
            writers.add(writer)
        self.name = name or (writers.pop() if len(writers) == 1 and "" not in writers else path.stem)
        self.identity = hash_file(path).sha256[:12]

    def answer(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[str]]:
        """See `Answerer.answer`; lengths and temperatures are as they were when the file was written.

        Raises:
            DataError: a prompt has fewer than n answers.
        """
        del max_tokens, temperature, seed
        found = [self._find(prompt) for prompt in prompts]
        short = [(p, len(f)) for p, f in zip(prompts, found, strict=True) if len(f) < n]
        if short:
            prompt, has = short[0]
            raise DataError(
                f"{len(short)} of {len(prompts)} prompts have fewer than {n} answers; first: {prompt.id} has {has}",
                where=str(self._path),
                fix="answer the same prompts, or evaluate fewer",
            )
        return [replies[:n] for replies in found]

    def close(self) -> None:
        """There is nothing to let go of."""

    def _find(self, prompt: Prompt) -> list[str]:
        turn = sum(m.role == "assistant" for m in prompt.messages)
        names = (prompt.id, prompt.id.rpartition("-")[2])  # suites put their name before the file's own id
        for name in names:
            if (name, turn) in self._by_id:
                return self._by_id[name, turn]
        return self._by_text.get(_conversation(_messages(prompt)), [])

    def _take(self, row: Mapping[str, Any], where: str) -> None:
        turns = _replies(row, where)
        name = next((str(row[k]) for k in _IDS if row.get(k) not in (None, "")), None)
        asked = _asked(row)
        if name is None and asked is None:
            raise DataError(
                "an answer without an id and without a prompt", where=where, fix=f"add one of {', '.join(_IDS)}, prompt"
            )
        for turn, replies in enumerate(turns):
            if name is not None:
                self._by_id.setdefault((name, turn), []).extend(replies)
            if asked is not None and turn == 0:
                self._by_text.setdefault(asked, []).extend(replies)


_IDS = ("id", "question_id", "task_id", "prompt_id")
_WRITERS = ("generator", "model", "model_id")
_REPLIES = ("replies", "reply", "output", "response", "completion", "answer", "text", "generations", "candidates")


def _replies(row: Mapping[str, Any], where: str) -> list[list[str]]:
    """For each turn the samples of a row."""
    choices = row.get("choices")
    if isinstance(choices, list) and all(isinstance(c, dict) and isinstance(c.get("turns"), list) for c in choices):
        turns = [[str(text) for text in c["turns"]] for c in choices]
        if turns:
            return [[t[i] for t in turns if i < len(t)] for i in range(max(map(len, turns)))]
    for name in _REPLIES:
        value = row.get(name)
        if isinstance(value, str):
            return [[value]]
        if isinstance(value, list) and value:
            given = [v.get("text") if isinstance(v, dict) else v for v in value]
            texts = [text for text in given if isinstance(text, str)]
            if len(texts) == len(given):
                return [texts]
    raise DataError("no reply", where=where, fix=f"a row has one of {', '.join(_REPLIES)}, or choices[].turns")


def _asked(row: Mapping[str, Any]) -> str | None:
    """The conversation a row answers, in one form."""
    prompt = row.get("prompt", row.get("instruction", row.get("messages")))
    if isinstance(prompt, dict):
        prompt = prompt.get("messages")
    if isinstance(prompt, str):
        return _conversation([{"role": "user", "content": prompt}])
    if isinstance(prompt, list) and prompt and all(isinstance(m, dict) for m in prompt):
        return _conversation([{"role": str(m.get("role")), "content": str(m.get("content"))} for m in prompt])
    return None


def _conversation(messages: Sequence[Mapping[str, str]]) -> str:
    text = "\x1e".join(f"{m['role']}\x1f{m['content']}" for m in messages)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in prompt.messages]


def from_directory(location: str | Path, *, cache: Path | None = None, name: str = "") -> DirectoryAnswerer:
    """A model on disk."""
    return DirectoryAnswerer(location, cache=cache, name=name)


def from_url(base_url: str, model: str, *, cache: Path | None = None, limits: Limits | None = None) -> UrlAnswerer:
    """A model behind an OpenAI-compatible address; the key is in `ACCORD_JUDGE_API_KEY`."""
    return UrlAnswerer(ChatClient(base_url, model, cache=cache, limits=limits))


def from_file(path: str | Path, *, name: str = "") -> FileAnswerer:
    """Answers that were written before."""
    return FileAnswerer(Path(path), name=name)


def answerer_of(
    spec: str, *, model: str = "", cache: Path | None = None, limits: Limits | None = None
) -> DirectoryAnswerer | UrlAnswerer | FileAnswerer:
    """The answerer that a text names: an address, a directory or hub id, or a file.

    Args:
        spec: what the user wrote.
        model: name the server knows the model by; needed with an address.
        cache: SQLite file of replies.
        limits: of calls to a server.

    Raises:
        ConfigError: an address without a model name.
        DataError, ModelError: the file or directory cannot be used.
    """
    if is_address(spec):
        if not model:
            raise ConfigError(
                "an address needs the name of the model there", where=spec, fix="`curl ADDRESS/models` lists them"
            )
        return from_url(spec, model, cache=cache, limits=limits)
    path = Path(spec).expanduser()
    return from_file(path) if path.is_file() else from_directory(path if path.is_dir() else spec, cache=cache)
