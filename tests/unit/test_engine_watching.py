"""Watched generation: the same tokens as unwatched, limits of each prompt's own, rows that are ended early."""

from __future__ import annotations

import pytest
import torch
from engine_models import POSITIONS, engine, prompts, teacher_forced, tiny
from torch import Tensor

from accord.engines.base import Sampling
from accord.engines.watching import Drawn
from accord.errors import EngineError
from accord.types import Completion

SEEDS = [11, 12, 13, 14]


class Watcher:
    """Keeps everything it is shown, and ends some rows after two tokens."""

    def __init__(self, unwanted: frozenset[int] = frozenset()) -> None:
        self.unwanted = unwanted
        self.ids: dict[int, list[int]] = {}
        self.finished: dict[int, Completion] = {}
        self.logits: dict[int, list[Tensor]] = {}

    def __call__(self, drawn: list[Drawn], logits_BV: Tensor) -> set[int]:
        for one in drawn:
            seen = self.ids.setdefault(one.output, [])
            seen.append(one.ids[-1])
            assert seen == list(one.ids) and one.output not in self.finished
            self.logits.setdefault(one.output, []).append(logits_BV[one.row].clone())
            if one.finished is not None:
                self.finished[one.output] = one.finished
        return {output for output in self.unwanted if len(self.ids.get(output, ())) >= 2}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("max_batch", [3, 16])
def test_the_same_tokens_are_drawn_and_every_one_is_shown_with_its_logits(family: str, max_batch: int) -> None:
    model, asked = tiny(family), prompts(4)
    sampling = Sampling(12, temperature=0.8, top_p=0.95, n=2)
    wanted = engine(model, max_batch=max_batch).generate(asked, sampling, seeds=SEEDS)
    watcher = Watcher()
    made = engine(model, max_batch=max_batch).generate_watched(
        asked, sampling, seeds=SEEDS, limits=[12] * 4, watch=watcher
    )
    assert made == wanted == [watcher.finished[i] for i in range(8)]
    assert {i: tuple(ids) for i, ids in watcher.ids.items()} == {i: c.token_ids for i, c in enumerate(wanted)}
    for output, logits in watcher.logits.items():
        plain = teacher_forced(model, asked[output // 2], wanted[output].token_ids)
        torch.testing.assert_close(torch.stack(logits), plain, atol=1e-4, rtol=1e-4)


def test_every_prompt_has_a_limit_of_its_own_and_starts_like_the_longest() -> None:
    model, asked = tiny("llama"), prompts(4)
    sampling = Sampling(1, temperature=1.5)
    whole = engine(model).generate(asked, Sampling(20, temperature=1.5), seeds=SEEDS)
    limits = [1, 20, 3, 7]
    watcher = Watcher()
    made = engine(model, max_batch=2).generate_watched(asked, sampling, seeds=SEEDS, limits=limits, watch=watcher)
    for completion, longest, limit in zip(made, whole, limits, strict=True):
        assert completion.token_ids == longest.token_ids[:limit]
        assert completion.finish == ("length" if len(longest.token_ids) > limit else longest.finish)


def test_a_prompt_and_its_limit_fit_though_the_longest_of_each_would_not() -> None:
    model = tiny("gpt2")  # learned positions: beyond the last there is nothing
    asked = [[7] * (POSITIONS - 2), [9] * 2]
    limits = [2, POSITIONS - 2]
    made = engine(model).generate_watched(asked, Sampling(1), seeds=[1, 2], limits=limits, watch=Watcher())
    apart = [
        engine(model).generate([ids], Sampling(limit), seeds=[seed])[0]
        for ids, limit, seed in zip(asked, limits, [1, 2], strict=True)
    ]
    assert [one.token_ids for one in made] == [one.token_ids for one in apart]
    with pytest.raises(EngineError, match="3 = 65, but the model has 64"):
        engine(model).generate_watched(asked, Sampling(1), seeds=[1, 2], limits=[3, 1], watch=Watcher())


def test_rows_that_nobody_wants_end_and_the_others_do_not_notice() -> None:
    model, asked = tiny("llama"), prompts(4)
    sampling = Sampling(12, temperature=1.5, n=2)
    wanted = engine(model).generate(asked, sampling, seeds=SEEDS)
    watcher = Watcher(frozenset({1, 4}))
    engine(model, max_batch=3).generate_watched(asked, sampling, seeds=SEEDS, limits=[12] * 4, watch=watcher)
    assert all(len(watcher.ids[i]) == 2 for i in (1, 4) if len(wanted[i].token_ids) > 2)
    others = (0, 2, 3, 5, 6, 7)
    assert [watcher.finished[i].token_ids for i in others] == [wanted[i].token_ids for i in others]
    assert any(len(wanted[i].token_ids) > 2 for i in (1, 4))  # or nothing was ended early


def test_a_closed_engine_watches_nothing() -> None:
    closed = engine(tiny("llama"))
    closed.close()
    with pytest.raises(EngineError, match="closed"):
        closed.generate_watched([[1]], Sampling(1), seeds=[1], limits=[1], watch=Watcher())
