"""The tables of docs/results/collect-lab.md, from the lines that collect_values.py wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from collect_values import BUDGETS, DIVIDED, DRAWS, METHODS, POOLS, ROUNDS, RULES, SELECTIONS, WHOLE
from results import BEGIN, END, table
from scipy.stats import t as student

Rows = dict[tuple[Any, ...], dict[str, Any]]


def write_page(lines: Path, page: Path) -> None:
    """Write the tables into the page between its marks.

    Args:
        lines: one finished arm each.
        page: with the marks of `results.py`.
    """
    rows = {tuple(row["task"]): row for row in map(json.loads, lines.read_text(encoding="utf-8").splitlines())}
    made = [*estimators(rows), *selections(rows), *rules(rows)]
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    text = f"{before}{BEGIN}\n\n" + "\n".join(made) + f"\n{END}{rest.split(END)[1]}"
    page.write_text(text, encoding="utf-8")
    print("\n".join(made))


def paired(values: Sequence[float]) -> str:
    """Mean with its 95 % t interval over seeds."""
    x = np.asarray(values)
    half = student.ppf(0.975, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size) if x.size > 1 else float("nan")
    return f"{x.mean():+.3f} [{x.mean() - half:+.3f}, {x.mean() + half:+.3f}]"


def plain(values: Sequence[float]) -> str:
    """Mean over seeds."""
    return f"{np.mean(values):.3f}" if len(values) else "-"


def by_seed(rows: Rows, kind: str, rest: tuple[Any, ...], field: str) -> dict[int, float]:
    """A number of every seed's arm."""
    return {int(k[1]): float(v[field]) for k, v in rows.items() if k[0] == kind and k[2:] == rest and field in v}


def against(rows: Rows, kind: str, arm: tuple[Any, ...], base: tuple[Any, ...], field: str) -> tuple[str, str]:
    """(mean, paired difference from `base`) over the seeds both have."""
    mine, theirs = by_seed(rows, kind, arm, field), by_seed(rows, kind, base, field)
    seeds = sorted(set(mine) & set(theirs))
    if not seeds:
        return "-", "-"
    values = [mine[s] for s in seeds]
    return plain(values), "-" if arm == base else paired([mine[s] - theirs[s] for s in seeds])


def seeds_of(rows: Rows, kind: str) -> int:
    """Number of seeds of an experiment."""
    return len({k[1] for k in rows if k[0] == kind})


def estimators(rows: Rows) -> list[str]:
    """Labels from several votes: of which method, and what a reward model makes of them."""
    made = [f"### Labels from several votes ({seeds_of(rows, 'labels')} seeds of {DRAWS['labels']} draws)", ""]
    head = ["pool", "labels", "made by", "reward model", "against mean vote", "labels right", "against mean vote"]
    lines: list[list[str]] = []
    for kind, budgets in POOLS.items():
        for budget in budgets:
            for method in (*METHODS, "one label a pair"):
                arm, base = (kind, budget, method), (kind, budget, "mean")
                found = [against(rows, "labels", arm, base, field) for field in ("accuracy", "labels_right")]
                loss = list(by_seed(rows, "labels", arm, "label_loss").values())
                lines.append([kind, str(budget), method, *found[0], *found[1], plain(loss)])
    made += table([*head, "log loss of labels"], lines)
    if seeds_of(rows, "whole") < 2:
        return made
    made += [f"All weights of one reward model trained ({seeds_of(rows, 'whole')} seeds, one draw):", ""]
    lines = []
    for method in WHOLE:
        arm, base = ("hostile", BUDGETS[-1], method), ("hostile", BUDGETS[-1], "mean")
        lines.append(["hostile", str(BUDGETS[-1]), method, *against(rows, "whole", arm, base, "accuracy")])
    return made + table(head[:5], lines)


def selections(rows: Rows) -> list[str]:
    """Accuracy after each round, and what was chosen."""
    made = [f"### Which pair next ({seeds_of(rows, 'active')} seeds of {DRAWS['active']} draws)", ""]
    head = ["chosen by"]
    for total in ROUNDS[1:]:
        head += [f"{total} labels", f"against random, {total}"]
    head += [f"true ties among {ROUNDS[1]}", f"mean true gap of {ROUNDS[1]}"]
    lines: list[list[str]] = []
    for name in SELECTIONS:
        line = [name]
        for total in ROUNDS[1:]:
            line += against(rows, "active", (name,), ("random",), f"accuracy {total}")
        for what in ("ties", "gap"):
            line.append(plain(list(by_seed(rows, "active", (name,), f"{what} {ROUNDS[1]}").values())))
        lines.append(line)
    first = plain(list(by_seed(rows, "active", ("random",), f"accuracy {ROUNDS[0]}").values()))
    made += [f"All start from the same {ROUNDS[0]} pairs drawn at random, where accuracy is {first}.", ""]
    return made + table(head, lines)


def rules(rows: Rows) -> list[str]:
    """Each group's gain by rule."""
    groups = [*DIVIDED, "worst off"]
    made = [f"### Rules about groups ({seeds_of(rows, 'rules')} seeds of {DRAWS['rules']} draws)", ""]
    lines: list[list[str]] = []
    for name in RULES:
        cells = [against(rows, "rules", (name,), ("mean",), g) for g in groups]
        lines.append([name, *(value if change == "-" else f"{value} ({change})" for value, change in cells)])
    people = {g: f"{g} ({n} of {sum(n for n, _, _ in DIVIDED.values())})" for g, (n, _, _) in DIVIDED.items()}
    return made + table(["rule", *(people.get(g, g) for g in groups)], lines)
