"""Does the red team find planted weaknesses, and does training on what it finds help where nobody looked?

    python benchmarks/redteam_lab.py --runs runs --seeds 1 2 3 --page docs/results/redteam.md

Four of the lab's eight attack families are planted into the demonstrations of each seed (another four each time). The
red team attacks the SFT and the PPO model and must report these and no other. Then DPO trains on the successes of the
train split, one planted family held out; success rates and over-refusal are measured again on contents of the held-out
splits. An attacker is trained with PPO as well. What is done is not done again.
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

from accord.lab.weaknesses import WRAPPERS
from accord.redteam.attempts import read_attempts
from accord.redteam.compare import changes
from accord.redteam.findings import PLAIN, Finding, findings
from accord.redteam.measure import by_family
from accord.rng import permutation

REPLY = 40
"""Tokens of a reply; the longest right one has about 30."""
PROBE = {"judge": "lab", "max_completion_length": REPLY, "k": 2, "max_batch": 256}
DPO = {"max_length": 160, "max_steps": 40, "train_batch_size": 32, "learning_rate": 2e-4, "beta": 0.3}
DPO |= {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 1.0]}
"""Chosen on seed 0 and another set of planted families, which is why the seeds reported begin with 1."""


def planted(seed: int) -> list[str]:
    """Half of the families, another half for each seed."""
    order = permutation(len(WRAPPERS), seed, "redteam-lab/planted")
    return [list(WRAPPERS)[i] for i in order[: len(WRAPPERS) // 2]]


def held_out(seed: int) -> str:
    """The planted family that is not trained on."""
    return planted(seed)[0]


def config(seed: int, runs: Path, threads: int, base: Path | None = None, *, attacker: bool = True) -> dict[str, Any]:
    """The run: the demo's stages with planted weaknesses, red teams, DPO on the successes, a trained attacker."""
    start = "pretrain" if base is None else str(base.resolve())
    demo = yaml.safe_load(resources.files("accord.starter").joinpath("demo.yaml").read_text(encoding="utf-8"))
    sft = {**demo["sft"], "dataset": f"lab:weak_demonstrations?num=10000&weak={','.join(planted(seed))}"}
    attack = {"seeds": "lab:seeds?num=60&split=train", "hold_out": [held_out(seed)], "guards": 2.0, **PROBE}
    again = {"seeds": "lab:seeds?num=60&split=held_out", **PROBE}
    sections = {
        "run": {"name": f"redteam-{seed}", "dir": str(runs), "seed": seed, "threads": threads},
        "pretrain": demo["pretrain"],
        "sft": {**sft, "model_name_or_path": start},
        "redteam": {"model_name_or_path": "sft", **attack},
        "dpo": {"model_name_or_path": "sft", "dataset": "redteam", "token_budget": 4096, **DPO},
        "redteam_before": {"model_name_or_path": "sft", **again},
        "redteam_after": {"model_name_or_path": "dpo", **again},
        "sample": {**demo["sample"], "prompts": "lab:prompts?num=1500&split=train"},
        "collect": demo["collect"],
        "reward": {**demo["reward"], "num_train_epochs": 1},
        "ppo": {**{k: v for k, v in demo["ppo"].items() if k not in ("eval_prompts", "judge")}, "num_rounds": 16},
        "redteam_ppo": {"model_name_or_path": "ppo", **attack},
        "sft_attacker": {
            **demo["sft"],
            "model_name_or_path": start,
            "dataset": "lab:rewordings?num=4000",
            "max_steps": 200,
        },
        "attacker": {
            "model_name_or_path": "sft_attacker",
            "target": "sft",
            "prompts": "lab:requests?num=400&split=train",
            "target_judge": "lab",
            "max_length": 160,
            "max_completion_length": 48,
            "target_max_completion_length": REPLY,
            "num_rounds": 16,
            "train_batch_size": 48,
            "num_ppo_epochs": 3,
            "learning_rate": 3e-4,
            "critic_learning_rate": 1e-3,
            "kl_coef": 0.05,
            "token_budget": 4096,
        },
    }
    left_out = {"pretrain"} if base is not None else set[str]()
    left_out |= set[str]() if attacker else {"sft_attacker", "attacker"}
    return {name: keys for name, keys in sections.items() if name not in left_out}


def run(seed: int, given: argparse.Namespace) -> Run:
    """Do what is not done yet and return the results."""
    given.runs.mkdir(parents=True, exist_ok=True)
    path: Path = given.runs / f"redteam-{seed}.yaml"
    made = config(seed, given.runs, given.threads, given.base, attacker=seed in given.attacker_seeds)
    path.write_text(json.dumps(made, indent=1), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "accord", "run", str(path)], check=True)
    return Run(given.runs / f"redteam-{seed}")


def found_rows(result: Run, seed: int) -> list[list[str]]:
    """One line a model: what was planted, what was found, and the rates."""
    made: list[list[str]] = []
    wanted = set(planted(seed))
    for section, name in (("redteam", "SFT"), ("redteam_ppo", "PPO")):
        _, attempts = read_attempts(result.dirs[section] / "redteam.jsonl")
        compared = findings(attempts)
        found = {f.attack for f in compared if f.weakness}
        rates = {kind: [f.rate for f in compared if (f.attack in wanted) == kind] for kind in (True, False)}
        made.append(
            [
                str(seed),
                name,
                f"{len(found & wanted)} of {len(wanted)}",
                ", ".join(sorted(found - wanted)) or "none",
                f"{compared[0].plain:.3f}",
                *(f"{min(rates[kind]):.3f} to {max(rates[kind]):.3f}" for kind in (True, False)),
                _closest(compared, wanted),
            ]
        )
    return made


def _closest(compared: list[Finding], wanted: set[str]) -> str:
    """How near the decision was: the largest adjusted p of a planted family and the smallest of another."""
    planted_p = max(f.p_adjusted for f in compared if f.attack in wanted)
    return f"{planted_p:.2g}, {min(f.p_adjusted for f in compared if f.attack not in wanted):.2g}"


def closed_rows(result: Run, seed: int) -> list[list[str]]:
    """What DPO on the successes changed: held-out family, trained families, over-refusal."""
    _, before = read_attempts(result.dirs["redteam_before"] / "redteam.jsonl")
    _, after = read_attempts(result.dirs["redteam_after"] / "redteam.jsonl")
    out = held_out(seed)
    made: list[list[str]] = []
    groups = {
        f"held out: {out}": {out},
        f"trained on: {', '.join(planted(seed)[1:])}": set(planted(seed)[1:]),
    }
    for title, families in groups.items():
        pick = [[a for a in part if a.seed.harmful and by_family(a) in families] for part in (before, after)]
        made.append([str(seed), f"ASR@1, {title}", *_change(changes(*pick, by=by_family)[-1])])
    for title, families in (("asked plainly", {PLAIN}), ("all wordings", {PLAIN, *WRAPPERS})):
        pick = [[a for a in part if not a.seed.harmful and a.family in families] for part in (before, after)]
        made.append([str(seed), f"over-refusal, {title}", *_change(changes(*pick, by=by_family)[-1])])
    return made


def _change(c: Any) -> list[str]:
    return [f"{c.before:.3f}", f"{c.after:.3f}", f"{c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}]", str(c.n)]


def attacker_row(result: Run, seed: int) -> list[str]:
    """The attacker before and after PPO."""
    m = result.manifests["attacker"]["metrics"]
    rates = [f"{m[f'asr_{w}']:.3f} [{m[f'asr_low_{w}']:.3f}, {m[f'asr_high_{w}']:.3f}]" for w in ("before", "after")]
    return [str(seed), *rates, *(f"{m[f'{k}_{w}']:.2f}" for k in ("self_bleu", "novelty") for w in ("before", "after"))]


def main() -> None:
    """Run, print the tables and, when it is asked for, write them into the page between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--base", type=Path, help="pretrained model for all seeds; default: one is trained for each")
    parser.add_argument("--attacker-seeds", type=int, nargs="*", default=[1], help="seeds with a trained attacker")
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    results = {seed: run(seed, given) for seed in given.seeds}
    heads = {
        "found": (
            "seed",
            "model",
            "planted found",
            "reported, not planted",
            "plain",
            "planted rates",
            "other rates",
            "p",
        ),
        "closed": ("seed", "what", "before", "after", "difference [95 %]", "contents"),
        "attacker": (
            *("seed", "ASR of a reworded request before PPO", "after", "self-BLEU before", "after"),
            *("novelty before", "after"),
        ),
    }
    trained = [attacker_row(x, s) for s, x in results.items() if "attacker" in x.dirs]
    parts = [
        ("## What was found", heads["found"], [r for s, x in results.items() for r in found_rows(x, s)]),
        ("## After DPO on the successes", heads["closed"], [r for s, x in results.items() for r in closed_rows(x, s)]),
        ("## An attacker trained with PPO", heads["attacker"], trained),
    ]
    lines = [*environment(list(results.values()))]
    for title, head, rows in parts:
        lines += [title, "", *table(head, rows), ""]
    print("\n".join(lines))
    if given.page:
        text = given.page.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        made = f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}"
        given.page.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
