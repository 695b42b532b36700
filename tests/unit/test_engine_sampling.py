"""The sampler draws from exactly the distribution it reports."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from accord.engines.base import Sampling
from accord.engines.sampling import distribution, draw, uniforms
from accord.errors import EngineError

# Exactly representable in binary, so that "mass at least top_p" is decided without rounding.
PROBS = torch.tensor([0.125, 0.5, 0.0625, 0.25, 0.03125, 0.03125], dtype=torch.float64)


def kept(top_p: float = 1.0, top_k: int = 0) -> list[int]:
    logp = distribution(PROBS.log()[None], Sampling(1, top_p=top_p, top_k=top_k))[0]
    return [i for i, value in enumerate(logp.tolist()) if value > -torch.inf]


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (1e-9, [1]),
        (0.49, [1]),
        (0.51, [1, 3]),
        (0.74, [1, 3]),
        (0.76, [0, 1, 3]),
        (0.999, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float, expected: list[int]) -> None:
    assert kept(top_p=top_p) == expected


def test_top_k_keeps_exactly_k_and_more_than_the_vocabulary_keeps_all() -> None:
    assert kept(top_k=3) == [0, 1, 3]
    assert len(kept(top_k=5)) == 5  # two tokens tie for the last place
    assert kept(top_k=100) == list(range(6))


def test_top_p_applies_to_the_distribution_that_top_k_leaves() -> None:
    # Of the best two, token 1 has 2/3; over all tokens it has 1/2 and top_p 0.6 would keep both.
    assert kept(top_k=2, top_p=0.6) == [1]


def test_log_probs_are_tempered_and_renormalised() -> None:
    logp = distribution(PROBS.log()[None], Sampling(1, temperature=0.5, top_k=2))[0]
    # p^(1/T): 0.5^2 = 0.25 against 0.25^2 = 0.0625
    assert logp[1].exp().item() == pytest.approx(0.8, abs=1e-12)
    assert logp[3].exp().item() == pytest.approx(0.2, abs=1e-12)


def test_half_precision_logits_are_normalised_in_float32() -> None:
    logits = torch.linspace(-4, 4, 1000).bfloat16()[None]
    logp = distribution(logits, Sampling(1))
    assert logp.dtype == torch.float32
    torch.testing.assert_close(logp, logits.float().log_softmax(-1))


def test_tiny_temperature_is_greedy_and_finite() -> None:
    token, logp = draw(torch.tensor([[1e4, 9e3, -1e4]]), torch.tensor([0.999]).double(), Sampling(1, temperature=1e-38))
    assert token.tolist() == [0]
    assert logp.tolist() == [0.0]


def test_greedy_reports_the_untempered_distribution() -> None:
    token, logp = draw(PROBS.log()[None], torch.zeros(1).double(), Sampling(1, temperature=0, top_k=1))
    assert token.tolist() == [1]
    assert logp.exp().item() == pytest.approx(0.5)


@pytest.mark.parametrize("sampling", [Sampling(1), Sampling(1, temperature=0.7), Sampling(1, top_p=0.9, top_k=5)])
def test_frequencies_match_the_reported_probabilities(sampling: Sampling) -> None:
    logits = torch.randn(12, generator=torch.Generator().manual_seed(1))
    draws = 20_000
    uniform = torch.from_numpy(np.concatenate([uniforms(7, j, 10) for j in range(draws // 10)]))
    token, logp = draw(logits.expand(draws, -1), uniform, sampling)
    probs = distribution(logits[None], sampling)[0].exp().double()
    torch.testing.assert_close(logp.exp().double(), probs[token])
    counts = torch.bincount(token, minlength=12)
    assert counts[probs == 0].sum() == 0
    support = probs > 0
    expected = probs[support] / probs[support].sum() * draws
    assert chisquare(counts[support].numpy(), expected.numpy()).pvalue > 0.01


def test_uniform_at_the_edges_never_draws_a_token_of_mass_zero() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, -1)
    edge = torch.tensor([0.0, 0.5, float(np.nextafter(1.0, 0.0))], dtype=torch.float64)
    token, _ = draw(logits, edge, Sampling(1))
    assert token.tolist() == [1, 3, 3]


def test_rounding_of_a_block_s_sum_never_leads_beyond_its_last_token_with_mass() -> None:
    logits = torch.randn(400, 32, generator=torch.Generator().manual_seed(4))
    logits[:, 27:] = -torch.inf
    largest = torch.full((400,), float(np.nextafter(1.0, 0.0)), dtype=torch.float64)
    token, logp = draw(logits, largest, Sampling(1))
    assert set(token.tolist()) == {26}
    assert torch.isfinite(logp).all()


@pytest.mark.parametrize("vocab", [31, 32, 33, 64, 800, 1001])
@pytest.mark.parametrize("sampling", [Sampling(1), Sampling(1, top_p=0.5)])
def test_every_vocabulary_gives_the_token_where_the_running_sum_passes_the_uniform(
    vocab: int, sampling: Sampling
) -> None:
    logits = 3 * torch.randn(200, vocab, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    uniform = torch.from_numpy(uniforms(9, 0, 200))
    token, logp = draw(logits, uniform, sampling)
    exact = distribution(logits, sampling).exp()
    assert token.tolist() == [int((row.cumsum(0) > u).nonzero()[0]) for row, u in zip(exact, uniform, strict=True)]
    torch.testing.assert_close(logp.exp(), exact.gather(1, token[:, None])[:, 0], rtol=1e-12, atol=0)


def test_a_large_vocabulary_is_drawn_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(9, 50, generator=torch.Generator().manual_seed(2))
    uniform = torch.from_numpy(uniforms(1, 0, 9))
    whole = draw(logits, uniform, Sampling(1, top_p=0.8))
    monkeypatch.setattr("accord.engines.sampling._MAX_LOGITS", {"cpu": 100})
    pieces = draw(logits, uniform, Sampling(1, top_p=0.8))
    assert torch.equal(whole[0], pieces[0])
    assert torch.equal(whole[1], pieces[1])


def test_uniforms_belong_to_seed_and_sample_and_do_not_depend_on_the_count() -> None:
    assert np.array_equal(uniforms(3, 1, 100)[:10], uniforms(3, 1, 10))
    rows = np.stack([uniforms(seed, sample, 10) for seed in range(5) for sample in range(5)])
    assert len(np.unique(rows)) == rows.size


@pytest.mark.parametrize(
    "values",
    [
        {"max_new_tokens": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"top_k": -1},
        {"temperature": -0.1},
        {"temperature": float("inf")},
        {"n": 0},
        {"stop": ("",)},
        {"stop": "END"},
    ],
)
def test_impossible_sampling_is_refused_by_name(values: dict[str, object]) -> None:
    with pytest.raises(EngineError, match=next(iter(values))):
        Sampling(**({"max_new_tokens": 4} | values))
