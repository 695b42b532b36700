"""Every loss of the offline stages trains a tiny model through its stage; TR-DPO and KTO resume bit for bit."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import tiny_lab
from accord.errors import ConfigError, DataError
from accord.models.checkpoint import load_causal
from accord.models.policy import CausalModel
from accord.stages import offline
from accord.stages.configs.offline import LossType
from accord.stages.policies import Loaded
from accord.tracking import read_metrics
from tiny_lab import Ran

pytestmark = pytest.mark.slow
LOSSES = [name for name in get_args(LossType) if name != "ipo"]

CONFIG = """\
run:
  name: offline
  threads: 1

pretrain:
  dataset: lab:corpus?num=60
  vocab_size: 300
  hidden_size: 16
  num_hidden_layers: 1
  num_attention_heads: 2
  num_key_value_heads: 1
  intermediate_size: 16
  max_position_embeddings: 160
  max_length: 64
  max_steps: 2
  train_batch_size: 4
"""

STAGE = {
    "model_name_or_path": "pretrain",
    "max_length": 128,
    "max_steps": 2,
    "train_batch_size": 5,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "warmup_ratio": 0.0,
    "eval_fraction": 0.25,
    "logging_steps": 1,
    "save_steps": 1,
    "max_grad_norm": 0.0,
}


def conversation(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, pairs, and single replies."""
    directory = tmp_path_factory.mktemp("offline")
    words = ["a good", "the bad", "one fine", "some dull", "no such", "any old"]
    pairs, thumbs = [], []
    for i in range(16):
        prompt = conversation(f"tell me about {words[i % 6]} thing {i // 2}")
        chosen, rejected = words[i % 5] * (1 + i % 3), words[(i + 1) % 5] + " one"
        pairs.append({"prompt": prompt, "chosen": reply(chosen), "rejected": reply(rejected)})
        text = chosen if i % 3 else rejected
        thumbs.append({"prompt": prompt, "completion": reply(text), "label": bool(i % 3)})
    for name, rows in (("pairs", pairs), ("thumbs", thumbs)):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny_lab.write_config(directory, CONFIG)
    tiny_lab.run(directory / "tiny.yaml", directory / "runs")
    return directory


def reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def train(place: Path, stage: str, data: str = "pairs", **options: Any) -> Ran:
    settings = {**STAGE, "dataset": str(place / f"{data}.jsonl"), **options}
    overrides = [f"{stage}.{name}={json.dumps(value)}" for name, value in settings.items()]
    return tiny_lab.run(place / "tiny.yaml", place / "runs", *overrides, only=stage)


def metrics(ran: Ran, stage: str) -> list[dict[str, float]]:
    return read_metrics(ran.made[stage].dir)


def weights(ran: Ran, stage: str) -> dict[str, torch.Tensor]:
    model = CausalModel(load_causal(str(ran.made[stage].dir / "model"), dtype=torch.float32))
    return {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_on_pairs_trains(place: Path, loss: str) -> None:
    options = {"label_smoothing": 0.1} if loss == "robust" else {}
    ran = train(place, "dpo", loss_type=loss, **options)
    lines = metrics(ran, "dpo")
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [1, 2]
    assert all(math.isfinite(v) for line in lines for k, v in line.items() if k != "nonfinite")
    assert all("nonfinite" not in line for line in lines)
    assert all(line["grad_norm"] > 0 for line in logged)
    assert ran.made["dpo"].manifest.metrics["pairs"] > 0
    before, after = weights(ran, "pretrain"), weights(ran, "dpo")
    assert any(not torch.equal(before[name], after[name]) for name in after)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_a_reference_none_is_scored(place: Path, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[str] = []
    right = offline.with_reference
    monkeypatch.setattr(offline, "with_reference", lambda *a, **o: scored.append(loss) or right(*a, **o))
    monkeypatch.setattr(Loaded, "reference", lambda self: pytest.fail("nothing here needs a copy of the policy"))
    options = {"label_smoothing": 0.1} if loss == "robust" else {}
    train(place, "dpo", loss_type=loss, max_steps=1, learning_rate=2e-3, **options)
    assert scored == ([] if loss in ("slic", "simpo", "cpo", "orpo", "sft") else [loss])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_small_step_lowers_the_loss_of_the_same_pairs(place: Path, loss: str) -> None:
    options = {"label_smoothing": 0.1} if loss == "robust" else {}
    ran = train(place, "dpo", loss_type=loss, learning_rate=1e-4, train_batch_size=16, eval_fraction=0.0, **options)
    assert ran.made["dpo"].manifest.metrics["pairs"] == 16, "a step is an epoch"
    first, second = [line["loss"] for line in metrics(ran, "dpo") if "loss" in line]
    assert second < first


@pytest.mark.parametrize("stage", ["ipo", "simpo", "cpo", "orpo"])
def test_stages_of_their_own_are_the_loss_of_that_name(place: Path, stage: str) -> None:
    options = {"simpo": {"beta": 2.0, "simpo_gamma": 1.0}}.get(stage, {})
    own = metrics(train(place, stage), stage)
    other = metrics(train(place, "dpo", loss_type=stage, **options), "dpo")
    # Seeds come from the section's name, so the batches differ, and the held-out loss at the start does not.
    assert own[0]["eval/loss"] == pytest.approx(other[0]["eval/loss"], rel=1e-6)


@pytest.mark.parametrize("data", ["thumbs", "pairs"])
@pytest.mark.parametrize("loss", ["kto", "bco", "apo_zero_unpaired"])
def test_kto_trains_on_thumbs_and_on_pairs(place: Path, loss: str, data: str) -> None:
    ran = train(place, "kto", data, loss_type=loss)
    logged = [line for line in metrics(ran, "kto") if "loss" in line]
    assert len(logged) == 2 and all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in logged)
    # The policy is the reference at the first step: log-ratios and z0 are 0.
    start = {"kto": 0.5, "bco": math.log(2), "apo_zero_unpaired": 0.5}[loss]
    assert logged[0]["loss"] == pytest.approx(start, abs=1e-5)
    assert ("kl" in logged[0]) == (loss == "kto")
    assert any("desirable" in line and "undesirable" in line for line in ran.lines)


def test_kto_refuses_what_it_cannot_learn_from(place: Path) -> None:
    rows = [json.loads(line) for line in (place / "thumbs.jsonl").read_text().splitlines()]
    (place / "equal.jsonl").write_text("".join(json.dumps({**row, "label": True}) + "\n" for row in rows))
    with pytest.raises(DataError, match="label"):
        train(place, "kto", "equal")
    (place / "chats.jsonl").write_text(json.dumps({"messages": conversation("hi") + reply("ho")}) + "\n")
    with pytest.raises(DataError, match="no judgements"):
        train(place, "kto", "chats")


def test_held_out_replies_that_are_all_the_same_cost_their_loss_only(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [json.loads(line) for line in (place / "thumbs.jsonl").read_text().splitlines()]
    same = [{**row, "completion": reply("always this")} for row in rows[:4]]
    (place / "same.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + same))
    monkeypatch.setattr(offline, "hold_out", lambda records, *_: (records[: len(rows)], records[len(rows) :]))
    ran = train(place, "kto", "same")
    assert any("no held-out loss" in line for line in ran.lines)
    assert not any("eval/loss" in line for line in metrics(ran, "kto"))


class Stopped(Exception):  # noqa: N818
    """Stands for kill -9."""


def test_a_moving_reference_survives_a_kill(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accord.train import hooks

    options = {"sync_ref_model": True, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.5, "max_steps": 5}
    straight = train(place, "dpo", **options)
    still = train(place, "dpo", max_steps=5)
    path = [[line["loss"] for line in metrics(ran, "dpo") if "loss" in line] for ran in (straight, still)]
    assert path[0][:2] == pytest.approx(path[1][:2], abs=1e-6), "the reference has not moved yet"
    assert path[0][2:] != pytest.approx(path[1][2:], abs=1e-7)

    runs = place / "again"
    (base,) = (place / "runs" / "offline").glob("pretrain-*")  # made where short rows have another kernel
    shutil.copytree(base, runs / "offline" / base.name)
    kept = hooks.checkpoint

    def dies(directory: Path, every: int, keep: int = 2) -> Any:
        inner = kept(directory, every, keep)

        def hook(info: Any) -> None:
            inner(info)
            if info.step == 3:
                raise Stopped

        return hook

    settings = {**STAGE, "dataset": str(place / "pairs.jsonl"), **options}
    overrides = [f"dpo.{name}={json.dumps(value)}" for name, value in settings.items()]
    with monkeypatch.context() as patch:
        patch.setattr(hooks, "checkpoint", dies)
        with pytest.raises(Stopped):
            tiny_lab.run(place / "tiny.yaml", runs, *overrides, only="dpo")
    resumed = tiny_lab.run(place / "tiny.yaml", runs, *overrides, only="dpo")
    assert any("continuing from step 3" in line for line in resumed.lines)
    one, other = weights(straight, "dpo"), weights(resumed, "dpo")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss_type": "slick"}, "loss_type"),
        ({"loss_type": ["sigmoid", "sigmoid"]}, "twice"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "2 losses in loss_type and 1 loss_weights"),
        ({"simpo_gamma": 0.5}, "simpo_gamma does nothing"),
        ({"loss_type": "simpo", "reference_free": True}, "reference_free"),
        ({"loss_type": "ipo", "ld_alpha": 0.5}, "means per token"),
        ({"loss_type": "ipo", "f_divergence_type": "forward_kl"}, "f_divergence_type"),
        ({"f_alpha_divergence_coef": 0.3}, "f_alpha_divergence_coef"),
        ({"loss_type": "robust"}, "label_smoothing above 0"),
        ({"loss_type": ["aot", "aot_unpaired"]}, "choose one"),
        ({"sync_ref_model": True, "use_peft": True}, "sync_ref_model"),
        ({"sync_ref_model": True, "loss_type": "orpo"}, "does not read a reference"),
        ({"ref_model_sync_steps": 3}, "without sync_ref_model"),
        ({"loss_type": "sft", "label_smoothing": 0.1}, "label_smoothing"),
        ({"loss_type": "slic", "beta": 0.2}, "beta"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(place: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train(place, "dpo", **options)


def test_reference_log_probs_are_computed_once_for_all_losses(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forwards: list[int] = []
    right = Loaded.reference_forward

    def counted(self: Loaded, *args: Any) -> Any:
        forward = right(self, *args)

        def count(batch: Any) -> Any:
            forwards.append(batch.num_rows)
            return forward(batch)

        return count

    monkeypatch.setattr(Loaded, "reference_forward", counted)
    options = {"max_steps": 4, "token_budget": 4321}  # an epoch and more, as no other test has it
    train(place, "dpo", **options)
    rows = sum(forwards)
    assert rows == 32
    train(place, "dpo", loss_type="hinge", **options)
    train(place, "ipo", **options)
    assert sum(forwards) == rows
    train(place, "dpo", eval_fraction=0.5, **options)
    assert sum(forwards) == rows + 32, "the examples come in another order, so it is another file"
    other = train(place, "dpo", max_steps=1, loss_type="sft", learning_rate=0.1).made["dpo"].dir / "model"
    train(place, "dpo", model_name_or_path=str(other), **options)
    assert sum(forwards) == rows + 64, "another model has other log-probs"
