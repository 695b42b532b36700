"""Demonstrations mixed into on-policy steps: the gradient is that of the two means, however the batch is cut."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_update import Bigram

from accord.batch import Batch
from accord.train.examples import Example, Row
from accord.train.loop import update
from accord.train.mixing import Mixed, WithNLL, join_nll
from accord.train.objectives import NLL, PPO, PolicyGradient
from accord.train.sources import Offline
from train_models import ListSource, make_learner, random_batch


def gradients(objective, batch: Batch) -> torch.Tensor:
    """Of the mean the objective means."""
    module = Bigram()
    (objective(module(batch), batch).loss / objective.denominator(batch)).backward()
    return module.table.grad


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([PPO(), PolicyGradient(beta=0.1), PolicyGradient(loss_aggregation="token-mean")]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.floats(0.01, 30.0),
    st.integers(0, 10**6),
    st.integers(1, 200),
)
def test_the_gradient_is_that_of_the_policy_mean_plus_gamma_times_that_of_the_nll_mean(
    objective, groups: int, examples: int, gamma: float, seed: int, budget: int
) -> None:
    rollouts, text = random_batch(groups, seed=seed), random_batch(examples, seed=seed + 1, longest=20)
    wanted = gradients(objective, rollouts) + gamma * gradients(NLL(), text)
    module = Bigram()
    learner = make_learner(module, token_budget=budget, max_grad_norm=0.0, learning_rate=0.0)
    metrics = update(learner, join_nll(rollouts, text), WithNLL(objective, gamma))
    assert (module.table.grad - wanted).abs().max() <= 1e-10 * wanted.abs().max()
    nll = NLL()(Bigram()(text), text)
    assert abs(metrics["loss/ptx_avg"] - float((nll.loss / NLL().denominator(text)).detach())) < 1e-10


def test_metrics_of_the_policy_do_not_see_the_other_rows() -> None:
    rollouts, text = random_batch(3), random_batch(4, seed=9)
    found = []
    for batch, objective in ((rollouts, PPO()), (join_nll(rollouts, text), WithNLL(PPO(), 2.0))):
        learner = make_learner(Bigram(), token_budget=30, max_grad_norm=0.0, learning_rate=0.0)
        found.append(update(learner, batch, objective))
    for name in set(found[0]) - {"loss", "grad_norm"}:
        assert abs(found[0][name] - found[1][name]) < 1e-12, name


def test_a_mixed_source_continues_where_it_was() -> None:
    examples = [Example(f"e{i}", (Row((1, 2 + i, 3), (False, True, True)),)) for i in range(7)]

    def start() -> Mixed:
        return Mixed(
            ListSource([random_batch(2, seed=i) for i in range(3)]), Offline(examples, batch_size=2, pad_id=0, seed=1)
        )

    whole, again = start(), start()
    batches = iter(whole)
    for _ in range(3):
        next(batches)
    again.restore(whole.state())
    assert whole.at_boundary and again.state() == whole.state()
    rest = iter(again)
    for _ in range(4):
        one, other = next(batches), next(rest)
        assert torch.equal(one.ids_BT, other.ids_BT) and torch.equal(one.nll_B, other.nll_B)
    assert one.nll_B.tolist() == [0.0] * 4 + [1.0] * 2
    assert not one.advantage_BT[4:].any()
    assert {"drawn", "epoch"} <= set(whole.report())
