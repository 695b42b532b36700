"""Stages that choose among their own replies end, stopped anywhere, with the bits of the uninterrupted run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from accord.models.build import copy_frozen
from accord.tracking import Tracker, read_metrics
from accord.train import hooks
from accord.train.loop import Hook, Learner, StepInfo, fit
from accord.train.objectives import DPO, NLL
from accord.train.selection import Selection, best, best_worst, forget_moments, initial_weights
from accord.train.sources import with_reference
from train_models import PAD, actor_critic, make_learner, on_policy, same_weights, weights

STEPS = 12


class PowerCutError(Exception):
    """Stands for kill -9: nothing after it runs."""


def parts(choose: Any, *, anew: bool = False, reference: bool = False) -> tuple[Learner, Selection, list[Hook]]:
    """Everything a process would build anew; rounds are four steps long."""
    module = actor_critic()
    ref = copy_frozen(module.policy)

    def finish(examples: Any) -> Any:
        return with_reference(examples, ref, pad_id=PAD, token_budget=40, device=torch.device("cpu"))

    source = Selection(
        on_policy(module, n=3, max_new_tokens=5),
        choose,
        num_epochs=2,
        num_minibatches=2,
        pad_id=PAD,
        seed=4,
        finish=finish if reference else None,
        restart=initial_weights(module.policy) if anew else None,
    )
    policy = module.policy
    learner = make_learner(policy, token_budget=30, steps=STEPS, kind="constant" if anew else "linear")
    return learner, source, [forget_moments] if anew else []


CASES: dict[str, tuple[Callable[[], tuple[Learner, Selection, list[Hook]]], Any]] = {
    "raft": (lambda: parts(best), NLL()),
    "expert iteration": (lambda: parts(best, anew=True), NLL()),
    "online dpo": (lambda: parts(best_worst, reference=True), DPO(beta=0.3)),
}


def attempt(name: str, directory: Path, *, die_at: int = -1, every: int = 1) -> tuple[Learner, Selection]:
    """One process: resume if there is something to resume, train, perhaps die after step `die_at`."""
    make, objective = CASES[name]
    learner, source, own = make()

    def plug(info: StepInfo) -> None:
        if info.step == die_at:
            raise PowerCutError

    with Tracker(directory) as tracker:
        hooks.resume(directory / "ckpt", learner, source, tracker)
        chain = [hooks.log(tracker, 2), plug, *own, hooks.checkpoint(directory / "ckpt", every)]
        fit(learner, source, objective, steps=STEPS, hooks=chain)
    return learner, source


def lines(directory: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "time_s"} for row in read_metrics(directory)]


@pytest.mark.parametrize("name", CASES)
def test_a_killed_run_ends_with_the_same_bits_and_the_same_metrics(name: str, tmp_path: Path) -> None:
    straight, source = attempt(name, tmp_path / "straight")
    assert not same_weights(weights(straight.module), weights(CASES[name][0]()[0].module))
    for deaths in ([5], [3, 9, 11]):
        directory = tmp_path / str(len(deaths))
        for death in deaths:
            with pytest.raises(PowerCutError):
                attempt(name, directory, die_at=death)
        resumed, again = attempt(name, directory)
        assert same_weights(weights(resumed.module), weights(straight.module)), deaths
        assert again.state() == source.state() == {"round": 3}
        assert lines(directory) == lines(tmp_path / "straight")
