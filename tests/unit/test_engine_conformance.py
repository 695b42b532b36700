"""What every engine promises; run `check_engine` on a new one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engine_models import POSITIONS, STOPS, VOCAB, engine, prompts, tiny, words

from accord.engines.base import Engine, Sampling
from accord.errors import EngineError
from fakes import FakeEngine, random_reply


def native() -> Engine:
    return engine(tiny("llama"), max_batch=6)


def native_without_its_fast_step() -> Engine:
    return engine(tiny("llama"), max_batch=6, fast=False)


def fake() -> Engine:
    return FakeEngine(random_reply(VOCAB), stop_ids=STOPS, decode=words, max_length=POSITIONS, vocab_size=VOCAB)


def check_engine(make: Callable[[], Engine], batch: list[list[int]], stop_ids: tuple[int, ...]) -> None:
    """Hold an engine to the Protocol.

    Args:
        make: builds a fresh engine whose completions end at `stop_ids` often within 12 tokens.
        batch: at least three different prompts it can answer.
        stop_ids: ids that end a completion.
    """
    run = make()
    assert isinstance(run, Engine)
    seeds = list(range(len(batch)))
    sampling = Sampling(12, n=2)
    out = run.generate(batch, sampling, seeds=seeds)

    assert len(out) == 2 * len(batch)
    for completion in out:
        ids = completion.token_ids
        assert 1 <= len(ids) <= 12
        assert not set(ids[:-1]) & set(stop_ids)
        assert completion.finish == ("stop" if ids[-1] in stop_ids else "length")
        if run.caps.logps:
            assert completion.logps is not None
            assert len(completion.logps) == len(ids)
            assert max(completion.logps) <= 1e-6
    assert {c.finish for c in out} == {"stop", "length"}

    if run.caps.seeds:
        reverse = run.generate(batch[::-1], sampling, seeds=seeds[::-1])
        by_prompt = [c.token_ids for i in reversed(range(len(batch))) for c in out[2 * i : 2 * i + 2]]
        assert [c.token_ids for c in reverse] == by_prompt
        assert [c.token_ids for c in run.generate(batch, sampling, seeds=[s + 99 for s in seeds])] != [
            c.token_ids for c in out
        ]
        assert run.generate(batch, sampling) == run.generate(batch, sampling)

    text = next(c.text for c in out if len(c.text) > 4)
    word = text[1:4]
    stopped = run.generate(batch, Sampling(12, n=2, stop=(word,)), seeds=seeds)
    assert all(word not in c.text for c in stopped)

    greedy = run.generate(batch, Sampling(4, temperature=0, n=2))
    assert greedy[0] == greedy[1]

    assert run.generate([], sampling) == []
    with pytest.raises(EngineError, match="prompt 1"):
        run.generate([batch[0], []], sampling)
    with pytest.raises(EngineError, match="seeds"):
        run.generate(batch, sampling, seeds=seeds[:-1])
    if run.caps.max_length is not None:
        with pytest.raises(EngineError, match=str(run.caps.max_length)):
            run.generate(batch, Sampling(run.caps.max_length))

    run.update_weights(None, 1)
    run.close()
    with pytest.raises(EngineError, match="closed"):
        run.generate(batch, sampling)


@pytest.mark.parametrize("make", [native, native_without_its_fast_step, fake])
def test_engine_conforms(make: Callable[[], Engine]) -> None:
    check_engine(make, prompts(10), STOPS)


@pytest.mark.parametrize("make", [native, native_without_its_fast_step, fake])
@pytest.mark.parametrize("bad", [-1, VOCAB])
def test_ids_outside_the_vocabulary_are_named(make: Callable[[], Engine], bad: int) -> None:
    with pytest.raises(EngineError, match=f"token id {bad} .*vocabulary of {VOCAB}"):
        make().generate([[3, bad]], Sampling(2))
