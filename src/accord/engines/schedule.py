"""Which requests are in the batch: a prompt enters once, finished rows leave, waiting ones take over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from accord.engines.base import Sampling
from accord.engines.cache import Decoder, Prefilled
from accord.engines.sampling import draw, uniforms
from accord.engines.stops import Decode, completes_stop, cut
from accord.errors import EngineError
from accord.types import Completion

# Finished rows are dropped, and waiting requests admitted, once this share of the batch is free: less often
# and dead rows cost time, more often and moving rows does.
_FREE_SHARE = 0.25
_MAX_PREFILL_TOKENS = 16384


@dataclass
class _Group:
    """All samples of one distinct prompt."""

    ids: tuple[int, ...]
    requests: list[tuple[int, int, int]] = field(default_factory=list)
    """(index in the output, seed, sample number), still to be admitted from the front."""


class Schedule:
    """One call to generate.

    Args:
        decoder: where the rows run.
        prompts: token ids, not empty.
        sampling: the distribution, length and stop strings.
        seeds: one per prompt.
        slots: most rows at once.
        stop_ids: ids that end a completion.
        decode: token ids to text.
        model_name: recorded in the completions.
        device: where the model is.
        on_progress: called after every step with the number of tokens it drew.
    """

    def __init__(  # noqa: PLR0913 - the pieces of one call, assembled in one place
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seeds: Sequence[int],
        slots: int,
        stop_ids: tuple[int, ...],
        decode: Decode,
        model_name: str,
        device: torch.device,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self._decoder, self._sampling, self._slots = decoder, sampling, slots
        self._stop_ids, self._decode = stop_ids, decode
        self._model_name, self._on_progress = model_name, on_progress
        self._waiting = _group(prompts, sampling.n, seeds)
        self._held: Prefilled | None = None
        self._results: list[Completion | None] = [None] * (len(prompts) * sampling.n)

        length = sampling.max_new_tokens
        self._stop_E = torch.tensor(stop_ids, dtype=torch.long, device=device)
        self._live_S = torch.zeros(slots, dtype=torch.bool, device=device)
        self._drawn_S = torch.zeros(slots, dtype=torch.long, device=device)
        self._token_SN = torch.zeros(slots, length, dtype=torch.long, device=device)
        self._logp_SN = torch.zeros(slots, length, dtype=torch.float64, device=device)
        self._uniform_SN = torch.zeros(slots, length, dtype=torch.float64, device=device)
        self._output: list[int] = []
        """Index in the output per row."""
        self._finished = 0

    def run(self) -> list[Completion]:
        """Generate everything.

        Raises:
            EngineError: the model's logits are not finite.
        """
        self._admit()
        while self._decoder.rows:
            rows = self._decoder.rows
            if self._finished < rows:
                live_B = self._live_S[:rows]
                last_B1 = (self._drawn_S[:rows, None] - 1).clamp_(min=0)
                token_B = self._token_SN[:rows].gather(1, last_B1)[:, 0]
                logits_BV = self._decoder.step(token_B, live_B)
                self._draw(live_B.nonzero()[:, 0], logits_BV)
            if self._finished == rows or self._finished >= _FREE_SHARE * rows:
                self._drop_finished()
            if self._waiting and self._slots - self._decoder.rows >= max(1, _FREE_SHARE * self._slots):
                self._drop_finished()
                self._admit()
        return [completion for completion in self._results if completion is not None]

    def _draw(self, row_R: Tensor, logits_BV: Tensor) -> None:
        """Draw the next token of `row_R`; `logits_BV` has the rows 0..B-1, or exactly `row_R`."""
        if len(logits_BV) != len(row_R):
            logits_BV = logits_BV[row_R]
        at_R = self._drawn_S[row_R]
        token_R, logp_R = draw(logits_BV, self._uniform_SN[row_R, at_R], self._sampling)
        if not bool(torch.isfinite(logp_R).all()):
            raise EngineError(
                "the model's logits are not finite (NaN or infinite weights, or an overflow in this dtype)",
                where=f"token {int(at_R[~torch.isfinite(logp_R)][0])} of a completion",
                fix="see whether the last update diverged (loss, gradient norm), or use float32 or bfloat16",
            )
        self._token_SN[row_R, at_R] = token_R
        self._logp_SN[row_R, at_R] = logp_R.double()
        self._drawn_S[row_R] = at_R + 1
        done_R = torch.isin(token_R, self._stop_E) | (at_R + 1 >= self._sampling.max_new_tokens)
        if self._sampling.stop:
            done_R |= self._at_stop_string(row_R)
        self._live_S[row_R] = ~done_R
        self._finished += int(done_R.sum())
        if self._on_progress is not None:
            self._on_progress(len(row_R))

    def _at_stop_string(self, row_R: Tensor) -> Tensor:
        ids = self._token_SN[row_R].tolist()
        drawn = self._drawn_S[row_R].tolist()
        found = [completes_stop(row[:n], self._sampling.stop, self._decode) for row, n in zip(ids, drawn, strict=True)]
        return torch.tensor(found, device=row_R.device)

    def _drop_finished(self) -> None:
        """Record finished rows and let the last live rows take their places."""
        if self._finished == 0:
            return
        rows = self._decoder.rows
        live = self._live_S[:rows].tolist()
        dead = [row for row in range(rows) if not live[row]]
        ids, logps = self._token_SN[dead].tolist(), self._logp_SN[dead].tolist()
        for row, row_ids, row_logps, n in zip(dead, ids, logps, self._drawn_S[dead].tolist(), strict=True):
            self._results[self._output[row]] = self._completion(row_ids[:n], row_logps[:n])
        kept = rows - len(dead)
        spare = (row for row in reversed(range(rows)) if live[row])
        source = [row if live[row] else next(spare) for row in range(kept)]
        source_K = torch.tensor(source, dtype=torch.long, device=self._live_S.device)
        self._decoder.keep(source_K)
        for state in (self._live_S, self._drawn_S, self._token_SN, self._logp_SN, self._uniform_SN):
            state[:kept] = state[source_K]
        self._output = [self._output[row] for row in source]
        self._finished = 0

    def _completion(self, ids: list[int], logps: list[float]) -> Completion:
        kept, text, finish = cut(ids, stop_ids=self._stop_ids, stop=self._sampling.stop, decode=self._decode)
        return Completion(
            token_ids=tuple(ids[:kept]),
            logps=tuple(logps[:kept]),
            finish=finish,
            text=text,
            model=self._model_name,
        )

    def _admit(self) -> None:
        """Fill the free slots; a prompt whose samples do not all fit stays prefilled for the next time."""
        while self._waiting and self._decoder.rows < self._slots:
            free = self._slots - self._decoder.rows
            if self._held is not None:
                prefilled, groups = self._held, self._waiting[:1]
            else:
                groups = self._next_groups(free)
                prefilled = self._decoder.prefill([group.ids for group in groups])
            source: list[int] = []
            for index, group in enumerate(groups):
                taken, group.requests = group.requests[:free], group.requests[free:]
                free -= len(taken)
                for output, seed, sample in taken:
                    self._seat(output, uniforms(seed, sample, self._sampling.max_new_tokens))
                    source.append(index)
            last_waits = bool(groups[-1].requests)
            self._held = prefilled.select(len(groups) - 1) if last_waits else None
            self._waiting = self._waiting[len(groups) - last_waits :]
            first = self._decoder.rows
            source_R = torch.tensor(source, device=self._live_S.device)
            self._decoder.admit(prefilled, source_R)
            row_R = torch.arange(first, self._decoder.rows, device=self._live_S.device)
            self._draw(row_R, prefilled.logits_PV[source_R])

    def _next_groups(self, free: int) -> list[_Group]:
        """Return the first waiting prompts that fill the free rows, within the prefill's budget."""
        groups: list[_Group] = []
        for group in self._waiting:
            # Sorted by length: the first prompt is the longest, the others are padded to it.
            if groups and (len(groups) + 1) * len(groups[0].ids) > _MAX_PREFILL_TOKENS:
                break
            groups.append(group)
            free -= len(group.requests)
            if free <= 0:
                break
        return groups

    def _seat(self, output: int, uniform_N: np.ndarray) -> None:
        row = len(self._output)
        self._output.append(output)
        self._live_S[row], self._drawn_S[row] = True, 0
        self._uniform_SN[row] = torch.from_numpy(uniform_N)


def _group(prompts: Sequence[Sequence[int]], n: int, seeds: Sequence[int]) -> list[_Group]:
    """Collect the samples of equal prompts, longest first: less padding, and room for those that follow."""
    groups: dict[tuple[int, ...], _Group] = {}
    for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        ids = tuple(prompt)
        group = groups.setdefault(ids, _Group(ids))
        group.requests += [(index * n + sample, seed, sample) for sample in range(n)]
    return sorted(groups.values(), key=lambda group: -len(group.ids))
