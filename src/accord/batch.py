"""Batches of token sequences, and the small carriers that travel with them.

Legend of the shape suffixes: B rows, T token positions, P pairs, K heads. A field whose name ends in ``_BT`` has one
entry a token, one whose name ends in ``_B`` has one entry a row, one whose name ends in ``_BK`` has K entries a
row (heads, ensemble members); new fields need nothing else to be padded, selected, split, joined and moved.

All rows are right-padded, and everything token-shaped is indexed by the token's own position:
``logp_BT[b, t] = log p(ids[b, t] | ids[b, <t])`` and ``value_BT[b, t]`` is the value of the state before
that token. Masks are made from lengths, never by comparing ids with the padding id; True means "counts".
"""

# ruff: noqa: N802, N815  (names carry shape suffixes)
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from accord.errors import DataError
from accord.microbatches import GroupSize, cuts


@dataclass(frozen=True)
class Mean:
    """A mean that has not been divided yet, so that parts of a batch (or ranks) can be added first."""

    sum: Tensor | float
    """Sum of the values that count."""
    count: Tensor | float
    """How many values (or how much weight) `sum` holds."""

    def __add__(self, other: Mean) -> Mean:
        """Return the mean over both sets of values."""
        return Mean(self.sum + other.sum, self.count + other.count)

    @property
    def value(self) -> float:
        """The mean as a Python float; nan when nothing was counted."""
        count = float(self.count)
        return float(self.sum) / count if count else float("nan")


@dataclass(frozen=True)
class Terms:
    """What an objective makes of one micro-batch."""

    loss: Tensor
    """Scalar *sum*; the training loop divides by the denominator of the whole optimiser step."""
    metrics: dict[str, Mean]
    """Named means, detached."""


@dataclass(frozen=True)
class Forward:
    """What a model says about a batch; zero where `response_mask_BT` is False."""

    logp_BT: Tensor | None = None
    """Log-probability of each response token (nats)."""
    entropy_BT: Tensor | None = None
    """Entropy of the distribution each response token was scored under (nats)."""
    value_BT: Tensor | None = None
    """Value of the state before each response token."""
    score_B: Tensor | None = None
    """Raw output of a reward model."""
    scores_BK: Tensor | None = None
    """Raw outputs of K reward heads or ensemble members."""
    score_BT: Tensor | None = None
    """Raw score of the prefix that ends with each response token (process reward models)."""
    overlap: Tensor | None = None
    """|cosine| of the weights of two heads, a scalar (ODIN)."""
    log_tie: Tensor | None = None
    """Log of the tie parameter of a reward model that has one, a scalar."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Right-padded token sequences with everything known about them as data."""

    ids_BT: Tensor
    """Token ids, int64; after `lengths_B` any valid id."""
    lengths_B: Tensor
    """Number of real tokens per row, int64."""
    response_mask_BT: Tensor
    """True = this token is scored and trained, the stop token included; never True at position 0."""
    group_B: Tensor | None = None
    """Rows with the same value are adjacent and never separated. Pairs: row 2i chosen, 2i + 1 rejected."""
    old_logp_BT: Tensor | None = None
    """Log-probabilities under the policy that starts the update (PPO ratio)."""
    ref_logp_BT: Tensor | None = None
    """Log-probabilities under the frozen reference."""
    sampler_logp_BT: Tensor | None = None
    """Log-probabilities the generation engine reported."""
    advantage_BT: Tensor | None = None
    """Advantage of each response token."""
    return_BT: Tensor | None = None
    """Critic target of each response token."""
    old_value_BT: Tensor | None = None
    """Critic output before the update (value clipping)."""
    token_reward_BT: Tensor | None = None
    """Reward of each response token after the KL penalty."""
    score_B: Tensor | None = None
    """Raw score of each row."""
    target_B: Tensor | None = None
    """P(first row of the pair is preferred), stored on every row of the pair; of a single reply, P(desirable)."""
    baseline_B: Tensor | None = None
    """Score of the greedy reply to each row's prompt (ReMax)."""
    nll_B: Tensor | None = None
    """Weight of the row's -log p. Rows of demonstrations among rollouts (`train/mixing.py`; 0 = a rollout), or pairs
    with a likelihood term that is a mean over all tokens of the step (CPO, ORPO)."""
    anchor_B: Tensor | None = None
    """What the row's log-ratio is compared with, nats: a statistic of the whole step (KTO's KL, AOT's match)."""
    margin_B: Tensor | None = None
    """Margin in reward units, stored on every row of the pair."""
    weight_B: Tensor | None = None
    """Weight of the row, pair or ranking, stored on every row of it; None = 1."""
    rank_B: Tensor | None = None
    """Place of the row in its group, 0 = best; equal = no order known. None = pairs, the first row is the better."""
    weight_BK: Tensor | None = None
    """Weight of the row or pair for each of K ensemble members (bootstrap)."""
    target_BK: Tensor | None = None
    """What each of K heads should say; NaN = not known."""
    target_BT: Tensor | None = None
    """1 where the step that ends with this response token is right, else 0 (process reward models)."""
    slope_BK: Tensor | None = None
    """Gradient of a penalty on the whole batch in the output of each of K heads."""
    penalty_B: Tensor | None = None
    """Value of that penalty, the same in every row."""
    segment_BT: Tensor | None = None
    """Packed rows: 1, 2, ... numbers the sequences of a row, int64; tokens see only their own. None = one a row."""

    def __post_init__(self) -> None:
        shape = tuple(self.ids_BT.shape)
        if len(shape) != 2 or shape[0] == 0 or shape[1] == 0:
            raise ValueError(f"ids_BT must have shape [B, T] with at least one row and token, not {shape}")
        if self.response_mask_BT.dtype != torch.bool:
            raise ValueError(f"response_mask_BT must be bool, not {self.response_mask_BT.dtype}")
        for name, value in _present(self):
            expected = shape if name.endswith("_BT") else shape[:1]
            found = tuple(value.shape)
            if (found[:1] if name.endswith("_BK") and len(found) == 2 else found) != expected:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {expected}")

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.ids_BT.shape[0]

    @property
    def num_tokens(self) -> int:
        """Number of real tokens, padding excluded."""
        return int(self.lengths_B.sum())

    @property
    def token_mask_BT(self) -> Tensor:
        """True at the real tokens of each row."""
        positions = torch.arange(self.ids_BT.shape[1], device=self.ids_BT.device)
        return positions[None, :] < self.lengths_B[:, None]

    def select(self, rows: Tensor | Sequence[int]) -> Batch:
        """Return the named rows in the given order, trimmed to the longest of them.

        Args:
            rows: row indices; repeats are allowed.

        Returns:
            A new batch; keeping groups whole is up to the caller.

        Raises:
            ValueError: if no row is named.
        """
        index = torch.as_tensor(rows, dtype=torch.long, device=self.ids_BT.device)
        if index.numel() == 0:
            raise ValueError("select needs at least one row")
        width = max(int(self.lengths_B[index].max()), 1)
        picked = {name: value[index] for name, value in _present(self)}
        return Batch(**{name: value[:, :width] if name.endswith("_BT") else value for name, value in picked.items()})

    def shared_prefix_B(self) -> Tensor | None:
        """Number of leading tokens that all rows of a row's group have in common, int64.

        At least one token of every row stays its own; rows alone in their group share nothing. None when the batch has
        no groups or is packed.
        """
        if self.group_B is None or self.segment_BT is not None:
            return None
        new_B = torch.ones_like(self.group_B, dtype=torch.bool)
        new_B[1:] = self.group_B[1:] != self.group_B[:-1]
        if bool(new_B.all()):
            return torch.zeros_like(self.lengths_B)
        run_B = new_B.cumsum(0) - 1
        first_B = new_B.nonzero()[:, 0][run_B]
        equal_BT = (self.ids_BT == self.ids_BT[first_B]) & self.token_mask_BT
        common_B = torch.minimum(equal_BT.long().cumprod(1).sum(1), self.lengths_B - 1)
        least_B = common_B.new_zeros(self.num_rows).scatter_reduce(0, run_B, common_B, "amin", include_self=False)
        alone_B = torch.bincount(run_B, minlength=self.num_rows)[run_B] == 1
        return least_B[run_B].masked_fill(alone_B, 0)

    def split(self, token_budget: int, *, flat: bool = False) -> list[Batch]:
        """Cut into micro-batches of similar lengths; groups stay whole, and nothing is random.

        Args:
            token_budget: most padded tokens (rows x longest row) a micro-batch may hold; a single group that is larger
                becomes a micro-batch of its own.
            flat: the model shares prompts and lays long rows behind each other instead of padding them
                (`accord.models.trunk.lays_flat`); the budget is then for the tokens it runs.

        Returns:
            Micro-batches that together hold every row exactly once, the longest first: what does not fit in memory
            fails at once rather than at the end.

        Raises:
            ValueError: if `token_budget` is not positive or the rows of a group are not adjacent.
        """
        if token_budget < 1:
            raise ValueError(f"token_budget must be at least 1, not {token_budget}")
        lengths: list[int] = self.lengths_B.tolist()
        shared_B = self.shared_prefix_B()
        shared: list[int] = [0] * self.num_rows if shared_B is None else shared_B.tolist()
        groups = _runs(list(range(self.num_rows)) if self.group_B is None else self.group_B.tolist())
        sizes = [GroupSize.of([lengths[row] for row in rows], shared[rows[0]]) for rows in groups]
        parts = cuts(sizes, token_budget, fill=self.ids_BT.device.type != "cpu", flat=flat)
        return [self.select([row for group in part for row in groups[group]]) for part in parts]

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`."""
        return self.replace(**{name: value.to(device) for name, value in _present(self)})

    def replace(self, **changes: Tensor | None) -> Batch:
        """Return a copy with the named fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def collate(
    sequences: Sequence[Sequence[int]],
    response_masks: Sequence[Sequence[bool]],
    *,
    pad_id: int,
    group: Sequence[int] | None = None,
    **columns: Any,
) -> Batch:
    """Build a batch from token lists of different lengths.

    Args:
        sequences: token ids of each row, prompt and response together.
        response_masks: per row, one flag a token: True = scored and trained.
        pad_id: fills the end of short rows.
        group: group of each row; equal values must be adjacent.
        **columns: other fields of `Batch` by name: ``name_B`` one number a row, ``name_BT`` one number a
            token of each row. None leaves a field out. Numbers become float32; tensors keep their dtype.

    Returns:
        A batch as wide as its longest row.

    Raises:
        DataError: if there are no rows, a row is empty, lengths differ, or a mask starts at position 0.
        ValueError: if a group is not adjacent or a column is unknown.
    """
    _check_rows(sequences, response_masks)
    if group is not None:
        _runs(list(group))
    unknown = set(columns) - {field.name for field in fields(Batch)}
    if unknown:
        raise ValueError(f"Batch has no field {sorted(unknown)}")
    lengths = [len(sequence) for sequence in sequences]
    made: dict[str, Tensor] = {}
    for name, values in columns.items():
        if values is None:
            continue
        if name.endswith("_BT"):
            if [len(row) for row in values] != lengths:
                raise DataError(f"{name} does not have one number for each token of each row")
            made[name] = _pad([_floats(row) for row in values], 0.0)
        else:
            made[name] = _floats(values)
    lengths_B = torch.tensor(lengths, dtype=torch.long)
    real_BT = torch.arange(max(lengths))[None, :] < lengths_B[:, None]
    ids_BT = torch.full(real_BT.shape, pad_id, dtype=torch.long)
    ids_BT[real_BT] = torch.tensor(list(chain.from_iterable(sequences)), dtype=torch.long)
    response_mask_BT = torch.zeros_like(real_BT)
    response_mask_BT[real_BT] = torch.tensor(list(chain.from_iterable(response_masks)), dtype=torch.bool)
    return Batch(
        ids_BT=ids_BT,
        lengths_B=lengths_B,
        response_mask_BT=response_mask_BT,
        group_B=None if group is None else torch.tensor(list(group), dtype=torch.long),
        **made,
    )


def concat(batches: Sequence[Batch]) -> Batch:
    """Join batches row by row, padding to the widest.

    Rows of different batches never share a group: group ids that occur in two batches are numbered anew.

    Args:
        batches: batches with the same fields present.

    Returns:
        One batch with the rows in the given order.

    Raises:
        ValueError: if there is no batch or a field is present in some batches only.
    """
    if not batches:
        raise ValueError("concat needs at least one batch")
    names = [name for name, _ in _present(batches[0])]
    for batch in batches:
        if [name for name, _ in _present(batch)] != names:
            raise ValueError(f"batches differ in fields: {names} and {[name for name, _ in _present(batch)]}")
    width = max(batch.ids_BT.shape[1] for batch in batches)
    joined: dict[str, Tensor] = {}
    for name in names:
        parts = [getattr(batch, name) for batch in batches]
        if name.endswith("_BT"):
            parts = [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
        joined[name] = torch.cat(_distinct(parts) if name == "group_B" else parts)
    return Batch(**joined)


def _present(batch: Batch) -> list[tuple[str, Tensor]]:
    pairs = [(field.name, getattr(batch, field.name)) for field in fields(batch)]
    return [(name, value) for name, value in pairs if value is not None]


def _runs(groups: Sequence[int]) -> list[list[int]]:
    """Row indices of each group; raises ValueError where a group comes back after another one."""
    runs: list[list[int]] = []
    seen: set[int] = set()
    for row, group in enumerate(groups):
        if row and groups[row - 1] == group:
            runs[-1].append(row)
        elif group in seen:
            raise ValueError(f"rows of group {group} are not adjacent (row {row})")
        else:
            seen.add(group)
            runs.append([row])
    return runs


def _distinct(groups: list[Tensor]) -> list[Tensor]:
    ids = [set(group.tolist()) for group in groups]
    if len(set().union(*ids)) == sum(len(part) for part in ids):
        return groups
    renumbered: list[Tensor] = []
    start = 0
    for group in groups:
        values, inverse = torch.unique_consecutive(group, return_inverse=True)
        renumbered.append(inverse + start)
        start += values.numel()
    return renumbered


def _check_rows(sequences: Sequence[Sequence[int]], response_masks: Sequence[Sequence[bool]]) -> None:
    if not sequences:
        raise DataError("a batch needs at least one row")
    if len(sequences) != len(response_masks):
        raise DataError(f"{len(sequences)} sequences but {len(response_masks)} response masks")
    for row, (sequence, mask) in enumerate(zip(sequences, response_masks, strict=True)):
        if not sequence:
            raise DataError("a row of a batch has no tokens", where=f"row {row}")
        if len(sequence) != len(mask):
            raise DataError(f"{len(sequence)} tokens but {len(mask)} mask entries", where=f"row {row}")
        if mask[0]:
            # Nothing comes before the first token, so no distribution scores it.
            raise DataError("the first token of a row cannot be part of the response", where=f"row {row}")


def _floats(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.tensor(list(values), dtype=torch.float32)


def _pad(rows: list[Tensor], value: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
