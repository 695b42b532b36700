"""Packed rows: whether a model keeps the sequences of one row apart."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.batch import Batch, collate
from accord.errors import ModelError
from accord.models.policy import CausalModel

_LENGTHS = (5, 2, 7)
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}


@torch.no_grad()
def check_packing(policy: CausalModel) -> None:
    """Refuse a model in which a sequence of a packed row sees another one, or its position in the row.

    The log-probabilities of three short sequences are compared, packed and one a row. They agree where attention is
    block-diagonal and positions start again; recurrent layers, for instance, carry their state over the border.

    Raises:
        ModelError: the log-probabilities differ.
    """
    device = next(policy.parameters()).device
    vocab = int(policy.inner.config.get_text_config().vocab_size)
    rows = [[(7 * i + 3 * number + 1) % vocab for i in range(size)] for number, size in enumerate(_LENGTHS)]
    apart = collate(rows, [[False] + [True] * (len(row) - 1) for row in rows], pad_id=0).to(device)
    joined = packed_row(rows).to(device)
    one, other = policy(apart).logp_BT, policy(joined).logp_BT
    error = (one[apart.response_mask_BT] - other[joined.response_mask_BT]).abs().max()
    if not float(error) <= _TOLERANCE.get(policy.inner.dtype, 0.1):
        raise ModelError(
            f"{type(policy.inner).__name__} lets the sequences of a packed row see each other",
            fix="set packing: false",
        )


def packed_row(rows: list[list[int]]) -> Batch:
    """One row with all of `rows` in it, every token but the first of each sequence scored."""
    ids = [token for row in rows for token in row]
    mask = [place > 0 for row in rows for place in range(len(row))]
    batch = collate([ids], [mask], pad_id=0)
    number = [n + 1 for n, row in enumerate(rows) for _ in row]
    return batch.replace(segment_BT=_row(number))


def _row(values: list[int]) -> Tensor:
    return torch.tensor([values], dtype=torch.long)
