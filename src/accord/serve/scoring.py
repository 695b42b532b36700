"""Log-probabilities of tokens that are given, by one forward pass over the text: what `echo` with `logprobs` needs.

Legend: B texts, T positions, D hidden size, V vocabulary, N positions of a chunk, K most likely tokens.
"""

# ruff: noqa: N815 - fields carry shape suffixes
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from accord.batch import Batch
from accord.models.policy import head_logits
from accord.models.trunk import hidden_states

_MAX_TOKENS = 8192
"""Tokens, padding included, of one forward pass."""
_MAX_LOGITS = 2**24
"""Logits at once (64 MiB of float32)."""


@dataclass(frozen=True)
class TokenScore:
    """One token and what the model thought of it, at temperature 1 and without truncation."""

    token: int
    logp: float | None
    """Log-probability in nats; None for the first token of a text, which nothing predicts."""
    top: tuple[tuple[int, float], ...] = ()
    """Most likely tokens, best first, with their log-probabilities."""


@dataclass(frozen=True)
class ScoredText:
    """The tokens of a text, and what comes next."""

    tokens: tuple[TokenScore, ...]
    next_V: Tensor
    """Logits after the last token, float32 at least."""


def score_tokens(logits_NV: Tensor, tokens: Sequence[int], top: int) -> list[TokenScore]:
    """Score one token a row.

    Args:
        logits_NV: raw logits, any floating dtype; computed in float32 at least.
        tokens: the token of each row.
        top: most likely tokens wanted.
    """
    z_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    logp_NV = z_NV.log_softmax(-1)
    token_N1 = torch.tensor(tokens, device=z_NV.device)[:, None]
    # Out of one tensor: clients find out whether a token is the most likely one by comparing the two for equality.
    logps: list[float] = logp_NV.gather(1, token_N1)[:, 0].tolist()
    best_NK, index_NK = logp_NV.topk(min(top, logp_NV.shape[1]), dim=-1)
    tops = zip(index_NK.tolist(), best_NK.tolist(), strict=True)
    return [
        TokenScore(token, logp, tuple(zip(ids, values, strict=True)))
        for token, logp, (ids, values) in zip(tokens, logps, tops, strict=True)
    ]


@torch.no_grad()
def score_texts(hf: PreTrainedModel, texts: Sequence[Sequence[int]], top: int) -> list[ScoredText]:
    """Score every token of every text.

    Args:
        hf: causal language model in eval mode.
        texts: token ids, none empty.
        top: most likely tokens wanted at each position.

    Returns:
        One a text, in their order; the first token of each has no log-probability.
    """
    found: dict[int, ScoredText] = {}
    device = next(hf.parameters()).device
    for group in _groups(texts):
        lengths = [len(texts[i]) for i in group]
        padded = [[*texts[i], *[0] * (max(lengths) - len(texts[i]))] for i in group]
        ids_BT = torch.tensor(padded, device=device)
        batch = Batch(ids_BT, torch.tensor(lengths, device=device), torch.zeros_like(ids_BT, dtype=torch.bool))
        states_BTD = hidden_states(hf.base_model, batch)
        for row, i in enumerate(group):
            found[i] = _score_row(hf, states_BTD[row, : lengths[row]], texts[i], top)
    return [found[i] for i in range(len(texts))]


def _score_row(hf: PreTrainedModel, states_TD: Tensor, ids: Sequence[int], top: int) -> ScoredText:
    tokens = [TokenScore(ids[0], None)]
    rows = max(1, _MAX_LOGITS // int(hf.config.get_text_config().vocab_size))
    for start in range(0, len(ids) - 1, rows):
        part = ids[start + 1 : start + 1 + rows]
        tokens += score_tokens(head_logits(hf, states_TD[start : start + len(part)]), part, top)
    return ScoredText(tuple(tokens), head_logits(hf, states_TD[-1]))


def _groups(texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of texts that go through the model together, of like length."""
    group: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
        if group and (len(group) + 1) * len(texts[group[0]]) > _MAX_TOKENS:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
