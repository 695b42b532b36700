"""How the groups of a batch are cut into micro-batches: little padding, few forwards, never more than the budget.

A forward costs its tokens, with their padding unless the model lays rows flat, and something for being one at all.
Groups are put in order of length, so that a micro-batch is a run of neighbours, and the cheapest cuts of that order are
found exactly by dynamic programming. What a forward and backward costs by itself on a CPU is `OVERHEAD_TOKENS`.
Accelerators wait for kernels to start, so there micro-batches are filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OVERHEAD_TOKENS = 64
"""Cost of one more forward and backward on a CPU in tokens of the same model. Reward steps of a 13 M model on two
threads take 5 to 10 % longer with 0 or 400 than with 32 to 96, which are alike. (Padded rows; of flat ones the fewest
micro-batches are always the cheapest.)"""
FLAT_FROM = 128
"""Tokens of the longest row from which on a model that can lays rows behind each other; shorter ones are padded."""


@dataclass(frozen=True)
class GroupSize:
    """What decides where a group goes."""

    rows: int
    longest: int
    """Tokens of its longest row."""
    encoded_rows: int
    """Rows the model runs: 1 where a shared prompt is encoded once (`accord.models.sharing`)."""
    encoded: int
    """Tokens of the longest of these."""
    tokens: int
    """Tokens of all of these."""

    @staticmethod
    def of(lengths: Sequence[int], shared: int) -> GroupSize:
        """A group with rows of `lengths`, of which the first `shared` tokens are the same.

        Sharing that saves less than an eighth of the tokens is not counted on: the mask costs about
        as much, and models then mostly encode the rows apart.
        """
        if shared * (len(lengths) - 1) * 8 < sum(lengths):
            return GroupSize(len(lengths), max(lengths), len(lengths), max(lengths), sum(lengths))
        joined = shared + sum(lengths) - shared * len(lengths)
        return GroupSize(len(lengths), max(lengths), 1, joined, joined)


def cuts(groups: Sequence[GroupSize], token_budget: int, *, fill: bool, flat: bool = False) -> list[list[int]]:
    """Distribute groups over micro-batches.

    Args:
        groups: sizes.
        token_budget: most padded tokens (rows x longest row) a micro-batch may hold; a single group that is larger
            becomes a micro-batch of its own. Sharing is not counted on: a model may be unable to.
        fill: take as few micro-batches as the order allows, instead of the cheapest.
        flat: the model shares prompts and pays for no padding where the longest row has `FLAT_FROM` tokens; the budget
            is then for the tokens it runs.

    Returns:
        Indices of the groups of each micro-batch, the longest groups first.
    """
    order = sorted(range(len(groups)), key=lambda i: (-groups[i].encoded, -groups[i].longest, i))
    # best[i]: cost of the groups order[i:] and where their first micro-batch ends.
    best: list[tuple[int, int]] = [(0, 0)] * (len(order) + 1)
    for start in reversed(range(len(order))):
        width, longest, rows, encoded_rows, tokens = groups[order[start]].encoded, 0, 0, 0, 0
        found: tuple[int, int] | None = None
        for end in range(start + 1, len(order) + 1):
            group = groups[order[end - 1]]
            rows, encoded_rows = rows + group.rows, encoded_rows + group.encoded_rows
            longest, tokens = max(longest, group.longest), tokens + group.tokens
            unpadded = flat and width >= FLAT_FROM
            if (tokens if unpadded else rows * longest) > token_budget and end > start + 1:
                break
            run = tokens if unpadded else encoded_rows * width
            forward = 1 if fill else OVERHEAD_TOKENS + run
            if found is None or forward + best[end][0] <= found[0]:
                found = (forward + best[end][0], end)
        assert found is not None
        best[start] = found
    parts: list[list[int]] = []
    start = 0
    while start < len(order):
        end = best[start][1]
        parts.append(order[start:end])
        start = end
    return parts
