"""Chosen replies against closed forms: a bandit whose rounds hold every draw exactly as often as it is likely."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, pad

from accord import rng, stats
from accord.batch import Batch, Forward
from accord.engines.base import Caps, Sampling
from accord.models.build import copy_frozen
from accord.train.loop import fit, update
from accord.train.objectives import DPO, NLL
from accord.train.rollouts import EncodedPrompt, OnPolicy, RolloutSettings
from accord.train.selection import Selection, best, best_worst, initial_weights
from accord.train.sources import with_reference
from accord.types import Completion, Message, Prompt, Rollout, Score
from train_models import make_learner

COUNTS = (4, 2, 1, 1)
"""Arms have these eighths of the mass, so that every draw of n occurs a whole number of times in 8^n."""
ARMS, START = len(COUNTS), len(COUNTS)
SCORE = (0.0, 1.0, 2.0, 3.0)
TIED = (0.0, 1.0, 1.0, 0.0)
BETA = 0.5


class Arms(nn.Module):
    """A reply is one token; the policy is a distribution over them."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.double().clone())

    def forward(self, batch: Batch) -> Forward:
        logp_B = self.logits.log_softmax(0)[batch.ids_BT[:, 1]]
        return Forward(logp_BT=pad(logp_B[:, None], (1, 0)))


class EveryDraw:
    """Answers prompt i with the i-th of all draws of n arms, each arm as often as its mass says."""

    caps = Caps(weights="shared", logps=False, seeds=True)

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seeds: Sequence[int] | None = None
    ) -> list[Completion]:
        tickets = [arm for arm, count in enumerate(COUNTS) for _ in range(count)]
        draws = list(itertools.product(tickets, repeat=sampling.n))
        assert len(draws) == len(prompts)
        return [Completion(token_ids=(arm,), finish="stop") for draw in draws for arm in draw]

    def update_weights(self, policy: object, version: int) -> None:
        """The draws stand for the policy at the start."""

    def close(self) -> None:
        """Nothing to free."""


def scored(scores: Sequence[float]) -> Callable[[Sequence[Rollout]], list[Score]]:
    return lambda rollouts: [Score(value=scores[r.completion.token_ids[0]]) for r in rollouts]


def source(policy: Arms, choose: Any, n: int, scores: Sequence[float], **options: Any) -> Selection:
    """One round: all draws of n, one prompt each."""
    count = options.pop("num_prompts", sum(COUNTS) ** n)
    prompt = Prompt(id="p", messages=(Message(role="user", content="pull"),))
    replies = OnPolicy(
        policy=policy,
        forward=policy,
        ref=policy,
        engine=options.pop("engine", EveryDraw()),
        reward=scored(scores),
        prompts=[EncodedPrompt(prompt, (START,))] * count,
        credit=lambda batch, **_: batch,
        settings=RolloutSettings(Sampling(1, n=n), num_prompts=count, num_epochs=1, num_minibatches=1, kl_coef=0.0),
        pad_id=0,
        seed=0,
    )
    options = {"num_epochs": 1, "num_minibatches": 1, "pad_id": 0, "seed": 0} | options
    return Selection(replies, choose, **options)


def start() -> Arms:
    return Arms(torch.tensor(COUNTS).double().log())


def gradient_of(policy: Arms, value: Tensor) -> Tensor:
    return torch.autograd.grad(value, policy.logits)[0]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("scores", [SCORE, TIED], ids=["distinct", "tied"])
@pytest.mark.parametrize("budget", [7, 100_000])
def test_the_expected_gradient_of_raft_is_cross_entropy_with_best_of_n(n: int, scores: Any, budget: int) -> None:
    policy = start()
    base = torch.tensor(COUNTS).double() / sum(COUNTS)
    levels = torch.tensor(scores).double()
    # Among equal scores best-of-n keeps the proportions of the base (Beirami et al. 2024).
    q = torch.stack(
        [
            (base[levels <= s].sum() ** n - base[levels < s].sum() ** n) * base[a] / base[levels == s].sum()
            for a, s in enumerate(levels)
        ]
    )
    assert abs(float(q.sum()) - 1) < 1e-12
    wanted = gradient_of(policy, -(q * policy.logits.log_softmax(0)).sum())
    learner = make_learner(policy, max_grad_norm=0.0, token_budget=budget)
    update(learner, next(iter(source(policy, best, n, scores))), NLL())
    assert policy.logits.grad is not None
    assert (policy.logits.grad - wanted).abs().max() < 1e-12
    assert n == 1 or wanted.abs().max() > 0.05


def test_with_one_reply_a_prompt_the_expected_gradient_of_raft_is_zero() -> None:
    """Imitating all of its own replies teaches nothing: the expected score function is 0."""
    policy = start()
    update(make_learner(policy, max_grad_norm=0.0), next(iter(source(policy, best, 1, SCORE))), NLL())
    assert policy.logits.grad is not None and policy.logits.grad.abs().max() < 1e-12


def test_one_round_to_the_end_is_best_of_n_with_its_exact_divergence() -> None:
    n, policy = 2, start()
    base = torch.tensor(COUNTS).double() / sum(COUNTS)
    learner = make_learner(policy, learning_rate=0.1, steps=400, max_grad_norm=0.0)
    fit(learner, source(policy, best, n, SCORE, num_epochs=400), NLL(), steps=400)
    logp = policy.logits.detach().log_softmax(0)
    kl = float((logp.exp() * (logp - base.log())).sum())
    assert kl == pytest.approx(stats.best_of_n_kl_exact(base.numpy(), n), abs=1e-4)
    assert kl < stats.best_of_n_kl(n)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("budget", [7, 100_000])
def test_the_expected_gradient_of_online_dpo_is_that_of_best_against_worst(n: int, budget: int) -> None:
    policy, ref = Arms(torch.tensor([0.3, -0.2, 0.1, 0.6])), copy_frozen(start())
    base = torch.tensor(COUNTS).double() / sum(COUNTS)

    def all_between(low: int, high: int) -> float:
        return float(base[low : high + 1].sum()) ** n if high >= low else 0.0

    delta = policy.logits.log_softmax(0) - ref.logits.log_softmax(0)
    loss, mass = torch.zeros(()).double(), 0.0
    for worse, better in itertools.combinations(range(ARMS), 2):
        p = all_between(worse, better) - all_between(worse + 1, better)
        p += all_between(worse + 1, better - 1) - all_between(worse, better - 1)
        loss, mass = loss - p * logsigmoid(BETA * (delta[better] - delta[worse])), mass + p
    assert mass == pytest.approx(1 - float((base**n).sum())), "what is left over are ties"
    wanted = gradient_of(policy, loss / mass)

    def finish(examples: Any) -> Any:
        return with_reference(examples, ref, pad_id=0, token_budget=budget, device=torch.device("cpu"))

    batch = next(iter(source(policy, best_worst, n, SCORE, finish=finish)))
    update(make_learner(policy, max_grad_norm=0.0, token_budget=budget), batch, DPO(beta=BETA))
    assert policy.logits.grad is not None
    assert (policy.logits.grad - wanted).abs().max() < 1e-12
    assert wanted.abs().max() > 0.01


def test_soft_labels_have_no_gradient_at_the_optimum_of_reward_minus_kl() -> None:
    """Whatever pairs are drawn: with exact probabilities pi_ref exp(r / beta) is a fixed point, and no other is."""
    ref = copy_frozen(start())
    optimum = Arms(ref.logits.detach() + torch.tensor(SCORE) / BETA)

    def finish(examples: Any) -> Any:
        return with_reference(examples, ref, pad_id=0, token_budget=10_000, device=torch.device("cpu"))

    found = []
    for policy, scale in ((optimum, 1.0), (optimum, None), (start(), 1.0)):
        policy.zero_grad()
        made = source(policy, lambda r, scale=scale: best_worst(r, scale=scale), 2, SCORE, finish=finish)
        update(make_learner(policy, max_grad_norm=0.0, learning_rate=0.0), next(iter(made)), DPO(beta=BETA))
        assert policy.logits.grad is not None
        found.append(float(policy.logits.grad.abs().max()))
    assert found[0] < 1e-7  # targets are float32
    assert min(found[1:]) > 0.01


class Sampler(EveryDraw):
    """Samples from the policy, each reply from its own seed."""

    def __init__(self, policy: Arms) -> None:
        self.policy = policy

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seeds: Sequence[int] | None = None
    ) -> list[Completion]:
        assert seeds is not None
        total = self.policy.logits.detach().softmax(-1).cumsum(-1)
        draws = torch.tensor([rng.generator(s, i).random() for s in seeds for i in range(sampling.n)]).double()
        picked = torch.searchsorted(total, draws).clamp(max=ARMS - 1)
        return [Completion(token_ids=(arm,), finish="stop") for arm in picked.tolist()]


def test_online_dpo_with_soft_labels_reaches_the_closed_form_optimum() -> None:
    policy, rewards = start(), (0.2, 0.9, -0.5, 0.4)
    ref = copy_frozen(policy)
    best_probs = (ref.logits + torch.tensor(rewards).double() / BETA).softmax(0)

    def finish(examples: Any) -> Any:
        return with_reference(examples, ref, pad_id=0, token_budget=10_000, device=torch.device("cpu"))

    def distance() -> float:
        return 0.5 * float((policy.logits.detach().softmax(0) - best_probs).abs().sum())

    assert distance() > 0.2
    made = source(
        policy,
        lambda r: best_worst(r, scale=1.0),
        3,
        rewards,
        finish=finish,
        num_prompts=24,
        engine=Sampler(policy),
    )
    fit(make_learner(policy, learning_rate=0.05, steps=150), made, DPO(beta=BETA), steps=150)
    assert distance() < 0.02


def test_raft_goes_on_where_expert_iteration_starts_again() -> None:
    """Three rounds of one step each: RAFT climbs, expert iteration is a step from the start every time."""
    ends = []
    for anew in (False, True):
        policy = start()
        restart = initial_weights(policy) if anew else None
        made = source(policy, best, 4, SCORE, num_prompts=64, engine=Sampler(policy), restart=restart)
        learner = make_learner(policy, learning_rate=0.3, steps=3, kind="constant")
        fit(learner, made, NLL(), steps=3, hooks=[lambda i: i.learner.optimizer.state.clear()])
        ends.append(float((policy.logits.detach().softmax(0) * torch.tensor(SCORE)).sum()))
    assert ends[0] > ends[1] + 0.3
    assert ends[1] > 0.9
