"""A run that is stopped anywhere and started again ends with the very bits of the uninterrupted one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from accord.checkpoints import latest_checkpoint, write_checkpoint
from accord.errors import TrainingError
from accord.models.build import copy_frozen
from accord.models.state import load_state, save_state
from accord.tracking import Tracker, read_metrics
from accord.train import hooks
from accord.train.examples import Example, Row
from accord.train.loop import Learner, Source, StepInfo, fit
from accord.train.objectives import DPO, NLL, PPO, BradleyTerry
from accord.train.sources import Offline, with_reference
from train_models import (
    PAD,
    VOCAB,
    Elsewhere,
    ListSource,
    actor_critic,
    causal,
    make_learner,
    on_policy,
    random_batch,
    same_weights,
    scorer,
    weights,
)

STEPS = 12


class PowerCutError(Exception):
    """Stands for kill -9: nothing after it runs."""


def rows(num: int, *, pairs: bool) -> list[Example]:
    batch = random_batch(num, seed=2)
    made = [
        Row(tuple(batch.ids_BT[b, :n].tolist()), tuple(batch.response_mask_BT[b, :n].tolist()))
        for b, n in enumerate(batch.lengths_B.tolist())
    ]
    return [Example(f"e{i}", tuple(made[2 * i : 2 * i + 1 + pairs])) for i in range(num)]


@dataclass
class Run:
    """Everything a process would build anew."""

    learner: Learner
    source: Source
    objective: Any


def sft() -> Run:
    module = causal()
    source = Offline(rows(10, pairs=False), batch_size=4, pad_id=PAD, seed=1)
    return Run(make_learner(module, token_budget=30, steps=STEPS, weight_decay=0.1), source, NLL())


def reward() -> Run:
    module = scorer()
    source = Offline(rows(7, pairs=True), batch_size=3, pad_id=PAD, seed=1)
    return Run(make_learner(module, token_budget=30, steps=STEPS, kind="cosine"), source, BradleyTerry())


def dpo() -> Run:
    module = causal(tie=False)
    ref = copy_frozen(module)
    examples = with_reference(rows(7, pairs=True), ref, pad_id=PAD, token_budget=40, device=torch.device("cpu"))
    source = Offline(examples, batch_size=3, pad_id=PAD, seed=1)
    return Run(make_learner(module, token_budget=30, steps=STEPS), source, DPO())


def ppo() -> Run:
    module = actor_critic()
    source = on_policy(module, kl_target=0.5, kl_horizon=50, max_new_tokens=5)
    learner = make_learner(
        module, source.forward, token_budget=30, steps=STEPS, overrides={"critic.": 3e-2}, weight_decay=0.01
    )
    return Run(learner, source, PPO())


def ppo_otherwise(*, elsewhere: bool = False, lies_from: int | None = None, **options: Any) -> Run:
    """PPO whose old log-probs are the sampler's, or whose replies are written a round ahead."""
    module = actor_critic()
    engine = Elsewhere(module, lies_from=lies_from) if elsewhere else None
    options = {"kl_target": 0.5, "kl_horizon": 50, "max_new_tokens": 5, "old_logps_check_rounds": 2} | options
    source = on_policy(module, engine=engine, critic_forward=module.critic, **options)
    return Run(make_learner(module, source.forward, token_budget=30, steps=STEPS), source, PPO())


ALGORITHMS: dict[str, Callable[[], Run]] = {
    "sft": sft,
    "reward": reward,
    "dpo": dpo,
    "ppo": ppo,
    "ppo, log-probs of the sampler": partial(ppo_otherwise, old_logps="auto"),
    "ppo, log-probs of a sampler that is refused": partial(
        ppo_otherwise, old_logps="auto", elsewhere=True, num_epochs=1, lies_from=4
    ),
    "ppo, a round ahead": partial(ppo_otherwise, num_epochs=1, async_steps=1, num_rounds=6),
    "ppo, a round ahead elsewhere": partial(
        ppo_otherwise, num_epochs=1, async_steps=1, num_rounds=6, old_logps="auto", elsewhere=True
    ),
}


def attempt(make: Callable[[], Run], directory: Path, *, die_at: int = -1, every: int = 1, log_every: int = 2) -> Run:
    """One process: resume if there is something to resume, train, perhaps die after step `die_at`."""
    run = make()

    def plug(info: StepInfo) -> None:
        if info.step == die_at:
            raise PowerCutError

    with Tracker(directory) as tracker:
        hooks.resume(directory / "ckpt", run.learner, run.source, tracker)
        chain = [hooks.log(tracker, log_every), plug, hooks.checkpoint(directory / "ckpt", every)]
        fit(run.learner, run.source, run.objective, steps=STEPS, hooks=chain)
    return run


def lines(directory: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "time_s"} for row in read_metrics(directory)]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_killed_run_ends_with_the_same_bits_and_the_same_metrics(name: str, tmp_path: Path) -> None:
    make = ALGORITHMS[name]
    straight = attempt(make, tmp_path / "straight")
    assert not same_weights(weights(straight.learner.module), weights(make().learner.module))
    rand = random.Random(name)
    for trial in range(3):
        directory = tmp_path / str(trial)
        every = rand.choice([1, 2, 3, 5])
        deaths = sorted(rand.sample(range(1, STEPS), rand.choice([1, 2, 3])))
        for death in deaths:
            with pytest.raises(PowerCutError):
                attempt(make, directory, die_at=death, every=every)
        resumed = attempt(make, directory, every=every)
        assert same_weights(weights(resumed.learner.module), weights(straight.learner.module)), (every, deaths)
        assert resumed.source.state() == straight.source.state()
        assert lines(directory) == lines(tmp_path / "straight")
    steps = [row["step"] for row in lines(tmp_path / "straight")]
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS


def test_steps_between_two_lines_are_remembered_over_a_resume(tmp_path: Path) -> None:
    """The line at step 8 stands for steps 1 to 8 although the process died at step 6."""
    attempt(sft, tmp_path / "straight", log_every=8)
    with pytest.raises(PowerCutError):
        attempt(sft, tmp_path / "killed", die_at=6, every=4, log_every=8)
    attempt(sft, tmp_path / "killed", every=4, log_every=8)
    assert lines(tmp_path / "killed") == lines(tmp_path / "straight")
    assert [row["step"] for row in lines(tmp_path / "killed")] == [8, STEPS]


def test_checkpoints_are_written_at_boundaries_only_and_at_the_same_steps_after_a_resume(tmp_path: Path) -> None:
    written: list[list[int]] = []
    for deaths in ([], [7]):
        directory = tmp_path / str(len(deaths))
        seen: list[int] = []
        for death in [*deaths, -1]:
            run = ppo()

            def watch(info: StepInfo, at=directory, to=seen, death=death) -> None:
                found, _ = latest_checkpoint(at)
                if found is not None and found.step not in to:
                    to.append(found.step)
                if info.step == death:
                    raise PowerCutError

            with Tracker(directory) as tracker:
                hooks.resume(directory, run.learner, run.source, tracker)
                chain = [hooks.checkpoint(directory, 3, keep=1), watch]
                try:
                    fit(run.learner, run.source, run.objective, steps=STEPS, hooks=chain)
                except PowerCutError:
                    continue
        written.append(seen)
    # Rounds are four steps long; at least three steps lie between two checkpoints, and none is at the end.
    assert written == [[4, 8], [4, 8]]


def test_a_guard_stops_a_resumed_run_at_the_same_step(tmp_path: Path) -> None:
    """Its count of bad readings is part of the checkpoint, and an early stop is never walked past."""

    def guarded(directory: Path, die_at: int, die_after_stop: bool = False) -> Learner:
        run = sft()

        def plug(info: StepInfo) -> None:
            if info.step == die_at:
                raise PowerCutError

        guard = hooks.Guard({"nll": (9.0, 10.0)}, patience=6)
        with Tracker(directory) as tracker:
            hooks.resume(directory, run.learner, run.source, tracker)
            chain = [plug, guard, hooks.checkpoint(directory, 1)]
            fit(run.learner, run.source, run.objective, steps=STEPS, hooks=chain)
        if die_after_stop:
            raise PowerCutError
        assert len(guard.alarms) == 1
        return run.learner

    straight = guarded(tmp_path / "a", -1)
    assert straight.step == 6
    with pytest.raises(PowerCutError):
        guarded(tmp_path / "b", 4)
    with pytest.raises(PowerCutError):
        guarded(tmp_path / "b", -1, die_after_stop=True)
    again = guarded(tmp_path / "b", -1)
    assert again.step == 6
    assert same_weights(weights(again.module), weights(straight.module))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path) -> None:
    straight = attempt(sft, tmp_path / "straight")
    directory = tmp_path / "damaged"
    with pytest.raises(PowerCutError):
        attempt(sft, directory, die_at=6, every=2)
    newest, _ = latest_checkpoint(directory / "ckpt")
    assert newest is not None and newest.step == 4
    file = newest.path / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    said: list[str] = []
    run = sft()
    with Tracker(directory) as tracker:
        assert hooks.resume(directory / "ckpt", run.learner, run.source, tracker, said.append) == 2
    assert len(said) == 1 and "ckpt-00000004" in said[0]
    resumed = attempt(sft, directory, every=2)
    assert same_weights(weights(resumed.learner.module), weights(straight.learner.module))


def test_without_a_checkpoint_a_run_starts_afresh_and_old_lines_go(tmp_path: Path) -> None:
    with pytest.raises(PowerCutError):
        attempt(sft, tmp_path, die_at=3, every=100, log_every=1)
    assert [row["step"] for row in lines(tmp_path)] == [1, 2, 3]
    attempt(sft, tmp_path, every=100, log_every=1)
    assert [row["step"] for row in lines(tmp_path)] == list(range(1, STEPS + 1))


def through_disk(learner: Learner, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, meta = learner.state()
    save_state(path, tensors, meta)
    return load_state(path)


def two_groups(dtype: torch.dtype, tie: bool) -> Learner:
    module = actor_critic(dtype)
    if not tie:
        module.policy = causal(dtype, tie=False)
    module.policy.inner.model.layers[0].mlp.requires_grad_(False)
    return make_learner(
        module, lambda b: module(b, entropy=True), overrides={"critic.": 0.03}, weight_decay=0.1, token_budget=40
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("tie", [True, False])
def test_the_state_of_a_learner_is_exact(dtype: torch.dtype, tie: bool, tmp_path: Path) -> None:
    """Tied weights, frozen weights, four parameter groups, every type of weights."""
    source = ListSource([random_batch(3, seed=i) for i in range(5)])
    one = two_groups(dtype, tie)
    assert len(one.optimizer.param_groups) == 4
    fit(one, source, PPO(), steps=3)
    tensors, meta = through_disk(one, tmp_path)
    named = [name for name in tensors if name.startswith("module.")]
    assert len(named) == len(list(one.trainable()))
    assert not any("mlp" in name and "policy" in name for name in named), "frozen weights come from the input"
    assert ("module.policy.hf.lm_head.weight" in named) == (not tie)

    other = two_groups(dtype, tie)
    other.restore(tensors, meta)
    assert other.step == 3
    fit(one, source, PPO(), steps=6)
    source.drawn = 3
    fit(other, source, PPO(), steps=6)
    assert same_weights(weights(one.module), weights(other.module))
    for a, b in zip(one.optimizer.param_groups, other.optimizer.param_groups, strict=True):
        for p, q in zip(a["params"], b["params"], strict=True):
            old, new = one.optimizer.state[p], other.optimizer.state[q]
            assert old.keys() == new.keys()
            assert all(torch.equal(old[key], new[key]) for key in old)


def test_a_restored_learner_does_not_share_memory_with_what_it_was_restored_from() -> None:
    source = ListSource([random_batch(3)])
    one = make_learner(causal())
    fit(one, source, NLL(), steps=2)
    tensors, meta = one.state()
    kept = {name: t.clone() for name, t in tensors.items()}
    other = make_learner(causal())
    other.restore(kept, meta)
    fit(other, source, NLL(), steps=4)
    assert all(torch.equal(kept[name], t) for name, t in tensors.items())


def test_restoring_over_an_optimiser_in_use_forgets_its_state() -> None:
    learner = make_learner(causal())
    start, meta = learner.state()
    start, meta = {name: t.clone() for name, t in start.items()}, dict(meta)
    source = ListSource([random_batch(3)])
    fit(learner, source, NLL(), steps=3)
    first = weights(learner.module)
    learner.restore(start, meta)
    assert learner.step == 0
    source.drawn = 0
    fit(learner, source, NLL(), steps=3)
    assert same_weights(weights(learner.module), first)


def change(tensors: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    name = next(n for n in tensors if n.startswith("module."))
    changed = dict(tensors)
    if how == "missing":
        del changed[name]
    elif how == "shape":
        changed[name] = torch.zeros(VOCAB + 1)
    elif how == "type":
        changed[name] = changed[name].double()
    else:
        changed["module.another"] = torch.zeros(1)
    return changed


@pytest.mark.parametrize("how", ["missing", "shape", "type", "extra"])
def test_a_checkpoint_of_another_model_is_refused_and_nothing_is_changed(how: str) -> None:
    learner = make_learner(causal())
    fit(learner, ListSource([random_batch(2)]), NLL(), steps=1)
    tensors, meta = learner.state()
    other = make_learner(causal(seed=1))
    before = weights(other.module)
    with pytest.raises(TrainingError, match="does not fit the model"):
        other.restore(change(tensors, how), meta)
    assert same_weights(weights(other.module), before)


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    with pytest.raises(PowerCutError):
        attempt(sft, tmp_path, die_at=4, every=2)

    def writer(path: Path) -> None:
        (path / "half").write_bytes(b"1")
        raise PowerCutError

    with pytest.raises(PowerCutError):
        write_checkpoint(tmp_path / "ckpt", 3, writer)
    found, skipped = latest_checkpoint(tmp_path / "ckpt")
    assert found is not None and found.step == 2 and not skipped
