"""What a suite is: prompts that models answer, or pairs whose better reply is known, and how the result is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from accord.data.read import BadRow
from accord.evals.measured import Measured, markdown
from accord.judges.base import Comparison, Judge
from accord.types import Prompt

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """What was read from a file."""

    items: tuple[T, ...]
    """Usable rows in the order of the file."""
    bad: tuple[BadRow, ...]
    """Rows that were refused, by file and line."""
    data_hash: str
    """First 12 hex digits of the SHA-256 of the file's bytes: which data a number rests on."""


@dataclass(frozen=True)
class GoldPair:
    """Two replies to a prompt, and which one people (or programs) say is better."""

    prompt: Prompt
    """What was asked."""
    a: str
    """One reply."""
    b: str
    """The other."""
    gold: float
    """1 = a is better, 0 = b is, 0.5 = a tie."""
    subset: str = ""
    """Part of the data it belongs to."""
    where: str = ""
    """File and line."""


@dataclass(frozen=True)
class Answers:
    """What one model said to every prompt of a suite."""

    name: str
    """Of the model."""
    replies: tuple[tuple[str, ...], ...]
    """For each prompt one reply a turn, in the order of the prompts; an empty text where the model said nothing."""


@dataclass(frozen=True)
class Report:
    """The numbers of an evaluation with what a reader has to know beside them."""

    title: str
    """What was evaluated."""
    rows: tuple[Measured, ...]
    """The numbers."""
    notes: tuple[str, ...] = ()
    """Warnings and what was left out, one sentence each."""
    bad: tuple[BadRow, ...] = ()
    """Rows that were refused."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further results as JSON: leaderboard rows, published statistics, confusion matrices."""

    def text(self, *, shown: int = 10) -> str:
        """As markdown; at most `shown` refused rows are named, the rest are counted."""
        parts = [f"### {self.title}", "", markdown(self.rows)]
        parts += [f"- {note}" for note in self.notes]
        if self.bad:
            parts += ["", f"{len(self.bad)} rows could not be used:"]
            parts += [f"- {row.where}: {row.reason}" for row in self.bad[:shown]]
            if len(self.bad) > shown:
                parts.append(f"- ... and {len(self.bad) - shown} more")
        return "\n".join(parts).rstrip() + "\n"

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "title": self.title,
            "rows": [m.row() for m in self.rows],
            "notes": list(self.notes),
            "bad": [{"where": row.where, "reason": row.reason} for row in self.bad],
            "details": dict(self.details),
        }


def one_turn(suite: object, prompt: Prompt, replies: Sequence[str]) -> None:
    """`AnswerSuite.follow_up` of suites that ask nothing more after a reply."""
    del suite, prompt, replies


class AnswerSuite(Protocol):
    """Prompts that models answer. Conformance: tests/unit/test_suites_answers.py."""

    @property
    def name(self) -> str:
        """On the command line."""
        ...

    @property
    def about(self) -> str:
        """One sentence for `accord eval list`."""
        ...

    @property
    def kind(self) -> Literal["answers"]:
        """Tells it from a suite of pairs."""
        ...

    @property
    def needs(self) -> Literal["nothing", "comparison", "rating or comparison"]:
        """What has to judge: nobody (a program does), or a judge; comparisons need a baseline's answers too."""
        ...

    def prompts(self, path: Path) -> Loaded[Prompt]:
        """Read the original file (or folder) into the prompts of the first turn.

        Raises:
            DataError: the file cannot be read, or has no usable row.
        """
        ...

    def follow_up(self, prompt: Prompt, replies: Sequence[str]) -> Prompt | None:
        """Return the prompt of the next turn after these replies to it; None = the conversation is over."""
        ...

    def score(
        self,
        prompts: Sequence[Prompt],
        answers: Answers,
        *,
        judge: Judge | None = None,
        baseline: Answers | None = None,
    ) -> Report:
        """Count.

        Args:
            prompts: those of `prompts`.
            answers: of the model.
            judge: as `needs` says.
            baseline: answers of the model to be compared with.

        Raises:
            ConfigError: the judge or the baseline that it needs is missing.
        """
        ...


class PairSuite(Protocol):
    """Pairs whose better reply is known. Conformance: tests/unit/test_suites_pairs.py."""

    @property
    def name(self) -> str:
        """On the command line."""
        ...

    @property
    def about(self) -> str:
        """One sentence for `accord eval list`."""
        ...

    @property
    def kind(self) -> Literal["pairs"]:
        """Tells it from a suite that models answer."""
        ...

    def pairs(self, path: Path) -> Loaded[GoldPair]:
        """Read the original file into pairs.

        Raises:
            DataError: the file cannot be read, or has no usable row.
        """
        ...

    def score(
        self, pairs: Sequence[GoldPair], comparisons: Sequence[Comparison], *, judge: str, prompt_hash: str = ""
    ) -> Report:
        """Count how often the judge agrees with the labels.

        Args:
            pairs: those of `pairs`.
            comparisons: what the judge said of a and b, in the same order. A reward model's score difference d is
                Comparison(p=1 / (1 + exp(-d))).
            judge: its name.
            prompt_hash: of its prompts.
        """
        ...


Suite = AnswerSuite | PairSuite


def accuracy_of(row: Measured, on: str) -> dict[str, Any]:
    """Return a measured agreement with labels in the form of `Measured.judge_accuracy`."""
    return {**{k: v for k, v in asdict(row).items() if k in ("value", "low", "high", "n")}, "on": on}
