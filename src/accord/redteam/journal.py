"""What was asked and answered, line by line on disk: a run that was killed asks nothing twice.

One line holds one chunk of calls and is written and flushed before anything else happens. A line that was cut by the
kill is dropped, so at most the chunk in flight is asked again; the cache of the HTTP client covers even that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from accord.errors import ArtifactError
from accord.evals.answering import Answerer
from accord.storage import io_errors
from accord.types import Prompt

T = TypeVar("T")
CHUNK = 32
"""Prompts of one call to an answerer or a judge."""


class Journal:
    """Results of calls by the hash of what was asked."""

    def __init__(self, path: Path | None) -> None:
        """Open or start it.

        Args:
            path: file; None keeps nothing beyond the process.

        Raises:
            ArtifactError: the file cannot be read or written, or a line in the middle is damaged.
        """
        self.path = path
        self.repeated = 0
        """Calls that were answered from the journal."""
        self.made = 0
        """Calls that were made."""
        self._found: dict[str, Any] = {}
        if path is None:
            return
        with io_errors("open the journal", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_bytes().split(b"\n") if path.exists() else []
        whole = 0
        for number, line in enumerate(lines, 1):
            if number == len(lines):
                break  # what follows the last newline is nothing, or was cut
            try:
                row = json.loads(line)
                self._found[row["key"]] = row["value"]
            except (ValueError, KeyError, TypeError) as error:
                raise ArtifactError(
                    "a line of the journal is damaged", where=f"{path}:{number}", fix="remove the file and run again"
                ) from error
            whole += len(line) + 1
        if lines and lines[-1]:
            with io_errors("mend the journal", path), path.open("r+b") as file:
                file.truncate(whole)

    def call(self, asked: Sequence[Any], make: Callable[[], Any]) -> Any:
        """Return what was answered before to `asked`, or `make` it and write it down.

        Args:
            asked: everything that decides the answer, as JSON.
            make: asks; must return JSON.
        """
        text = json.dumps(asked, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        if key in self._found:
            self.repeated += 1
            return self._found[key]
        value = make()
        self.made += 1
        self._found[key] = value
        if self.path is not None:
            line = json.dumps({"key": key, "value": value}) + "\n"
            with io_errors("write the journal", self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        return value


def chunks(items: Sequence[T], size: int = CHUNK) -> list[Sequence[T]]:
    """Cut `items` into parts of `size`; which items share a part does not depend on what was done before."""
    return [items[start : start + size] for start in range(0, len(items), size)]


class RecordedAnswerer:
    """An answerer whose answers are written down and never asked for twice."""

    def __init__(self, inner: Answerer, journal: Journal, say: Callable[[str], None] | None = None) -> None:
        """Wrap `inner`; `say` gets a line now and then."""
        self.inner, self.journal, self._say = inner, journal, say

    @property
    def name(self) -> str:
        """Of the inner one."""
        return self.inner.name

    @property
    def identity(self) -> str:
        """Of the inner one."""
        return self.inner.identity

    def answer(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[str]]:
        """See `Answerer.answer`; a chunk is one entry of the journal."""
        made: list[list[str]] = []
        parts = chunks(prompts)
        for number, part in enumerate(parts):
            turns = [[m.model_dump() for m in p.messages] for p in part]
            asked = ["answer", self.identity, turns, max_tokens, temperature, seed, n, number]

            def ask(part: Sequence[Prompt] = part, number: int = number) -> list[list[str]]:
                given = self.inner.answer(part, max_tokens=max_tokens, temperature=temperature, seed=seed + number, n=n)
                return [list(replies) for replies in given]

            made += self.journal.call(asked, ask)
            if self._say is not None and len(parts) > 1 and (number + 1) % 20 == 0:
                self._say(f"  {self.name}: {len(made)} of {len(prompts)} prompts answered")
        return made
