"""Small problems whose answer is known exactly: the whole gradient by enumeration, optimal policies in closed form."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from accord import rng
from accord.batch import Batch, Forward, collate
from accord.engines.base import Caps, Sampling
from accord.functional.losses import token_logp
from accord.models.build import copy_frozen
from accord.train.credit import GAECredit
from accord.train.examples import Example, Row
from accord.train.loop import fit, update
from accord.train.objectives import DPO, PPO, BradleyTerry
from accord.train.rollouts import EncodedPrompt, OnPolicy, RolloutSettings
from accord.train.sources import Offline, with_reference
from accord.types import Completion, Message, Prompt, Rollout, Score
from train_models import make_learner

WORDS, STOP, START = 3, 2, 3
"""Three tokens, one of which ends a reply; the prompt is a token of its own."""
CPU = torch.device("cpu")


class Table(nn.Module):
    """The next token depends on the last one and the position: every distribution over short replies is possible."""

    def __init__(self, num_words: int, length: int, seed: int, spread: float = 1.0) -> None:
        super().__init__()
        rand = torch.Generator().manual_seed(seed)
        shape = (length, num_words + 1, num_words)
        self.logits = nn.Parameter(spread * torch.randn(shape, generator=rand, dtype=torch.float64))
        self.value = nn.Parameter(torch.zeros(length, num_words + 1, dtype=torch.float64))

    def forward(self, batch: Batch) -> Forward:
        before_BT, places = batch.ids_BT[:, :-1], torch.arange(batch.ids_BT.shape[1] - 1)
        after_BT = torch.where(batch.response_mask_BT, batch.ids_BT, 0)[:, 1:]
        logp_BT = token_logp(self.logits[places, before_BT], after_BT)
        mask_BT = batch.response_mask_BT[:, 1:]
        value_BT = self.value[places, before_BT]
        return Forward(*(pad(torch.where(mask_BT, x, 0.0), (1, 0)) for x in (logp_BT, logp_BT * 0, value_BT)))


def all_replies(length: int = 2) -> list[tuple[int, ...]]:
    """Every reply: a stop token ends it, and it is cut at `length`."""
    found = []
    for size in range(1, length + 1):
        for ids in itertools.product(range(WORDS), repeat=size):
            if STOP not in ids[:-1] and (ids[-1] == STOP or size == length):
                found.append(ids)
    return found


def enumerated(replies: Sequence[tuple[int, ...]]) -> Batch:
    return collate([[START, *ids] for ids in replies], [[False] + [True] * len(ids) for ids in replies], pad_id=0)


def objective_value(policy: Table, ref: Table, score_B: Tensor, kl_coef: float) -> Tensor:
    """E[score] - kl_coef KL(policy || ref) over whole replies, exactly."""
    batch = enumerated(all_replies())
    logp_B, ref_B = policy(batch).logp_BT.sum(1), ref(batch).logp_BT.sum(1)
    prob_B = logp_B.exp()
    assert abs(float(prob_B.detach().sum()) - 1) < 1e-12
    return (prob_B * score_B).sum() - kl_coef * (prob_B * (logp_B - ref_B)).sum()


@pytest.mark.parametrize("kl_coef", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("budget", [1, 5, 1000])
def test_the_first_gradient_of_ppo_is_that_of_expected_score_minus_kl(kl_coef: float, budget: int) -> None:
    policy, ref = Table(WORDS, 2, seed=0), copy_frozen(Table(WORDS, 2, seed=1))
    score_B = torch.linspace(-1, 2, len(all_replies()), dtype=torch.float64).sin() * 3
    (wanted,) = torch.autograd.grad(objective_value(policy, ref, score_B, kl_coef), [policy.logits])

    batch = enumerated(all_replies())
    with torch.no_grad():
        logp_BT, ref_BT = policy(batch).logp_BT, ref(batch).logp_BT
    batch = batch.replace(
        score_B=score_B, old_logp_BT=logp_BT, ref_logp_BT=ref_BT, old_value_BT=torch.zeros_like(logp_BT)
    )
    batch = GAECredit(gamma=1.0, lam=1.0, whiten_advantages=False)(batch, kl_coef=kl_coef)
    # Each reply as often as it occurs; times the tokens, because the objective divides by them.
    share_B1 = logp_BT.sum(1, keepdim=True).exp() * batch.response_mask_BT.sum()
    batch = batch.replace(advantage_BT=batch.advantage_BT * share_B1)
    learner = make_learner(policy, token_budget=budget, max_grad_norm=0.0)
    update(learner, batch, PPO(vf_coef=0.0))
    assert wanted.abs().max() > 0.01
    assert (policy.logits.grad + wanted).abs().max() < 1e-12


def test_a_baseline_does_not_move_the_expected_gradient() -> None:
    """Whatever the critic says, lambda = 1 leaves the gradient where it is (over all replies)."""
    policy, ref = Table(WORDS, 2, seed=0), Table(WORDS, 2, seed=1)
    batch = enumerated(all_replies())
    grads = []
    for critic_seed in (None, 5):
        with torch.no_grad():
            logp_BT, ref_BT = policy(batch).logp_BT, ref(batch).logp_BT
            value_BT = torch.zeros_like(logp_BT)
            if critic_seed is not None:
                critic = Table(WORDS, 2, seed=0)
                critic.value.copy_(torch.randn(critic.value.shape, generator=torch.manual_seed(critic_seed)))
                value_BT = critic(batch).value_BT
        scored = batch.replace(
            score_B=torch.arange(7.0, dtype=torch.float64),
            old_logp_BT=logp_BT,
            ref_logp_BT=ref_BT,
            old_value_BT=value_BT,
        )
        credited = GAECredit(lam=1.0, whiten_advantages=False)(scored, kl_coef=0.2)
        share_B1 = logp_BT.sum(1, keepdim=True).exp()
        policy.zero_grad()
        PPO(vf_coef=0.0)(policy(batch), credited.replace(advantage_BT=credited.advantage_BT * share_B1)).loss.backward()
        grads.append(policy.logits.grad.clone())
    assert (grads[0] - grads[1]).abs().max() < 1e-12
    assert grads[0].abs().max() > 0.01


ARMS, BETA = 5, 0.5
REWARD = torch.tensor([0.9, -0.4, 0.2, 0.6, -1.0], dtype=torch.float64)


class TableEngine:
    """Samples one token from a `Table`, each from its own seed."""

    caps = Caps(weights="shared", logps=False, seeds=True)

    def __init__(self, policy: Table) -> None:
        self.policy = policy

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seeds: Sequence[int] | None = None
    ) -> list[Completion]:
        assert seeds is not None
        total = self.policy.logits.detach()[0, ARMS].softmax(-1).cumsum(-1)
        draws = [rng.generator(seed, i).random() for seed in seeds for i in range(sampling.n)]
        picked = torch.searchsorted(total, torch.tensor(draws, dtype=torch.float64)).clamp(max=ARMS - 1)
        return [Completion(token_ids=(arm,), finish="stop") for arm in picked.tolist()]

    def update_weights(self, policy: object, version: int) -> None:
        assert policy is self.policy

    def close(self) -> None:
        """Nothing to free."""


def distance_to_optimum(policy: Table, ref: Table, reward: Tensor = REWARD, beta: float = BETA) -> float:
    """Total variation between the policy and pi_ref exp(reward / beta) / Z (Rafailov et al. 2023, eq. 4)."""
    with torch.no_grad():
        best = (ref.logits[0, ARMS].log_softmax(-1) + reward / beta).softmax(-1)
        return 0.5 * float((policy.logits[0, ARMS].softmax(-1) - best).abs().sum())


def arm_scores(rollouts: Sequence[Rollout]) -> list[Score]:
    return [Score(value=float(REWARD[r.completion.token_ids[0]])) for r in rollouts]


def test_ppo_reaches_the_closed_form_optimum_of_a_bandit() -> None:
    policy = Table(ARMS, 1, seed=3, spread=0.5)
    ref = copy_frozen(policy)
    assert distance_to_optimum(policy, ref) > 0.25
    prompt = Prompt(id="p", messages=(Message(role="user", content="pull"),))
    source = OnPolicy(
        policy=policy,
        forward=policy,
        ref=ref,
        engine=TableEngine(policy),
        reward=arm_scores,
        prompts=[EncodedPrompt(prompt, (ARMS,))],
        credit=GAECredit(whiten_advantages=False),
        settings=RolloutSettings(
            sampling=Sampling(1, n=32),
            num_prompts=4,
            num_epochs=2,
            num_minibatches=2,
            kl_coef=BETA,
            token_budget=10**6,
        ),
        pad_id=0,
        seed=1,
    )
    learner = make_learner(policy, source.forward, learning_rate=0.05, overrides={"value": 0.2}, steps=240)
    fit(learner, source, PPO(vf_coef=1.0, cliprange_value=10.0), steps=240)
    assert distance_to_optimum(policy, ref) < 0.02


def arm_pairs() -> list[Example]:
    rows = [Row((ARMS, arm), (False, True)) for arm in range(ARMS)]
    delta = REWARD[:, None] - REWARD[None, :]
    return [
        Example(f"{a}>{b}", (rows[a], rows[b]), target=float(torch.sigmoid(delta[a, b])))
        for a, b in itertools.combinations(range(ARMS), 2)
    ]


def test_dpo_on_exact_preference_probabilities_reaches_the_closed_form_optimum() -> None:
    policy = Table(ARMS, 1, seed=3, spread=0.5)
    ref = copy_frozen(policy)
    assert distance_to_optimum(policy, ref) > 0.25
    examples = with_reference(arm_pairs(), ref, pad_id=0, token_budget=100, device=CPU)
    source = Offline(examples, batch_size=len(examples), pad_id=0, seed=0)
    learner = make_learner(policy, learning_rate=0.05, steps=250)
    fit(learner, source, DPO(beta=BETA), steps=250)
    assert distance_to_optimum(policy, ref) < 0.002


class Scores(nn.Module):
    """A reward model that is one number an arm."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.zeros(ARMS, dtype=torch.float64))

    def forward(self, batch: Batch) -> Forward:
        return Forward(score_B=self.score[batch.ids_BT[:, 1]])


def test_bradley_terry_on_exact_preference_probabilities_recovers_the_rewards() -> None:
    model = Scores()
    source = Offline(arm_pairs(), batch_size=10, pad_id=0, seed=0)
    fit(make_learner(model, learning_rate=0.05, steps=250), source, BradleyTerry(), steps=250)
    got, wanted = model.score.detach() - model.score.detach().mean(), REWARD - REWARD.mean()
    assert (got - wanted).abs().max() < 0.005


def test_weights_are_the_same_as_repeated_examples() -> None:
    """A weight of 2 is an example seen twice; so exact probabilities may also come as weights."""
    pairs = arm_pairs()[:4]
    grads = []
    for weighted in (True, False):
        if weighted:
            examples = [Example(e.id, e.rows, e.target, weight=1.0 + i % 2) for i, e in enumerate(pairs)]
        else:
            examples = [e for i, e in enumerate(pairs) for _ in range(1 + i % 2)]
        model = Scores()
        source = Offline(examples, batch_size=len(examples), pad_id=0, seed=0)
        update(make_learner(model, max_grad_norm=0.0), next(iter(source)), BradleyTerry())
        grads.append(model.score.grad.clone())
    assert (grads[0] - grads[1]).abs().max() < 1e-7
    assert grads[0].abs().max() > 0.01
