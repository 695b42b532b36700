"""Replies written one round ahead: by the weights before the last updates, with their log-probs, in a thread or not."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from accord.batch import Batch
from accord.errors import EngineError, TrainingError
from accord.models.policy import ActorCritic
from accord.train.ahead import Ahead, Written
from accord.train.loop import fit, update
from accord.train.objectives import PPO, PolicyGradient, SamplerCorrection
from accord.train.rollouts import OnPolicy
from accord.types import Completion
from fakes import FakeEngine, random_reply
from train_models import STOP, VOCAB, Elsewhere, actor_critic, make_learner, on_policy, weights

SECONDS = 20.0


def source(module: ActorCritic, *, elsewhere: bool = False, logps: bool = True, **options: Any) -> OnPolicy:
    if elsewhere:
        options["engine"] = Elsewhere(module, logps=logps)
    critic = module.critic
    assert critic is not None
    settings = {"async_steps": 1, "n": 3, "num_prompts": 6, "token_budget": 200, "num_epochs": 1} | options
    return on_policy(module, critic_forward=critic, policy_forward=module.policy, **settings)


class Trained:
    """Rounds that were trained on, and the weights that each began with."""

    def __init__(self, rounds: int, objective: Any = None, **options: Any) -> None:
        self.module = actor_critic()
        self.source = source(self.module, **options)
        learner = make_learner(self.module, self.source.forward, learning_rate=0.02)
        self.rounds: list[list[Batch]] = []
        self.versions: list[set[int]] = []
        self.reports: list[dict[str, float]] = []
        self.started: list[nn.Module] = []
        batches = iter(self.source)
        for _ in range(rounds):
            self.started.append(copy.deepcopy(self.module))
            self.rounds.append([])
            for _ in range(2):
                batch = next(batches)
                self.rounds[-1].append(batch)
                update(learner, batch, objective or PPO())
            self.versions.append({r.policy_version for r in self.source.rollouts})
            self.reports.append(self.source.report())


def logps(module: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return module(batch).logp_BT


def off(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


CASES = [
    {"old_logps": "auto"},
    {"old_logps": "recompute"},
    {"old_logps": "auto", "old_logps_check_rounds": 1},
    {"old_logps": "auto", "elsewhere": True},
    {"old_logps": "recompute", "elsewhere": True},
    {"old_logps": "auto", "elsewhere": True, "logps": False},
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_replies_are_one_update_old_and_the_ratio_is_to_the_weights_that_wrote_them(options: dict[str, Any]) -> None:
    ran = Trained(4, **options)
    assert ran.versions == [{0}, {0}, {1}, {2}]
    assert [r["sampler/staleness"] for r in ran.reports] == [0, 1, 1, 1]
    for number in range(4):
        wrote, now = ran.started[max(0, number - 1)], ran.started[number]
        for batch in ran.rounds[number]:
            assert off(batch.old_logp_BT, logps(wrote, batch)) < 1e-5
            if number:
                assert off(batch.old_logp_BT, logps(now, batch)) > 1e-3, "not to those that learn"
            with torch.no_grad():
                value_BT = now(batch).value_BT
            assert off(batch.old_value_BT, value_BT) < 1e-5, "the critic is that of today"


def test_the_sampler_itself_runs_on_the_old_weights() -> None:
    """What it reports, before anything is recomputed, is what those weights say of the tokens."""
    ran = Trained(3, old_logps="auto", corrected=True, elsewhere=True, objective=CORRECTED)
    for number in (1, 2):
        for batch in ran.rounds[number]:
            assert off(batch.sampler_logp_BT, logps(ran.started[number - 1], batch)) < 1e-5
            assert off(batch.old_logp_BT, logps(ran.started[number], batch)) < 1e-5
            assert off(batch.old_logp_BT, batch.sampler_logp_BT) > 1e-3
    assert ran.reports[2]["sampler/mean_abs_dlogp"] > 1e-3 > 1e-5 > ran.reports[0]["sampler/mean_abs_dlogp"]


CORRECTED = PPO(correction=SamplerCorrection("token_truncate", 2.0))


def test_with_a_correction_the_weight_is_that_of_today_over_the_one_that_wrote() -> None:
    ran = Trained(2, corrected=True, objective=CORRECTED)
    batch = ran.rounds[1][0]
    weight_BT, _ = SamplerCorrection("token_truncate", 2.0)(batch)
    wanted_BT = (logps(ran.started[1], batch) - logps(ran.started[0], batch)).exp().clamp(max=2.0)
    mask_BT = batch.response_mask_BT
    assert off(weight_BT[mask_BT], wanted_BT[mask_BT]) < 1e-4 and float((weight_BT[mask_BT] - 1).abs().max()) > 1e-3


def test_an_engine_of_its_own_writes_the_same_as_one_that_shares_the_weights() -> None:
    one, other = Trained(4, old_logps="auto"), Trained(4, old_logps="auto", elsewhere=True)
    for mine, yours in zip(one.rounds, other.rounds, strict=True):
        for a, b in zip(mine, yours, strict=True):
            assert torch.equal(a.ids_BT, b.ids_BT) and off(a.old_logp_BT, b.old_logp_BT) < 1e-5
    left, right = weights(one.module), weights(other.module)
    assert all(off(left[name], right[name]) < 1e-4 for name in left)


def test_the_first_round_and_the_prompts_are_those_of_training_without() -> None:
    ahead, plain = Trained(3), Trained(3, async_steps=0)
    assert plain.source.ahead is None and plain.versions == [{0}, {1}, {2}]
    for a, b in zip(ahead.rounds[0], plain.rounds[0], strict=True):
        assert torch.equal(a.ids_BT, b.ids_BT) and torch.equal(a.advantage_BT, b.advantage_BT)
    asked = [[p.prompt.id for p in of.draw_prompts(n)] for of in (ahead.source, plain.source) for n in range(3)]
    assert asked[:3] == asked[3:]
    # Round 1 is what the start would have written for it, with the seeds of round 1.
    start = source(actor_critic(), async_steps=0)
    start.round = 1
    wanted = [r.completion.token_ids for r in start.collect()]
    rows = {tuple(b.ids_BT[i, : int(n)].tolist()) for b in ahead.rounds[1] for i, n in enumerate(b.lengths_B)}
    assert all(any(row[-len(ids) :] == ids for row in rows) for ids in wanted)


def test_an_engine_with_its_own_weights_writes_while_the_learner_trains() -> None:
    module = actor_critic()
    go, writing = threading.Event(), threading.Event()

    class Slow(Elsewhere):
        def generate(self, *args: Any, **options: Any) -> list[Completion]:
            if self.written:
                writing.set()
                assert go.wait(SECONDS)
            return super().generate(*args, **options)

    engine = Slow(module)
    of = source(module, engine=engine, old_logps="auto")
    batches: Iterator[Batch] = iter(of)
    learner = make_learner(module, of.forward)
    for _ in range(2):
        update(learner, next(batches), PPO())
    assert writing.wait(SECONDS) and len(engine.written) == 1, "a whole round is trained and the engine is not done"
    go.set()
    next(batches)
    assert [version for version, _ in engine.written][:2] == [0, 0]
    assert engine.written[0][1] == "MainThread" and engine.written[1][1].startswith("ahead")


def test_others_that_use_the_engine_wait_for_what_is_written_ahead() -> None:
    module = actor_critic()
    go = threading.Event()
    done: list[str] = []

    class Slow(Elsewhere):
        def generate(self, *args: Any, **options: Any) -> list[Completion]:
            assert not self.written or go.wait(SECONDS)
            found = super().generate(*args, **options)
            done.append("written")
            return found

        def update_weights(self, policy: object, version: int) -> None:
            done.append(f"weights {version}")
            super().update_weights(policy, version)

    of = source(module, engine=Slow(module), old_logps="auto")
    next(iter(of))
    assert done == ["weights 0", "written", "weights 0"]
    threading.Timer(0.2, go.set).start()
    of.engine.update_weights(module, -1)
    assert done == ["weights 0", "written", "weights 0", "written", "weights -1"]
    assert of.engine.caps.weights == "path"
    held = of.ahead.wait() if of.ahead else None
    assert held is not None and (held.number, held.version) == (1, 0)
    of.engine.close()


def test_no_round_is_written_that_is_not_used() -> None:
    engine = FakeEngine(random_reply(VOCAB), stop_ids=(STOP,), vocab_size=VOCAB)
    module = actor_critic()
    of = source(module, engine=engine, num_rounds=3, corrected=True)
    fit(make_learner(module, of.forward), of, CORRECTED, steps=6)
    assert engine.versions == [0, 0, 1] and len(engine.calls) == 3
    assert of.state()["ahead"] is None


def test_a_failure_of_the_engine_is_not_lost() -> None:
    class Broken(FakeEngine):
        def generate(self, *args: Any, **options: Any) -> list[Completion]:
            if self.calls:
                raise EngineError("the engine is on fire")
            return super().generate(*args, **options)

    of = source(actor_critic(), engine=Broken(random_reply(VOCAB), stop_ids=(STOP,)), corrected=True)
    batches = iter(of)
    next(batches), next(batches)
    with pytest.raises(EngineError, match="on fire"):
        next(batches)


def test_what_waits_is_records_that_come_back_exactly() -> None:
    one, other = (source(actor_critic(), old_logps="auto") for _ in range(2))
    batches = iter(one)
    next(batches), next(batches)
    state = json.loads(json.dumps(one.state()))
    assert state["round"] == 1 and len(state["ahead"]["completions"]) == 18
    other.restore(state)
    assert one.ahead is not None and other.ahead is not None
    assert other.ahead.wait() == one.ahead.wait()
    assert other.state() == one.state()
    other.restore(source(actor_critic()).state())
    assert other.ahead.wait() is None


def test_replies_of_another_round_are_an_error() -> None:
    ahead = Ahead(FakeEngine(random_reply(VOCAB), stop_ids=(STOP,)))
    ahead.put(Written(3, 2, []))
    with pytest.raises(TrainingError, match="for round 3"):
        ahead.take(4)
    with pytest.raises(TrainingError, match="waiting to be taken"):
        ahead.ask(None, [[1]], on_policy(actor_critic()).settings.sampling, [0], version=3, number=4)


@pytest.mark.parametrize("options", [{"resample": 2}, {"greedy_baseline": True}])
def test_replies_that_depend_on_scores_cannot_be_written_ahead(options: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="neither dynamic sampling nor greedy"):
        source(actor_critic(), **options)


def test_a_sampler_found_wrong_ahead_of_its_round_is_recomputed_before_the_weights_move() -> None:
    said: list[str] = []

    module = actor_critic()
    engine = Elsewhere(module, lies_from=1)
    of = source(module, engine=engine, old_logps="auto", old_logps_check_rounds=2, say=said.append)
    learner = make_learner(module, of.forward, learning_rate=0.02)
    batches, started = iter(of), list[nn.Module]()
    for number in range(4):
        started.append(copy.deepcopy(module))
        for _ in range(2):
            batch = next(batches)
            assert off(batch.old_logp_BT, logps(started[max(0, number - 1)], batch)) < 1e-5
            update(learner, batch, PPO())
    assert len(said) == 1 and said[0].startswith("round 2:")


def test_the_surrogate_s_gradient_is_that_of_the_importance_weighted_objective() -> None:
    """d/dpi E_mu[(pi / mu) A]: with the clip far away, the loss differentiates the ratio to the weights that wrote."""
    ran = Trained(2, old_logps="auto")
    batch, now, wrote = ran.rounds[1][0], copy.deepcopy(ran.started[1]), ran.started[0]
    objective = PolicyGradient(epsilon=100.0, loss_aggregation="token-mean")
    objective(now(batch), batch).loss.backward()
    found = {name: p.grad.clone() for name, p in now.policy.named_parameters() if p.grad is not None}
    now.zero_grad()
    mu_BT, mask_BT = logps(wrote, batch), batch.response_mask_BT
    (-(now(batch).logp_BT - mu_BT).exp() * batch.advantage_BT)[mask_BT].sum().backward()
    for name, parameter in now.policy.named_parameters():
        assert parameter.grad is not None and off(parameter.grad, found[name]) < 1e-3 * float(found[name].abs().max())
