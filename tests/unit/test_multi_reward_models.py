"""Reward models with several outputs: members, files, reward functions, averaging, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from accord.batch import collate
from accord.errors import ConfigError, ModelError, RewardError
from accord.models import chat
from accord.models.averaging import average_models, head_alignment
from accord.models.build import new_causal, reward_from_causal, score_stats, set_score_stats
from accord.models.checkpoint import load_reward, save_model
from accord.models.members import MemberIndex, Members, load_members, members_apart, save_members
from accord.models.policy import ScoreModel
from accord.models.score_heads import HeadScores, StepScores, with_adapters, with_heads, with_models
from accord.models.steps import step_ends
from accord.models.tokenizer import train_tokenizer
from accord.rewards.combine import combine_rows, weighted_sum, with_floors
from accord.rewards.ensemble import MembersReward, StepReward
from accord.rewards.learned import LearnedReward
from accord.rewards.load import STEP_AGGREGATE, STEP_SEPARATOR, is_plain, load_reward_fn
from accord.stages.ensemble import stand_in
from accord.train.loop import Learner, update
from accord.train.objectives import EnsembleBradleyTerry
from accord.train.rated import from_rated_pairs, from_ratings, from_steps, with_bootstrap
from accord.train.sources import batch_of
from accord.types import Candidate, Completion, Demonstration, Message, Preference, Prompt, Rollout, Score, Stepwise
from train_models import make_learner, random_batch, same_weights, scorer, weights

ROWS = [[1, 4, 9, 13, 22, 2], [1, 4, 8, 2], [1, 4, 30, 31, 32, 33, 34, 35, 36, 2]]
BATCH = collate(ROWS, [[False] * len(row) for row in ROWS], pad_id=0)
FORMS = ("heads", "adapters", "models")
PROMPT = Prompt(id="p", messages=(Message(role="user", content="count"),))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(["one two three\nfour five six\n"] * 3, 270)


@pytest.fixture(scope="module")
def base(tokenizer: Any) -> ScoreModel:
    causal = new_causal(tokenizer, hidden_size=32, num_layers=1, num_heads=4, num_kv_heads=2, max_positions=64)
    return reward_from_causal(causal, seed=0)


def make(form: str, base: ScoreModel, seed: int = 5) -> Any:
    if form == "heads":
        return with_heads(base, 3, seed)
    if form == "models":
        return with_models(base, 3, seed)
    model = with_adapters(base, 3, seed, r=2, alpha=4.0, targets=None)
    with torch.no_grad():  # a new adapter changes nothing: give it something to say
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name) + ord(name[-8])))
    return model


def scores(model: Any, batch: Any = BATCH) -> torch.Tensor:
    with torch.no_grad():
        return model(batch).scores_BK


def index(form: Any, kind: Any = "ensemble", **changes: Any) -> MemberIndex:
    values = {"names": ("a", "b", "c"), "mean": (0.1, -0.2, 0.3), "std": (0.5, 1.0, 2.0)} | changes
    return MemberIndex(form, kind, **values)


def saved(model: Members, found: MemberIndex, tokenizer: Any, place: Path) -> Path:
    scalar = stand_in(model, found.mean, found.std, best=1)
    save_model(scalar, tokenizer, place, "card")
    save_members(model, found, tokenizer, place)
    return place


def rollout(ids: list[int]) -> Rollout:
    completion = Completion(token_ids=tuple(ids[2:]), finish="stop")
    return Rollout(prompt=PROMPT, prompt_ids=tuple(ids[:2]), completion=completion, group="g")


@pytest.mark.parametrize("form", FORMS)
def test_members_differ_and_the_seed_says_how(form: str, base: ScoreModel) -> None:
    first, again, other = (scores(make(form, base, seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float((first[:, 0] - first[:, 1]).abs().max()) > 1e-3
    assert float((first[:, 1] - first[:, 2]).abs().max()) > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_files_give_back_the_members(form: str, base: ScoreModel, tokenizer: Any, tmp_path: Path) -> None:
    model = make(form, base)
    place = saved(model, index(form), tokenizer, tmp_path)
    loaded, found = load_members(place)
    assert found == index(form)
    torch.testing.assert_close(scores(loaded), scores(model), rtol=0, atol=1e-6)
    for k, member in enumerate(members_apart(loaded)):
        torch.testing.assert_close(member(BATCH).score_B.detach(), scores(model)[:, k], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_transformers_reads_the_scalar_model(form: str, base: ScoreModel, tokenizer: Any, tmp_path: Path) -> None:
    model = make(form, base)
    place = saved(model, index(form), tokenizer, tmp_path)
    raw_BK = scores(model)
    mean_K, std_K = torch.tensor(index(form).mean), torch.tensor(index(form).std)
    theirs = AutoModelForSequenceClassification.from_pretrained(str(place))
    with torch.no_grad():
        found_B = theirs(input_ids=BATCH.ids_BT, attention_mask=BATCH.token_mask_BT.long()).logits.squeeze(-1)
    assert theirs.config.num_labels == 1
    mean, std = score_stats(theirs.config)
    expected_B = ((raw_BK - mean_K) / std_K).mean(1) if form == "heads" else ((raw_BK - mean_K) / std_K)[:, 1]
    torch.testing.assert_close((found_B - mean) / std, expected_B, rtol=0, atol=1e-5)


def test_transformers_reads_all_heads_at_once(base: ScoreModel, tokenizer: Any, tmp_path: Path) -> None:
    place = saved(make("heads", base), index("heads"), tokenizer, tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(str(place / "members" / "heads"))
    with torch.no_grad():
        found = theirs(input_ids=BATCH.ids_BT, attention_mask=BATCH.token_mask_BT.long()).logits
    torch.testing.assert_close(found, scores(make("heads", base)), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's, not ours
def test_peft_reads_an_adapter_over_the_saved_base(base: ScoreModel, tokenizer: Any, tmp_path: Path) -> None:
    model = make("adapters", base)
    place = saved(model, index("adapters"), tokenizer, tmp_path) / "members"
    theirs = AutoModelForSequenceClassification.from_pretrained(str(place / "base"))
    with torch.no_grad():
        plain = theirs(input_ids=BATCH.ids_BT, attention_mask=BATCH.token_mask_BT.long()).logits.squeeze(-1)
        adapted = PeftModel.from_pretrained(theirs, str(place / "b"))
        found = adapted(input_ids=BATCH.ids_BT, attention_mask=BATCH.token_mask_BT.long()).logits.squeeze(-1)
    torch.testing.assert_close(plain, base(BATCH).score_B.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(found, scores(model)[:, 1], rtol=0, atol=1e-5)


def test_training_adapters_leaves_the_base_as_it_is() -> None:
    model = with_adapters(scorer(), 2, 3, r=2, alpha=4.0, targets=None)
    before = weights(model)
    learner = make_learner(model)
    update(learner, random_batch(4), EnsembleBradleyTerry())
    update(learner, random_batch(4, seed=1), EnsembleBradleyTerry())
    after = weights(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(learner.trainable())
    assert all("lora_" in name or name == "head.weight" for name in changed)
    assert {name for name in before if "lora_" in name} <= changed


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_ensemble_ends_with_the_same_bits(form: str) -> None:
    def learner() -> Learner:
        return make_learner(make(form, scorer()))

    batches = [random_batch(3, seed=s) for s in range(4)]
    straight = learner()
    for batch in batches:
        update(straight, batch, EnsembleBradleyTerry())
    half = learner()
    for batch in batches[:2]:
        update(half, batch, EnsembleBradleyTerry())
    tensors, meta = half.state()
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    resumed = learner()
    resumed.restore(tensors, meta)
    for batch in batches[2:]:
        update(resumed, batch, EnsembleBradleyTerry())
    assert same_weights(weights(resumed.module), weights(straight.module))


def test_an_index_that_does_not_fit_is_refused(base: ScoreModel, tokenizer: Any, tmp_path: Path) -> None:
    for wrong in ({"names": ("a", "b")}, {"std": (1.0, 0.0, 1.0)}, {"names": ("a", "b", "../c")}):
        with pytest.raises(ModelError):
            save_members(make("heads", base), index("heads", **wrong), tokenizer, tmp_path)
    place = saved(make("heads", base), index("heads"), tokenizer, tmp_path)
    (place / "members" / "members.json").write_text("[1]")
    with pytest.raises(ModelError, match="list of members"):
        load_members(place)


def test_the_reward_function_of_an_ensemble(base: ScoreModel, tokenizer: Any, tmp_path: Path) -> None:
    model = make("heads", base)
    place = str(saved(model, index("heads"), tokenizer, tmp_path))
    expected_BK = ((scores(model) - torch.tensor(index("heads").mean)) / torch.tensor(index("heads").std)).double()
    rollouts = [rollout(ids) for ids in ROWS]
    found = {
        how: load_reward_fn(place, combine=how, uncertainty_penalty=0.7, token_budget=8)(rollouts)
        for how in ("mean", "worst", "uncertainty")
    }
    variance_B = expected_BK.var(1, correction=0)
    wanted = {
        "mean": expected_BK.mean(1),
        "worst": expected_BK.amin(1),
        "uncertainty": expected_BK.mean(1) - 0.7 * variance_B,
    }
    for how, values_B in wanted.items():
        assert [s.value for s in found[how]] == pytest.approx(values_B.tolist(), abs=1e-5)
    parts = found["worst"][0].parts
    assert [parts[n] for n in "abc"] == pytest.approx(expected_BK[0].tolist(), abs=1e-5)
    assert (parts["mean"], parts["variance"]) == pytest.approx(
        (float(expected_BK[0].mean()), float(variance_B[0])), abs=1e-5
    )
    # The scalar model beside the members is the mean of the ensemble.
    scalar = load_reward(place)
    mean, std = score_stats(scalar.inner.config)
    plain = LearnedReward(scalar, pad_id=0, mean=mean, std=std)(rollouts)
    assert [s.value for s in plain] == pytest.approx([s.value for s in found["mean"]], abs=1e-5)


def test_an_ensemble_of_equal_members_is_one_member(base: ScoreModel) -> None:
    equal = HeadScores(with_heads(base, 3, 1).inner)
    with torch.no_grad():
        equal.head.weight.copy_(equal.head.weight[:1].expand(3, -1).clone())
    same = index("heads", mean=(0.0,) * 3, std=(1.0,) * 3)
    for how in ("mean", "worst", "uncertainty"):
        found = MembersReward(equal, same, pad_id=0, how=how, penalty=5.0)([rollout(r) for r in ROWS])
        assert [s.value for s in found] == pytest.approx(scores(equal)[:, 0].tolist(), abs=1e-6)
        assert max(s.parts["variance"] for s in found) < 1e-20


def test_a_plain_model_has_nothing_to_combine(base: ScoreModel, tokenizer: Any, tmp_path: Path) -> None:
    set_score_stats(base, 0.5, 2.0)
    save_model(base, tokenizer, tmp_path, "card")
    assert is_plain(str(tmp_path))
    found = load_reward_fn(str(tmp_path))([rollout(r) for r in ROWS])
    assert [s.value for s in found] == pytest.approx(((base(BATCH).score_B - 0.5) / 2).tolist(), abs=1e-5)
    with pytest.raises(ConfigError, match="single reward model"):
        load_reward_fn(str(tmp_path), combine="worst")


def test_ratings_are_weighted_and_named(base: ScoreModel, tokenizer: Any, tmp_path: Path) -> None:
    model = make("heads", base)
    found = index("heads", "attributes", weights=(1.0, 0.0, -2.0))
    save_model(model.scalar([1.0, 0.0, 0.0]), tokenizer, tmp_path, "card")
    save_members(model, found, tokenizer, tmp_path)
    ratings_BK = (scores(model) - torch.tensor(found.mean)) / torch.tensor(found.std)
    first = load_reward_fn(str(tmp_path))([rollout(ROWS[0])])[0]
    assert list(first.parts.values()) == pytest.approx(ratings_BK[0].tolist(), abs=1e-5)
    assert first.value == pytest.approx(float(ratings_BK[0, 0] - 2 * ratings_BK[0, 2]), abs=1e-5)
    with pytest.raises(ConfigError, match="attributes"):
        load_reward_fn(str(tmp_path), combine="mean")


def test_averaging_is_the_mean_of_every_weight(base: ScoreModel) -> None:
    models = dict(zip("ab", make("models", base).models, strict=False))
    models["a"].inner.config.accord_reward_length_slope = 3.0
    merged = average_models(models)
    for name, mean in weights(merged).items():
        torch.testing.assert_close(mean, (weights(models["a"])[name] + weights(models["b"])[name]) / 2)
    assert not [key for key in vars(merged.inner.config) if key.startswith("accord_")]
    torch.testing.assert_close(average_models({"a": base, "b": base})(BATCH).score_B, base(BATCH).score_B)
    assert head_alignment({"a": base, "b": base}) == pytest.approx(1)
    assert head_alignment(models) < 0.9


def test_models_that_cannot_be_averaged_are_refused(base: ScoreModel, tokenizer: Any) -> None:
    deeper = new_causal(tokenizer, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, max_positions=64)
    with pytest.raises(ModelError, match="num_hidden_layers"):
        average_models({"a": base, "b": reward_from_causal(deeper, seed=0)})
    with pytest.raises(ModelError, match="at least two"):
        average_models({"a": base})


def test_where_steps_end(tokenizer: Any) -> None:
    def ends(text: str) -> list[str]:
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        found = step_ends(tokenizer, ids, "\n")
        return [tokenizer.decode(ids[: end + 1], skip_special_tokens=True) for end in found]

    assert ends("one\ntwo\nthree") == ["one\n", "one\ntwo\n", "one\ntwo\nthree"]
    assert ends("one\n\n\ntwo\n") == ["one\n", "one\n\n\ntwo\n"]
    assert ends("one") == ["one"]
    assert ends("\n \n") == []


def test_steps_are_labelled_at_their_last_token(tokenizer: Any) -> None:
    good = Stepwise(id="s", prompt=PROMPT, completions=("one two", "three"), labels=(True, False))
    odd = Stepwise(id="t", prompt=PROMPT, completions=("one\ntwo", "three"), labels=(True, False))
    encoded = from_steps([good, odd], tokenizer, separator="\n", max_length=60, overlong="drop")
    assert [e.id for e in encoded.examples] == ["s"] and encoded.dropped[0][0] == "t"
    batch = batch_of(encoded.examples, 0)
    assert batch.target_BT is not None
    positions = batch.response_mask_BT[0].nonzero().flatten().tolist()
    assert batch.target_BT[0, positions].tolist() == [1.0, 0.0]
    assert tokenizer.decode([int(batch.ids_BT[0, positions[0]])]) == "\n"
    assert positions[1] == int(batch.lengths_B[0]) - 1


def test_a_prompt_that_is_cut_leaves_the_first_step_whole(tokenizer: Any) -> None:
    record = Stepwise(id="s", prompt=PROMPT, completions=("one two three four", "five"), labels=(True, False))
    (whole,) = from_steps([record], tokenizer, separator="\n", max_length=60, overlong="error").examples[0].rows
    opening = len(chat.encode_prompt(tokenizer, PROMPT.messages))
    for lost in (1, opening - 1):
        found = from_steps(
            [record], tokenizer, separator="\n", max_length=len(whole.ids) - lost, overlong="truncate_prompt"
        )
        (row,) = found.examples[0].rows
        assert (row.ids, row.mask) == (whole.ids[lost:], whole.mask[lost:])
        assert row.columns["target_BT"] == whole.columns["target_BT"][lost:]
    shorter = len(whole.ids) - opening - 1
    cut = from_steps([record], tokenizer, separator="\n", max_length=shorter, overlong="truncate_prompt")
    assert not cut.examples and "max_length" in cut.dropped[0][1]
    end = whole.mask.index(True)
    first = from_steps([record], tokenizer, separator="\n", max_length=end + 1, overlong="truncate")
    assert first.examples[0].rows[0].mask == whole.mask[: end + 1]
    none = from_steps([record], tokenizer, separator="\n", max_length=end, overlong="truncate")
    assert not none.examples and len(none.dropped) == 1


def test_a_process_reward_is_what_the_model_says_of_each_prefix(
    base: ScoreModel, tokenizer: Any, tmp_path: Path
) -> None:
    config: Any = base.inner.config
    setattr(config, STEP_SEPARATOR, "\n")
    setattr(config, STEP_AGGREGATE, "product")
    try:
        save_model(base, tokenizer, tmp_path, "card")
    finally:
        delattr(config, STEP_SEPARATOR)
        delattr(config, STEP_AGGREGATE)
    assert not is_plain(str(tmp_path))
    reward = load_reward_fn(str(tmp_path), token_budget=20)
    assert isinstance(reward, StepReward)
    reply = [*tokenizer.encode("one\ntwo", add_special_tokens=False), tokenizer.eos_token_id]
    first, second = step_ends(tokenizer, reply, "\n")
    p = [
        float(torch.sigmoid(base(collate([ids], [[False] * len(ids)], pad_id=0)).score_B.detach()))
        for ids in ([1, 4, *reply[: end + 1]] for end in (first, second))
    ]
    blank = [tokenizer.eos_token_id]
    scored, empty = reward([rollout([1, 4, *reply]), rollout([1, 4, *blank])])
    assert scored.value == pytest.approx(p[0] * p[1], abs=1e-5)
    assert scored.parts == pytest.approx({"steps": 2, "min": min(p), "product": p[0] * p[1], "last": p[1]}, abs=1e-5)
    assert empty.value is None and empty.error
    torch.testing.assert_close(
        StepScores(base)(collate([reply], [[False, *[True] * (len(reply) - 1)]], pad_id=0)).score_BT[0, -1],
        base(collate([reply], [[False] * len(reply)], pad_id=0)).score_B[0],
    )


def test_bootstrap_weights_belong_to_the_pair(tokenizer: Any) -> None:
    record = Demonstration(id="d", messages=(*PROMPT.messages, Message(role="assistant", content="one")), meta={"x": 1})
    examples = from_ratings([record] * 1, tokenizer, ["x"], max_length=60, overlong="drop").examples
    drawn = [with_bootstrap(examples, 4, seed)[0].rows[0].columns["weight_BK"] for seed in range(200)]
    assert drawn[0] == with_bootstrap(examples, 4, 0)[0].rows[0].columns["weight_BK"]
    mean = torch.tensor(drawn).mean()
    assert 0.9 < float(mean) < 1.15 and all(any(w) for w in drawn)
    assert "target_BK" in with_bootstrap(examples, 4, 0)[0].rows[0].columns


def test_ratings_that_are_missing_are_unknown(tokenizer: Any) -> None:
    rated = (Candidate(text="one", meta={"a": 3, "b": 1}), Candidate(text="two", meta={"a": 1, "b": None}))
    record = Preference(id="r", prompt=PROMPT, candidates=rated, choice=1)
    bare = Preference(id="s", prompt=PROMPT, candidates=(Candidate(text="x"), Candidate(text="y")), choice=0)
    rows = from_ratings([record, bare], tokenizer, ["a", "b"], max_length=60, overlong="drop")
    assert [str(e.rows[0].columns["target_BK"]) for e in rows.examples] == ["(3.0, 1.0)", "(1.0, nan)"]
    assert [name for name, _ in rows.dropped] == ["s/0", "s/1"]
    pairs = from_rated_pairs([record, bare], tokenizer, ["a", "b"], max_length=60, overlong="drop")
    assert [str(e.rows[0].columns["target_BK"]) for e in pairs.examples] == [
        "(0.0, nan)"
    ]  # the chosen one is rated lower
    assert len(pairs.dropped) == 1


def test_sums_of_rewards_and_floors() -> None:
    parts = {"help": Score(value=2.0, parts={"x": 1.0}), "harm": Score(value=-1.0)}
    total = weighted_sum(parts, {"help": 1.0, "harm": 0.5})
    assert total.value == 1.5 and total.parts == {"help": 2.0, "help/x": 1.0, "harm": -1.0}
    failed = weighted_sum({**parts, "harm": Score(value=None, error="no")}, {"help": 1.0, "harm": 0.5})
    assert failed.value is None and failed.error == "harm: no" and failed.parts["help"] == 2.0
    kept, broken = with_floors(total, {"harm": -1.0}, -9.0), with_floors(total, {"harm": -0.5}, -9.0)
    assert (kept.value, kept.parts["below_floor"]) == (1.5, 0) and (broken.value, broken.parts["below_floor"]) == (
        -9,
        1,
    )
    assert with_floors(Score(value=-20.0, parts={"harm": -3.0}), {"harm": 0.0}, -9.0).value == -20
    with pytest.raises(RewardError, match="no part"):
        with_floors(total, {"nothing": 0.0}, -9.0)
    with pytest.raises(RewardError, match="different names"):
        weighted_sum(parts, {"help": 1.0})
    rows = combine_rows({n: [s, s] for n, s in parts.items()}, {"help": 1.0, "harm": 0.5}, {"harm": -2.0}, -9.0)
    assert [s.value for s in rows] == [1.5, 1.5]
    with pytest.raises(RewardError, match="different numbers"):
        combine_rows({"help": [total], "harm": []}, {"help": 1.0, "harm": 1.0}, {}, 0.0)
