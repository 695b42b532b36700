"""Packing: losses and gradients are those of one sequence a row, for every attention kernel and cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.batch import Batch, collate
from accord.errors import DataError, ModelError
from accord.models import packing as model_packing
from accord.models.lora import add_lora
from accord.models.packing import check_packing
from accord.models.policy import CausalModel
from accord.models.trunk import restarting_positions
from accord.train.examples import Example, Row
from accord.train.loop import update
from accord.train.objectives import NLL
from accord.train.packing import packed_batch, shelves
from accord.train.sources import Offline, batch_of
from train_models import PAD, VOCAB, make_learner, tiny_llama

LENGTHS = (9, 2, 5, 3, 7, 2, 4)


def examples(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[Example]:
    rand = torch.Generator().manual_seed(seed)
    made = []
    for number, size in enumerate(lengths):
        ids = torch.randint(1, VOCAB, (size,), generator=rand).tolist()
        start = int(torch.randint(1, size, (1,), generator=rand))
        made.append(Example(f"e{number}", (Row(tuple(ids), tuple(place >= start for place in range(size))),)))
    return made


def policy(kernel: str = "sdpa") -> CausalModel:
    hf = tiny_llama(torch.float64, layers=2)
    hf.set_attn_implementation(kernel)
    return CausalModel(hf, logit_chunk=5)


def trained(batch: Batch, budget: int, kernel: str = "sdpa") -> tuple[float, dict[str, torch.Tensor]]:
    model = policy(kernel)
    found = update(make_learner(model, token_budget=budget, max_grad_norm=0.0), batch, NLL())
    return found["loss"], {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize(("width", "budget"), [(12, 1), (12, 30), (40, 1000), (1, 1000)])
def test_packed_loss_and_gradient_are_the_unpacked_ones(kernel: str, width: int, budget: int) -> None:
    loss, wanted = trained(batch_of(examples(), PAD), 1000, kernel)
    packed = packed_batch(examples(), PAD, width)
    assert packed.num_rows == len(shelves(LENGTHS, width))
    got_loss, got = trained(packed, budget, kernel)
    tolerance = 1e-9 if kernel == "sdpa" else 1e-6  # transformers' eager attention takes its softmax in float32
    assert abs(loss - got_loss) < tolerance
    assert wanted.keys() == got.keys() and any(g.abs().max() > 0.01 for g in wanted.values())
    assert max(float((wanted[name] - got[name]).abs().max()) for name in wanted) < tolerance


def test_a_sequence_says_the_same_whatever_shares_its_row() -> None:
    model, own = policy(), examples()[0]
    alone = model(batch_of([own], PAD)).logp_BT[0, : len(own.rows[0].ids)]
    for seed in range(3):
        batch = packed_batch([own, *examples(seed=seed + 5)[1:]], PAD, 32)
        assert batch.num_rows == 1
        assert (model(batch).logp_BT[0, : alone.numel()] - alone).abs().max() < 1e-12


def test_packing_works_under_adapters() -> None:
    model = CausalModel(add_lora(tiny_llama(torch.float64), r=2))
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1)
    flat = [
        model(b).logp_BT[b.response_mask_BT].sort().values
        for b in (batch_of(examples(), PAD), packed_batch(examples(), PAD, 16))
    ]
    assert (flat[0] - flat[1]).abs().max() < 1e-12


def test_the_source_draws_the_same_examples_packed_or_not() -> None:
    sources = [Offline(examples(), batch_size=4, pad_id=PAD, seed=3, packing=width) for width in (None, 14)]
    for _, plain, packed in zip(range(5), *sources, strict=False):
        assert packed.num_rows < plain.num_rows
        assert packed.ids_BT.shape[1] <= 14
        assert packed.num_tokens == plain.num_tokens
        tokens = [sorted(b.ids_BT[b.response_mask_BT].tolist()) for b in (plain, packed)]
        assert tokens[0] == tokens[1]
    assert sources[0].state() == sources[1].state()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(1, 25))
@settings(max_examples=60, deadline=None)
def test_shelves_hold_everything_once(lengths: list[int], width: int) -> None:
    rows = shelves(lengths, width)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    for row in rows:
        assert len(row) == 1 or sum(lengths[i] for i in row) <= width
    for number, row in enumerate(rows):
        later = [lengths[i] for other in rows[number + 1 :] for i in other]
        assert all(sum(lengths[i] for i in row) + size > width for size in later)


def test_positions_start_again_and_padding_is_its_own_block() -> None:
    segment = torch.tensor([[1, 1, 2, 3, 3, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    assert restarting_positions(segment).tolist() == [[0, 1, 0, 0, 1, 2, 0, 1], list(range(8))]


def test_the_check_notices_sequences_that_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    check_packing(policy("eager"))
    monkeypatch.setattr(
        model_packing,
        "packed_row",
        lambda rows: collate(
            [[t for row in rows for t in row]], [[p > 0 for row in rows for p in range(len(row))]], pad_id=0
        ),
    )
    with pytest.raises(ModelError, match="see each other"):
        check_packing(policy())


def test_what_cannot_be_packed_is_refused() -> None:
    row = Row((1, 2), (False, True))
    for bad in (Example("pair", (row, row)), Example("heavy", (row,), weight=2.0)):
        with pytest.raises(DataError, match="can be packed"):
            packed_batch([bad], PAD, 8)
    with pytest.raises(DataError, match="first token"):
        packed_batch([Example("a", (row,)), Example("b", (Row((1, 2), (True, True)),))], PAD, 8)
