"""A made-up run directory, as the stages would leave it, for tests of what reads one."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accord.pipeline import stage_of
from accord.stages import STAGES
from accord.stats import best_of_n_kl, wilson

EVIL = "<script>alert('pwned')</script>"
EVIL_IMAGE = '"><img src=http://evil.example/x onerror=alert(1)>'
MODELS = ("base", "sft", "ppo", "dpo")
PARTS = ("helpful", "harmless", "honest", "concise")
INPUTS = {
    "pretrain": (),
    "sft": ("pretrain",),
    "sample": ("sft",),
    "collect": ("sample",),
    "reward": ("sft", "collect"),
    "ppo": ("sft", "reward"),
    "dpo": ("sft", "collect"),
    "evaluate": ("pretrain", "sft", "reward", "ppo", "dpo"),
}
SECONDS = {"pretrain": 71.2, "sft": 24.6, "sample": 9.4, "collect": 1.2, "reward": 21.0, "ppo": 83.5, "dpo": 18.3,
           "evaluate": 14.9}  # fmt: skip


def fingerprint(stage: str) -> str:
    return hashlib.sha256(stage.encode()).hexdigest()


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def estimate_of(value: float, n: int = 300) -> dict[str, float]:
    return asdict(wilson(value * n, n))


def fields_of(stage: str, inputs: Iterable[str]) -> dict[str, str]:
    """Config field of each input; the base model goes by another name than its stage."""
    if not stage.startswith("evaluate"):
        return {s: s for s in inputs}
    return {f"models.{'base' if s == 'pretrain' else s}": s for s in inputs}


def write_stage(
    run: Path,
    stage: str,
    metrics: dict[str, Any] | None = None,
    *,
    inputs: Iterable[str] | None = None,
    kind: str = "policy",
) -> Path:
    directory = run / f"{stage}-{fingerprint(stage)[:8]}"
    directory.mkdir(parents=True, exist_ok=True)
    manifest = {
        "stage": stage,
        "version": "1",
        "kind": kind,
        "fingerprint": fingerprint(stage),
        "config": {"learning_rate": 1e-4, "note": EVIL},
        "seed": 7,
        "inputs": {
            field: {"stage": s, "fingerprint": fingerprint(s), "path": f"{s}-x"}
            for field, s in fields_of(stage, inputs if inputs is not None else INPUTS.get(stage, ())).items()
        },
        "files": {},
        "metrics": metrics or {"eval/loss": 1.234},
        "seconds": SECONDS.get(stage, 20.0),
        "peak_memory_mb": 500 + 7 * SECONDS.get(stage, 20.0),
        "created": "2030-01-02T03:04:05Z",
        "versions": {"accord": "0.1.0", "torch": "2.13.0", "python": "3.11.9", "platform": "Linux x86_64"},
    }
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory


def language_metrics(rng: random.Random, steps: int, start: float, end: float) -> Iterable[dict[str, Any]]:
    for step in range(steps):
        loss = end + (start - end) * math.exp(-4 * step / steps)
        row = {
            "step": step,
            "time_s": step * 0.1,
            "loss": loss + rng.gauss(0, 0.06),
            "tokens_per_s": rng.gauss(21e3, 800),
        }
        yield row | ({"eval/loss": loss + 0.05} if step % (steps // 8) == 0 else {})


def evals(at: float, hacked: bool) -> dict[str, float]:
    gold = 0.42 + 0.3 * at - (0.42 * max(at - 0.55, 0) if hacked else 0)
    values = {
        "eval/proxy": -0.3 + 2.3 * at,
        "eval/gold": gold,
        "eval/kl": 14 * at**1.6,
        "eval/length": 21 + 6 * at,
    }
    return values | {f"eval/gold_{p}": gold + 0.08 * i - 0.1 for i, p in enumerate(PARTS)}


def ppo_metrics(rng: random.Random, steps: int = 160) -> Iterable[dict[str, Any]]:
    for step in range(steps):
        at = step / steps
        row: dict[str, Any] = {"step": step, "time_s": float(step)}
        row["objective/kl"] = max(14 * at**1.5 + rng.gauss(0, 0.5), 0)
        row["objective/scores"] = -0.3 + 2.2 * at + rng.gauss(0, 0.25)
        row["objective/rlhf_reward"] = row["objective/scores"] - 0.05 * row["objective/kl"]
        row["objective/entropy"] = 1.9 - 0.9 * at + rng.gauss(0, 0.05)
        row["policy/approxkl_avg"] = abs(rng.gauss(0.008, 0.004))
        row["policy/clipfrac_avg"] = abs(rng.gauss(0.07, 0.03))
        row["loss/policy_avg"] = rng.gauss(-0.01, 0.006)
        row["loss/value_avg"] = 0.7 * math.exp(-5 * at) + abs(rng.gauss(0.05, 0.02))
        row["val/ratio"] = rng.gauss(1, 0.004)
        row["completions/mean_length"] = 21 + 5 * at + rng.gauss(0, 0.8)
        yield row | (evals(at, True) if step % 10 == 0 or step == steps - 1 else {})


def dpo_metrics(rng: random.Random, steps: int = 120) -> Iterable[dict[str, Any]]:
    for step in range(steps):
        at = step / steps
        row: dict[str, Any] = {"step": step, "loss": math.log(2) - 0.25 * at + rng.gauss(0, 0.03)}
        row["rewards/chosen"], row["rewards/rejected"] = (
            0.2 * at + rng.gauss(0, 0.04),
            -0.7 * at + rng.gauss(0, 0.04),
        )
        row["rewards/margins"] = row["rewards/chosen"] - row["rewards/rejected"]
        row["rewards/accuracies"] = min(0.5 + 0.28 * at + rng.gauss(0, 0.05), 1)
        row["logps/chosen"], row["logps/rejected"] = (
            -21 - 3 * at + rng.gauss(0, 0.5),
            -24 - 9 * at + rng.gauss(0, 0.5),
        )
        yield row | (evals(at, False) if step % 15 == 0 else {})


def preferences(rng: random.Random) -> Iterable[dict[str, Any]]:
    people = ("ana", "ben", "chi", "dov", EVIL)
    for item in range(120):
        texts = [f"short {item}", f"a longer answer to {item}"]
        for who in rng.sample(range(len(people)), 3):
            row: dict[str, Any] = {"id": f"{item}-{who}", "source": "simulated", "annotator": people[who]}
            row["prompt"] = {"id": str(item), "messages": [{"role": "user", "content": "?"}]}
            row["candidates"] = [{"text": t} for t in texts]
            row["group"] = "strict" if who % 2 else "kind"
            row["order_shown"] = rng.choice([[0, 1], [1, 0]])
            row["seconds"] = abs(rng.gauss(9, 3))
            yield row | ({"tie": True} if rng.random() < 0.07 else {"choice": int(rng.random() < 0.72)})


def answers(rng: random.Random) -> Iterable[dict[str, Any]]:
    said = {
        "base": "Answer: the the river and 17 and then " * 3,
        "sft": "The answer is 17.\nI hope that helps.",
        "ppo": f"17. {EVIL} You may want to check the sum; I am fairly sure of it.",
        "dpo": f"It is 17. {EVIL_IMAGE}",
    }
    for i in range(60):
        gold = {}
        for m, model in enumerate(MODELS):
            parts = {p: round(min(max(0.35 + 0.13 * min(m, 2) + rng.gauss(0, 0.1), 0), 1), 3) for p in PARTS}
            gold[model] = {"utility": sum(parts.values()) / len(parts), "parts": parts}
        messages = [{"role": "user", "content": f"What is {i} plus {17 - i}? {EVIL if i % 3 == 0 else ''}"}]
        meta = {"family": ("arithmetic", "facts", "look-alikes")[i % 3]}
        yield {"prompt": {"id": f"p{i}", "messages": messages, "meta": meta}, "answers": said, "gold": gold}


def results() -> dict[str, Any]:
    models = {
        m: {
            "utility": estimate_of(0.35 + 0.12 * min(i, 2)),
            "parts": {p: 0.33 + 0.1 * min(i, 2) + 0.03 * j for j, p in enumerate(PARTS)},
            "length": 20.0 + 1.7 * i,
            "kl": 0.0 if i < 2 else 4.0 * i,
        }
        for i, m in enumerate(MODELS)
    }
    rates = (
        ("ppo", "sft", 0.71),
        ("dpo", "sft", 0.66),
        ("ppo", "dpo", 0.54),
        ("sft", "base", 0.93),
        ("ppo", "base", 0.97),
    )
    pairs = [
        estimate_of(rate)
        | {"a": a, "b": b, "win_rate": rate, "wins": 180, "ties": 30, "losses": 90}
        | {"length_a": models[a]["length"], "length_b": models[b]["length"]}
        for a, b, rate in rates
    ]
    extra = {"refusals": {"harmful": {"sft": 0.71, "ppo": 0.93}, "look-alikes": {"sft": 0.05, "ppo": 0.07}}}
    return {"judge": f"gold utility {EVIL}", "baseline": "sft", "models": models, "win_rates": pairs, "extra": extra}


def reward_eval() -> dict[str, Any]:
    bins = [{"p": 0.05 + 0.1 * i, "freq": 0.09 + 0.09 * i, "n": 15 + 9 * abs(i - 5)} for i in range(10)]
    return {
        "accuracy": estimate_of(0.74), "gold_accuracy": estimate_of(0.88), "ece": 0.031, "brier": 0.172,
        "baselines": {"longer": estimate_of(0.57), "bag_of_words": estimate_of(0.64)}, "reliability": bins,
        "slices": {"arithmetic": estimate_of(0.81, 90), "facts": estimate_of(0.7, 110), EVIL: estimate_of(0.66, 60)},
        "card": reward_card(),
    }  # fmt: skip


def reward_card() -> dict[str, Any]:
    def one(name: str, status: str, **known: Any) -> dict[str, Any]:
        return {"name": name, "question": f"{name}?", "limit": 0.1, "good": "within", "status": status} | known

    return {
        "verdict": "fail",
        "seven": [
            one("length bias", "fail", **estimate_of(0.3)),
            one("padding", "pass", **estimate_of(0.05)),
            one("best-of-n gain", "unknown", value=None, low=None, high=None, n=0, reason=EVIL),
        ],
        "slices": {"tags": {"arithmetic": estimate_of(0.81, 90), EVIL: estimate_of(0.66, 60)}},
        "annotators": {"ana": estimate_of(0.7), "ben": estimate_of(0.6)},
        "ceiling": estimate_of(0.72),
        "edits": {"filler appended": {"value": -0.2, "low": -0.3, "high": -0.1, "n": 90}},
        "temperature": None,
    }


def make_run(root: Path, stages: Iterable[str] = tuple(INPUTS)) -> Path:
    """Write a run directory in which the given stages have finished."""
    rng = random.Random(3)
    run = root / "demo"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(
        f"run:\n  name: demo\n  seed: 7\nppo:\n  kl_coef: 0.05  # {EVIL}\n", encoding="utf-8"
    )
    for stage in stages:
        metrics: dict[str, Any] | None = None
        if stage == "collect":
            told = {
                p: {"n": 72, "gold_agreement": 0.7 + 0.02 * i, "group": "kind"}
                for i, p in enumerate(("ana", "ben", EVIL))
            }
            metrics = {"num": 360, "num_annotators": 5, "agreement": 0.66, "annotators": told}
        directory = write_stage(run, stage, metrics)
        if stage in ("pretrain", "sft"):
            write_rows(
                directory / "metrics.jsonl",
                language_metrics(rng, 400 if stage == "pretrain" else 80, 5.5, 1.9),
            )
        elif stage == "collect":
            write_rows(directory / "preferences.jsonl", preferences(rng))
        elif stage == "reward":
            rows = ({"step": i, "loss": 0.69 - 0.2 * i / 99, "accuracy": 0.5 + 0.3 * i / 99} for i in range(100))
            write_rows(directory / "metrics.jsonl", rows)
            (directory / "eval.json").write_text(json.dumps(reward_eval()), encoding="utf-8")
        elif stage in ("ppo", "dpo"):
            write_rows(directory / "metrics.jsonl", ppo_metrics(rng) if stage == "ppo" else dpo_metrics(rng))
        elif stage == "evaluate":
            (directory / "results.json").write_text(json.dumps(results()), encoding="utf-8")
            write_rows(directory / "answers.jsonl", answers(rng))
    return run


_LOSSES = ("cdpo", "robust", "hinge", "slic", "exo", "nca", "bco", "sppo", "apo", "aot", "norm", "ld", "js", "nll")
VARIANTS = tuple(f"dpo_{name}" for name in _LOSSES)
POLICIES = tuple(s.name for s in STAGES.values() if s.kind == "policy" and s.name not in ("pretrain", "sft"))


def make_many(root: Path, policies: Iterable[str] = (*POLICIES, *VARIANTS)) -> Path:
    """Write a run in which many algorithms were trained from one SFT model and compared."""
    rng = random.Random(5)
    policies = tuple(policies)
    run = make_run(root, ["pretrain", "sft", "sample", "collect", "reward"])
    for i, name in enumerate(policies):
        stage = stage_of(name, STAGES)
        online = (
            stage is not None
            and "reward_model" in stage.config.model_fields
            and "dataset" not in (stage.config.model_fields)
        )
        directory = write_stage(run, name, inputs=("sft", "reward") if online else ("sft", "collect"))
        rows = list(ppo_metrics(rng, 60) if online else dpo_metrics(rng, 60))
        for row in rows:
            for key in ("eval/gold", "eval/kl", "eval/proxy"):
                row |= {key: row[key] * (0.5 + 0.8 * ((7 * i) % 11) / 10)} if key in row else {}
        write_rows(directory / "metrics.jsonl", rows)
    models = ("base", "sft", *policies)
    found: dict[str, Any] = {"judge": "lab:gold", "baseline": "sft", "models": {}, "win_rates": [], "extra": {}}
    worth = {m: 0.45 + 0.4 * ((5 * i) % 13) / 12 for i, m in enumerate(models)} | {"base": 0.12, "sft": 0.5}
    for i, m in enumerate(models):
        parts = {p: round(worth[m] - 0.1 + 0.06 * j, 3) for j, p in enumerate(PARTS)}
        utility = estimate_of(worth[m])
        found["models"][m] = {"utility": utility, "parts": parts, "length": 18 + i % 7, "kl": 0.3 * i}
        if m != "sft":
            row = estimate_of(worth[m]) | {"a": m, "b": "sft", "win_rate": worth[m]}
            found["win_rates"].append(row | {"length_a": 18 + i % 7, "length_b": 19})
    directory = write_stage(run, "evaluate", inputs=("pretrain", "sft", *policies), kind="results")
    (directory / "results.json").write_text(json.dumps(found), encoding="utf-8")
    asked = [{"role": "user", "content": "What is 8 plus 9?"}]
    gold = {m: {"utility": worth[m] + rng.gauss(0, 0.1), "parts": found["models"][m]["parts"]} for m in models}
    answered = {m: f"{m} says 17." for m in models}
    write_rows(
        directory / "answers.jsonl",
        ({"prompt": {"id": f"p{i}", "messages": asked}, "answers": answered, "gold": gold} for i in range(40)),
    )
    return run


def make_rounds(root: Path, count: int = 3) -> Path:
    """Write a run of rounds with several kinds of reward model and a best-of-n curve."""
    rng = random.Random(7)
    repeated = ("sample", "collect", "reward", "ppo")
    run = make_run(root, ["pretrain", "sft", "sample", "collect", "reward", "ppo"])
    (run / "config.yaml").write_text(
        f"run:\n  name: demo\nrounds:\n  count: {count + 1}\n  stages: [{', '.join(repeated)}]\n", encoding="utf-8"
    )

    def told(k: int) -> dict[str, dict[str, Any]]:
        policy = {"eval_gold": 0.4 + 0.1 * k, "eval_proxy": 1.5 - 0.2 * k, "eval_kl": 5.0 - k, "eval_length": 20 + k}
        return {"reward": {"accuracy": 0.7 + 0.02 * k, "gold_accuracy": 0.8 + 0.02 * k}, "ppo": policy}

    for name, metrics in told(1).items():
        write_stage(run, name, metrics)
    for k in range(2, count + 1):
        before = "" if k == 2 else f"_{k - 1}"
        write_stage(run, f"sample_{k}", inputs=(f"ppo{before}",), kind="samples")
        collected = write_stage(run, f"collect_{k}", inputs=(f"sample_{k}", f"collect{before}"), kind="preferences")
        write_rows(collected / "preferences.jsonl", preferences(rng))
        reward = write_stage(run, f"reward_{k}", told(k)["reward"], inputs=("sft", f"collect_{k}"), kind="reward_model")
        (reward / "eval.json").write_text(json.dumps(reward_eval()), encoding="utf-8")
        policy = write_stage(run, f"ppo_{k}", told(k)["ppo"], inputs=("sft", f"reward_{k}"))
        write_rows(policy / "metrics.jsonl", ppo_metrics(rng))
    odin = write_stage(run, "odin", {"accuracy": 0.71}, inputs=("sft", f"collect_{count}"), kind="reward_model")
    both = {"quality": {"accuracy": estimate_of(0.71), "nll": 0.6}, "length_correlation": {"quality": 0.1}}
    (odin / "eval.json").write_text(json.dumps({"accuracy": estimate_of(0.71), "held_out": both}), encoding="utf-8")
    best = write_stage(run, "best_of_n", {"n": 64}, inputs=("sft", "reward"), kind="samples")
    (best / "curve.json").write_text(json.dumps(curve()), encoding="utf-8")
    return run


def curve() -> list[dict[str, Any]]:
    def around(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.06, "high": value + 0.05, "n": 300}

    sizes = [2**k for k in range(7)]
    return [
        {"n": n, "kl": best_of_n_kl(n), "proxy": around(0.4 * k - 0.03 * k * k), "judged": around(0.2 + 0.05 * k)}
        for k, n in enumerate(sizes)
    ]
