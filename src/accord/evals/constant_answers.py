"""Is a win rate that of answers at all? Finds models that say one and the same thing whatever they are asked.

A fixed text that talks to the judge instead of the user wins 77 % of AlpacaEval 2 (Zheng et al. 2024, "Cheating
automatic LLM benchmarks"), and the warning about extreme length control does not see it. Here the answers themselves
are looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from accord import stats
from accord.evals.measured import Measured

ALARM_SHARE = 0.05
"""Flag when even the lower end of the interval is above this share. Of 19 public models on AlpacaEval the largest share
of one answer is 0.010, that of the fixed text 1.0; a fixed text for every tenth instruction would still be flagged."""
FEWEST = 20
"""Below this number of answers nothing is said."""


@dataclass(frozen=True)
class Repeated:
    """The most frequent answer."""

    share: Measured
    """How many of the answers it is."""
    flagged: bool
    """Whether that is too many for answers to different instructions."""
    example: str
    """The answer, cut to 200 characters; empty when only lengths are known."""


def most_repeated(answers: Sequence[str] | Sequence[int], instructions: Sequence[object], *, model: str) -> Repeated:
    """Return how often the most frequent answer to *different* instructions occurs.

    Args:
        answers: texts, or lengths in characters where texts are not at hand (a weaker sign: short answers of equal
            length count as equal).
        instructions: what each answers; several answers to one instruction count once.
        model: its name.
    """
    seen = {(instruction, _plain(answer)) for instruction, answer in zip(instructions, answers, strict=True)}
    asked = len(set(instructions))
    counted = Counter(answer for _, answer in seen)
    answer, times = counted.most_common(1)[0] if counted else ("", 0)
    by_length = bool(answers) and not isinstance(answers[0], str)
    what = "length" if by_length else "text"
    found = stats.wilson(times, asked)
    row = Measured(
        name=f"answers that are one {what}, {model}",
        value=found.value if asked else None,
        low=found.low if asked else None,
        high=found.high if asked else None,
        n=asked,
        method="Wilson",
        judge=f"comparison of the {what}s",
        reason="" if asked else "no answers",
    )
    flagged = asked >= FEWEST and found.low > ALARM_SHARE
    return Repeated(row, flagged, "" if by_length else str(answer)[:200])


def _plain(answer: str | int) -> str | int:
    return answer if isinstance(answer, int) else " ".join(answer.split())
