"""The native engine gives the tokens and log-probabilities of plain forwards, whatever the batch looks like."""

from __future__ import annotations

import pytest
import torch
from engine_models import PAD, POSITIONS, STOPS, VOCAB, engine, prompts, teacher_forced, tiny, words
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from transformers import MambaConfig, MambaForCausalLM

from accord.engines.base import Sampling
from accord.engines.sampling import distribution
from accord.errors import EngineError

FAMILIES = ["llama", "gpt2", "mistral"]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def hf_greedy(model, batch: list[list[int]], new: int) -> list[tuple[int, ...]]:
    longest = max(map(len, batch))
    ids = torch.tensor([[PAD] * (longest - len(p)) + p for p in batch])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch])
    out = model.generate(ids, attention_mask=mask, max_new_tokens=new, do_sample=False)[:, longest:].tolist()
    replies = []
    for row in out:
        end = next((i + 1 for i, token in enumerate(row) if token in STOPS), len(row))
        replies.append(tuple(row[:end]))
    return replies


@pytest.mark.parametrize(("family", "fast"), [(family, fast) for family in FAMILIES for fast in (True, False)])
def test_greedy_equals_generate_on_200_prompts(family: str, fast: bool) -> None:
    model = tiny(family)
    batch = prompts(200)
    ours = engine(model, max_batch=64, fast=fast).generate(batch, Sampling(16, temperature=0))
    expected = [reply for i in range(0, 200, 50) for reply in hf_greedy(model, batch[i : i + 50], 16)]
    assert [c.token_ids for c in ours] == expected
    finishes = {c.finish for c in ours}
    assert finishes == {"stop", "length"}, "the test needs both endings"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(12, n=2),
        Sampling(12, temperature=0.7, n=2),
        Sampling(12, temperature=0.7, top_p=0.9, top_k=5, n=2),
        Sampling(12, temperature=0),
    ],
)
def test_logps_equal_teacher_forcing(family: str, sampling: Sampling) -> None:
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        model = tiny(family, dtype)
        batch = prompts(8)
        for index, completion in enumerate(engine(model, max_batch=5).generate(batch, sampling)):
            logits = teacher_forced(model, batch[index // sampling.n], completion.token_ids)
            logp = distribution(logits, sampling)[range(len(logits)), list(completion.token_ids)]
            assert completion.logps is not None
            torch.testing.assert_close(
                torch.tensor(completion.logps, dtype=torch.float64), logp.double(), atol=tolerance, rtol=0
            )


def test_first_tokens_have_the_model_s_frequencies() -> None:
    model = tiny("llama")
    with torch.no_grad():
        model.lm_head.weight.mul_(0.2)
    prompt, draws = [3, 9, 4], 4000
    out = engine(model, max_batch=512).generate([prompt], Sampling(1, n=draws), seeds=[5])
    probs = teacher_forced(model, prompt, (0,))[0].double().softmax(-1)
    counts = torch.bincount(torch.tensor([c.token_ids[0] for c in out]), minlength=VOCAB)
    assert (probs * draws >= 5).all(), "chi-square needs five expected draws everywhere"
    assert chisquare(counts.numpy(), (probs * draws).numpy()).pvalue > 0.01


def test_text_depends_on_the_seed_alone_not_on_the_batch() -> None:
    model = tiny("llama")
    batch, seeds = prompts(30), list(range(100, 130))
    sampling = Sampling(14, n=3)
    whole = engine(model, max_batch=128).generate(batch, sampling, seeds=seeds)
    ids = [c.token_ids for c in whole]
    assert len(set(ids)) > 60, "samples must differ for the test to mean anything"
    for max_batch in (1, 7, 16):
        again = engine(model, max_batch=max_batch, check=False).generate(batch, sampling, seeds=seeds)
        assert [c.token_ids for c in again] == ids
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = engine(model, max_batch=11).generate(
        [batch[i] for i in order], sampling, seeds=[seeds[i] for i in order]
    )
    assert [c.token_ids for i in order for c in whole[3 * i : 3 * i + 3]] == [c.token_ids for c in shuffled]
    alone = engine(model).generate([batch[17]], Sampling(14, n=2), seeds=[seeds[17]])
    assert [c.token_ids for c in alone] == ids[51:53]


def test_equal_prompts_with_different_seeds_differ_and_without_seeds_the_sampling_seed_decides() -> None:
    run = engine(tiny("llama"))
    a = run.generate([[3, 4]] * 4, Sampling(12, seed=1))
    assert len({c.token_ids for c in a}) > 1
    assert a == run.generate([[3, 4]] * 4, Sampling(12, seed=1))
    assert a != run.generate([[3, 4]] * 4, Sampling(12, seed=2))


@pytest.mark.parametrize("max_batch", [3, 200])
def test_nothing_follows_a_stop_id_and_every_stop_id_stops(max_batch: int) -> None:
    out = engine(tiny("gpt2"), max_batch=max_batch).generate(prompts(60), Sampling(16, temperature=1.5))
    last = set()
    for completion in out:
        assert 1 <= len(completion.token_ids) <= 16
        assert not set(completion.token_ids[:-1]) & set(STOPS)
        stopped = completion.token_ids[-1] in STOPS
        assert completion.finish == ("stop" if stopped else "length")
        assert stopped or len(completion.token_ids) == 16
        assert completion.text == words(list(completion.token_ids[:-1] if stopped else completion.token_ids))
        last |= {completion.token_ids[-1]} & set(STOPS)
    assert last == set(STOPS), "the test needs a completion per stop id"


def test_stop_strings_cut_text_and_keep_the_tokens_that_spell_them() -> None:
    run = engine(tiny("llama"), stop_ids=(), max_batch=16)
    free = run.generate(prompts(40), Sampling(16), seeds=range(40))
    stopped = run.generate(prompts(40), Sampling(16, stop=("w7 w", "w12")), seeds=range(40))
    hits = 0
    for plain, cut_short in zip(free, stopped, strict=True):
        at = [i for i in (plain.text.find("w7 w"), plain.text.find("w12")) if i >= 0]
        if not at:
            assert (cut_short.token_ids, cut_short.text) == (plain.token_ids, plain.text)
            continue
        hits += 1
        assert cut_short.finish == "stop"
        assert cut_short.text == plain.text[: min(at)]
        n = len(cut_short.token_ids)
        assert cut_short.token_ids == plain.token_ids[:n]
        assert any(s in words(list(cut_short.token_ids)) for s in ("w7 w", "w12"))
        assert not any(s in words(list(cut_short.token_ids[:-1])) for s in ("w7 w", "w12"))
    assert hits > 5


def test_a_prompt_is_prefilled_once_for_all_its_samples() -> None:
    model = tiny("llama")
    run = engine(model, max_batch=4)
    seen: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(
        lambda _m, _a, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    run.generate([[3, 4, 5], [6, 7, 8], [3, 4, 5]], Sampling(6, n=5))  # 15 rows through 4 slots
    hook.remove()
    assert sum(rows for rows, width in seen if width > 1) == 2
    assert all(rows <= 4 for rows, width in seen if width == 1)


def test_finished_rows_leave_the_batch() -> None:
    model = tiny("llama")
    run = engine(model)
    rows: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _m, _a, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    out = run.generate(prompts(64), Sampling(24))
    hook.remove()
    live = [sum(len(c.token_ids) > step for c in out) for step in range(1, 24)]
    assert len(rows) == 1 + sum(n > 0 for n in live)
    for batch, alive in zip(rows[1:], live, strict=False):
        assert alive <= batch <= alive / 0.75 + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_generating_up_to_the_last_position_works(family: str) -> None:
    # Finished rows wait beside younger ones that go on; their positions must not run past the model's.
    batch = [[3] * (POSITIONS - 20)] * 40
    out = engine(tiny(family), max_batch=8).generate(batch, Sampling(20), seeds=range(40))
    assert max(len(c.token_ids) for c in out) == 20


def test_without_a_cache_the_text_is_the_same() -> None:
    run = engine(tiny("gpt2"), max_batch=8)
    cached = run.generate(prompts(20), Sampling(8, n=2), seeds=range(20))
    run.cached = False
    plain = run.generate(prompts(20), Sampling(8, n=2), seeds=range(20))
    assert [c.token_ids for c in cached] == [c.token_ids for c in plain]


def test_a_recurrent_model_runs_without_the_cache_and_says_so() -> None:
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, state_size=4, pad_token_id=PAD)
    model = MambaForCausalLM(config).eval()
    with pytest.warns(UserWarning, match="slow"):
        run = engine(model)
    out = run.generate([[3, 4], [5, 6, 7]], Sampling(4, temperature=0))
    expected = teacher_forced(model, [5, 6, 7], out[1].token_ids).argmax(-1)
    assert out[1].token_ids == tuple(expected.tolist())


def test_a_cache_that_changes_the_logits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from accord.engines.cache import CachedDecoder

    original = CachedDecoder.keep
    monkeypatch.setattr(CachedDecoder, "keep", lambda self, source: original(self, source * 0))
    with pytest.warns(UserWarning, match="slow"):
        assert not engine(tiny("llama"), fast=False).cached


# PEFT asks transformers by a name that is deprecated there.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_lora_adapters_take_part() -> None:
    model = tiny("llama")
    base = engine(model).generate(prompts(6), Sampling(8, temperature=0))
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=1.0)
    out = engine(wrapped).generate(prompts(6), Sampling(8, temperature=0))
    assert [c.token_ids for c in out] != [c.token_ids for c in base]
    for prompt, completion in zip(prompts(6), out, strict=True):
        choice = teacher_forced(wrapped, prompt, completion.token_ids).argmax(-1)
        assert completion.token_ids == tuple(choice.tolist())


def test_modes_and_gradients_survive_and_checkpointing_is_off_meanwhile() -> None:
    model = tiny("llama")
    expected = engine(model).generate(prompts(4), Sampling(8), seeds=range(4))
    old_name = not hasattr(model, "activation_checkpointing_enable")  # transformers before 5.23
    (model.gradient_checkpointing_enable if old_name else model.activation_checkpointing_enable)()
    model.train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    assert engine(model).generate(prompts(4), Sampling(8), seeds=range(4)) == expected
    assert [module.training for module in model.modules()] == before
    model(input_ids=torch.tensor([[3, 4]]), use_cache=False).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_new_weights_are_used_at_once_and_a_stranger_s_are_refused() -> None:
    model = tiny("llama")
    run = engine(model)
    before = run.generate(prompts(6), Sampling(8, temperature=0))
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight.flip(0))
    run.update_weights(torch.nn.ModuleDict({"policy": model}), 7)
    assert run.version == 7
    assert run.generate(prompts(6), Sampling(8, temperature=0)) != before
    with pytest.raises(EngineError, match="shares weights"):
        run.update_weights(tiny("llama"), 8)


def test_progress_counts_every_token() -> None:
    steps: list[int] = []
    run = engine(tiny("llama"), max_batch=5, on_progress=steps.append)
    out = run.generate(prompts(12), Sampling(8))
    assert sum(steps) == sum(len(c.token_ids) for c in out)


def test_nan_weights_are_reported() -> None:
    model = tiny("llama")
    run = engine(model)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    for temperature in (0.0, 1.0):
        with pytest.raises(EngineError, match="not finite"):
            run.generate([[3]], Sampling(2, temperature=temperature))
    assert not model.training


def test_too_long_a_request_says_the_numbers() -> None:
    with pytest.raises(EngineError, match=r"60 prompt tokens \+ max_new_tokens 5 = 65, but the model has 64"):
        engine(tiny("gpt2")).generate([[3], [3] * 60], Sampling(5))


def test_ids_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(EngineError, match="stop_ids has 64"):
        engine(tiny("llama"), stop_ids=(1, VOCAB))
    with pytest.raises(EngineError, match="max_batch"):
        engine(tiny("llama"), max_batch=0)
