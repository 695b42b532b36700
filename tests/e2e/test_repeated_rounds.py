"""Two rounds of collect, reward and PPO on the lab, and the stages that choose among replies, from text to report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accord.artifacts import Artifact
from accord.cli import load
from accord.config import dump
from accord.errors import Waiting
from accord.overview import lines, rounds
from accord.pipeline import run_pipeline
from accord.stages import STAGES
from tiny_lab import CONFIG, Ran, rows, run, write_config

CHOOSING = """\
  max_length: 128
  max_completion_length: 8
  num_rounds: 3
  train_batch_size: 8
  num_mini_batches: 2
  learning_rate: 1.0e-3
  prompts: lab:prompts?num=30&split=train
  eval_prompts: lab:prompts?num=4&split=probe
  eval_steps: 3
  save_steps: 2
  judge: lab
"""


def config() -> str:
    """The tiny loop without DPO, its loop repeated, with best-of-n, expert iteration and online DPO beside it."""
    head, _, tail = CONFIG.partition("dpo:\n")
    middle = head.replace("num_rounds: 4", "num_rounds: 1").replace("judge: lab\n\n", "judge: lab\n\n", 1)
    rounds = "rounds:\n  count: 2\n  stages: [sample, collect, reward, ppo]\n  prompts: next\n\n"
    middle = middle.replace("num=40&split=train\n", "num=60&split=train\n  num_prompts: 30\n")
    more = f"expert:\n  num_generations: 4\n{CHOOSING}\nonline_dpo:\n  num_generations: 3\n{CHOOSING}\n"
    more += (
        "best_of_n:\n  prompts: lab:prompts?num=12&split=eval\n  num_generations: 4\n  max_completion_length: 8\n"
        "  judge: lab:gold\n\n"
    )
    last = tail[tail.index("evaluate:") :].replace(
        "evaluate:\n",
        "evaluate:\n  models: {sft: sft, ppo: ppo, expert: expert, online: online_dpo}\n  answers: {bo4: best_of_n}\n",
    )
    return rounds + middle + more + last


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("config"), config())


@pytest.fixture(scope="module")
def ran(path: Path, runs: Path) -> Ran:
    return run(path, runs)


def made_from(artifact: Artifact) -> dict[str, str]:
    """Input -> stage that made it, lab sets aside."""
    return {f: i.stage for f, i in artifact.manifest.inputs.items() if i.stage != "external"}


def test_the_second_round_is_made_from_the_first(ran: Ran) -> None:
    assert made_from(ran.made["sample_2"]) == {"models.ppo": "ppo"}
    assert made_from(ran.made["collect_2"]) == {"samples": "sample_2", "earlier": "collect"}
    assert made_from(ran.made["reward_2"]) == {"model_name_or_path": "sft", "dataset": "collect_2"}
    assert made_from(ran.made["ppo_2"]) == {"model_name_or_path": "sft", "reward_model": "reward_2"}
    inputs = ran.made["sample_2"].manifest.inputs
    assert inputs["models.ppo"].fingerprint == ran.made["ppo"].fingerprint


def test_labels_of_both_rounds_are_learnt_from_and_prompts_are_new(ran: Ran) -> None:
    first = rows(ran.made["collect"].dir / "preferences.jsonl")
    both = rows(ran.made["collect_2"].dir / "preferences.jsonl")
    new = rows(ran.made["collect_2"].dir / "new.jsonl")
    assert both == [*first, *new]
    assert ran.made["collect_2"].manifest.metrics["earlier"] == len(first)
    prompts = [{row["prompt"]["id"] for row in part} for part in (first, new)]
    assert prompts[0] and prompts[1] and not prompts[0] & prompts[1]
    assert {c["model"] for row in new for c in row["candidates"]} == {"ppo"}
    assert ran.made["reward_2"].manifest.metrics["pairs"] > ran.made["reward"].manifest.metrics["pairs"]


def test_all_rounds_are_compared(ran: Ran) -> None:
    results = json.loads((ran.made["evaluate"].dir / "results.json").read_text(encoding="utf-8"))
    assert set(results["models"]) == {"sft", "ppo", "ppo_2", "expert", "online", "bo4"}
    assert (ran.made["report"].dir / "report.html").stat().st_size > 10_000


def test_best_of_n_is_judged_beside_the_policies(ran: Ran) -> None:
    artifact = ran.made["best_of_n"]
    results = json.loads((ran.made["evaluate"].dir / "results.json").read_text(encoding="utf-8"))
    chosen = {row["prompt"]["id"]: row["candidates"][0] for row in rows(artifact.dir / "best.jsonl")}
    for row in rows(ran.made["evaluate"].dir / "answers.jsonl"):
        assert row["answers"]["bo4"] == chosen[row["prompt"]["id"]]["text"]
    assert results["models"]["bo4"]["kl"] == artifact.manifest.metrics["kl"] == pytest.approx(0.6363, abs=1e-4)
    points = json.loads((artifact.dir / "curve.json").read_text(encoding="utf-8"))
    assert [p["n"] for p in points] == [1, 2, 4]
    # The mean over subsets: of one reply it is the mean of all, of all it is the best.
    scores = [row["scores"] for row in rows(artifact.dir / "scores.jsonl")]
    assert points[0]["proxy"]["value"] == pytest.approx(sum(map(sum, scores)) / sum(map(len, scores)))
    assert points[0]["proxy"]["value"] < points[1]["proxy"]["value"] < points[2]["proxy"]["value"]
    assert {"value", "low", "high", "n"} == set(artifact.manifest.metrics["win_rate"])
    for row, pool in zip(rows(artifact.dir / "scores.jsonl"), rows(artifact.dir / "samples.jsonl"), strict=True):
        assert chosen[row["id"]] == pool["candidates"][row["best"]]
    demonstrations = rows(artifact.dir / "demonstrations.jsonl")
    assert all(d["messages"][-1]["content"] == chosen[d["id"]]["text"] for d in demonstrations)


@pytest.mark.parametrize("section", ["expert", "online_dpo"])
def test_policies_are_trained_on_their_own_replies(ran: Ran, section: str) -> None:
    metrics = ran.made[section].manifest.metrics
    assert (metrics["rounds"], metrics["steps"]) == (3, 6)
    assert {"eval_gold", "eval_proxy", "eval_kl"} <= set(metrics)
    logged = rows(ran.made[section].dir / "metrics.jsonl")
    assert logged[0]["eval/kl"] == pytest.approx(0, abs=1e-6)
    assert logged[-1]["eval/kl"] != 0
    found = [row for row in logged if "selection/scores" in row]
    assert all(row["selection/scores"] > row["objective/scores"] for row in found)
    kept = [row["selection/kept"] for row in found]
    assert all(k == pytest.approx(0.25) for k in kept) if section == "expert" else all(0 < k <= 2 / 3 for k in kept)


def test_running_again_repeats_nothing_and_a_change_of_round_2_keeps_round_1(ran: Ran, path: Path, runs: Path) -> None:
    assert run(path, runs).worked == set()
    again = run(path, runs, "reward_2.max_steps=3", only="ppo_2")
    assert again.worked == {"reward_2", "ppo_2"}


def test_the_overview_lists_the_rounds_in_order(ran: Ran, runs: Path) -> None:
    names = [line.directory.rpartition("-")[0] for line in lines(runs / "tiny") if line.state == "current"]
    order = [n for n in names if n.split("_")[0] in ("sample", "collect", "reward", "ppo")]
    assert order == ["sample", "collect", "reward", "ppo", "sample_2", "collect_2", "reward_2", "ppo_2"]


def test_the_overview_says_what_each_round_is_worth(ran: Ran, runs: Path, path: Path) -> None:
    (runs / "tiny" / "config.yaml").write_text(dump(load(path, [f"run.dir={runs}"])), encoding="utf-8")
    first, second = rounds(runs / "tiny")
    assert first.startswith("round 1: reward accuracy ") and "; ppo eval_gold " in first
    assert second.startswith("round 2: reward_2 accuracy ") and "; ppo_2 eval_gold " in second


def test_a_round_waits_for_people(ran: Ran, path: Path, runs: Path) -> None:
    """The first round's labels are there; the second asks for its own in a file of its own."""
    overrides = ["collect_2.annotators=people", "collect_2.min_labels=2"]
    waiting = load(path, [f"run.dir={runs}", *overrides])
    with pytest.raises(Waiting, match="0 of 2 labels") as caught:
        run_pipeline(waiting, STAGES, say=lambda line: None)
    assert "collect_2-labels.jsonl" in str(caught.value)
    tasks = rows(runs / "tiny" / "collect_2-tasks.jsonl")
    labelled = [{**task, "choice": 0, "annotator": "a"} for task in tasks[:3]]
    labels = runs / "tiny" / "collect_2-labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in labelled), encoding="utf-8")
    made = run_pipeline(waiting, STAGES, only="collect_2", say=lambda line: None)
    metrics = made["collect_2"].manifest.metrics
    assert metrics["num"] == 3
    assert metrics["rows"] == 3 + made["collect"].manifest.metrics["rows"]
