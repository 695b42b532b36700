"""The loop itself: limits and errors of a step, learning rates, hooks, how many batches are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from accord.batch import Batch, Forward, Mean, Terms, collate
from accord.errors import TrainingError
from accord.train import loop
from accord.train.algorithms import ALGORITHMS
from accord.train.loop import Learner, StepInfo, fit, update
from accord.train.objectives import DPO, NLL, PPO, BradleyTerry
from accord.train.optim import adamw, schedule
from train_models import ListSource, actor_critic, causal, make_learner, random_batch, same_weights, weights

BATCH = random_batch(4)


class Line(nn.Module):
    """score = a * length + b, whose gradients can be worked out by hand."""

    def __init__(self, a: float = 1.0, b: float = 0.0) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(x, dtype=torch.float64)) for x in (a, b))

    def forward(self, batch: Batch) -> Forward:
        return Forward(score_B=self.a * batch.lengths_B + self.b)


class Sum:
    """Adds up the scores; by default the denominator is the number of rows."""

    def __init__(self, denominator: float | None = None, factor: float = 1.0) -> None:
        self.fixed, self.factor = denominator, factor

    def denominator(self, batch: Batch) -> torch.Tensor:
        return torch.tensor(float(batch.num_rows) if self.fixed is None else self.fixed)

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        total = self.factor * out.score_B.sum()
        never = Mean(torch.zeros(()), torch.zeros(()))
        return Terms(total, {"score": Mean(float(total.detach()), batch.num_rows), "never": never})


def test_a_step_divides_by_the_denominator_of_the_whole_batch() -> None:
    module = Line()
    learner = make_learner(module, max_grad_norm=0.0, token_budget=10)
    metrics = update(learner, BATCH, Sum())
    assert len(BATCH.split(10)) > 1
    mean = float(BATCH.lengths_B.double().mean())
    assert module.a.grad.item() == pytest.approx(mean)
    assert module.b.grad.item() == pytest.approx(1.0)
    assert metrics["loss"] == metrics["score"] == pytest.approx(mean)
    assert metrics["grad_norm"] == pytest.approx(math.hypot(mean, 1))
    assert "never" not in metrics, "a mean over nothing is no number"
    assert learner.step == 1


def test_a_module_without_padding_gets_fewer_micro_batches_and_the_same_step() -> None:
    batch = collate(
        [[1] * size for size in (200, 20, 30)], [[False, *[True] * (size - 1)] for size in (200, 20, 30)], pad_id=0
    )
    found: list[tuple[int, dict[str, float]]] = []
    for flat in (False, True):
        module, seen = Line(), list[int]()
        learner = make_learner(module, lambda rows, m=module, s=seen: s.append(rows.num_rows) or m(rows), flat=flat)
        metrics = update(learner, batch, Sum())
        found.append((len(seen), metrics))
    assert [count for count, _ in found] == [2, 1]
    assert found[0][1] == pytest.approx(found[1][1])


def test_gradients_of_the_step_before_are_gone() -> None:
    learner = make_learner(Line(), max_grad_norm=0.0)
    norms = [update(learner, BATCH, Sum())["grad_norm"] for _ in range(3)]
    assert norms[0] == norms[1] == norms[2]


@pytest.mark.parametrize("limit", [0.5, 1e6, 0.0])
def test_gradients_are_clipped_to_the_global_norm(limit: float) -> None:
    module = Line()
    learner = make_learner(module, max_grad_norm=limit)
    before = update(learner, BATCH, Sum())["grad_norm"]
    assert before > 5, "the norm reported is the one before clipping"
    after = math.hypot(module.a.grad.item(), module.b.grad.item())
    assert after == pytest.approx(0.5 if limit == 0.5 else before, rel=1e-5)


def test_nothing_to_train_on_is_an_error_that_names_the_step() -> None:
    learner = make_learner(Line())
    learner.step = 41
    before = weights(learner.module)
    for nothing in (0.0, -1.0, math.nan):
        with pytest.raises(TrainingError, match="nothing to train on") as caught:
            update(learner, BATCH, Sum(nothing))
        assert "step 42" in str(caught.value.where)
    assert learner.step == 41 and same_weights(before, weights(learner.module))
    empty = BATCH.replace(response_mask_BT=torch.zeros_like(BATCH.response_mask_BT))
    for objective, module in ((NLL(), causal()), (PPO(), actor_critic())):
        with pytest.raises(TrainingError, match="nothing to train on"):
            update(make_learner(module), empty, objective)
    weightless = BATCH.replace(weight_B=torch.zeros_like(BATCH.weight_B))
    with pytest.raises(TrainingError, match="nothing to train on"):
        update(make_learner(Line()), weightless, BradleyTerry())


class Poison(torch.autograd.Function):
    """A number that is fine, with a gradient that is not."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] * math.inf


@pytest.mark.parametrize(
    "forward",
    [
        lambda m: lambda b: Forward(score_B=m(b).score_B * math.nan),
        lambda m: lambda b: Forward(score_B=m(b).score_B * math.inf),
        lambda m: lambda b: Forward(score_B=Poison.apply(m(b).score_B)),
        lambda m: lambda b: Forward(score_B=m(b).score_B + math.inf),
    ],
    ids=["nan", "inf", "only the gradient", "only the loss"],
)
def test_a_loss_or_gradient_that_is_not_finite_stops_before_the_weights_change(forward: Callable) -> None:
    module = Line()
    learner = make_learner(module, forward(module))
    learner.step = 6
    before = weights(module)
    with pytest.raises(TrainingError, match="not finite") as caught:
        update(learner, BATCH, Sum())
    assert caught.value.where == "optimiser step 7"
    assert caught.value.fix
    assert learner.step == 6 and same_weights(before, weights(module))
    assert not learner.optimizer.state


@pytest.mark.parametrize(
    "kind, warmup, wanted",
    [
        ("constant", 0, [1, 1, 1, 1, 1]),
        ("linear", 0, [1, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", 0, [0.5 * (1 + math.cos(math.pi * i / 5)) for i in range(5)]),
        ("constant", 2, [0.5, 1, 1, 1, 1]),
        ("linear", 2, [0.5, 1, 1, 2 / 3, 1 / 3]),
        ("cosine", 1, [1, 1, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 + math.cos(3 * math.pi / 4))]),
    ],
)
def test_schedules(kind: str, warmup: int, wanted: list[float]) -> None:
    rate = schedule(kind, steps=5, warmup_steps=warmup)
    assert [rate(step) for step in range(5)] == pytest.approx(wanted)
    assert rate(5) == rate(50) == pytest.approx(1 if kind == "constant" else 0)
    floor = schedule(kind, steps=5, warmup_steps=warmup, final=0.1)
    assert floor(5) == pytest.approx(1 if kind == "constant" else 0.1)
    assert floor(4) >= rate(4)


def test_every_group_follows_the_schedule_from_its_own_rate() -> None:
    learner = make_learner(Line(), learning_rate=0.1, overrides={"b": 0.02}, steps=4)
    seen = []
    for _ in range(4):
        metrics = update(learner, BATCH, Sum())
        rates = [group["lr"] for group in learner.optimizer.param_groups]
        assert metrics["learning_rate"] == rates[0]
        seen.append(rates)
    assert [rate for rates in seen for rate in rates] == pytest.approx(
        [0.1, 0.02, 0.075, 0.015, 0.05, 0.01, 0.025, 0.005]
    )


def test_the_first_step_of_adam_moves_every_weight_by_its_rate() -> None:
    module = Line(a=1.0, b=2.0)
    learner = make_learner(module, learning_rate=0.1, overrides={"b": 0.02})
    update(learner, BATCH, Sum())
    assert module.a.item() == pytest.approx(0.9, abs=1e-6)
    assert module.b.item() == pytest.approx(1.98, abs=1e-6)


def test_weight_decay_is_on_matrices_only_and_frozen_weights_are_left_out() -> None:
    module = causal()
    module.inner.model.embed_tokens.requires_grad_(False)
    optimizer = adamw(module, learning_rate=0.1, weight_decay=0.3, betas=(0.8, 0.9), eps=1e-6)
    names = {id(p): name for name, p in module.named_parameters()}
    for group in optimizer.param_groups:
        assert group["initial_lr"] == 0.1 and group["betas"] == (0.8, 0.9) and group["eps"] == 1e-6
        for parameter in group["params"]:
            assert ("norm" in names[id(parameter)]) == (group["weight_decay"] == 0.0)
            assert "embed" not in names[id(parameter)]
    assert sorted(g["weight_decay"] for g in optimizer.param_groups) == [0.0, 0.3]


def test_an_optimiser_without_work_is_an_error() -> None:
    with pytest.raises(TrainingError, match="every parameter is frozen"):
        adamw(Line().requires_grad_(False), learning_rate=0.1)
    with pytest.raises(TrainingError, match=r"'critic\."):
        adamw(Line(), learning_rate=0.1, overrides={"critic.": 0.1})


def line_learner() -> Learner:
    return make_learner(Line())


def test_fit_draws_one_batch_a_step_and_no_more() -> None:
    source, learner = ListSource([BATCH]), line_learner()
    fit(learner, source, Sum(), steps=5)
    assert (source.drawn, learner.step) == (5, 5)
    fit(learner, source, Sum(), steps=7)
    assert (source.drawn, learner.step) == (7, 7)
    fit(learner, source, Sum(), steps=7)
    fit(learner, source, Sum(), steps=3)
    assert (source.drawn, learner.step) == (7, 7)


def test_hooks_are_called_in_order_with_the_numbers_of_the_step() -> None:
    source, learner, seen = ListSource([BATCH]), line_learner(), []

    def first(info: StepInfo) -> None:
        seen.append(("first", info.step, info.total))
        assert info.learner is learner and info.source is source
        assert info.metrics["drawn"] == info.step, "the source's own numbers are there"
        assert info.metrics["loss"] == pytest.approx(info.metrics["score"], rel=1e-12)
        info.metrics["added"] = 3.0

    def second(info: StepInfo) -> None:
        assert info.metrics["added"] == 3.0
        seen.append(("second", info.step, info.total))

    fit(learner, source, Sum(), steps=2, hooks=[first, second])
    assert seen == [("first", 1, 2), ("second", 1, 2), ("first", 2, 2), ("second", 2, 2)]


def test_a_hook_may_stop_training_and_hooks_behind_it_are_not_called() -> None:
    source, learner, after = ListSource([BATCH]), line_learner(), []
    fit(
        learner,
        source,
        Sum(),
        steps=10,
        hooks=[lambda info: False, lambda info: info.step == 3, lambda info: after.append(info.step)],
    )
    assert (source.drawn, learner.step, after) == (3, 3, [1, 2])


def test_the_table_of_algorithms_names_what_exists() -> None:
    assert set(ALGORITHMS) >= {"pretrain", "sft", "reward", "dpo", "ppo"}
    assert ALGORITHMS["dpo"].objective is DPO and ALGORITHMS["ppo"].objective is PPO
    for name, algorithm in ALGORITHMS.items():
        assert (algorithm.credit is not None) == (algorithm.source == "rollouts"), name
        options = {"epsilon_high": 5.0} if name == "cispo" else {}  # a cap, and there is none that fits everywhere
        objective: loop.Objective = algorithm.objective(**options)
        rated = BATCH.replace(target_BK=torch.ones(BATCH.num_rows, 2), target_BT=torch.ones(BATCH.ids_BT.shape))
        assert float(objective.denominator(rated)) > 0
