"""Offline batches: every example once an epoch, the same after a restore; reference log-probs on disk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.batch import Batch, Forward
from accord.errors import ArtifactError, DataError
from accord.train.examples import Example, Row
from accord.train.sources import Offline, batch_of, with_reference
from train_models import PAD, causal, random_batch

CPU = torch.device("cpu")


def singles(num: int) -> list[Example]:
    """Examples that can be told apart by their second token."""
    return [Example(f"e{i}", (Row((1, 100 + i, 2), (False, True, True)),)) for i in range(num)]


def names(batch: Batch) -> list[int]:
    return (batch.ids_BT[:, 1] - 100).tolist()


def draw(source: Offline, count: int) -> list[list[int]]:
    batches = iter(source)
    return [names(next(batches)) for _ in range(count)]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 99))
def test_every_example_comes_once_an_epoch_also_when_batches_span_epochs(num: int, size: int, seed: int) -> None:
    source = Offline(singles(num), batch_size=size, pad_id=0, seed=seed)
    batches = draw(source, 3 * num)
    assert all(len(batch) == size for batch in batches)
    flat = [name for batch in batches for name in batch]
    for start in range(0, len(flat) - num + 1, num):
        assert sorted(flat[start : start + num]) == list(range(num))


def test_epochs_have_different_orders_and_the_same_seed_the_same() -> None:
    def epochs(seed: int) -> list[list[int]]:
        return draw(Offline(singles(20), batch_size=20, pad_id=0, seed=seed), 3)

    assert epochs(1) == epochs(1)
    assert len({tuple(order) for seed in (1, 2) for order in epochs(seed)}) == 6


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 12))
def test_a_restored_source_continues_after_the_batch_of_the_state(num: int, size: int, stop: int) -> None:
    source = Offline(singles(num), batch_size=size, pad_id=0, seed=4)
    batches = iter(source)
    for _ in range(stop):
        next(batches)
    state = source.state()
    wanted = [names(next(batches)) for _ in range(8)]
    fresh = Offline(singles(num), batch_size=size, pad_id=0, seed=4)
    fresh.restore(state)
    assert draw(fresh, 8) == wanted
    source.restore(state)
    assert [names(next(batches)) for _ in range(8)] == wanted, "an iterator in use follows, too"


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 6), st.integers(0, 9))
def test_the_examples_said_to_be_drawn_are_those_that_are(num: int, size: int, steps: int, seed: int) -> None:
    batches = draw(Offline(singles(num), batch_size=size, pad_id=0, seed=seed), steps)
    assert Offline.drawn(num, size * steps, seed) == sorted({name for batch in batches for name in batch})


def test_it_reports_epochs_and_is_always_at_a_boundary() -> None:
    source = Offline(singles(8), batch_size=2, pad_id=0, seed=0)
    assert source.report() == {"epoch": 0.0}
    draw(source, 3)
    assert source.report() == {"epoch": 0.75}
    assert source.at_boundary


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        Offline([], batch_size=2, pad_id=0, seed=0)


def pairs(num: int = 9, seed: int = 3) -> list[Example]:
    batch = random_batch(num, seed=seed)
    rows = [
        Row(tuple(batch.ids_BT[b, :n].tolist()), tuple(batch.response_mask_BT[b, :n].tolist()))
        for b, n in enumerate(batch.lengths_B.tolist())
    ]
    return [Example(f"e{i}", (rows[2 * i], rows[2 * i + 1])) for i in range(num)]


def test_rows_of_an_example_stay_together_with_its_numbers() -> None:
    first, second, third = pairs(3)
    made = [
        Example("a", first.rows, target=0.7, weight=0.5),
        Example("b", second.rows, margin=1.5),
        third,
    ]
    batch = batch_of(made, PAD)
    assert batch.group_B.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.weight_B.tolist() == [0.5, 0.5, 1, 1, 1, 1]
    assert batch.target_B.tolist() == pytest.approx([0.7, 0.7, 1, 1, 1, 1])
    assert batch.margin_B.tolist() == [0, 0, 1.5, 1.5, 0, 0]
    assert batch.ref_logp_BT is None
    for b, row in enumerate(row for e in made for row in e.rows):
        assert batch.ids_BT[b, : len(row.ids)].tolist() == list(row.ids)
        assert batch.response_mask_BT[b, : len(row.ids)].tolist() == list(row.mask)
    plain = batch_of(pairs(2), PAD)
    assert plain.target_B is None and plain.margin_B is None


MODEL = causal()


def reference(batch: Batch) -> Forward:
    assert not torch.is_grad_enabled()
    return MODEL(batch)


def ref_of(examples: list[Example], **options: object) -> tuple[Example, ...]:
    return with_reference(examples, reference, pad_id=PAD, token_budget=40, device=CPU, **options)


def test_every_row_gets_its_own_log_probs() -> None:
    examples = pairs(140)  # more rows than are collated at once
    done = ref_of(examples)
    assert [e.id for e in done] == [e.id for e in examples]
    for before, after in zip(examples, done, strict=True):
        for old, new in zip(before.rows, after.rows, strict=True):
            assert (old.ids, old.mask) == (new.ids, new.mask)
            with torch.no_grad():
                alone = MODEL(batch_of([Example("one", (old,))], PAD)).logp_BT[0]
            assert new.ref_logp is not None and new.ref_logp.shape == alone.shape
            assert (new.ref_logp - alone).abs().max() < 1e-5
    batch = batch_of(done[:4], PAD)
    with torch.no_grad():
        assert (MODEL(batch).logp_BT - batch.ref_logp_BT).abs().max() < 1e-5


def bits(examples: tuple[Example, ...]) -> list[torch.Tensor]:
    return [row.ref_logp for e in examples for row in e.rows if row.ref_logp is not None]


def same(one: tuple[Example, ...], other: tuple[Example, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(bits(one), bits(other), strict=True))


def never(batch: Batch) -> Forward:
    raise AssertionError("the reference was asked although its answer is on disk")


def test_the_file_gives_the_same_bits_as_computing_again(tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "ref.safetensors"
    examples, seen = pairs(), []
    computed = ref_of(examples, cache=cache, on_progress=seen.append)
    assert sum(seen) == 18
    seen.clear()
    read = with_reference(examples, never, pad_id=PAD, token_budget=1, device=CPU, cache=cache, on_progress=seen.append)
    assert sum(seen) == 18, "the progress bar ends where it should"
    assert same(read, computed)
    assert same(ref_of(examples), computed)
    assert [p.name for p in cache.parent.iterdir()] == ["ref.safetensors"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "other examples of the same lengths", "another order"])
def test_a_file_that_does_not_fit_is_not_used(damage: str, tmp_path: Path) -> None:
    cache, examples = tmp_path / "ref.safetensors", pairs()
    wanted = ref_of(examples)
    if damage in ("truncated", "empty"):
        ref_of(examples, cache=cache)
        data = cache.read_bytes()
        cache.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    elif damage == "another order":
        swapped = [Example(e.id, e.rows[::-1]) for e in examples]
        ref_of(swapped, cache=cache)
    else:
        others = [Example(e.id, tuple(Row((*r.ids[:-1], 3), r.mask) for r in e.rows)) for e in examples]
        assert Counter(len(r.ids) for e in others for r in e.rows) == Counter(
            len(r.ids) for e in examples for r in e.rows
        )
        ref_of(others, cache=cache)
    assert same(ref_of(examples, cache=cache), wanted)
    assert same(with_reference(examples, never, pad_id=PAD, token_budget=9, device=CPU, cache=cache), wanted)


def test_a_directory_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="reference log-probs"):
        ref_of(pairs(1), cache=tmp_path / "file" / "ref.safetensors")
    (tmp_path / "ref.tmp").mkdir()
    with pytest.raises(ArtifactError, match="reference log-probs"):
        ref_of(pairs(1), cache=tmp_path / "ref.safetensors")


def test_no_examples_need_no_reference(tmp_path: Path) -> None:
    assert with_reference([], never, pad_id=PAD, token_budget=9, device=CPU, cache=tmp_path / "x") == ()
