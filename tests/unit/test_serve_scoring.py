"""Log-probabilities of given texts are those of a plain forward pass of transformers."""

from __future__ import annotations

import pytest
import torch
from engine_models import VOCAB, prompts, tiny
from transformers import PreTrainedModel

from accord.serve import scoring
from accord.serve.scoring import score_texts, score_tokens

torch.set_num_threads(1)


@torch.no_grad()
def plain_logps(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """Log-probabilities [T, V] of the next token after each, in float64, from one unpadded forward pass."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_scores_are_those_of_transformers_whatever_they_are_batched_with(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_MAX_TOKENS", 40)
    monkeypatch.setattr(scoring, "_MAX_LOGITS", 5 * VOCAB)
    model, texts = tiny(family), [*prompts(9), [3]]
    found = score_texts(model, texts, 3)
    for ids, scored in zip(texts, found, strict=True):
        wanted = plain_logps(model, ids)
        assert [s.token for s in scored.tokens] == ids and scored.tokens[0].logp is None
        for at, score in enumerate(scored.tokens[1:]):
            assert score.logp == pytest.approx(float(wanted[at, ids[at + 1]]), abs=1e-5)
            best = wanted[at].topk(3)
            assert [token for token, _ in score.top] == best.indices.tolist()
            assert [logp for _, logp in score.top] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert scored.next_V.double().log_softmax(-1).tolist() == pytest.approx(wanted[-1].tolist(), abs=1e-5)


def test_the_score_of_the_best_token_is_the_very_number_of_the_best() -> None:
    """lm-eval takes a token for greedy when its log-probability equals the largest one, to the last bit."""
    logits_NV = torch.randn(50, 1000, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    best = logits_NV.float().argmax(-1).tolist()
    for score in score_tokens(logits_NV, best, 1):
        assert score.logp == max(logp for _, logp in score.top)


def test_no_likely_tokens_may_be_wanted_and_more_than_there_are() -> None:
    logits_NV = torch.tensor([[0.0, 1.0]])
    assert score_tokens(logits_NV, [1], 0)[0].top == ()
    assert [token for token, _ in score_tokens(logits_NV, [1], 20)[0].top] == [1, 0]
