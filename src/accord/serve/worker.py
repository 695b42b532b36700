"""The one thread that uses the model: requests that wait are decoded together, batch after batch.

Jobs of equal shape (temperature, top-p, top-k, n, stop texts) share a batch; limits and seeds are their own. A job's
seed fixes its reply whatever else is in the batch. What arrives while a batch is decoded waits for the next one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from accord.engines.sampling import draw, uniforms
from accord.engines.stops import cut
from accord.engines.watching import Drawn
from accord.errors import AccordError
from accord.serve.errors import ApiError
from accord.serve.jobs import Job, Piece, PromptScores, Writing
from accord.serve.model import ServedModel
from accord.serve.scoring import ScoredText, TokenScore, score_texts, score_tokens
from accord.types import Completion

_log = logging.getLogger(__name__)
GATHER_S = 0.005
"""How long an idle worker waits for others after a first request: clients that evaluate send several at once."""
State = Literal["loading", "ready", "failed", "closed"]


class Worker:
    """Queue and thread of one model."""

    def __init__(
        self,
        load: Callable[[], ServedModel],
        *,
        max_batch: int,
        max_queue: int,
        on_ready: Callable[[], None] = lambda: None,
        on_failed: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare it; `start` starts the thread, which loads the model first.

        Args:
            load: makes the model; called in the thread.
            max_batch: most samples decoded at a time.
            max_queue: most samples that wait.
            on_ready: called when the model is loaded.
            on_failed: called when it cannot be; `error` says why.
        """
        self.max_batch, self.max_queue = max_batch, max_queue
        self.state: State = "loading"
        self.error: BaseException | None = None
        self.model: ServedModel | None = None
        """None until it is loaded."""
        self._load, self._on_ready, self._on_failed = load, on_ready, on_failed
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._last_s = 0.0
        self._thread = threading.Thread(target=self._run, name="accord-serve", daemon=True)

    def start(self) -> None:
        """Load the model, then answer, in a thread."""
        self._thread.start()

    def ready(self) -> ServedModel:
        """The model.

        Raises:
            ApiError: 503 while it is being loaded, or when the server is about to stop.
        """
        if self.state == "ready" and self.model is not None:
            return self.model
        if self.state == "loading":
            raise ApiError(503, "the model is being loaded", code="model_loading", headers={"Retry-After": "2"})
        raise ApiError(503, "the server is about to stop", code="stopping")

    def check_size(self, size: int) -> None:
        """Refuse what will never fit into the queue.

        Args:
            size: replies wanted.

        Raises:
            ApiError: 400.
        """
        if size > self.max_queue:
            message = f"the request asks for {size} replies, and at most {self.max_queue} can wait: send fewer"
            raise ApiError(400, message, code="too_many_replies")

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs, all or none.

        Raises:
            ApiError: 503 as `ready`; 429 when they do not fit into the queue now, 400 when they never will.
        """
        size = sum(job.sampling.n for job in jobs)
        self.check_size(size)
        with self._changed:
            self.ready()
            waiting = sum(job.sampling.n for job in self._waiting if not job.cancelled)
            if waiting + size > self.max_queue:
                after = str(min(60, max(1, math.ceil(self._last_s))))
                message = f"{waiting} replies wait, and there is room for {self.max_queue}: try again in {after} s"
                raise ApiError(429, message, code="queue_full", headers={"Retry-After": after})
            self._waiting.extend(jobs)
            self._changed.notify()

    def close(self) -> None:
        """End what is under way and the thread; who still waits is told so.

        A model that is still being loaded is not waited for: the thread ends with it, or with the process.
        """
        with self._changed:
            loading, self.state = self.state == "loading", "closed"
            self._changed.notify()
        if not loading:
            self._thread.join()

    def _run(self) -> None:
        try:
            self.model = self._load()
        except BaseException as error:  # whatever it was, `run` raises it where somebody sees it
            with self._changed:
                self.error, self.state = error, "failed"
            self._on_failed()
            return
        with self._changed:
            if self.state == "closed":
                return
            self.state = "ready"
        self._on_ready()
        while batch := self._next():
            started = time.monotonic()
            self._answer(self.model, batch)
            self._last_s = time.monotonic() - started
        for job in self._waiting:  # no more will come: `submit` sees the state under the same lock as `_next`
            _tell(job, ApiError(503, "the server is about to stop", code="stopping"))

    def _next(self) -> list[Job]:
        """The jobs of the next batch: those of the same shape as the one that waits longest; none = stop."""
        batch: list[Job] = []
        while not batch:
            with self._changed:
                if not self._waiting:
                    self._changed.wait_for(lambda: self._waiting or self.state == "closed")
                    self._changed.wait_for(lambda: self._full() or self.state == "closed", GATHER_S)
                if self.state == "closed":
                    return []
                batch, self._waiting = self._divide()
        return batch

    def _full(self) -> bool:
        return sum(job.sampling.n for job in self._waiting) >= self.max_batch

    def _divide(self) -> tuple[list[Job], deque[Job]]:
        """What is decoded now, and what goes on waiting; what was cancelled is neither."""
        batch: list[Job] = []
        left: deque[Job] = deque()
        size = 0
        for job in self._waiting:
            if job.cancelled:
                continue
            fits = not batch or (job.shape == batch[0].shape and size + job.sampling.n <= self.max_batch)
            (batch if fits else left).append(job)
            size += job.sampling.n if fits else 0
        return batch, left

    def _answer(self, model: ServedModel, batch: Sequence[Job]) -> None:
        """Answer every job, or tell it why not."""
        try:
            drawn = self._score(model, batch)
            if drawn:
                self._generate(model, drawn)
        except AccordError as error:
            _log.error("a batch of %d failed: %s", len(batch), error)
            failure = ApiError(500, f"the model failed: {error.what}", code="engine_error")
            for job in batch:
                _tell(job, failure)
        except Exception:  # whatever it was, others wait for their replies
            _log.exception("a batch of %d failed", len(batch))
            for job in batch:
                _tell(job, ApiError(500, "internal error", code="internal_error"))

    def _score(self, model: ServedModel, batch: Sequence[Job]) -> list[Job]:
        """Score the prompts that want it; the jobs that are not finished by that."""
        scored = [job for job in batch if job.scores_prompt]
        top = max((job.top or 0 for job in scored), default=0)
        finished: set[int] = set()
        texts = score_texts(model.hf, [job.ids for job in scored], top) if scored else []
        for job, text in zip(scored, texts, strict=True):
            wanted = tuple(_fewer(score, job.top or 0) for score in text.tokens)
            _tell(job, PromptScores(wanted))
            if job.only_scores:
                for sample in range(job.sampling.n):
                    _tell(job, Piece(sample, "", (), 0, "length"))
            elif job.sampling.max_new_tokens == 1:
                _one_token(model, job, text)
            else:
                continue
            finished.add(id(job))
        return [job for job in batch if id(job) not in finished]

    def _generate(self, model: ServedModel, batch: Sequence[Job]) -> None:
        n = batch[0].sampling.n
        writing = [Writing(job, sample, model.decode) for job in batch for sample in range(n)]

        def watch(drawn: Sequence[Drawn], logits_BV: Tensor) -> set[int]:
            scored = [one for one in drawn if writing[one.output].job.top is not None]
            top = max((writing[one.output].job.top or 0 for one in scored), default=0)
            scores = {}
            if scored:
                rows_BV = logits_BV[[one.row for one in scored]]
                found = score_tokens(rows_BV, [one.ids[-1] for one in scored], top)
                scores = {one.output: score for one, score in zip(scored, found, strict=True)}
            for one in drawn:
                part = writing[one.output]
                score = scores.get(one.output)
                if score is not None:
                    score = _fewer(score, part.job.top or 0)
                piece = part.add(one.ids, score, one.finished)
                if piece is not None:
                    _tell(part.job, piece)
            if self.state == "closed":
                return {one.output for one in drawn}
            return {one.output for one in drawn if writing[one.output].job.cancelled}

        model.engine.generate_watched(
            [job.ids for job in batch],
            batch[0].sampling,
            seeds=[job.seed for job in batch],
            limits=[job.sampling.max_new_tokens for job in batch],
            watch=watch,
        )
        if self.state == "closed":
            for job in batch:
                _tell(job, ApiError(503, "the server is about to stop", code="stopping"))


def _one_token(model: ServedModel, job: Job, scored: ScoredText) -> None:
    """The only token of a reply whose prompt was scored: its logits are there, and need no second pass."""
    for sample in range(job.sampling.n):
        uniform_B = torch.from_numpy(uniforms(job.seed, sample, 1)).to(scored.next_V.device)
        token_B, logp_B = draw(scored.next_V[None], uniform_B, job.sampling)
        ids = [int(token_B)]
        kept, text, finish = cut(ids, stop_ids=model.stop_ids, stop=job.sampling.stop, decode=model.decode)
        whole = Completion(token_ids=tuple(ids[:kept]), logps=(float(logp_B),), finish=finish, text=text)
        score = score_tokens(scored.next_V[None], ids, job.top or 0)[0]
        piece = Writing(job, sample, model.decode).add(ids, score, whole)
        assert piece is not None
        _tell(job, piece)


def _fewer(score: TokenScore, top: int) -> TokenScore:
    """The score with as many likely tokens as this job wants; others in its batch may want more."""
    return score if len(score.top) <= top else replace(score, top=score.top[:top])


def _tell(job: Job, event: Piece | PromptScores | ApiError) -> None:
    """Tell a job something, unless it has all its replies or nobody listens any more."""
    if job.cancelled or not job.left:
        return
    if isinstance(event, ApiError):
        job.left = 0
    elif isinstance(event, Piece) and event.finish is not None:
        job.left -= 1
    try:
        job.tell(event)
    except RuntimeError:  # the loop of whoever asked is closed
        job.cancelled = True
