"""Draw gold beside proxy over the square root of KL for PPO stages of the lab (Gao et al. 2022, figure 1).

    accord run docs/results/overoptimisation.yaml
    python benchmarks/overoptimisation.py --out docs/results/overoptimisation.svg \
        "kl_coef 0.05=runs/overoptimisation/ppo_on-..." "kl_coef 0=runs/overoptimisation/ppo_off-..."

Each argument is LABEL=DIRECTORY of a finished PPO stage.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use("Agg")
INK, PROXY, GOLD = "#333333", "#0072B2", "#B8860B"


def curve(stage: Path) -> list[dict[str, float]]:
    """Rows of the stage's metrics that carry an evaluation."""
    rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "eval/gold" in row]


def draw(runs: list[tuple[str, list[dict[str, float]]]], out: Path) -> None:
    """One panel a run: normalised proxy score and gold utility over sqrt(KL to the SFT model)."""
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 11, "svg.fonttype": "none", "axes.edgecolor": INK})
    figure, axes = plt.subplots(1, len(runs), figsize=(5.2 * len(runs), 3.9), sharey=False, squeeze=False)
    top = 1.05 * max(row["eval/proxy"] for _, rows in runs for row in rows)
    for axis, (label, rows) in zip(axes[0], runs, strict=True):
        x = [max(0.0, row["eval/kl"]) ** 0.5 for row in rows]
        proxy = [row["eval/proxy"] for row in rows]
        gold = [row["eval/gold"] for row in rows]
        axis.plot(x, proxy, color=PROXY, marker="o", markersize=3.5, linewidth=1.8)
        axis.set_ylabel("proxy: reward-model score, SDs", color=PROXY)
        axis.set_ylim(-0.3, top)
        axis.tick_params(axis="y", colors=PROXY)
        other = axis.twinx()
        other.plot(x, gold, color=GOLD, marker="s", markersize=3.5, linewidth=1.8)
        other.set_ylabel("gold utility", color=GOLD)
        other.tick_params(axis="y", colors=GOLD)
        other.set_ylim(min(-0.3, min(gold) - 0.05), 1.0)
        axis.set_xlabel("square root of KL to the SFT model")
        axis.set_title(label, loc="left", fontsize=12, color=INK)
        axis.grid(alpha=0.25, linewidth=0.6)
        for side in (axis, other):
            side.spines["top"].set_visible(False)
    figure.tight_layout(w_pad=2.5)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, facecolor="white")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="LABEL=STAGE_DIR")
    parser.add_argument("--out", type=Path, default=Path("overoptimisation.svg"))
    arguments = parser.parse_args()
    runs = [(text.split("=", 1)[0], curve(Path(text.split("=", 1)[1]))) for text in arguments.runs]
    draw(runs, arguments.out)
    for label, rows in runs:
        first, best, last = rows[0], max(rows, key=lambda r: r["eval/gold"]), rows[-1]
        print(f"{label}: gold {first['eval/gold']:.3f} -> best {best['eval/gold']:.3f} -> end {last['eval/gold']:.3f}")
        print(f"  proxy {first['eval/proxy']:.3f} -> end {last['eval/proxy']:.3f}, KL at the end {last['eval/kl']:.1f}")


if __name__ == "__main__":
    main()
