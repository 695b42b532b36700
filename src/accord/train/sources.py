"""Offline sources: batches read from records.

Offline(examples) ---------------------------> Batch
with_reference(examples, ref) -> examples -----> Batch with ref_logp_BT, computed once and kept on disk
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from accord import rng
from accord.batch import Batch, Forward, collate
from accord.errors import ArtifactError, DataError
from accord.storage import io_errors
from accord.train.examples import Example, Row, with_ref_logp
from accord.train.packing import packed_batch


def batch_of(examples: Sequence[Example], pad_id: int) -> Batch:
    """Collate examples; rows of one example stay adjacent and share a group."""
    rows = [row for e in examples for row in e.rows]
    batch = collate(
        [row.ids for row in rows],
        [row.mask for row in rows],
        pad_id=pad_id,
        group=[g for g, e in enumerate(examples) for _ in e.rows],
    )
    per_row = [e for e in examples for _ in e.rows]
    fields: dict[str, Tensor] = {"weight_B": torch.tensor([e.weight for e in per_row])}
    if any(e.target is not None for e in examples):
        fields["target_B"] = torch.tensor([_certain(e) if e.target is None else e.target for e in per_row])
    if any(e.margin is not None for e in examples):
        fields["margin_B"] = torch.tensor([e.margin or 0.0 for e in per_row])
    if any(e.rank is not None for e in examples):
        fields["rank_B"] = torch.tensor([r for e in examples for r in e.rank or range(len(e.rows))])
    if rows[0].ref_logp is not None:
        ref_logp_BT = torch.zeros(batch.ids_BT.shape, dtype=rows[0].ref_logp.dtype)
        for b, row in enumerate(rows):
            assert row.ref_logp is not None
            ref_logp_BT[b, : len(row.ids)] = row.ref_logp
        fields["ref_logp_BT"] = ref_logp_BT
    for name in rows[0].columns:
        values = [torch.tensor(row.columns[name], dtype=torch.float32) for row in rows]
        fields[name] = pad_sequence(values, batch_first=True)
    return batch.replace(**fields)


def _certain(example: Example) -> float:
    """P(the first row of a pair is better) of a label that is sure."""
    return float(example.rank is None or example.rank[0] <= example.rank[-1])


class Offline:
    """Endless shuffled batches of examples; the order of epoch e is a pure function of (seed, e)."""

    def __init__(
        self, examples: Sequence[Example], *, batch_size: int, pad_id: int, seed: int, packing: int | None = None
    ) -> None:
        """Start before the first example.

        Args:
            examples: at least one.
            batch_size: examples an optimiser step; the last batch of an epoch is filled from the next epoch.
            pad_id: any valid token id.
            seed: of the order.
            packing: put the examples of a step together into rows of at most this many tokens; None = a row each.

        Raises:
            DataError: there are no examples.
        """
        if not examples:
            raise DataError("there is nothing to train on: no example is left", fix="see the rows left out above")
        self.examples = examples
        self.batch_size = batch_size
        self.pad_id = pad_id
        self.seed = seed
        self.packing = packing
        self.cursor = 0
        """Examples drawn since the start, over all epochs."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches from the cursor on."""
        epoch, order = -1, list[int]()
        while True:
            chosen: list[Example] = []
            for position in range(self.cursor, self.cursor + self.batch_size):
                if position // len(self.examples) != epoch:
                    epoch = position // len(self.examples)
                    order = rng.permutation(len(self.examples), self.seed, "offline", epoch)
                chosen.append(self.examples[order[position % len(self.examples)]])
            self.cursor += self.batch_size
            if self.packing is None:
                yield batch_of(chosen, self.pad_id)
            else:
                yield packed_batch(chosen, self.pad_id, self.packing)

    @staticmethod
    def drawn(num_examples: int, num_draws: int, seed: int) -> list[int]:
        """Indices, in ascending order, of the examples that the first `num_draws` draws of a run with `seed` take."""
        if num_draws >= num_examples:
            return list(range(num_examples))
        return sorted(rng.permutation(num_examples, seed, "offline", 0)[:num_draws])

    @property
    def at_boundary(self) -> bool:
        """Always: the cursor is two integers."""
        return True

    def report(self) -> dict[str, float]:
        """Epochs done, as a fraction."""
        return {"epoch": self.cursor / len(self.examples)}

    def state(self) -> dict[str, Any]:
        """The cursor."""
        return {"cursor": self.cursor}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a cursor."""
        self.cursor = int(state["cursor"])


@torch.no_grad()
def with_reference(
    examples: Sequence[Example],
    ref: Callable[[Batch], Forward],
    *,
    pad_id: int,
    token_budget: int,
    device: torch.device,
    cache: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Example, ...]:
    """Attach the reference's log-probabilities to examples, computed once.

    They are a pure function of the examples and the reference: batches are cut in a fixed order, so a resumed run that
    has to compute them again gets the same bits.

    Args:
        examples: rows to score.
        ref: frozen policy, `Batch -> Forward` with `logp_BT`.
        pad_id: any valid token id.
        token_budget: largest rows x length a forward.
        device: where `ref` lives.
        cache: safetensors file to read when it exists and else to write. It is not read when it is damaged or was
            written for other examples; that the reference is the same is up to the caller (a stage's own directory
            is named by the fingerprint of its inputs).
        on_progress: called with the number of rows done since the last call.

    Raises:
        ArtifactError: the cache cannot be written.
    """
    if not examples:
        return ()
    num_rows = sum(len(e.rows) for e in examples)
    digest = digest_of(examples)
    cached = None if cache is None else _read_cache(cache, digest)
    if cached is not None:
        if on_progress:
            on_progress(num_rows)
        return with_ref_logp(examples, cached)
    # Rows of an example stay together: their prompt is encoded once.
    bare = [Example(e.id, tuple(Row(row.ids, row.mask) for row in e.rows)) for e in examples]
    first = list(accumulate((len(e.rows) for e in examples), initial=0))
    order = sorted(range(len(bare)), key=lambda i: (max(len(row.ids) for row in bare[i].rows), i))
    logps: list[Tensor] = [torch.empty(0)] * num_rows
    for start in range(0, len(order), 128):
        chosen = order[start : start + 128]
        indices = [first[i] + k for i in chosen for k in range(len(bare[i].rows))]
        batch = batch_of([bare[i] for i in chosen], pad_id)
        for micro in batch.replace(score_B=torch.tensor(indices, dtype=torch.float64)).split(token_budget):
            logp_BT = ref(micro.to(device)).logp_BT
            assert logp_BT is not None and micro.score_B is not None
            for b, index in enumerate(micro.score_B.long().tolist()):
                logps[index] = logp_BT[b, : int(micro.lengths_B[b])].cpu().clone()
        if on_progress:
            on_progress(len(indices))
    if cache is not None:
        _write_cache(cache, digest, logps)
    return with_ref_logp(examples, logps)


def digest_of(examples: Sequence[Example]) -> str:
    """SHA-256 of the token ids and masks of all rows in order."""
    sha = hashlib.sha256()
    for row in (row for e in examples for row in e.rows):
        sha.update(f"{row.ids}{tuple(map(int, row.mask))}".encode())
    return sha.hexdigest()


def _read_cache(path: Path, digest: str) -> tuple[Tensor, ...] | None:
    """The cached log-probabilities a row, or None when there are none of these examples."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("examples") != digest:
                return None
            flat, lengths = file.get_tensor("logp"), file.get_tensor("lengths")
    except SafetensorError:
        return None
    return torch.split(flat, lengths.tolist())


def _write_cache(path: Path, digest: str, logps: Sequence[Tensor]) -> None:
    tensors = {"logp": torch.cat(list(logps)), "lengths": torch.tensor([x.numel() for x in logps])}
    partial = path.with_suffix(".tmp")
    with io_errors("write the reference log-probs", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, partial, metadata={"examples": digest})
        except SafetensorError as error:
            raise ArtifactError(f"cannot write the reference log-probs: {error}", where=str(path)) from error
        partial.replace(path)
