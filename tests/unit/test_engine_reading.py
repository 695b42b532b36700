"""Prompts that are read by the steps' products give the logits, keys and values of the model's own forward."""

from __future__ import annotations

import pytest
import torch
from engine_models import PAD, VOCAB, engine, prompts
from step_models import CASES, build
from transformers import PreTrainedModel

from accord.engines import grouped, reading
from accord.engines.anatomy import Anatomy
from accord.engines.base import Sampling
from accord.engines.cache import Prefilled
from accord.engines.grouped import GroupedDecoder
from accord.engines.step import DecodingStep, read

LONGEST = 40


def batch() -> list[list[int]]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(2, VOCAB, (n,), generator=draw).tolist() for n in (LONGEST, 1, 9, 23, 2)]


@torch.no_grad()
def prefilled(model: PreTrainedModel) -> Prefilled:
    anatomy = read(model)
    assert isinstance(anatomy, Anatomy), anatomy
    step = DecodingStep(anatomy, 8, LONGEST + 8)
    decoder = GroupedDecoder(step, prompts=5, longest=LONGEST, slots=8, own_columns=8, pad_id=PAD)
    return decoder.prefill(batch())


@pytest.mark.parametrize("queries", [128, 7])
@pytest.mark.parametrize("case", CASES)
def test_logits_keys_and_values_are_those_of_the_model_s_forward(
    case: str, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_QUERIES", queries)
    model = build(case, torch.float32)
    ours = prefilled(model)
    monkeypatch.setattr(grouped, "reads_together", lambda _: False)
    own = prefilled(model)
    assert ours.prompts == own.prompts
    torch.testing.assert_close(ours.logits_PV, own.logits_PV, rtol=1e-5, atol=1e-5 * float(own.logits_PV.abs().max()))
    for both in (zip(ours.keys, own.keys, strict=True), zip(ours.values, own.values, strict=True)):
        for mine, theirs in both:
            heads = slice(None, None, theirs.shape[1] // mine.shape[1])
            for row, ids in enumerate(ours.prompts):
                shown = theirs[row, heads, LONGEST - len(ids) :]
                torch.testing.assert_close(mine[row, :, LONGEST - len(ids) :], shown, rtol=1e-4, atol=2e-5)


def test_what_stands_left_of_a_shorter_prompt_is_finite() -> None:
    ours = prefilled(build("llama", torch.float32))
    assert all(not keys[1, :, : LONGEST - 1].any() for keys in (*ours.keys, *ours.values))


def test_prompts_are_read_together_on_a_processor_and_by_the_model_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading.reads_together(torch.device("cpu"))
    assert not reading.reads_together(torch.device("cuda"))
    model = build("llama", torch.float32)
    calls: list[int] = []
    monkeypatch.setattr(DecodingStep, "read_prompts", lambda *_: calls.append(1))
    engine(model, check=False).generate(prompts(3), Sampling(2))
    assert not calls


@pytest.mark.parametrize("case", ["grouped heads", "mistral with a window", "bloom", "falcon, new", "granite"])
def test_replies_are_the_same_whoever_has_read_the_prompts(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(case, torch.float32)
    ours = engine(model).generate(prompts(6), Sampling(8, n=2), seeds=range(6))
    monkeypatch.setattr(grouped, "reads_together", lambda _: False)
    own = engine(model)
    assert own.fast
    plain = own.generate(prompts(6), Sampling(8, n=2), seeds=range(6))
    assert [c.token_ids for c in ours] == [c.token_ids for c in plain]
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(torch.tensor(mine.logps), torch.tensor(theirs.logps), atol=1e-5, rtol=0)
