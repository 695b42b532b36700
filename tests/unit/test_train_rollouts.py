"""The on-policy source: prompts, seeds, scores, penalties, minibatches, boundaries and its state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from accord.batch import Batch
from accord.errors import DataError, EngineError, RewardError, TrainingError
from accord.functional.kl import adaptive_kl_step
from accord.models.build import copy_frozen
from accord.train.credit import GAECredit
from accord.train.loop import fit, update
from accord.train.objectives import PPO
from accord.train.rollouts import OnPolicy, rollout_batch
from accord.types import Completion, Rollout, Score
from fakes import FakeEngine, random_reply
from train_models import PAD, STOP, VOCAB, actor_critic, encoded_prompts, make_learner, on_policy, same_weights, weights

MODULE = actor_critic()


def fake(**options: Any) -> FakeEngine:
    return FakeEngine(random_reply(VOCAB), stop_ids=(STOP,), vocab_size=VOCAB, **options)


def source(**options: Any) -> OnPolicy:
    return on_policy(MODULE, **{"engine": fake(), "n": 3, "max_new_tokens": 8} | options)


def take(of: OnPolicy, count: int) -> list[Batch]:
    batches = iter(of)
    return [next(batches) for _ in range(count)]


def rows_of(batch: Batch) -> list[tuple[int, ...]]:
    return [tuple(batch.ids_BT[b, :n].tolist()) for b, n in enumerate(batch.lengths_B.tolist())]


def equal(one: Batch, other: Batch) -> bool:
    names = [n for n in one.__dataclass_fields__ if getattr(one, n) is not None]
    assert names == [n for n in other.__dataclass_fields__ if getattr(other, n) is not None]
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in names)


def test_every_prompt_comes_once_a_pass_in_a_new_order_each_pass() -> None:
    of = source(prompts=7, num_prompts=4)
    drawn: list[str] = []
    for of.round in range(7):
        drawn += [p.prompt.id for p in of.draw_prompts()]
    passes = [drawn[i : i + 7] for i in range(0, 28, 7)]
    assert all(sorted(p) == [f"p{i}" for i in range(7)] for p in passes)
    assert len({tuple(p) for p in passes}) == 4
    other = source(prompts=7, num_prompts=4, seed=4)
    assert [p.prompt.id for p in other.draw_prompts()] != drawn[:4]


def test_more_prompts_a_round_than_there_are_takes_several_passes() -> None:
    of = source(prompts=3, num_prompts=8)
    assert sorted(Counter(p.prompt.id for p in of.draw_prompts()).values()) == [2, 3, 3]


def test_a_round_is_generated_from_the_new_weights_with_n_replies_a_prompt() -> None:
    engine = fake()
    of = source(engine=engine, num_minibatches=1, num_epochs=1)
    take(of, 3)
    assert engine.versions == [0, 1, 2]
    assert [len(prompts) for prompts, _ in engine.calls] == [4, 4, 4]
    assert len(of.rollouts) == 12
    groups = Counter(r.group for r in of.rollouts)
    assert set(groups.values()) == {3} and len(groups) == 4
    for rollout in of.rollouts:
        (number,) = (i for i, p in enumerate(of.prompts) if p.prompt.id == rollout.prompt.id)
        assert rollout.prompt_ids == of.prompts[number].ids
        assert rollout.policy_version == 2
    assert len({r.completion.token_ids for r in of.rollouts}) == 12, "every reply has a seed of its own"


def test_rounds_have_different_seeds_even_for_the_same_prompts() -> None:
    of = source(prompts=4, num_prompts=4)
    first = {r.completion.token_ids for r in of.collect()}
    of.round = 1
    assert not first & {r.completion.token_ids for r in of.collect()}


def test_every_epoch_is_a_fresh_permutation_of_whole_groups() -> None:
    of = source(num_prompts=5, num_epochs=3, num_minibatches=2)
    batches = take(of, 12)
    for start in (0, 6):
        whole = sorted(row for b in batches[start : start + 2] for row in rows_of(b))
        assert len(whole) == 15
        orders = set()
        for epoch in range(3):
            parts = batches[start + 2 * epoch : start + 2 * epoch + 2]
            assert sorted(row for b in parts for row in rows_of(b)) == whole
            assert sorted(b.num_rows for b in parts) == [6, 9]
            groups = [set(b.group_B.tolist()) for b in parts]
            assert not groups[0] & groups[1]
            assert all(Counter(b.group_B.tolist())[g] == 3 for b in parts for g in set(b.group_B.tolist()))
            orders.add(tuple(row for b in parts for row in rows_of(b)))
        assert len(orders) == 3
    assert rows_of(batches[0]) != rows_of(batches[6])


def test_a_boundary_is_after_the_last_minibatch_of_a_round() -> None:
    of = source(num_epochs=2, num_minibatches=2)
    assert of.at_boundary
    batches, seen = iter(of), []
    for _ in range(9):
        next(batches)
        seen.append((of.at_boundary, of.round))
    assert [b for b, _ in seen] == [False, False, False, True] * 2 + [False]
    assert [r for _, r in seen] == [0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_statistics_are_reported_once_a_round() -> None:
    of = source(num_epochs=1, num_minibatches=2)
    batches = iter(of)
    next(batches)
    first = of.report()
    assert first["round"] == 0 and first["completions/mean_length"] > 1
    assert of.report() == {}
    next(batches)
    assert of.report() == {}
    next(batches)
    assert of.report()["round"] == 1


def test_a_run_restored_at_any_boundary_yields_the_same_batches_and_weights() -> None:
    """With the real engine, weights that move and an adaptive KL coefficient."""

    def start() -> tuple[Any, OnPolicy]:
        module = actor_critic()
        of = on_policy(module, kl_target=0.3, kl_horizon=20, num_epochs=1, num_minibatches=2)
        return make_learner(module, of.forward, token_budget=40, learning_rate=0.03), of

    learner, of = start()
    saved, seen = {}, []
    batches = iter(of)
    for step in range(8):
        if of.at_boundary:
            tensors, meta = learner.state()
            saved[step] = ({k: v.clone() for k, v in tensors.items()}, dict(meta), of.state())
        seen.append(next(batches))
        update(learner, seen[-1], PPO())
    assert sorted(saved) == [0, 2, 4, 6]
    assert len({state["kl_coef"] for _, _, state in saved.values()}) == 4
    final = weights(learner.module)
    for step, (tensors, meta, state) in saved.items():
        other, restored = start()
        other.restore(tensors, meta)
        restored.restore(state)
        assert restored.at_boundary
        again = iter(restored)
        for wanted in seen[step:]:
            batch = next(again)
            assert equal(batch, wanted)
            update(other, batch, PPO())
        assert same_weights(weights(other.module), final)


def test_restoring_forgets_the_unfinished_round() -> None:
    of = source()
    state = of.state()
    batches = take(of, 2)
    assert not of.at_boundary
    of.restore(state)
    assert of.at_boundary and of.report() == {} and of.round == 0
    assert equal(take(of, 1)[0], batches[0])


class Scripted:
    """A reward that says what it is told to."""

    def __init__(self, *values: float | None, then: float | None = 1.0) -> None:
        self.values, self.then = values, then

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        values = [*self.values, *[self.then] * len(rollouts)][: len(rollouts)]
        return [Score(value=v, error="judge is ill" if v is None else None) for v in values]


def test_rollouts_without_a_score_are_counted_and_left_out_never_zero() -> None:
    of = source(reward=Scripted(2.0, None, 3.0, None), max_reward_errors=0.2)
    batch = of.prepare()
    assert batch.num_rows == len(of.rollouts) == 10
    assert batch.score_B.tolist() == [2.0, 3.0, *[1.0] * 8]
    report = of.report()
    assert report["rewards/errors"] == 2
    assert report["objective/scores"] == pytest.approx(1.3)


def test_too_many_rollouts_without_a_score_are_an_error() -> None:
    source(reward=Scripted(None), max_reward_errors=1 / 12).prepare()
    with pytest.raises(RewardError, match=r"2 of 12 rollouts have no score.*judge is ill") as caught:
        source(reward=Scripted(None, None), max_reward_errors=1 / 12).prepare()
    assert caught.value.where == "round 0"
    with pytest.raises(RewardError, match="1 of 12"):
        source(reward=Scripted(None), max_reward_errors=0.0).prepare()
    with pytest.raises(RewardError, match="12 of 12"):
        source(reward=Scripted(then=None), max_reward_errors=1.0).prepare()


def test_a_round_that_cannot_fill_its_minibatches_is_an_error() -> None:
    reward = Scripted(*[None] * 9)
    with pytest.raises(RewardError, match="only 1 prompts"):
        take(source(reward=reward, max_reward_errors=1.0), 1)
    with pytest.raises(TrainingError, match="4 prompts a round cannot fill 5"):
        source(num_minibatches=5)
    with pytest.raises(DataError, match="no prompt"):
        source(prompts=0)


def test_a_wrong_number_of_scores_or_completions_is_an_error() -> None:
    with pytest.raises(RewardError, match="1 scores for 12"):
        source(reward=lambda rollouts: [Score(value=1.0)]).prepare()

    class Short(FakeEngine):
        def generate(self, *args: Any, **options: Any) -> list[Completion]:
            return super().generate(*args, **options)[:-1]

    with pytest.raises(EngineError, match="11 completions for 4 x 3"):
        source(engine=Short(random_reply(VOCAB))).prepare()


def stops_by_parity(prompt: Sequence[int], seed: int) -> list[int]:
    return [5, 6, STOP] if seed % 2 else [5] * 20


@pytest.mark.parametrize(
    "mode, penalty, wanted", [("subtract", 1.5, 2.0 - 1.5), ("replace", 1.5, -1.5), ("subtract", None, 2.0)]
)
def test_replies_that_were_cut_pay_the_penalty(mode: str, penalty: float | None, wanted: float) -> None:
    engine = FakeEngine(stops_by_parity, stop_ids=(STOP,))
    of = source(engine=engine, reward=Scripted(then=2.0), missing_eos_mode=mode, missing_eos_penalty=penalty)
    batch = of.prepare()
    finished = [r.completion.finish for r in of.rollouts]
    assert {"stop", "length"} == set(finished)
    assert batch.score_B.tolist() == [2.0 if f == "stop" else wanted for f in finished]
    report = of.report()
    assert report["completions/clipped_ratio"] == pytest.approx(finished.count("length") / 12)
    assert report["objective/scores"] == 2.0, "the raw score is what is reported"
    assert report["objective/rlhf_reward"] == pytest.approx(float(batch.score_B.mean()), abs=1e-4)


def test_scores_are_clipped_before_the_penalty() -> None:
    of = source(reward=Scripted(-9.0, 9.0, 0.25), score_clip=0.5)
    assert of.prepare().score_B.tolist() == [-0.5, 0.5, 0.25, *[0.5] * 9]
    assert of.report()["objective/scores"] == pytest.approx((0.25 + 9) / 12)


def test_the_kl_penalty_is_in_the_token_rewards_and_the_score_at_the_last_token() -> None:
    other = copy_frozen(actor_critic(seed=5).policy)
    of = source(ref=other, kl_coef=0.3, reward=Scripted(then=2.0))
    batch = of.prepare()
    mask_BT = batch.response_mask_BT
    wanted_BT = torch.where(mask_BT, -0.3 * (batch.old_logp_BT - batch.ref_logp_BT), 0.0)
    wanted_BT[torch.arange(12), batch.lengths_B - 1] += 2.0
    assert (batch.token_reward_BT - wanted_BT).abs().max() < 1e-6
    kl_B = ((batch.old_logp_BT - batch.ref_logp_BT) * mask_BT).sum(1)
    report = of.report()
    assert kl_B.abs().max() > 1
    assert report["objective/kl"] == pytest.approx(float(kl_B.mean()), rel=1e-5), "summed over a sequence"
    assert report["objective/rlhf_reward"] == pytest.approx(2.0 - 0.3 * float(kl_B.mean()), rel=1e-5)


def test_the_adaptive_coefficient_follows_the_kl_of_sequences() -> None:
    other = copy_frozen(actor_critic(seed=5).policy)
    of = source(ref=other, kl_coef=0.3, kl_target=0.1, kl_horizon=100)
    of.prepare()
    report = of.report()
    wanted = adaptive_kl_step(0.3, report["objective/kl"], 0.1, 100, 12)
    assert report["objective/kl_coef"] == 0.3, "the coefficient that was used"
    assert of.kl_coef == wanted != 0.3
    # The mean over tokens would be on the other side of the target.
    assert report["objective/kl"] > 0.1 > report["objective/kl"] / report["completions/mean_length"]
    fixed = source(ref=other, kl_coef=0.3)
    fixed.prepare()
    assert fixed.kl_coef == 0.3


def test_measurements_do_not_depend_on_the_token_budget() -> None:
    one, other = (source(token_budget=budget).prepare() for budget in (1, 10**6))
    for name in ("old_logp_BT", "ref_logp_BT", "old_value_BT", "advantage_BT", "return_BT"):
        assert (getattr(one, name) - getattr(other, name)).abs().max() < 1e-5, name


def test_float64_models_are_measured_in_float64() -> None:
    module = actor_critic(torch.float64)
    of = on_policy(module)
    batch = of.prepare()
    assert batch.old_logp_BT.dtype == torch.float64
    with torch.no_grad():
        assert (module(batch).logp_BT - batch.old_logp_BT).abs().max() < 1e-12


def test_a_source_without_values_entropies_or_sampler_log_probs() -> None:
    class Keep:
        def __call__(self, batch: Batch, *, kl_coef: float) -> Batch:
            return batch.replace(advantage_BT=torch.zeros_like(batch.old_logp_BT))

    class Silent(FakeEngine):
        def generate(self, *args: Any, **options: Any) -> list[Completion]:
            done = super().generate(*args, **options)
            return [c.model_copy(update={"logps": None}) for c in done]

    of = source(forward=MODULE.policy, credit=Keep(), engine=Silent(random_reply(VOCAB)))
    batch = of.prepare()
    assert batch.old_value_BT is None and batch.sampler_logp_BT is None
    report = of.report()
    assert not any(name.startswith("sampler/") for name in report)
    mean = float(batch.old_logp_BT[batch.response_mask_BT].mean())
    assert report["objective/rollout_entropy"] == pytest.approx(-mean, rel=1e-5)
    with pytest.raises(TrainingError, match="old_value_BT"):
        source(forward=MODULE.policy, credit=GAECredit()).prepare()


def test_a_rollout_batch_is_prompt_then_reply() -> None:
    prompt = encoded_prompts(1)[0]
    rollouts = [
        Rollout(prompt=prompt.prompt, prompt_ids=prompt.ids, completion=c, group="g")
        for c in (
            Completion(token_ids=(5, STOP), logps=(-1.0, -2.0), finish="stop"),
            Completion(token_ids=(6, 7, 8), logps=(-3.0, -4.0, -5.0), finish="length"),
        )
    ]
    batch = rollout_batch(rollouts, PAD)
    start = len(prompt.ids)
    assert rows_of(batch) == [(*prompt.ids, 5, STOP), (*prompt.ids, 6, 7, 8)]
    assert batch.response_mask_BT.sum(1).tolist() == [2, 3]
    assert batch.sampler_logp_BT[0].tolist() == [0.0] * start + [-1.0, -2.0, 0.0]
    assert batch.sampler_logp_BT[1].tolist() == [0.0] * start + [-3.0, -4.0, -5.0]
    assert batch.group_B.tolist() == [0, 0]


def test_fit_generates_no_round_that_is_not_used() -> None:
    engine = fake()
    of = source(engine=engine, num_epochs=1, num_minibatches=2)
    fit(make_learner(copy_of_module(of), of.forward), of, PPO(), steps=4)
    assert len(engine.calls) == 2


def copy_of_module(of: OnPolicy) -> torch.nn.Module:
    """A module of its own, so that the shared one stays as it is."""
    module = actor_critic()
    of.policy = module
    of.forward = lambda batch: module(batch, entropy=True)
    return module
