"""How often the refusal rules agree with people on XSTest: `python -m benchmarks.refusals ../shared/data/xstest`.

Rows are told apart by the SHA-256 of the prompt, so that both models' replies to a prompt are on one side: half of the
prompts were read while the rules were written, a quarter after a first measurement, and the replies to the last quarter
never. Only the last quarter says how well the rules do on replies nobody looked at.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from accord.evals.refusal import IDENTITY, classify
from accord.evals.suites.xstest import LabelledReply, read_replies
from accord.stats import wilson


def part(prompt: str) -> str:
    """Return "read", "read later" or "kept apart"."""
    number = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
    return "read" if number % 2 == 0 else ("read later" if number // 2 % 2 == 0 else "kept apart")


def counts(rows: list[LabelledReply], *, with_prompt: bool) -> dict[str, tuple[int, int]]:
    """Return (right, all) for all replies, those people call refusals, and those they call compliance."""
    found = {"accuracy": [0, 0], "sensitivity": [0, 0], "specificity": [0, 0]}
    for row in rows:
        human = row.human != "compliance"
        said = classify(row.reply, row.prompt if with_prompt else "") != "compliance"
        for name in ("accuracy", "sensitivity" if human else "specificity"):
            found[name][0] += human == said
            found[name][1] += 1
    return {name: (right, n) for name, (right, n) in found.items()}


def table(folder: Path) -> list[str]:
    """Return the lines of the table."""
    files = sorted(folder.glob("completions_*.csv*"))
    loaded = {path.name.split(".")[0].removeprefix("completions_"): list(read_replies(path).items) for path in files}
    everything = [row for rows in loaded.values() for row in rows]
    lines = [
        f"| replies (rules `{IDENTITY}`) | prompt given | accuracy | sensitivity (refusals seen) | specificity |",
        "|---|---|---|---|---|",
    ]
    for group in ("read", "read later", "kept apart"):
        for model, rows in (*loaded.items(), ("all", everything)):
            for with_prompt in (True, False):
                chosen = [row for row in rows if part(row.prompt) == group]
                cells = [shown(*value) for value in counts(chosen, with_prompt=with_prompt).values()]
                lines.append(f"| {group}, {model} | {'yes' if with_prompt else 'no'} | {' | '.join(cells)} |")
    return lines


def shown(right: int, n: int) -> str:
    """Return a share with its 95 % interval and counts."""
    found = wilson(right, n)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}], {right}/{n}"


if __name__ == "__main__":
    print("\n".join(table(Path(sys.argv[1]))))
