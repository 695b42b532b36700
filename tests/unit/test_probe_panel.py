"""Fixed prompts of measurements: replies do not depend on how many are asked for at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from accord.engines.base import Sampling
from accord.stages.probe import Panel
from accord.train.rounds import EncodedPrompt
from accord.types import Completion, Message, Prompt


class Counting:
    """An engine whose reply to a prompt is its seed."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.updates = 0

    def update_weights(self, policy: Any, version: int) -> None:
        self.updates += 1

    def generate(self, prompts: Sequence[Any], sampling: Sampling, *, seeds: Sequence[int]) -> list[Completion]:
        self.sizes.append(len(prompts))
        return [Completion(token_ids=(seed,), finish="stop") for seed in seeds]


def test_a_panel_is_asked_in_parts_and_answers_the_same() -> None:
    prompts = tuple(
        EncodedPrompt(Prompt(id=str(i), messages=(Message(role="user", content="?"),)), (i,)) for i in range(5)
    )
    whole = Panel(prompts, tuple(range(5)), Counting(), Sampling(max_new_tokens=1), torch.nn.Identity())  # type: ignore[arg-type]
    parts = replace(whole, engine=Counting(), at_once=2)  # type: ignore[arg-type]
    assert parts.completions() == whole.completions()
    assert whole.engine.sizes == [5] and parts.engine.sizes == [2, 2, 1]  # type: ignore[attr-defined]
    assert parts.engine.updates == 1  # type: ignore[attr-defined]
