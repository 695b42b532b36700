"""Which requests are in the batch: a prompt enters once, finished rows leave, waiting ones take over."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from accord.engines.base import Sampling
from accord.engines.cache import Decoder, Prefilled
from accord.engines.sampling import draw, uniforms
from accord.engines.stops import Decode, completes_stop, cut
from accord.errors import EngineError
from accord.types import Completion

# Finished rows are dropped, and waiting requests admitted, once this share of the batch is free: less often
# and dead rows cost time, more often and moving rows does. Measured on a CPU, replies of 1 to 64 tokens: 0.05 to
# 0.12 are alike, 0.25 is 2 to 8 % slower, never dropping 25 to 35 %.
_FREE_SHARE = 0.1
_MAX_PREFILL_TOKENS = 16384


@dataclass
class _Group:
    """All samples of one distinct prompt."""

    ids: tuple[int, ...]
    requests: list[tuple[int, int, int]] = field(default_factory=list)
    """(index in the output, seed, sample number), still to be admitted from the front."""


@dataclass
class _Row:
    """One completion in the making."""

    output: int
    """Index in the output."""
    uniforms: list[float]
    """One for every token it may get."""
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    live: bool = True


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
        self._rows: list[_Row] = []
        self._last_B = torch.zeros(0, dtype=torch.long, device=device)
        """The token drawn last per row."""
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
                live_B = torch.tensor([row.live for row in self._rows], device=self._last_B.device)
                self._last_B = self._draw(self._rows, self._decoder.step(self._last_B, live_B))
            if self._finished == rows or self._finished >= _FREE_SHARE * rows:
                self._drop_finished()
            if self._waiting and self._slots - self._decoder.rows >= max(1, _FREE_SHARE * self._slots):
                self._drop_finished()
                self._admit()
        return [completion for completion in self._results if completion is not None]

    def _draw(self, rows: list[_Row], logits_BV: Tensor) -> Tensor:
        """Draw the next token of `rows`; what is drawn for finished ones is not kept."""
        uniform_B = torch.tensor([row.uniforms[len(row.ids)] if row.live else 0.0 for row in rows], dtype=torch.float64)
        token_B, logp_B = draw(logits_BV, uniform_B.to(logits_BV.device), self._sampling)
        # The one synchronisation of a step: ids are exact in float64, so both come over together.
        ids, logps = torch.stack((token_B.double(), logp_B.double())).tolist()
        if not math.isfinite(sum(logps)):
            raise EngineError(
                "the model's logits are not finite (NaN or infinite weights, or an overflow in this dtype)",
                where=f"token {min(len(row.ids) for row in rows if row.live)} of a completion",
                fix="see whether the last update diverged (loss, gradient norm), or use float32 or bfloat16",
            )
        live = 0
        for row, token, logp in zip(rows, ids, logps, strict=True):
            if row.live:
                live += 1
                row.ids.append(int(token))
                row.logps.append(logp)
                row.live = not self._ends(row.ids)
                self._finished += not row.live
        if self._on_progress is not None:
            self._on_progress(live)
        return token_B

    def _ends(self, ids: list[int]) -> bool:
        if ids[-1] in self._stop_ids or len(ids) == self._sampling.max_new_tokens:
            return True
        return bool(self._sampling.stop) and completes_stop(ids, self._sampling.stop, self._decode)

    def _drop_finished(self) -> None:
        """Record finished rows and let the last live rows take their places."""
        if self._finished == 0:
            return
        for row in self._rows:
            if not row.live:
                self._results[row.output] = self._completion(row.ids, row.logps)
        kept = len(self._rows) - self._finished
        spare = (index for index in reversed(range(len(self._rows))) if self._rows[index].live)
        source = [index if self._rows[index].live else next(spare) for index in range(kept)]
        source_K = torch.tensor(source, dtype=torch.long, device=self._last_B.device)
        self._decoder.keep(source_K)
        self._last_B = self._last_B[source_K]
        self._rows = [self._rows[index] for index in source]
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
            fresh: list[_Row] = []
            for index, group in enumerate(groups):
                taken, group.requests = group.requests[:free], group.requests[free:]
                free -= len(taken)
                for output, seed, sample in taken:
                    fresh.append(_Row(output, uniforms(seed, sample, self._sampling.max_new_tokens).tolist()))
                    source.append(index)
            last_waits = bool(groups[-1].requests)
            self._held = prefilled.select(len(groups) - 1) if last_waits else None
            self._waiting = self._waiting[len(groups) - last_waits :]
            source_R = torch.tensor(source, device=self._last_B.device)
            self._decoder.admit(prefilled, source_R)
            self._rows += fresh
            self._last_B = torch.cat((self._last_B, self._draw(fresh, prefilled.logits_PV[source_R])))

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


def _group(prompts: Sequence[Sequence[int]], n: int, seeds: Sequence[int]) -> list[_Group]:
    """Collect the samples of equal prompts, longest first: less padding, and room for those that follow."""
    groups: dict[tuple[int, ...], _Group] = {}
    for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        ids = tuple(prompt)
        group = groups.setdefault(ids, _Group(ids))
        group.requests += [(index * n + sample, seed, sample) for sample in range(n)]
    return sorted(groups.values(), key=lambda group: -len(group.ids))
