"""Whole prompts through the products of a decoding step: tokens behind each other, without padding.

On a processor the packed weights of steps (`accord.engines.weights`) are faster for hundreds of rows too, no matrix is
cast again, and behind the attention of the last layer only the last token of every prompt goes on. Attention meets some
hundred queries of a prompt at a time with the keys that they see, as plain products, as in
`accord.models.attention`.

Legend: P prompts, N tokens of all of them and N heads in a product's result, T tokens of the longest, K key heads,
Q query heads a key head, D head size; m and n, queries and keys of a part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.engines.cache import Prefilled
from accord.engines.step import DecodingStep

_QUERIES = 128
"""Queries of a part at most: scores of a long prompt stay small, and half of a square of these is in vain."""


def reads_together(device: torch.device) -> bool:
    """Whether prompts are read here: on an accelerator the model's own kernels are faster."""
    return device.type == "cpu"


def read_together(step: DecodingStep, prompts: Sequence[Sequence[int]]) -> Prefilled:
    """Run prompts once.

    Args:
        step: runs everything but attention.
        prompts: token ids, none empty.
    """
    device = step.device
    token_N = torch.tensor([token for ids in prompts for token in ids], device=device)
    position_N = torch.cat([torch.arange(len(ids), device=device) for ids in prompts])
    attention = _PromptAttention(step, [len(ids) for ids in prompts])
    last_P = torch.tensor([span.stop - 1 for span in attention.spans], device=device)
    logits_PV = step(token_N, position_N, attention, last_P)
    return Prefilled(tuple(tuple(ids) for ids in prompts), logits_PV, tuple(attention.keys), tuple(attention.values))


class _PromptAttention:
    """Attention of prompts to themselves, layer by layer, keeping their keys and values as `Prefilled` has them."""

    def __init__(self, step: DecodingStep, lengths: Sequence[int]) -> None:
        self._heads, self._slopes_K = step.key_heads, step.slopes_N
        self._longest = max(lengths)
        self.spans: list[slice] = []
        """Of each prompt's tokens among all."""
        for length in lengths:
            start = self.spans[-1].stop if self.spans else 0
            self.spans.append(slice(start, start + length))
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def __call__(self, layer: int, qkv_BND: Tensor, scaling: float, window: int | None) -> Tensor:
        """Store keys and values and return what the queries see; see `accord.engines.step.Attention`."""
        assert layer == len(self.keys), "layers are read in order"
        size, heads = qkv_BND.shape[-1], self._heads
        query, key, value = qkv_BND.split([qkv_BND.shape[1] - 2 * heads, heads, heads], 1)
        mixed = torch.empty_like(query)
        kept = qkv_BND.new_zeros(2, len(self.spans), heads, self._longest, size)
        for index, span in enumerate(self.spans):
            key_KTD, value_KTD = key[span].transpose(0, 1), value[span].transpose(0, 1)
            kept[0, index, :, self._longest - key_KTD.shape[1] :] = key_KTD
            kept[1, index, :, self._longest - key_KTD.shape[1] :] = value_KTD
            self._attend(mixed[span], query[span] * scaling, key_KTD, value_KTD, window)
        self.keys.append(kept[0])
        self.values.append(kept[1])
        return mixed.flatten(1)

    def _attend(self, out: Tensor, query: Tensor, key_KTD: Tensor, value_KTD: Tensor, window: int | None) -> None:
        heads, length, size = key_KTD.shape
        parts = -(-length // _QUERIES)
        for part in range(parts):
            first, end = length * part // parts, length * (part + 1) // parts
            low = 0 if window is None else max(0, first - window + 1)
            asked = query[first:end].view(end - first, heads, -1, size).permute(1, 2, 0, 3)
            score = torch.bmm(asked.flatten(1, 2), key_KTD[:, low:end].mT).view(*asked.shape[:3], end - low)
            score += self._added(first, low, end, window, score)
            exact = torch.float32 if score.itemsize < 4 else None
            weight = score.softmax(-1, dtype=exact).to(score.dtype)
            mixed = torch.bmm(weight.flatten(1, 2), value_KTD[:, low:end])
            out[first:end] = mixed.view(asked.shape).permute(2, 0, 1, 3).flatten(1, 2)

    def _added(self, first: int, low: int, end: int, window: int | None, score: Tensor) -> Tensor:
        """What is added to scores [K, Q, m, n]: what hides keys that a query does not see, and biases on positions."""
        key_n = torch.arange(low, end, device=score.device)
        back_mn = torch.arange(first, end, device=score.device)[:, None] - key_n
        hide_mn = (back_mn < 0) | (back_mn >= (end if window is None else window))
        added = torch.zeros(hide_mn.shape, dtype=score.dtype, device=score.device).masked_fill_(hide_mn, -torch.inf)
        if self._slopes_K is None:
            return added
        return added + (self._slopes_K[:, None] * key_n).to(score.dtype)[:, None, None]
