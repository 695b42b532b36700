"""What learning from replies that are one update old costs: `async_steps` 0 and 1 on the lab, from the same models.

    python benchmarks/off_policy.py --runs runs --seeds 0 1 2 --page docs/results/off-policy.md
    python benchmarks/off_policy.py --runs runs --seeds 0 --only rloo       # try one; no page

The stages up to the reward model are the demo's. Beside the plain mode stand the ratio to the weights that wrote the
replies (`ahead`) and a truncated weight for them (`tis`); the last two are the same with twice as many steps a round,
where a reply is older in steps. What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from results import BEGIN, END, Run, environment, table

from accord.stats import paired_bootstrap_diff

PROMPTS = {"prompts": "lab:prompts?num=4000&split=train", "max_length": 128, "max_completion_length": 48}
GROUP = {**PROMPTS, "token_budget": 4096, "save_steps": 1000, "num_rounds": 30, "train_batch_size": 16}
GROUP |= {"num_generations": 4, "num_iterations": 2, "learning_rate": 5e-4}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "rloo": {**GROUP, "kl_coef": 0.05},
    "grpo": {**GROUP, "kl_coef": 0.0, "beta": 0.04},
}
TIS = {"async_steps": 1, "sampler_correction": "token_truncate", "sampler_correction_cap": 2.0}
MODES: dict[str, dict[str, Any]] = {
    "": {},
    "_ahead": {"async_steps": 1},
    "_tis": TIS,
    "_steps": {"num_mini_batches": 2},
    "_steps_ahead": {"num_mini_batches": 2, "async_steps": 1},
}
"""What is added to the name of a section, and to its keys."""
EVAL = "lab:prompts?num=300&split=eval"


def config(names: list[str], seed: int, runs: Path, threads: int) -> dict[str, Any]:
    """The run: the demo's stages up to the reward model, each algorithm in each mode, one evaluation."""
    demo = yaml.safe_load(resources.files("accord.starter").joinpath("demo.yaml").read_text(encoding="utf-8"))
    sections = {name + mode: {**ALGORITHMS[name], **keys} for name in names for mode, keys in MODES.items()}
    models = {"sft": "sft", **{name: name for name in sections}}
    return {
        "run": {"name": f"off-policy-{seed}", "dir": str(runs), "seed": seed, "threads": threads},
        **{name: demo[name] for name in ("pretrain", "sft", "sample", "collect", "reward")},
        **sections,
        "evaluate": {"models": models, "prompts": EVAL, "judge": "lab:gold", "max_completion_length": 48},
    }


def run(names: list[str], seed: int, runs: Path, threads: int) -> Run:
    """Do what is not done yet and return the results."""
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f"off-policy-{seed}.yaml"
    path.write_text(json.dumps(config(names, seed, runs, threads), indent=1), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "accord", "run", str(path)], check=True)
    return Run(runs / f"off-policy-{seed}")


def rows(found: list[Run], names: list[str]) -> list[list[str]]:
    """One line a section: gain over SFT, gain over the same without replies from before, KL, seconds; by seed."""
    made: list[list[str]] = []
    for section in (name + mode for name in names for mode in MODES):
        plain = section.removesuffix("_ahead").removesuffix("_tis")
        gains, losses, kls, seconds = list[str](), list[str](), list[str](), list[str]()
        for result in found:
            answers = (result.dirs["evaluate"] / "answers.jsonl").read_text(encoding="utf-8").splitlines()
            gold = [json.loads(line)["gold"] for line in answers]
            utility = {name: [g[name]["utility"] for g in gold] for name in ("sft", plain, section)}
            gain = paired_bootstrap_diff(utility[section], utility["sft"])
            gains.append(f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")
            less = paired_bootstrap_diff(utility[section], utility[plain])
            losses.append("-" if section == plain else f"{less.value:+.3f} [{less.low:+.3f}, {less.high:+.3f}]")
            kls.append(f"{result.read('evaluate', 'results.json')['models'][section]['kl']:.2f}")
            seconds.append(f"{result.manifests[section]['seconds']:.0f}")
        made.append([f"`{section}`", *(", ".join(column) for column in (gains, losses, kls, seconds))])
    return made


def main() -> None:
    """Run, print the table and, when it is asked for, write it into the page between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[*ALGORITHMS], choices=[*ALGORITHMS])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    found = [run(given.only, seed, given.runs, given.threads) for seed in given.seeds]
    head = ("section", "gain over SFT [95 %], each seed", "against the same from replies of today", "KL", "seconds")
    lines = [*environment(found), *table(head, rows(found, given.only))]
    print("\n".join(lines))
    if given.page:
        text = given.page.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        made = f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}"
        given.page.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
