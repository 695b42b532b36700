"""One number of an evaluation with everything that is needed to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from accord.judges.conduct import Conduct


@dataclass(frozen=True)
class Measured:
    """A number, its interval, and who said so with which error."""

    name: str
    """What was measured, e.g. "win rate against sft"."""
    value: float | None
    """None = not defined, see `reason`."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end."""
    n: int
    """Units it rests on (prompts, unless `unit` says otherwise)."""
    unit: str = "prompts"
    """What n counts."""
    method: str = ""
    """How the interval was made: "Wilson", "bootstrap over prompts", ..."""
    judge: str = ""
    """Who judged; the name of the check where nobody did."""
    judge_accuracy: dict[str, Any] | None = None
    """Agreement of the judge with human or gold labels: value, low, high, n, on (which labels); None = not measured."""
    prompt_hash: str = ""
    """Of the judge's prompts, or of the data where no judge is asked."""
    parse_failures: float | None = None
    """Share of verdicts that could not be read; None = no verdicts are parsed."""
    inconsistent: float | None = None
    """Share of pairs whose winner changes with the order shown; None = one order, or no pairs."""
    first_position: float | None = None
    """Share of decided verdicts for the reply shown first."""
    reason: str = ""
    """Why something is None."""

    def beside(self, seen: Conduct) -> Measured:
        """The number with how its judge behaved beside it."""
        return replace(
            self,
            parse_failures=seen.parse_failures,
            inconsistent=seen.inconsistent,
            first_position=seen.first_position,
        )

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def markdown(rows: Sequence[Measured]) -> str:
    """A table of numbers, every one with n, interval, judge, the judge's error, and its failures."""
    lines = [
        "| what | value | 95 % | n | judge | judge agrees with labels | unreadable | inconsistent | first shown wins |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for m in rows:
        known = m.judge_accuracy
        agrees = "not measured" if known is None else f"{_three(known['value'])} ({known['on']}, n {known['n']})"
        interval = "-" if m.low is None or m.high is None else f"{m.low:.3f} to {m.high:.3f}"
        unit = "" if m.unit == "prompts" else f" {m.unit}"
        lines.append(
            f"| {m.name} | {_three(m.value)}{f' ({m.reason})' if m.reason else ''} | {interval} | {m.n}{unit} | "
            f"{m.judge or '-'}{f' `{m.prompt_hash}`' if m.prompt_hash else ''} | {agrees if m.judge else '-'} | "
            f"{_three(m.parse_failures)} | {_three(m.inconsistent)} | {_three(m.first_position)} |"
        )
    return "\n".join(lines) + "\n"


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
