"""The benchmark of published shapes: its world is exact, its estimators agree, and a killed run continues."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.shapes import (
    __main__ as command,
)
from benchmarks.shapes import (
    critics,
    ensembles,
    figures,
    measures,
    overoptimisation,
    penalty,
    preferences,
    rewardmodels,
    variance,
)
from benchmarks.shapes import (
    world as worlds,
)
from benchmarks.shapes.optimise import Path as Curve
from benchmarks.shapes.optimise import best_of_n, policy_gradient, train_dpo

from accord.functional.losses import token_logp
from accord.functional.policy_losses import reinforce

SMALL: dict[ModuleType, dict[str, Any]] = {
    overoptimisation: {
        "labels": [30, 120],
        "width": 4,
        "widths": [2],
        "labels_of_widths": 120,
        "steps": 20,
        "pool": 256,
        "largest_n": 6,
    },
    penalty: {"labels": 30, "width": 4, "coefficients": [0.0, 0.2], "steps": 20},
    ensembles: {"labels": 30, "flips": 0.25, "width": 4, "members": 2, "singles": 1, "penalties": [0.5], "steps": 20},
    preferences: {
        "labels": 30,
        "width": 4,
        "betas": [0.1, 1.0],
        "coefficients": [0.1, 0.8],
        "gold_coefficients": [0.2],
        "steps": 20,
        "pool": 256,
        "largest_n": 4,
    },
    variance: {"ks": [2, 4], "total": 8, "prompts": 2, "repeats": 20},
    critics: {"lambdas": [0.0, 1.0], "steps": 3, "marks": [1, 2, 3], "batch": 16, "width": 4, "critic_steps": 1},
}


@pytest.fixture(scope="module")
def world() -> worlds.World:
    """One world."""
    return worlds.make_world(3)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every experiment at a size of a tenth of a second, with few steps of training."""
    for experiment, settings in SMALL.items():
        monkeypatch.setattr(experiment, "SETTINGS", settings)
    monkeypatch.setattr(rewardmodels, "STEPS", 20)
    monkeypatch.setattr(worlds, "SCALED_BY", 1000)


def test_gold_is_standardised_under_the_reference(world: worlds.World) -> None:
    ids = worlds.sample(world.ref_LV, 50_000, worlds.stream(0, "test"))
    feature = world.features(ids)
    gold = world.gold(feature)
    assert abs(float(gold.mean())) < 0.03 and abs(float(gold.std()) - 1) < 0.03
    assert float(feature.mean(dim=0).abs().max()) < 0.03 and float((feature.std(dim=0) - 1).abs().max()) < 0.03
    first = ids[0].view(worlds.QUARTERS, -1)
    counts = [float((quarter == token).sum()) for quarter in first for token in range(worlds.VOCABULARY)]
    torch.testing.assert_close(feature[0] * world.std_F + world.mean_F, torch.tensor(counts))


def test_log_probabilities_are_those_of_the_logits_and_give_the_divergence(world: worlds.World) -> None:
    policy = world.ref_LV + torch.linspace(-1, 1, worlds.VOCABULARY)
    ids = worlds.sample(policy, 100_000, worlds.stream(0, "test"))
    logp = worlds.reply_logp(policy, ids)
    torch.testing.assert_close(logp[:50], token_logp(policy.expand(50, -1, -1), ids[:50]))
    sampled = float((logp - worlds.reply_logp(world.ref_LV, ids)).sum(dim=1).mean())
    assert abs(sampled - worlds.divergence(policy, world.ref_LV)) < 0.03
    assert worlds.divergence(world.ref_LV, world.ref_LV) == pytest.approx(0.0, abs=1e-5)


def test_the_score_function_is_the_gradient_of_the_loss(world: worlds.World) -> None:
    ids = worlds.sample(world.ref_LV, 6, worlds.stream(0, "test"))
    reward = torch.randn(6, generator=worlds.stream(1, "test"))
    logits = world.ref_LV.clone().requires_grad_()
    logp = worlds.reply_logp(logits, ids)
    (reinforce(logp, reward[:, None].expand_as(logp)).sum() / 6).backward()
    assert logits.grad is not None
    direct = (variance.score_function(world.ref_LV, ids) * reward[:, None]).mean(dim=0)
    torch.testing.assert_close(-logits.grad.flatten(), direct)


def test_more_replies_a_prompt_and_an_exact_baseline_lower_the_variance(world: worlds.World) -> None:
    two, eight = (variance.spread(world, "group", k, 64 // k, 200)[0] for k in (2, 8))
    none, exact = (variance.spread(world, baseline, 1, 64, 200)[0] for baseline in ("none", "exact"))
    assert exact < eight < two and exact < none


def test_policy_gradient_and_dpo_raise_gold_and_flips_lower_accuracy(world: worlds.World) -> None:
    rl = policy_gradient(world, world.gold, "test", steps=40)
    pairs = rewardmodels.compare(world, 500, "test")
    fitted = train_dpo(world, pairs, 0.5, steps=40, every=40)
    assert rl.gold[-1] > 1.0 and fitted.gold[-1] > 0.5
    assert rl.kl[-1] > 0.5 and fitted.kl[-1] > 0.5
    clean = rewardmodels.train_proxy(world, pairs, 16, "clean")
    noisy = rewardmodels.train_proxy(world, rewardmodels.compare(world, 500, "test", flips=0.4), 16, "noisy")
    assert rewardmodels.accuracy(world, clean) > rewardmodels.accuracy(world, noisy) > 0.5


def test_flips_turn_that_share_of_labels(world: worlds.World) -> None:
    pairs = rewardmodels.compare(world, 20_000, "test", flips=0.25)
    right = world.gold(world.features(pairs.chosen)) > world.gold(world.features(pairs.rejected))
    assert abs(float(right.float().mean()) - 0.75) < 0.02


def test_best_of_n_by_gold_itself_rises(world: worlds.World) -> None:
    curve = best_of_n(world, world.gold, [1, 2, 4, 8], 2000)
    assert curve.kl[0] == 0.0 and curve.gold[0] == pytest.approx(0.0, abs=1e-6)
    assert all(b > a for a, b in itertools.pairwise(curve.gold))
    assert curve.gold == pytest.approx(curve.proxy)


def test_gold_at_a_divergence_is_read_at_the_first_visit() -> None:
    curve = Curve([0.0, 2.0, 4.0, 3.0], [0.0, 1.0, 2.0, 9.0], [0.0] * 4)
    assert curve.gold_at(3.0) == pytest.approx(1.5)
    assert curve.gold_at(0.0) == 0.0
    assert np.isnan(curve.gold_at(5.0))
    np.testing.assert_allclose(
        measures.on_grid(curve.kl, curve.gold, np.array([0.0, 2**0.5, 2.0, 3.0])), [0, 1, 2, np.nan]
    )


def test_intervals_over_seeds_are_students() -> None:
    found = measures.over_seeds([1.0, 2.0, 3.0, float("nan")])
    assert (found.value, found.n) == (2.0, 3)
    assert found.high - found.value == pytest.approx(4.302652729911275 / 3**0.5)
    assert measures.cell([1.0, 2.0, 3.0, float("nan")]).endswith(", n 3")
    assert measures.cell([float("nan")]) == "-"


def test_the_critic_sees_the_past_only() -> None:
    ids = torch.randint(worlds.VOCABULARY, (2, worlds.LENGTH), generator=worlds.stream(0, "test"))
    changed = ids.clone()
    changed[:, 7] = (changed[:, 7] + 1) % worlds.VOCABULARY
    same = (critics.prefixes(ids) == critics.prefixes(changed)).all(dim=2).all(dim=0)
    assert same.tolist() == [place <= 7 for place in range(worlds.LENGTH)]


@pytest.mark.usefixtures("quick")
def test_the_command_fills_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [experiment.NAME for experiment in command.EXPERIMENTS] + ["environment"]
    marks = [f"<!-- generated: begin {name} -->\nSTALE {name}\n<!-- generated: end {name} -->\n" for name in names]
    page = tmp_path / command.PAGE
    page.write_text("by hand\n" + "".join(marks))
    work = tmp_path / "work"
    monkeypatch.setattr(sys, "argv", ["shapes", "--out", str(tmp_path), "--work", str(work), "--seeds", "2"])
    command.main()
    text = page.read_text()
    assert text.startswith("by hand\n") and "STALE" not in text
    assert {path.name for path in tmp_path.glob("*.svg")} == {f"shapes-{name}.svg" for name in figures.DRAW}
    assert len(list(work.iterdir())) == 2 * len(command.EXPERIMENTS)


@pytest.mark.usefixtures("quick")
def test_a_result_is_kept_until_the_settings_change(tmp_path: Path) -> None:
    first = command.result(penalty, 0, tmp_path)
    kept = tmp_path / "penalty-0.json"
    kept.write_text(json.dumps({**first, "seconds": -1.0}))
    assert command.result(penalty, 0, tmp_path)["seconds"] == -1.0
    kept.write_text(json.dumps({**first, "seconds": -1.0, "settings": {**first["settings"], "steps": 10}}))
    again = command.result(penalty, 0, tmp_path)
    assert again["seconds"] > 0 and again["values"] == first["values"]


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="generated: begin penalty"):
        command.fill("nothing", "penalty", [])
