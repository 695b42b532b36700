"""One request on its way through the worker: its jobs, what comes back, and a client that may hang up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

from starlette.requests import Request

from accord.engines.base import Sampling
from accord.rng import derive
from accord.serve.asked import SHORT_TEXT, Asked, Given
from accord.serve.errors import ApiError, too_long
from accord.serve.jobs import Event, Job, Piece, PromptScores
from accord.serve.model import ServedModel
from accord.serve.replies import Choice, Usage
from accord.serve.scoring import TokenScore

_LEAST_TOP_P = 1e-9
"""What top_p = 0 means: the most likely token alone."""


class ClientGone(Exception):  # noqa: N818 - nothing went wrong here
    """Whoever asked has closed the connection."""


@dataclass(frozen=True)
class _Gone:
    """The client has hung up."""


def limit_of(asked: Asked, prompt: int, model: ServedModel, default: int) -> int:
    """Most new tokens of a prompt's replies.

    In OpenAI's API the limit of a chat is an upper bound, which a full context may undercut (`finish_reason: length`);
    prompt and limit of a completion have to fit together.

    Args:
        asked: the request.
        prompt: tokens of the prompt.
        model: has room for so many tokens.
        default: most tokens of a chat reply when the request has no limit.

    Raises:
        ApiError: 400 when the model has no room.
    """
    room = model.max_length - prompt
    usual = default if asked.kind == "chat" else SHORT_TEXT
    wanted = usual if asked.limit is None else asked.limit
    if asked.kind == "chat" or asked.limit is None:
        wanted = max(1, min(wanted, room))
    if wanted > room:
        raise too_long(asked.param, prompt, wanted, model.max_length)
    return wanted


class Exchange:
    """The jobs of a request, and what the worker tells about them."""

    def __init__(
        self, asked: Asked, prompts: Sequence[tuple[int, ...]], model: ServedModel, default_limit: int
    ) -> None:
        """Make the jobs; `Worker.submit` takes them.

        Args:
            asked: the request.
            prompts: its prompts as token ids.
            model: what will answer.
            default_limit: most tokens when the request has no limit.

        Raises:
            ApiError: 400 when one does not fit the model.
        """
        self.asked, self.prompts = asked, prompts
        self._events: asyncio.Queue[tuple[int, Event] | _Gone] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def teller(index: int) -> Callable[[Event], None]:
            def tell(event: Event) -> None:
                loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

            return tell

        limits = [limit_of(asked, len(ids), model, default_limit) for ids in prompts]
        sampling = Sampling(
            1,
            temperature=asked.temperature,
            top_p=max(asked.top_p, _LEAST_TOP_P),
            top_k=asked.top_k,
            n=asked.n,
            stop=asked.stop,
        )
        self.jobs = [
            Job(
                ids,
                replace(sampling, max_new_tokens=max(limit, 1)),
                seed=derive(asked.seed, "serve", index),
                top=asked.top,
                scores_prompt=asked.echo and (asked.top is not None or limit == 0),
                only_scores=limit == 0,
                stream=asked.stream,
                tell=teller(index),
            )
            for index, (ids, limit) in enumerate(zip(prompts, limits, strict=True))
        ]
        self._tokens: dict[int, int] = {}

    @property
    def usage(self) -> Usage:
        """Tokens read and drawn so far."""
        return Usage(sum(map(len, self.prompts)), sum(self._tokens.values()))

    def index(self, prompt: int, sample: int) -> int:
        """Index of the choice that a sample of a prompt is."""
        return prompt * self.asked.n + sample

    async def events(
        self, request: Request, heartbeat_s: float
    ) -> AsyncGenerator[tuple[int, Piece | PromptScores] | None]:
        """What the worker tells, with the number of the prompt; None when there was nothing for a while.

        However this ends, the jobs are over: what is not finished by then is cancelled.

        Raises:
            ApiError: the model failed.
            ClientGone: nobody listens any more.
        """
        gone = asyncio.create_task(self._hang_up(request))
        left = sum(job.sampling.n for job in self.jobs)
        try:
            while left:
                try:
                    event = await asyncio.wait_for(self._events.get(), heartbeat_s)
                except TimeoutError:
                    yield None
                    continue
                if isinstance(event, _Gone):
                    raise ClientGone
                prompt, told = event
                if isinstance(told, ApiError):
                    raise told
                if isinstance(told, Piece):
                    self._tokens[self.index(prompt, told.sample)] = told.tokens
                    left -= told.finish is not None
                yield prompt, told
        finally:
            gone.cancel()
            for job in self.jobs:
                job.cancelled = True

    async def whole(self, request: Request, given: Sequence[str]) -> list[Choice]:
        """All choices, when the last one is finished.

        Args:
            request: whose client may hang up.
            given: text of each prompt, for `echo`.

        Raises:
            ApiError, ClientGone: as `events`.
        """
        before: dict[int, tuple[TokenScore, ...]] = {}
        choices: dict[int, Choice] = {}
        async for event in self.events(request, 3600.0):
            if event is None:
                continue
            prompt, told = event
            if isinstance(told, PromptScores):
                before[prompt] = told.scores
                continue
            scores = None if self.asked.top is None else (*before.get(prompt, ()), *told.scores)
            text = (given[prompt] if self.asked.echo else "") + told.text
            index = self.index(prompt, told.sample)
            choices[index] = Choice(index, text, told.finish, scores)
        return [choices[index] for index in sorted(choices)]

    async def _hang_up(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self._events.put_nowait(_Gone())


def text_of_prompt(given: Given, model: ServedModel) -> str:
    """A prompt as `echo` gives it back."""
    if isinstance(given, str):
        return given
    return model.written_out(given) if given and isinstance(given[0], int) else ""  # pyright: ignore
