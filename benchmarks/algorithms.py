"""Every policy algorithm on the lab, from the same SFT model, reward model and preferences.

    python benchmarks/algorithms.py --runs runs --seeds 0 1 2 --page docs/results/algorithms.md
    python benchmarks/algorithms.py --runs runs --seeds 0 --only rloo kto     # try some; no page

The stages up to the reward model are the demo's. What is done is not done again; the page is written from the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from results import BEGIN, END, Run, environment, table

from accord.stats import paired_bootstrap_diff

PROMPTS = {"prompts": "lab:prompts?num=4000&split=train", "max_length": 128, "max_completion_length": 48}
ROUNDS = {**PROMPTS, "token_budget": 4096, "save_steps": 1000}
ALONE = {**ROUNDS, "num_rounds": 30, "train_batch_size": 64, "learning_rate": 5e-4, "kl_coef": 0.05}
"""One reply a prompt, 64 replies a round."""
GROUP = {**ALONE, "train_batch_size": 16, "num_generations": 4, "num_iterations": 2}
"""Four replies a prompt, 64 replies a round, two passes over them."""
CHOSEN = {**ROUNDS, "train_batch_size": 16, "num_generations": 8, "num_rounds": 24}
PAIRS = {"max_length": 128, "max_completion_length": 48, "token_budget": 4096, "train_batch_size": 64}
OFFLINE = {**PAIRS, "max_steps": 40, "learning_rate": 3e-4, "save_steps": 1000}
DPO = {**OFFLINE, "beta": 0.3}

ONLINE: dict[str, dict[str, Any]] = {
    "ppo": {**ROUNDS, "num_rounds": 24, "train_batch_size": 64, "num_ppo_epochs": 3, "learning_rate": 3e-4}
    | {"critic_learning_rate": 1e-3, "kl_coef": 0.05},
    "reinforce": {**ALONE, "num_rounds": 50},
    "reinforce_pp": {**ALONE, "num_iterations": 2},
    "remax": {**ALONE, "num_iterations": 2},
    "rloo": GROUP,
    "opo": GROUP,
    "grpo": {**GROUP, "kl_coef": 0.0, "beta": 0.04},
    "dr_grpo": GROUP,
    "dapo": {**GROUP, "overlong_cache": 16},
    "gspo": {**GROUP, "epsilon": 0.05, "epsilon_high": 0.05},
    "cispo": GROUP,
    "sapo": GROUP,
    "expert": {**CHOSEN, "learning_rate": 3e-4},
    "online_dpo": {**CHOSEN, "num_generations": 4, "num_rounds": 36, "learning_rate": 3e-4, "beta": 0.3},
}
"""Algorithms that write their own data."""
SINGLE = "collect_single"
"""One label a pair: `aot_unpaired` ranks replies apart from their pairs, so it cannot use a label between 0 and 1."""
UNPAIRED = "dpo_aot_unpaired"
PAIRED: dict[str, dict[str, Any]] = {
    "dpo": DPO,
    "dpo_cdpo": {**DPO, "label_smoothing": 0.1},
    "dpo_robust": {**DPO, "loss_type": "robust", "label_smoothing": 0.1},
    "dpo_hinge": {**DPO, "loss_type": "hinge"},
    "dpo_squared_hinge": {**DPO, "loss_type": "squared_hinge"},
    "dpo_slic": {**OFFLINE, "loss_type": "slic", "slic_delta": 30.0, "slic_lambda": 0.05, "learning_rate": 1e-4},
    "dpo_exo": {**DPO, "loss_type": "exo_pair", "label_smoothing": 0.01},
    "dpo_nca": {**DPO, "loss_type": "nca_pair"},
    "dpo_bco": {**DPO, "loss_type": "bco_pair"},
    "dpo_sppo": {**OFFLINE, "loss_type": "sppo_hard", "beta": 0.1},
    "dpo_apo_zero": {**DPO, "loss_type": "apo_zero"},
    "dpo_apo_down": {**DPO, "loss_type": "apo_down", "learning_rate": 5e-5},
    "dpo_aot": {**DPO, "loss_type": "aot"},
    UNPAIRED: {**DPO, "loss_type": "aot_unpaired"},
    "dpo_discopop": {**DPO, "loss_type": "discopop"},
    "dpo_norm": {**OFFLINE, "loss_type": "sigmoid_norm", "beta": 5.0},
    "dpo_ld": {**DPO, "ld_alpha": 0.5},
    "dpo_forward_kl": {**DPO, "f_divergence_type": "forward_kl"},
    "dpo_js": {**DPO, "f_divergence_type": "js_divergence"},
    "dpo_alpha": {**DPO, "f_divergence_type": "alpha_divergence"},
    "dpo_nll": {**DPO, "rpo_alpha": 0.2},
    "dpo_dpop": {**DPO, "loss_type": "dpop", "dpop_lambda": 5.0},
    "dpo_rdpo": {**DPO, "loss_type": "rdpo"},
    "dpo_tr": {**DPO, "sync_ref_model": True, "ref_model_sync_steps": 20},
    "ipo": {**OFFLINE, "beta": 0.3},
    "ipo_sum": {**OFFLINE, "loss_type": "ipo_sum", "beta": 0.3},
    "simpo": OFFLINE,
    "cpo": OFFLINE,
    "orpo": OFFLINE,
    "kto": {**DPO},
    "kto_bco": {**DPO, "loss_type": "bco"},
    "kto_apo": {**DPO, "loss_type": "apo_zero_unpaired"},
}
"""Algorithms that learn from the judgements as they are; a section `dpo_<name>` is the dpo stage with other options."""
EVAL = "lab:prompts?num=300&split=eval"


def config(names: list[str], seed: int, runs: Path, threads: int) -> dict[str, Any]:
    """The run: the demo's stages up to the reward model, best-of-n, the named algorithms, one evaluation."""
    demo = yaml.safe_load(resources.files("accord.starter").joinpath("demo.yaml").read_text(encoding="utf-8"))
    kept = {name: demo[name] for name in ("pretrain", "sft", "sample", "collect", "reward")}
    algorithms = ONLINE | PAIRED
    models = {"sft": "sft", **{name: name for name in names}}
    return {
        "run": {"name": f"algorithms-{seed}", "dir": str(runs), "seed": seed, "threads": threads},
        **kept,
        SINGLE: {**kept["collect"], "labels_per_item": 1, "aggregate": "none"},
        "best_of_n": {"prompts": EVAL, "judge": "lab:gold", "num_generations": 64, "max_completion_length": 48},
        **{name: dict(algorithms[name]) for name in names},
        "evaluate": {"models": models, "prompts": EVAL, "judge": "lab:gold", "max_completion_length": 48},
    }


def run(names: list[str], seed: int, runs: Path, threads: int) -> Run:
    """Do what is not done yet and return the results."""
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f"algorithms-{seed}.yaml"
    wanted = config(names, seed, runs, threads)
    if UNPAIRED in names:
        upstream = {name: section for name, section in wanted.items() if name not in (*names, "evaluate")}
        wanted[UNPAIRED]["dataset"] = str(without_ties(do(path, upstream), path.with_suffix(".jsonl")))
    do(path, wanted)
    return Run(runs / f"algorithms-{seed}")


def do(path: Path, wanted: dict[str, Any]) -> Path:
    """Run a config; the directory of its run."""
    # Accord's configs have no aliases, which yaml writes for values that occur twice.
    path.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "accord", "run", str(path)], check=True)
    return path.with_suffix("")


def without_ties(done: Path, path: Path) -> Path:
    """Write the single judgements that chose a reply."""
    found = next(done.glob(f"{SINGLE}-*/preferences.jsonl")).read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in found if json.loads(line)["choice"] is not None), encoding="utf-8")
    return path


def best_of_n_at(curve: list[dict[str, Any]], kl: float) -> float | None:
    """What best-of-n gains at a KL, between the measured n; None beyond the largest."""
    points = [(point["kl"], point["judged"]["value"] - curve[0]["judged"]["value"]) for point in curve]
    for (kl_a, gold_a), (kl_b, gold_b) in pairwise(points):
        if kl_a <= kl <= kl_b:
            return gold_a + (gold_b - gold_a) * (kl - kl_a) / (kl_b - kl_a)
    return None


def measured(found: Run, name: str) -> dict[str, Any]:
    """One algorithm in one run."""
    results = found.read("evaluate", "results.json")
    answers = (found.dirs["evaluate"] / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    gold = [json.loads(line)["gold"] for line in answers]
    gain = paired_bootstrap_diff([g[name]["utility"] for g in gold], [g["sft"]["utility"] for g in gold])
    model = results["models"][name]
    win = next(w for w in results["win_rates"] if w["a"] == name)
    kl = model["kl"]
    return {
        "gain": gain,
        "win": win["win_rate"],
        "kl": kl,
        "length": model["length"],
        "best_of_n": best_of_n_at(found.read("best_of_n", "curve.json"), kl),
        "seconds": found.manifests[name]["seconds"],
    }


def has(found: Run, name: str) -> bool:
    """Whether a run has judged an algorithm."""
    return name in found.read("evaluate", "results.json")["models"]


def page(path: Path, found: list[Run], names: list[str]) -> None:
    """Fill the page between its marks."""
    lines = environment(found)
    for title, group in (("On-policy", ONLINE), ("From judgements as they are", PAIRED)):
        lines += [f"### {title}", ""]
        rows = [row(name, [measured(r, name) for r in found if has(r, name)]) for name in names if name in group]
        head = ("algorithm", "gain over SFT [95 %], each seed", "win rate", "KL", "gain of best-of-n at that KL")
        lines += table((*head, "tokens", "seconds"), rows)
    sft = [r.read("evaluate", "results.json")["models"]["sft"] for r in found]
    lines.append(
        f"SFT: utility {each(m['utility']['value'] for m in sft)}, tokens {each((m['length'] for m in sft), 1)}."
    )
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    path.write_text(f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}", encoding="utf-8")


def row(name: str, seeds: list[dict[str, Any]]) -> list[str]:
    """One line of the table."""
    gains = ", ".join(f"{s['gain'].value:+.3f} [{s['gain'].low:+.3f}, {s['gain'].high:+.3f}]" for s in seeds)
    beside = ", ".join("-" if s["best_of_n"] is None else f"{s['best_of_n']:+.3f}" for s in seeds)
    numbers = [each((s[key] for s in seeds), digits) for key, digits in (("win", 2), ("kl", 2))]
    return [
        f"`{name}`",
        gains,
        *numbers,
        beside,
        each((s["length"] for s in seeds), 1),
        each((s["seconds"] for s in seeds), 0),
    ]


def each(values: Any, digits: int = 3) -> str:
    """Numbers of the seeds in order."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def main() -> None:
    """Run and, when every algorithm was asked for, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[*ONLINE, *PAIRED])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    found = [run(given.only, seed, given.runs, given.threads) for seed in given.seeds]
    if given.page:
        page(given.page, found, given.only)
    else:
        for name in given.only:
            print(" | ".join(row(name, [measured(r, name) for r in found])))


if __name__ == "__main__":
    main()
