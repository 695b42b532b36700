"""Scores of tokens in pieces are those of whole logits, and so are their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from accord.batch import collate
from accord.functional.losses import entropy_from_logits, token_logp
from accord.models import products
from accord.models import token_scores as pieces
from accord.models.policy import CausalModel
from accord.models.token_scores import plain_head, token_scores
from train_models import tiny_llama


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_LEAST_ROWS", 3)
    monkeypatch.setattr(pieces, "_PIECE_ELEMENTS", 1)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(10, 6, generator=draw, dtype=dtype).requires_grad_()
    weight = torch.randn(17, 6, generator=draw, dtype=dtype).requires_grad_()
    return hidden, weight, torch.randint(17, (10,), generator=draw)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("entropy", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_are_those_of_whole_logits(
    dtype: torch.dtype, tolerance: float, scale: float, entropy: bool, keep: bool
) -> None:
    hidden, weight, targets = inputs(dtype)
    out = torch.linspace(-1, 2, 10, dtype=dtype)

    def gradients(logp: torch.Tensor, found: torch.Tensor) -> list[torch.Tensor]:
        total = (logp * out).sum() + (found * out.flip(0)).sum() * entropy
        return [logp, found * entropy, *torch.autograd.grad(total, [hidden, weight])]

    got = gradients(*token_scores(hidden, weight, targets, scale=scale, entropy=entropy, keep=keep))
    logits = hidden @ weight.T * scale
    wanted = gradients(token_logp(logits, targets), entropy_from_logits(logits))
    for one, other in zip(got, wanted, strict=True):
        assert (one - other).abs().max() <= tolerance * max(1.0, float(other.detach().abs().max()))


@pytest.mark.parametrize("low", [None, torch.bfloat16])
@pytest.mark.parametrize("keep", [True, False])
def test_without_their_gradient_entropies_are_the_same_and_change_no_other(keep: bool, low: torch.dtype | None) -> None:
    hidden, weight, targets = (t.detach() for t in inputs(torch.float32))
    found: list[list[torch.Tensor]] = []
    for entropy, entropy_gradient in ((True, True), (True, False), (False, True)):
        given = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        logp, entropies = token_scores(
            given[0],
            given[1],
            targets,
            scale=0.7,
            entropy=entropy,
            keep=keep,
            low=low,
            entropy_gradient=entropy_gradient,
        )
        found.append([logp, *torch.autograd.grad((logp * torch.linspace(-1, 2, 10)).sum(), given), entropies])
    assert torch.equal(found[0][-1], found[1][-1])
    for others in found[1:]:
        for one, other in zip(others[:-1], found[0][:-1], strict=True):
            assert (one - other).norm() <= (1e-6 if low is None else 1e-2) * other.norm()


def test_what_is_kept_is_in_the_type_of_the_backward_pass() -> None:
    hidden, weight, targets = inputs(torch.float32)
    for low in (torch.float32, torch.bfloat16):
        seen: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, seen=seen: seen.append(t) or t, lambda t: t):
            token_scores(hidden, weight, targets, scale=1.0, entropy=True, keep=True, low=low, entropy_gradient=False)
        kept = [t for t in seen if t.shape[1:] == (17,)]
        assert [(t.dtype, len(t)) for t in kept] == [(low, 10 if low == torch.float32 else 16)]
        assert kept[0].float().sum(1).abs().max() < 0.02


@pytest.mark.parametrize("keep", [True, False])
def test_a_packed_head_says_the_same(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = inputs(torch.float32)
    found: list[tuple[torch.Tensor, ...]] = []
    for least in (1, 10**9):
        monkeypatch.setattr(products, "_FROM_PIECES", least)
        logp, entropy = token_scores(hidden, weight, targets, scale=0.7, entropy=True, keep=keep)
        found.append((logp, entropy, *torch.autograd.grad(logp.sum() + entropy.sum(), [hidden, weight])))
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, float(other.detach().abs().max()))


@pytest.mark.parametrize("size", [0.0, 30.0, 300.0])
def test_sure_and_large_logits_lose_nothing(size: float) -> None:
    hidden, weight, targets = inputs()
    weight = (weight.detach() * 0.01).index_fill(0, targets[:1], 0).float()
    weight[targets[0]] += size * hidden[0].detach().float() / float(hidden[0].detach().square().sum())
    logits = hidden.detach().double() @ weight.double().T
    found = token_scores(hidden.detach().float(), weight, targets, scale=1.0, entropy=True, keep=False)
    for one, other in zip(found, (token_logp(logits, targets), entropy_from_logits(logits)), strict=True):
        assert (one - other).abs()[0] <= 1e-6 * max(1.0, float(other[0]))


def test_products_of_the_backward_pass_in_16_bits_change_gradients_by_rounding_and_scores_not_at_all() -> None:
    hidden, weight, targets = (t.detach() for t in inputs(torch.float32))
    found: dict[torch.dtype | None, list[torch.Tensor]] = {}
    for low in (None, torch.bfloat16):
        given = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        scores = token_scores(given[0], given[1], targets, scale=0.7, entropy=True, keep=True, low=low)
        found[low] = [*(t.detach() for t in scores), *torch.autograd.grad(scores[0].sum(), given)]
    for number, (one, other) in enumerate(zip(found[torch.bfloat16], found[None], strict=True)):
        assert one.dtype == torch.float32
        apart = float((one - other).norm() / other.norm())
        assert apart == 0 if number < 2 else 0 < apart < 0.01


def test_frozen_sides_get_no_gradient_and_backward_may_run_twice() -> None:
    hidden, weight, targets = inputs()
    logp, _ = token_scores(hidden, weight.detach(), targets, scale=1.0, entropy=False, keep=True)
    once, twice = (torch.autograd.grad(logp.sum(), hidden, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(once, twice)
    logp, _ = token_scores(hidden.detach(), weight, targets, scale=1.0, entropy=False, keep=True)
    assert torch.autograd.grad(logp.sum(), weight)[0].abs().max() > 0.1


def test_no_tokens_are_no_scores() -> None:
    hidden, weight, targets = inputs()
    logp, entropy = token_scores(hidden[:0], weight, targets[:0], scale=1.0, entropy=True, keep=True)
    assert logp.shape == entropy.shape == (0,)


def test_only_plain_heads_are_taken_apart() -> None:
    state = torch.zeros(2, 4)
    assert plain_head(nn.Linear(4, 5, bias=False), state)
    assert not plain_head(nn.Linear(4, 5), state)
    assert not plain_head(nn.Linear(4, 5, bias=False, dtype=torch.bfloat16), state.bfloat16())
    assert not plain_head(nn.Linear(4, 5, bias=False), state.double())
    hooked = nn.Linear(4, 5, bias=False)
    hooked.register_forward_hook(lambda *_: None)
    assert not plain_head(hooked, state)


def test_the_switch_and_other_heads_use_the_head_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("in pieces")

    monkeypatch.setattr("accord.models.policy.token_scores", fail)
    rows = collate([[3, 4, 5, 6]], [[False, False, True, True]], pad_id=0)
    hf = tiny_llama(torch.float32)
    CausalModel(hf, piecewise=False)(rows)
    with pytest.raises(AssertionError, match="in pieces"):
        CausalModel(hf)(rows)
    hf.config.final_logit_softcapping = 3.0
    CausalModel(hf)(rows)
