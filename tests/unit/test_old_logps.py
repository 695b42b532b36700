"""Old log-probs from the sampler: proven first, checked later, given up aloud, and the same as recomputed ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from accord.batch import Batch, Forward
from accord.engines.base import Caps, Sampling
from accord.engines.native import NativeEngine
from accord.errors import TrainingError
from accord.models.policy import ActorCritic
from accord.train.loop import update
from accord.train.objectives import PPO
from accord.train.old_logps import OldLogps
from accord.train.rollouts import OnPolicy
from accord.types import Completion
from train_models import PAD, STOP, actor_critic, make_learner, on_policy, random_batch, weights, words


class Shifted:
    """The native engine, whose log-probs are off by what `shift` says of the version of the weights."""

    def __init__(self, module: ActorCritic, shift: Callable[[int], float], *, logps: bool = True) -> None:
        self.inner = NativeEngine(
            module.policy.hf, stop_ids=(STOP,), pad_id=PAD, decode=words, max_batch=5, check=False
        )
        self.shift, self.logps = shift, logps

    @property
    def caps(self) -> Caps:
        return Caps(weights="shared", logps=self.logps, seeds=True)

    def generate(self, *args: Any, **options: Any) -> list[Completion]:
        by = self.shift(self.inner.version)
        done = self.inner.generate(*args, **options)
        # The last token alone: means hide it, and it must count for nothing less.
        return [c.model_copy(update={"logps": (*c.logps[:-1], c.logps[-1] + by)}) for c in done if c.logps]

    def update_weights(self, policy: object, version: int) -> None:
        self.inner.update_weights(policy, version)

    def close(self) -> None:
        self.inner.close()


class Run:
    """A source, a learner, and what they did."""

    def __init__(self, dtype: torch.dtype = torch.float32, shift: Callable[[int], float] | None = None, **options: Any):
        self.module = actor_critic(dtype)
        self.policy_passes, self.said = 0, list[str]()
        critic = self.module.critic
        assert critic is not None

        def forward(batch: Batch) -> Forward:
            self.policy_passes += not torch.is_grad_enabled()
            return self.module(batch, entropy=True)

        if shift is not None:
            options["engine"] = Shifted(self.module, shift)
        options = {"n": 3, "num_prompts": 6, "token_budget": 200, "kl_coef": 0.1} | options
        self.source: OnPolicy = on_policy(
            self.module, forward=forward, critic_forward=critic, say=self.said.append, **options
        )
        self.learner = make_learner(self.module, forward, learning_rate=3e-3)
        self.batches: list[Batch] = []
        self.reports: list[dict[str, float]] = []

    def train(self, rounds: int) -> Run:
        batches = iter(self.source)
        for _ in range(4 * rounds):
            self.batches.append(next(batches))
            report = self.source.report()
            if report:
                self.reports.append(report)
            update(self.learner, self.batches[-1], PPO())
        return self

    def seen(self, name: str) -> list[float | None]:
        return [report.get(name) for report in self.reports]


def same_rows(one: Run, other: Run) -> bool:
    return all(torch.equal(a.ids_BT, b.ids_BT) for a, b in zip(one.batches, other.batches, strict=True))


def test_the_sampler_s_log_probs_give_the_same_training_without_the_pass() -> None:
    off, on = (Run(old_logps=mode, token_budget=10**4).train(4) for mode in ("recompute", "auto"))
    assert on.seen("sampler/reused") == [0, 1, 1, 1] and off.seen("sampler/reused") == [None] * 4
    # One forward a micro-batch: in the first round only, where both were computed.
    assert (off.policy_passes, on.policy_passes) == (4, 1)
    assert same_rows(on, off)
    for a, b in zip(on.batches, off.batches, strict=True):
        for name in ("old_logp_BT", "old_value_BT", "ref_logp_BT", "advantage_BT", "return_BT"):
            assert (getattr(a, name) - getattr(b, name)).abs().max() < 1e-5, name
    for name, value in weights(on.module).items():
        assert (value - weights(off.module)[name]).abs().max() < 1e-4, name
    assert on.said == []
    # Entropies of the round: of the distributions where the policy runs, else estimated by what was drawn.
    exact, estimated = off.seen("objective/rollout_entropy"), on.seen("objective/rollout_entropy")
    assert exact[0] == estimated[0] and estimated[1] == pytest.approx(exact[1], rel=0.2) and estimated[1] != exact[1]


def test_the_first_round_is_that_of_recomputing_bit_for_bit() -> None:
    off, on = Run(old_logps="recompute").train(1), Run(old_logps="auto").train(1)
    assert all(torch.equal(a.old_logp_BT, b.old_logp_BT) for a, b in zip(on.batches, off.batches, strict=True))
    assert on.reports[0].items() >= off.reports[0].items()


def test_a_sampler_that_disagrees_is_refused_once_and_aloud() -> None:
    off, on = Run(shift=lambda _: 0.03).train(3), Run(shift=lambda _: 0.03, old_logps="auto").train(3)
    assert on.seen("sampler/reused") == [0, 0, 0]
    assert on.seen("sampler/max_abs_dlogp") == [pytest.approx(0.03, abs=1e-4)] * 3
    assert all(torch.equal(a.old_logp_BT, b.old_logp_BT) for a, b in zip(on.batches, off.batches, strict=True))
    assert all(torch.equal(weights(on.module)[k], v) for k, v in weights(off.module).items())
    (said,) = on.said
    assert said.startswith("round 0: log-probs of sampler and learner differ by") and "recomputed from here on" in said


def test_a_check_on_a_sample_finds_a_sampler_that_goes_wrong_later() -> None:
    options: dict[str, Any] = {"shift": lambda version: 0.5 * (version >= 4), "num_prompts": 20, "token_budget": 10**4}
    off = Run(**options).train(6)
    on = Run(old_logps="auto", old_logps_check_rounds=2, **options).train(6)
    assert on.seen("sampler/reused") == [0, 1, 1, 1, 0, 0]
    compared = [value is not None for value in on.seen("sampler/max_abs_dlogp")]
    assert compared == [True, False, True, False, True, True]
    # Round 2: all rows are not compared, 33 of 60 are (eleven groups of three). Round 4: its own rows are all redone.
    assert on.policy_passes == 1 + 1 + (1 + 1) + 1
    assert len(on.said) == 1 and on.said[0].startswith("round 4:")
    assert same_rows(on, off)
    for a, b in zip(on.batches[16:], off.batches[16:], strict=True):
        assert (a.old_logp_BT - b.old_logp_BT).abs().max() < 1e-5


def test_the_number_of_compared_rows_and_which() -> None:
    judge = judge_of(old_logps="auto")
    seen: list[Batch] = []

    def logps(batch: Batch) -> torch.Tensor:
        seen.append(batch)
        assert batch.sampler_logp_BT is not None
        return batch.sampler_logp_BT

    batch = random_batch(20, group_size=3)
    for number in (1, 2, 2):
        judge.check(batch, logps, number)
    assert [part.num_rows for part in seen] == [33, 33, 33]
    groups = [part.group_B.tolist() for part in seen if part.group_B is not None]
    assert groups[0] != groups[1] == groups[2]
    assert all(group.count(g) == 3 for group in groups for g in group)


def judge_of(dtype: torch.dtype = torch.float32, caps: Caps | None = None, **options: Any) -> OldLogps:
    settings = on_policy(actor_critic(), **options).settings
    caps = caps or Caps("shared", logps=True, seeds=True)
    return OldLogps(settings, caps, dtype=dtype, seed=0, say=lambda _: None)


@pytest.mark.parametrize(
    "mode, dtype, off_by, trusted",
    [
        ("auto", torch.float32, 1e-5, True),
        ("auto", torch.float32, 1e-3, False),
        ("auto", torch.bfloat16, 1e-2, False),
        ("auto", torch.float64, 1e-11, True),
        ("auto", torch.float64, 1e-6, False),
        ("sampler", torch.float32, 1e-2, True),
        ("sampler", torch.bfloat16, 1e-2, True),
        ("sampler", torch.bfloat16, 0.1, False),
        ("auto", torch.float32, math.nan, False),
        ("recompute", torch.float32, 0.0, False),
    ],
)
def test_what_is_within_rounding(mode: str, dtype: torch.dtype, off_by: float, trusted: bool) -> None:
    judge = judge_of(dtype, old_logps=mode)
    batch = random_batch(4)
    assert batch.sampler_logp_BT is not None
    found = judge.judge(batch.sampler_logp_BT + off_by, batch, 0)
    assert judge.trusted is trusted
    if not math.isnan(off_by):
        assert found["sampler/mean_abs_dlogp"] == pytest.approx(off_by, abs=1e-12)


def test_one_token_far_off_is_enough_and_padding_is_not() -> None:
    batch = random_batch(300)
    assert batch.sampler_logp_BT is not None
    wrong_BT = batch.sampler_logp_BT.clone()
    wrong_BT[batch.response_mask_BT.logical_not()] = float("nan")
    judge = judge_of(old_logps="auto")
    judge.judge(wrong_BT, batch, 0)
    assert judge.trusted
    row = int(batch.response_mask_BT.any(1).nonzero()[7])
    wrong_BT[row, int(batch.response_mask_BT[row].nonzero()[0])] += 0.05
    found = judge.judge(wrong_BT, batch, 1)
    assert not judge.trusted and found["sampler/mean_abs_dlogp"] < judge.tolerance.mean
    judge.judge(batch.sampler_logp_BT, batch, 2)
    assert not judge.trusted, "a refusal is final"


def test_distributions_that_are_not_the_policy_s_are_never_used() -> None:
    for options in ({"top_p": 0.9}, {"top_k": 5}, {"temperature": 0.0}):
        settings = on_policy(actor_critic(), old_logps="auto").settings
        cut = Sampling(4, **options)
        for mode, wanted in (("auto", "recompute"), ("recompute", "recompute")):
            changed = {**vars(settings), "sampling": cut, "old_logps": mode}
            judge = OldLogps(
                type(settings)(**changed), Caps("shared", True, True), dtype=torch.float32, seed=0, say=print
            )
            assert judge.mode == wanted
        with pytest.raises(TrainingError, match="without top_p and top_k"):
            OldLogps(
                type(settings)(**{**changed, "old_logps": "sampler"}),
                Caps("shared", True, True),
                dtype=torch.float32,
                seed=0,
                say=print,
            )
    without = Caps("shared", logps=False, seeds=True)
    assert judge_of(caps=without, old_logps="auto").mode == "recompute"
    with pytest.raises(TrainingError, match="reports log-probs"):
        judge_of(caps=without, old_logps="sampler")
    assert judge_of(old_logps="auto", corrected=True).mode == "recompute"


def test_a_correction_for_the_sampler_keeps_both_log_probs() -> None:
    run = Run(shift=lambda _: 0.01, old_logps="auto", corrected=True).train(2)
    assert run.seen("sampler/reused") == [None, None] and run.said == []
    assert all((b.old_logp_BT - b.sampler_logp_BT).abs().max() > 0.005 for b in run.batches)


def test_a_sampler_in_float64_is_read_in_float64() -> None:
    run = Run(torch.float64, old_logps="auto").train(2)
    assert run.seen("sampler/reused") == [0, 1] and run.reports[0]["sampler/max_abs_dlogp"] < 1e-12
    assert run.batches[-1].old_logp_BT is not None and run.batches[-1].old_logp_BT.dtype == torch.float64


def test_without_a_reference_nothing_is_said_of_the_kl() -> None:
    run = Run(ref=None, kl_coef=0.0).train(1)
    assert run.batches[0].ref_logp_BT is None
    assert "objective/kl" not in run.reports[0]
    assert run.reports[0]["objective/rlhf_reward"] == pytest.approx(run.reports[0]["objective/scores"])
    with_reference = Run(kl_coef=0.0).train(1)
    pairs = zip(run.batches, with_reference.batches, strict=True)
    assert all(torch.equal(a.advantage_BT, b.advantage_BT) for a, b in pairs)
    with pytest.raises(TrainingError, match="ref_logp_BT"):
        Run(ref=None, kl_coef=0.1).train(1)
