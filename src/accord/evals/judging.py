"""Any judge by what a user writes: an address, a reward model, the lab's truth, or people."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from accord import stats
from accord.errors import ConfigError
from accord.evals.gold import GoldJudge
from accord.evals.measured import Measured
from accord.judges.agreement import Agreement
from accord.judges.base import Comparison, Judge
from accord.judges.client import ChatClient, Limits
from accord.judges.conduct import conduct
from accord.judges.llm import LLMJudge, Style
from accord.judges.wire import is_address
from accord.stats.intervals import Estimate

if TYPE_CHECKING:
    from accord.judges.people import Place

GOLD, PEOPLE = "lab:gold", "people"


@dataclass(frozen=True)
class JudgeChoice:
    """Which judge, and how it is asked."""

    spec: str
    """lab:gold, people, an address, or the directory or hub id of a reward model."""
    model: str = ""
    """Name the server at an address knows the model by."""
    key_variable: str | None = None
    """Environment variable of the API key; None = `ACCORD_JUDGE_API_KEY` if it is set."""
    style: Style = field(default_factory=Style)
    limits: Limits = field(default_factory=Limits)
    place: Place | None = None
    """Where people are asked."""
    device: str = "cpu"
    """Where a reward model runs."""

    @property
    def kind(self) -> Literal["gold", "people", "model", "reward"]:
        """What kind of judge that is."""
        if self.spec == GOLD:
            return "gold"
        if self.spec == PEOPLE:
            return "people"
        return "model" if is_address(self.spec) else "reward"


@contextmanager
def open_judge(choice: JudgeChoice, *, cache: Path | None) -> Generator[Judge]:
    """A judge that is ready to be asked.

    Args:
        choice: which one.
        cache: SQLite file of its replies, for a model behind an address.

    Raises:
        ConfigError: a setting that this kind of judge needs is missing, or address, model or key are wrong.
        EngineError: the server does not answer.
        ModelError: the reward model cannot be loaded.
    """
    if choice.kind == "gold":
        yield GoldJudge()
    elif choice.kind == "people":
        if choice.place is None:
            raise ConfigError("people are asked in a database", fix="name one, e.g. labels.db")
        from accord.judges.people import HumanJudge

        yield HumanJudge(choice.place)
    elif choice.kind == "model":
        if not choice.model:
            raise ConfigError(
                "a judge behind an address needs the name of the model there",
                where=choice.spec,
                fix="`curl ADDRESS/models` lists them",
            )
        with ChatClient(
            choice.spec, choice.model, cache=cache, key_variable=choice.key_variable, limits=choice.limits
        ) as client:
            yield LLMJudge(client, choice.style)
    else:
        from accord.judges.reward import RewardJudge

        yield RewardJudge(choice.spec, device=choice.device)


def preference_rates(
    name: str,
    comparisons: Sequence[Comparison],
    prompts: Sequence[str],
    *,
    judge: Judge,
    accuracy: Agreement | None = None,
    seed: int = 0,
) -> list[Measured]:
    """Win rate (a preference above one half is a win, one half a tie) and mean preference of a over b.

    Args:
        name: what was compared, e.g. "ppo against sft".
        comparisons: a is the model, b the baseline.
        prompts: what identifies the prompt of each; several comparisons of one prompt are one cluster.
        judge: who compared.
        accuracy: how often the judge agrees with labels, where it was measured.
        seed: of the bootstrap.

    Returns:
        One row, and a second one where preferences are graded. Pairs without any readable verdict are left out of both,
        and `parse_failures` says how many verdicts could not be read.
    """
    known = [(c.p, prompt) for c, prompt in zip(comparisons, prompts, strict=True) if c.p is not None]
    seen = conduct(comparisons)
    lost = f"{seen.failed} of {seen.n} pairs have no readable verdict" if seen.failed else ""
    about = {
        "judge": judge.name,
        "prompt_hash": judge.prompt_hash,
        "judge_accuracy": accuracy.row() if accuracy else None,
        "reason": lost,
    }
    if not known:
        reason = lost or "there is nothing to compare"
        return [Measured(f"win rate, {name}", None, None, None, 0, **{**about, "reason": reason}).beside(seen)]
    values, clusters = [p for p, _ in known], [prompt for _, prompt in known]
    repeated = len(set(clusters)) < len(clusters)
    outcomes = [0.5 if p == 0.5 else float(p > 0.5) for p in values]
    rate = stats.win_rate(outcomes, clusters if repeated else None, seed=seed)
    rows = [_measured(f"win rate, {name}", rate, "bootstrap over prompts" if repeated else "Wilson", about)]
    if values != outcomes:
        mean = stats.bootstrap_mean(values, clusters, seed=seed)
        rows.append(_measured(f"mean preference, {name}", mean, "bootstrap over prompts", about))
    return [row.beside(seen) for row in rows]


def _measured(name: str, interval: stats.Interval, method: str, about: dict) -> Measured:
    found = Estimate.of(interval)
    reason = "; ".join(text for text in (about["reason"], found.reason) if text)
    return Measured(name, found.value, found.low, found.high, found.n, method=method, **{**about, "reason": reason})
