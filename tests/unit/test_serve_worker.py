"""The worker: what waits together is decoded together, a full queue says so, nothing that fails takes others along."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from serve_world import make_model

from accord.engines.base import Sampling
from accord.errors import EngineError, ModelError
from accord.serve import worker as worker_module
from accord.serve.errors import ApiError
from accord.serve.jobs import Event, Job, Piece, PromptScores
from accord.serve.model import ServedModel, load_model
from accord.serve.worker import Worker

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return load_model(str(make_model(tmp_path_factory.mktemp("served") / "tiny")), max_batch=8)


class Told:
    """Everything a job was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify()

    def finished(self, n: int = 1) -> list[Event]:
        """Wait until all samples are finished, or the job failed."""

        def done() -> bool:
            ends = sum(isinstance(e, Piece) and e.finish is not None for e in self.events)
            return ends == n or any(isinstance(e, ApiError) for e in self.events)

        with self._changed:
            assert self._changed.wait_for(done, 60)
        return self.events


def job(told: Told, ids: tuple[int, ...] = (10, 11, 12), limit: int = 6, **changed: Any) -> Job:
    sampling = Sampling(limit, temperature=changed.pop("temperature", 1.0), n=changed.pop("n", 1))
    fields: dict[str, Any] = {"seed": 5, "top": None, "scores_prompt": False, "only_scores": False, "stream": False}
    return Job(ids, sampling, tell=told, **{**fields, **changed})


class Calls:
    """The engine with every call noted; the first one waits until it is let go."""

    def __init__(self, engine: Any) -> None:
        self.sizes: list[int] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self._engine = engine

    def generate_watched(self, prompts: Any, sampling: Any, **named: Any) -> Any:
        self.sizes.append(len(prompts))
        self.entered.set()
        assert self.go.wait(60)
        return self._engine.generate_watched(prompts, sampling, **named)


@contextmanager
def working(served: ServedModel, *, max_batch: int = 8, max_queue: int = 16) -> Generator[tuple[Worker, Calls]]:
    calls = Calls(served.engine)
    ready = threading.Event()
    made = Worker(
        lambda: replace(served, engine=calls),  # pyright: ignore
        max_batch=max_batch,
        max_queue=max_queue,
        on_ready=ready.set,
    )
    made.start()
    assert ready.wait(60)
    try:
        yield made, calls
    finally:
        calls.go.set()
        made.close()


def held(worker: Worker, calls: Calls) -> Iterator[Told]:
    """A first job that keeps the worker busy until the calls are let go."""
    first = Told()
    worker.submit([job(first)])
    assert calls.entered.wait(60)
    yield first


def test_what_waits_together_is_decoded_together_by_shape_and_up_to_the_limit(served: ServedModel) -> None:
    with working(served, max_batch=4) as (worker, calls):
        next(held(worker, calls))
        told = [Told() for _ in range(9)]
        hot = {2, 5}
        worker.submit([job(t, limit=i + 1, temperature=2.0 if i in hot else 1.0) for i, t in enumerate(told)])
        calls.go.set()
        events = [t.finished() for t in told]
        # The first alone; then four of the seven alike; then the two of another shape that waited longest; then three.
        assert calls.sizes == [1, 4, 2, 3]
        assert [e[-1].tokens for e in events if isinstance(e[-1], Piece)] <= list(range(1, 10))
    alone = [Told() for _ in range(9)]
    with working(served) as (worker, calls):
        calls.go.set()
        for i, one in enumerate(alone):
            worker.submit([job(one, limit=i + 1, temperature=2.0 if i in hot else 1.0)])
            one.finished()
    assert [t.events for t in told] == [t.events for t in alone]  # what else is in the batch changes nothing


def test_a_full_queue_refuses_all_of_a_request_and_says_when_to_come_again(served: ServedModel) -> None:
    with working(served, max_queue=4) as (worker, calls):
        next(held(worker, calls))
        waiting = Told()
        worker.submit([job(waiting, n=3)])
        with pytest.raises(ApiError) as error:
            worker.submit([job(Told()), job(Told())])
        assert error.value.status == 429 and 1 <= int(error.value.headers["Retry-After"]) <= 60
        last = Told()
        worker.submit([job(last)])  # the refused ones took no place
        with pytest.raises(ApiError, match="at most 4"):
            worker.submit([job(Told(), n=5)])
        calls.go.set()
        assert len(waiting.finished(3)) == 3 and last.finished()


def test_what_was_cancelled_while_it_waited_is_never_decoded(served: ServedModel) -> None:
    with working(served) as (worker, calls):
        next(held(worker, calls))
        unwanted, wanted = Told(), Told()
        cancelled = job(unwanted)
        worker.submit([cancelled, job(wanted)])
        cancelled.cancelled = True
        calls.go.set()
        wanted.finished()
        assert calls.sizes == [1, 1] and unwanted.events == []


def test_a_reply_that_is_cancelled_on_the_way_ends_and_its_neighbour_does_not(served: ServedModel) -> None:
    with working(served) as (worker, calls):
        calls.go.set()
        neighbour = Told()
        stopped: list[Event] = []

        def stop_after_the_first(event: Event) -> None:
            stopped.append(event)
            unwanted.cancelled = True

        unwanted = job(Told(), limit=80, stream=True, temperature=0.0)
        unwanted.tell = stop_after_the_first
        beside = job(neighbour, limit=40, temperature=0.0)
        worker.submit([unwanted, beside])
        neighbour.finished()
        assert len(stopped) == 1 and isinstance(stopped[0], Piece) and stopped[0].finish is None
        after = Told()
        worker.submit([job(after)])
        assert after.finished()


def test_a_batch_that_fails_is_told_and_the_next_one_is_answered(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with working(served) as (worker, calls):
        calls.go.set()

        def broken(*_: Any, **__: Any) -> Any:
            raise EngineError("the logits are not finite", fix="train less")

        for failure, message in ((broken, "the logits are not finite"), (lambda *_, **__: 1 // 0, "internal error")):
            with monkeypatch.context() as patch:
                patch.setattr(calls, "generate_watched", failure)
                told = Told()
                worker.submit([job(told)])
                (event,) = told.finished()
            assert isinstance(event, ApiError) and event.status == 500 and message in event.message
            assert "ZeroDivision" not in event.message
        told = Told()
        worker.submit([job(told)])
        assert isinstance(told.finished()[-1], Piece)


def test_before_it_is_loaded_and_after_it_is_closed_there_are_no_answers(served: ServedModel) -> None:
    loading, go = threading.Event(), threading.Event()

    def load() -> ServedModel:
        loading.set()
        assert go.wait(60)
        return served

    ready = threading.Event()
    worker = Worker(load, max_batch=2, max_queue=2, on_ready=ready.set)
    worker.start()
    assert loading.wait(60)
    with pytest.raises(ApiError, match="being loaded") as error:
        worker.submit([job(Told())])
    assert error.value.status == 503 and error.value.headers["Retry-After"]
    go.set()
    assert ready.wait(60) and worker.ready() is served
    worker.close()
    with pytest.raises(ApiError, match="about to stop"):
        worker.submit([job(Told())])


def test_a_server_that_stops_while_it_loads_does_not_wait_for_the_model(served: ServedModel) -> None:
    go, said = threading.Event(), threading.Event()

    def load() -> ServedModel:
        assert go.wait(60)
        return served

    worker = Worker(load, max_batch=1, max_queue=1, on_ready=said.set)
    worker.start()
    worker.close()
    go.set()
    worker._thread.join(60)
    assert not worker._thread.is_alive() and worker.state == "closed" and not said.is_set()


def test_closing_ends_what_is_under_way_and_tells_who_waits(served: ServedModel) -> None:
    with working(served) as (worker, calls):
        first = next(held(worker, calls))
        waiting = Told()
        worker.submit([job(waiting, temperature=2.0)])
        closing = threading.Thread(target=worker.close)
        closing.start()
        while worker.state != "closed":
            pass
        calls.go.set()
        closing.join(60)
        for told in (first, waiting):
            (event,) = told.finished()
            assert isinstance(event, ApiError) and event.status == 503


def test_a_model_that_cannot_be_loaded_is_said() -> None:
    failed = threading.Event()

    def load() -> ServedModel:
        raise ModelError("no weights")

    worker = Worker(load, max_batch=1, max_queue=1, on_failed=failed.set)
    worker.start()
    assert failed.wait(60) and worker.state == "failed" and "no weights" in str(worker.error)
    worker.close()


def test_one_token_after_a_scored_prompt_is_the_one_the_engine_draws(served: ServedModel) -> None:
    with working(served) as (worker, calls):
        calls.go.set()
        for temperature in (0.0, 1.0):
            drawn, scored = Told(), Told()
            how: dict[str, Any] = {"limit": 1, "top": 3, "n": 3, "temperature": temperature}
            worker.submit([job(drawn, **how)])
            drawn.finished(3)
            generated = len(calls.sizes)
            worker.submit([job(scored, **how, scores_prompt=True)])
            before, *after = scored.finished(3)
            assert len(calls.sizes) == generated  # the engine was not needed
            assert isinstance(before, PromptScores) and [s.token for s in before.scores] == [10, 11, 12]
            for one, other in zip(sorted(drawn.events, key=str), sorted(after, key=str), strict=True):
                assert isinstance(one, Piece) and isinstance(other, Piece)
                assert (one.text, one.tokens, one.finish) == (other.text, other.tokens, other.finish)
                assert one.scores[0].token == other.scores[0].token
                assert one.scores[0].logp == pytest.approx(other.scores[0].logp, abs=1e-5)


def test_jobs_of_one_batch_get_as_many_likely_tokens_as_each_wants(served: ServedModel) -> None:
    with working(served) as (worker, calls):
        told = [Told() for _ in range(3)]
        worker.submit([job(t, top=top, limit=2) for t, top in zip(told, (None, 0, 4), strict=True)])
        calls.go.set()
        pieces = [t.finished()[-1] for t in told]
        assert calls.sizes == [3]
        counts = [[len(s.top) for s in piece.scores] for piece in pieces if isinstance(piece, Piece)]
        assert counts == [[], [0] * pieces[1].tokens, [4] * pieces[2].tokens]  # pyright: ignore


def test_an_idle_worker_waits_a_moment_for_others(served: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "GATHER_S", 60)
    with working(served, max_batch=3) as (worker, calls):
        told = [Told() for _ in range(3)]
        for one in told:
            assert not calls.entered.wait(0.1)  # not before the third one, which fills the batch
            worker.submit([job(one)])
        calls.go.set()
        assert all(one.finished() for one in told) and calls.sizes == [3]
