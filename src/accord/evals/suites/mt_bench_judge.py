"""MT-Bench's own judge: the original templates, with reference answers, over both turns of each conversation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from accord.evals.suites.mt_bench import JudgePrompts
from accord.evals.suites.outcomes import agreed
from accord.evals.suites.verdicts import mt_bench_pair, mt_bench_rating
from accord.judges.base import Comparison, Rating
from accord.judges.client import ChatClient
from accord.judges.wire import Reply, Request
from accord.types import Message, Prompt

MAX_TOKENS = 2048
"""Of a judgement, as FastChat asks for; at temperature 0."""


class MtBenchJudge:
    """A model behind an address that is asked in MT-Bench's words; see `accord.judges.base.Judge`.

    A pair is decided only where both orders name the same winner: p is 1, 0, or 0.5 for everything else that could be
    read in both orders.
    """

    def __init__(self, client: ChatClient, prompts: JudgePrompts) -> None:
        """Take the client of the judge and the templates of `read_judge_prompts`."""
        self.client = client
        self.prompts = prompts

    @property
    def name(self) -> str:
        """The model's name."""
        return self.client.model

    @property
    def prompt_hash(self) -> str:
        """Of templates, model and sampling."""
        asked = f"{self.prompts.prompt_hash}\0{self.client.model}\0{MAX_TOKENS}"
        return hashlib.sha256(asked.encode()).hexdigest()[:12]

    def compare(self, items: Sequence[tuple[Prompt, str, str]]) -> list[Comparison]:
        """Compare in both orders; the answers of earlier turns are those in `meta["said"]` of the prompt.

        Raises:
            DataError: a question that needs a reference answer has none.
            EngineError: the server stopped answering; answers so far are kept.
        """
        asked: list[tuple[Message, ...]] = []
        for prompt, a, b in items:
            said_a, said_b = said(prompt, a, b)
            asked += [self.prompts.pair(prompt, said_a, said_b), self.prompts.pair(prompt, said_b, said_a)]
        replies = self._ask(asked)
        return [_compared(replies[i], replies[i + 1]) for i in range(0, len(replies), 2)]

    def rate(self, items: Sequence[tuple[Prompt, str]]) -> list[Rating]:
        """Rate from 1 to 10; the answers of earlier turns are those in the prompt.

        Raises:
            DataError, EngineError: as `compare`.
        """
        asked: list[tuple[Message, ...]] = []
        for prompt, reply in items:
            earlier = [m.content for m in prompt.messages if m.role == "assistant"]
            asked.append(self.prompts.single(prompt, [*earlier, reply]))
        found: list[Rating] = []
        for reply in self._ask(asked):
            value = None if reply.text is None else mt_bench_rating(reply.text)
            found.append(Rating(value, "" if value is not None else reply.error or "no [[rating]] in the judgement"))
        return found

    def _ask(self, asked: Sequence[tuple[Message, ...]]) -> list[Reply]:
        return self.client.complete_many([Request(messages, MAX_TOKENS) for messages in asked])


def said(prompt: Prompt, a: str, b: str) -> tuple[list[str], list[str]]:
    """Return both models' answers so far: those in `meta["said"]` ({"a": [...], "b": [...]}), or the given ones."""
    known = prompt.meta.get("said")
    return (list(known["a"]), list(known["b"])) if known else ([a], [b])


def _compared(first: Reply, second: Reply) -> Comparison:
    orders: list[float | None] = []
    for reply, a_is in ((first, "A"), (second, "B")):
        verdict = None if reply.text is None else mt_bench_pair(reply.text)
        orders.append(None if verdict is None else 0.5 if verdict == "tie" else float(verdict == a_is))
    read = Comparison(None, (orders[0], orders[1]))
    error = first.error or second.error or "no [[A]], [[B]] or [[C]] in the judgement"
    p = agreed(read)
    return Comparison(p, read.by_order, "" if p is not None else error)
