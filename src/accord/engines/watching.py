"""Generation that is watched: every token is shown as it is drawn, prompts have limits of their own, rows may be ended.

What a server needs (streams, log-probabilities of the most likely tokens, clients that hang up) and a trainer does not.
The tokens are those that `NativeEngine.generate` draws for the same seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from accord.engines.schedule import Schedule
from accord.types import Completion


@dataclass(frozen=True)
class Drawn:
    """One token that was drawn."""

    output: int
    """Index of its completion: prompt * n + sample."""
    row: int
    """Where its logits are."""
    ids: Sequence[int]
    """All tokens of the completion so far; the last one is new. The list grows: copy what is kept."""
    finished: Completion | None
    """The whole completion, when this was its last token."""


Watch = Callable[[Sequence[Drawn], Tensor], Collection[int]]
"""Called after every step with what was drawn and the logits [B, V] it was drawn from, before temperature and
truncation; returns the outputs that nobody wants any more."""


class WatchedSchedule(Schedule):
    """One watched call to generate.

    Args:
        limits: most tokens of each prompt's completions, at most `sampling.max_new_tokens`.
        watch: sees every token.
        call: as for `Schedule`.
    """

    def __init__(self, *call: Any, limits: Sequence[int], watch: Watch, **named: Any) -> None:
        super().__init__(*call, **named)
        self._limits, self._watch = limits, watch

    def _draw(self, rows: list[Any], logits_BV: Tensor) -> Tensor:
        live = [(index, row) for index, row in enumerate(rows) if row.live]
        token_B = super()._draw(rows, logits_BV)
        drawn: list[Drawn] = []
        for index, row in live:
            if row.live and len(row.ids) >= self._limits[row.output // self._sampling.n]:
                self._end(row)
            finished = None if row.live else self._completion(row.ids, row.logps)
            drawn.append(Drawn(row.output, index, row.ids, finished))
        unwanted = self._watch(drawn, logits_BV)
        for _, row in live:
            if row.live and row.output in unwanted:
                self._end(row)
        return token_B

    def _end(self, row: Any) -> None:
        row.live = False
        self._finished += 1
