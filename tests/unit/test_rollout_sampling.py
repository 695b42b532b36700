"""What rounds can do beyond one draw: dynamic sampling, cut replies, greedy baselines, advantages of groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from accord.batch import Batch, Forward
from accord.errors import RewardError, TrainingError
from accord.train.credit import (
    GAECredit,
    GRPOCredit,
    OPOCredit,
    ReinforceCredit,
    ReinforcePlusPlusCredit,
    ReMaxCredit,
    RLOOCredit,
)
from accord.train.objectives import PolicyGradient
from accord.train.rollouts import OnPolicy
from accord.types import Rollout, Score
from fakes import FakeEngine, random_reply
from train_models import STOP, VOCAB, actor_critic, on_policy

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
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in names)


def first_word_is(token: int) -> Any:
    """1 for replies that begin with the token."""
    return lambda rollouts: [Score(value=float(r.completion.token_ids[0] == token)) for r in rollouts]


def test_dynamic_sampling_replaces_groups_that_say_nothing_and_counts_them() -> None:
    engine = fake()
    of = source(engine=engine, reward=first_word_is(5), resample=3, num_prompts=6, num_minibatches=1)
    plain = source(reward=first_word_is(5), num_prompts=6, num_minibatches=1)
    before, after = plain.prepare(), of.prepare()
    dead, left = (b.score_B.reshape(6, 3).std(dim=1) == 0 for b in (before, after))
    assert dead.sum() > left.sum()
    report, untouched = of.report(), plain.report()
    tried = [len(prompts) for prompts, _ in engine.calls]
    assert tried[0] == 6 and tried[1] == int(dead.sum()) and len(tried) <= 4
    assert report["sampling/resampled_groups"] == sum(tried[1:])
    assert report["frac_reward_zero_std"] == pytest.approx(float(left.float().mean()))
    assert untouched["frac_reward_zero_std"] == pytest.approx(float(dead.float().mean()))
    assert "sampling/resampled_groups" not in untouched
    # Groups that say something are the ones a run without dynamic sampling has.
    kept = {row for row, group in zip(rows_of(before), dead.repeat_interleave(3).tolist(), strict=True) if not group}
    assert kept <= set(rows_of(after))


def test_dynamic_sampling_is_a_function_of_the_round() -> None:
    one, other = (source(reward=first_word_is(5), resample=2) for _ in range(2))
    first = one.prepare()
    one.round = other.round = 3
    later = one.prepare()
    assert equal(later, other.prepare())
    assert not {r for r in rows_of(first)} & {r for r in rows_of(later)}
    with pytest.raises(TrainingError, match="groups of one reply"):
        source(n=1, resample=1)


def test_cut_replies_count_in_no_sum_and_no_denominator() -> None:
    options: dict[str, Any] = {"max_new_tokens": 5, "num_prompts": 7, "num_epochs": 1, "num_minibatches": 1}
    plain, masked = source(**options), source(mask_truncated=True, **options)
    whole, part = plain.prepare(), masked.prepare()
    cut = torch.tensor([r.completion.finish == "length" for r in masked.rollouts])
    assert 0 < cut.sum() < len(cut)
    assert not part.response_mask_BT[cut].any()
    assert torch.equal(part.response_mask_BT[~cut], whole.response_mask_BT[~cut])
    assert torch.equal(part.score_B, whole.score_B), "their scores stay in the baselines"
    assert plain.report() == masked.report(), "and in the statistics"
    for mode in ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "constant"):
        objective = PolicyGradient(loss_aggregation=mode, max_completion_length=5)
        kept = whole.select(torch.arange(len(cut))[~cut])
        with torch.no_grad():
            losses = [objective(MODULE(b), b).loss / objective.denominator(b) for b in (part, kept)]
        assert objective.denominator(part) == objective.denominator(kept)
        assert losses[0] == pytest.approx(float(losses[1]), abs=1e-6)


def test_a_group_of_which_nothing_is_trained_is_in_no_minibatch() -> None:
    of = source(n=1, num_prompts=7, num_epochs=1, num_minibatches=1, mask_truncated=True)
    trained = take(of, 1)[0]
    alive = {r.group for r in of.rollouts if r.completion.finish == "stop"}
    assert 0 < len(alive) < 7
    assert len(set(trained.group_B.tolist())) == len(alive)


def test_the_penalty_on_long_replies_is_added_before_the_baseline() -> None:
    of = source(overlong_cache=4)
    batch = of.prepare()
    for row, rollout in enumerate(of.rollouts):
        length = len(rollout.completion.token_ids)
        wanted = rollout.score.value - max(0.0, (length - 4) / 4)
        assert float(batch.score_B[row]) == pytest.approx(wanted, abs=1e-6)


def test_saturated_scores_are_what_is_optimised_and_raw_ones_what_is_reported() -> None:
    of = source(saturation=0.5)
    batch = of.prepare()
    raw = torch.tensor([r.score.value for r in of.rollouts if r.score])
    assert batch.score_B is not None and torch.allclose(batch.score_B, torch.nn.functional.logsigmoid(raw - 0.5))
    assert of.report()["objective/scores"] == pytest.approx(float(raw.mean()), abs=1e-6)


def test_the_reference_is_asked_while_the_visit_lasts() -> None:
    of = source()
    calls: list[str] = []

    @contextmanager
    def visit() -> Iterator[None]:
        calls.append("in")
        yield
        calls.append("out")

    ref = of.ref

    def watched(batch: Batch) -> Forward:
        calls.append("ref")
        return ref(batch)

    of.visit, of.ref = visit, watched
    of.prepare()
    assert calls[0] == "in" and calls[-1] == "out" and set(calls[1:-1]) == {"ref"}


def test_a_greedy_reply_a_prompt_is_the_baseline() -> None:
    engine = fake()

    def reward(rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(value=float(sum(r.completion.token_ids))) for r in rollouts]

    of = source(engine=engine, reward=reward, credit=ReMaxCredit(), greedy_baseline=True, kl_coef=0.0)
    batch = of.prepare()
    assert [(len(prompts), s.n, s.temperature) for prompts, s in engine.calls] == [(4, 3, 1.0), (4, 1, 0.0)]
    prompts, sampling = engine.calls[1]
    greedy = engine.generate(prompts, sampling, seeds=[0] * 4)
    wanted = [float(sum(c.token_ids)) for c in greedy for _ in range(3)]
    assert batch.baseline_B.tolist() == wanted
    first = batch.response_mask_BT.int().argmax(1)
    found = batch.advantage_BT[torch.arange(12), first]
    assert torch.allclose(found, batch.score_B - batch.baseline_B)


def test_a_prompt_whose_greedy_reply_has_no_score_is_left_out() -> None:
    calls: list[int] = []

    def reward(rollouts: Sequence[Rollout]) -> list[Score]:
        calls.append(len(rollouts))
        broken = len(calls) == 2
        return [Score(value=None, error="no") if broken and i == 1 else Score(value=1.0) for i in range(len(rollouts))]

    of = source(reward=reward, credit=ReMaxCredit(), greedy_baseline=True, max_reward_errors=1 / 16)
    batch = of.prepare()
    assert calls == [12, 4] and batch.num_rows == 9
    assert of.report()["rewards/errors"] == 1
    calls.clear()
    with pytest.raises(RewardError, match="1 of 16 rollouts have no score"):
        source(reward=reward, credit=ReMaxCredit(), greedy_baseline=True, max_reward_errors=1 / 17).prepare()


def test_replies_without_a_score_count_even_where_their_group_is_replaced() -> None:
    tries: list[int] = []

    def reward(rollouts: Sequence[Rollout]) -> list[Score]:
        """The first two groups of the first try fail; the others are all told apart."""
        tries.append(len(rollouts))
        broken = 6 if len(tries) == 1 else 0
        return [
            Score(value=None, error="judge is ill") if i < broken else Score(value=float(i))
            for i in range(len(rollouts))
        ]

    of = source(reward=reward, resample=1, max_reward_errors=6 / 18)
    assert len(of.collect()) == 12 and tries == [12, 6]
    assert of.report()["rewards/errors"] == 6
    tries.clear()
    with pytest.raises(RewardError, match=r"6 of 18 rollouts have no score.*judge is ill"):
        source(reward=reward, resample=1, max_reward_errors=5 / 18).collect()


@pytest.mark.parametrize("credit", [RLOOCredit(), GRPOCredit(), GRPOCredit("batch"), GRPOCredit("none"), OPOCredit()])
def test_group_advantages_ignore_a_shift_of_the_reward_and_the_order_of_rows(credit: Any) -> None:
    batch = source().prepare()
    found = credit(batch, kl_coef=0.1)
    shifted = credit(batch.replace(score_B=batch.score_B + 7.0), kl_coef=0.1)
    assert (found.advantage_BT - shifted.advantage_BT).abs().max() < 1e-4
    order = torch.randperm(batch.num_rows, generator=torch.Generator().manual_seed(0))
    turned = credit(
        batch.replace(
            **{n: getattr(batch, n)[order] for n in batch.__dataclass_fields__ if getattr(batch, n) is not None}
        ),
        kl_coef=0.1,
    )
    assert (turned.advantage_BT - found.advantage_BT[order]).abs().max() < 1e-6
    assert found.advantage_BT.abs().max() > 0.01
    assert not found.advantage_BT[~batch.response_mask_BT].any()


@pytest.mark.parametrize(
    "credit", [ReinforceCredit(), ReinforcePlusPlusCredit(), RLOOCredit(), GRPOCredit(), OPOCredit(), GAECredit()]
)
def test_what_stands_outside_the_mask_does_not_reach_the_advantages(credit: Any) -> None:
    batch = source().prepare()
    spoilt = {
        name: torch.where(batch.response_mask_BT, getattr(batch, name), float("nan"))
        for name in ("old_logp_BT", "ref_logp_BT", "old_value_BT")
    }
    assert torch.equal(
        credit(batch.replace(**spoilt), kl_coef=0.2).advantage_BT, credit(batch, kl_coef=0.2).advantage_BT
    )


def test_credit_says_what_is_missing() -> None:
    batch = source().prepare()
    for credit, name in ((RLOOCredit(), "group_B"), (ReMaxCredit(), "baseline_B"), (ReinforceCredit(), "score_B")):
        with pytest.raises(TrainingError, match=name):
            credit(batch.replace(**{name: None}), kl_coef=0.0)


def test_the_mean_of_the_deviations_of_groups_is_reported() -> None:
    of = source()
    batch = of.prepare()
    report = of.report()
    assert report["reward_std"] == pytest.approx(float(batch.score_B.reshape(4, 3).std(dim=1).mean()), abs=1e-6)
    alone = source(n=1)
    alone.prepare()
    assert "reward_std" not in alone.report()


def test_every_try_of_every_round_has_seeds_of_its_own() -> None:
    def nothing(rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(value=0.0) for _ in rollouts]

    seen: list[tuple[int, ...]] = []
    for resample in (0, 1, 2):
        for number in (0, 3):
            options = {"prompts": 1, "num_prompts": 2, "num_minibatches": 1}
            of = source(reward=nothing, resample=resample, **options)
            of.round = number
            seen += [r.completion.token_ids for r in of.collect()]
    assert len(set(seen)) == len(seen) == 36
