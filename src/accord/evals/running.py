"""Running a suite: answer, judge, count, write; killed at any moment it goes on where it was.

Answers and verdicts are kept in one cache by all that decides them. What is written in the end follows from them alone,
so a second run writes the same files without asking anybody.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accord import __version__
from accord.errors import ConfigError, DataError
from accord.evals.answering import Answerer, Say
from accord.evals.measured import Measured
from accord.evals.suites.base import Answers, AnswerSuite, Loaded, PairSuite, Report, Suite
from accord.judges.agreement import Agreement
from accord.judges.base import Judge
from accord.storage import io_errors, write_atomic
from accord.types import Prompt

CACHE = "cache.db"
"""Replies and verdicts, in the output directory."""
_MOST_TURNS = 20


@dataclass(frozen=True)
class Settings:
    """How answers are drawn."""

    max_tokens: int = 1024
    """Most tokens of a reply."""
    temperature: float | None = None
    """None = what the suite says of each prompt, else 0 (greedy)."""
    seed: int = 0
    limit: int | None = None
    """Only so many prompts or pairs from the start; None = all."""


@dataclass(frozen=True)
class Participants:
    """Who takes part; what a suite does not need may be missing."""

    answerer: Answerer | None = None
    """Who answers; not for suites of pairs."""
    baseline: Answerer | None = None
    """Whose answers those are compared with."""
    judge: Judge | None = None
    accuracy: Agreement | None = None
    """How often the judge agrees with labels, where it was measured."""


def run_suite(
    suite: Suite,
    data: Path,
    out: Path,
    who: Participants,
    *,
    settings: Settings | None = None,
    say: Say = print,
) -> Report:
    """Run one suite and write `results.json`, `results.md` and the answers into `out`.

    Args:
        suite: what to run.
        data: its original file or folder.
        out: directory of the results.
        who: takes part.
        settings: how answers are drawn.
        say: prints one line.

    Raises:
        ConfigError: something the suite needs is missing.
        DataError: the data cannot be read.
        EngineError: a server does not answer, or the budget is used up; run again to go on.
        Waiting: people have to answer first.
    """
    chosen = settings or Settings()
    with io_errors("write the results", out):
        out.mkdir(parents=True, exist_ok=True)
    if suite.kind == "pairs":
        report, data_hash = _pairs(suite, data, who.judge, chosen)
    else:
        report, data_hash = _answers(suite, data, out, who, chosen, say)
    judge, accuracy = who.judge, who.accuracy
    rows = tuple(_with_accuracy(row, judge, accuracy) for row in report.rows)
    notes = list(report.notes)
    if any(row.judge and row.judge_accuracy is None for row in rows) and suite.kind == "answers" and judge is not None:
        notes.append("The judge was not measured on labels of people or gold: its error is unknown.")
    report = replace(report, rows=rows, notes=tuple(notes))
    about = {
        "suite": suite.name,
        "data": {"path": str(data), "hash": data_hash},
        "model": _named(who.answerer),
        "baseline": _named(who.baseline),
        "judge": None if judge is None else _told(judge, accuracy),
        "settings": asdict(chosen),
        "accord": __version__,
    }
    _write(out, report, about)
    return report


def _pairs(suite: PairSuite, data: Path, judge: Judge | None, settings: Settings) -> tuple[Report, str]:
    if judge is None:
        raise ConfigError(f"the suite {suite.name} measures a judge", fix="name one with --judge")
    loaded = _first(suite.pairs(data), settings.limit)
    items = [(pair.prompt, pair.a, pair.b) for pair in loaded.items]
    found = judge.compare(items)
    report = suite.score(loaded.items, found, judge=judge.name, prompt_hash=judge.prompt_hash)
    return _with_limit(report, loaded, settings), loaded.data_hash


def _answers(
    suite: AnswerSuite, data: Path, out: Path, who: Participants, settings: Settings, say: Say
) -> tuple[Report, str]:
    judge = who.judge
    if who.answerer is None:
        raise ConfigError(f"a model has to answer the suite {suite.name}", fix="name one with --model")
    if suite.needs != "nothing" and judge is None:
        raise ConfigError(f"the suite {suite.name} needs a judge ({suite.needs})", fix="name one with --judge")
    if suite.needs == "comparison" and who.baseline is None:
        raise ConfigError(f"the suite {suite.name} compares with a baseline", fix="name one with --baseline")
    loaded = _first(suite.prompts(data), settings.limit)
    said: list[Answers] = []
    for answerer in (who.answerer, who.baseline):
        if answerer is None:
            continue
        say(f"{answerer.name}: {len(loaded.items)} prompts of {suite.name}")
        replies = converse(answerer, suite, loaded.items, settings)
        said.append(Answers(answerer.name, tuple(replies)))
        _write_answers(out / f"answers-{len(said)}.jsonl", loaded.items, said[-1])
    if judge is not None and suite.needs != "nothing":
        say(f"judge: {judge.name}")
    report = suite.score(loaded.items, said[0], judge=judge, baseline=said[1] if len(said) > 1 else None)
    empty = sum(not text.strip() for turns in said[0].replies for text in turns)
    if empty:
        report = replace(report, notes=(*report.notes, f"{empty} replies of {said[0].name} are empty."))
    return _with_limit(report, loaded, settings), loaded.data_hash


def converse(
    answerer: Answerer, suite: AnswerSuite, prompts: Sequence[Prompt], settings: Settings
) -> list[tuple[str, ...]]:
    """Replies to every prompt, turn by turn, until the suite asks nothing more.

    Args:
        answerer: who answers.
        suite: says what comes after a reply.
        prompts: of the first turn.
        settings: how answers are drawn.

    Raises:
        DataError: the suite never ends a conversation.
    """
    replies: list[tuple[str, ...]] = [()] * len(prompts)
    asked = dict(enumerate(prompts))
    for _ in range(_MOST_TURNS):
        for temperature in sorted({_temperature(p, settings) for p in asked.values()}):
            some = {i: p for i, p in asked.items() if _temperature(p, settings) == temperature}
            made = answerer.answer(
                list(some.values()), max_tokens=settings.max_tokens, temperature=temperature, seed=settings.seed
            )
            for i, texts in zip(some, made, strict=True):
                replies[i] = (*replies[i], texts[0])
        followed = {i: suite.follow_up(prompts[i], replies[i]) for i in asked}
        asked = {i: p for i, p in followed.items() if p is not None}
        if not asked:
            return replies
    raise DataError(f"the suite {suite.name} asks for more than {_MOST_TURNS} turns")


def _temperature(prompt: Prompt, settings: Settings) -> float:
    if settings.temperature is not None:
        return settings.temperature
    return float(prompt.meta.get("temperature", 0.0))


def _first(loaded: Loaded[Any], limit: int | None) -> Loaded[Any]:
    return loaded if limit is None else replace(loaded, items=loaded.items[:limit])


def _with_limit(report: Report, loaded: Loaded[Any], settings: Settings) -> Report:
    if settings.limit is None or len(loaded.items) < settings.limit:
        return report
    note = f"Only the first {len(loaded.items)} rows of the data were used: these are not the suite's numbers."
    return replace(report, notes=(note, *report.notes))


def _with_accuracy(row: Measured, judge: Judge | None, accuracy: Agreement | None) -> Measured:
    """The judge's measured error beside every number that is the judge's."""
    if judge is None or accuracy is None or row.judge != judge.name or row.judge_accuracy is not None:
        return row
    return replace(row, judge_accuracy=accuracy.row())


def _named(answerer: Answerer | None) -> dict[str, str] | None:
    return None if answerer is None else {"name": answerer.name, "identity": answerer.identity}


def _told(judge: Judge, accuracy: Agreement | None) -> dict[str, Any]:
    told: dict[str, Any] = {"name": judge.name, "prompt_hash": judge.prompt_hash}
    return told if accuracy is None else {**told, "accuracy": asdict(accuracy)}


def _write_answers(path: Path, prompts: Sequence[Prompt], answers: Answers) -> None:
    rows = [
        {
            "id": prompt.id,
            "messages": [m.model_dump(mode="json") for m in prompt.messages],
            "model": answers.name,
            "choices": [{"index": 0, "turns": list(turns)}],
        }
        for prompt, turns in zip(prompts, answers.replies, strict=True)
    ]
    text = "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)
    with io_errors("write the answers", path):
        write_atomic(path, text.encode())


def _write(out: Path, report: Report, about: dict[str, Any]) -> None:
    result = {**about, "report": report.row()}
    lines = [report.text(), ""]
    for name in ("model", "baseline"):
        if about[name]:
            lines.append(f"- {name}: {about[name]['name']} `{about[name]['identity']}`")
    if about["judge"]:
        lines.append(f"- judge: {about['judge']['name']} `{about['judge']['prompt_hash']}`")
    drawn = about["settings"]
    heat = "as the suite says" if drawn["temperature"] is None else f"{drawn['temperature']:g}"
    lines.append(f"- data: {about['data']['path']} `{about['data']['hash']}`")
    lines.append(f"- at most {drawn['max_tokens']} tokens a reply, temperature {heat}, seed {drawn['seed']}")
    lines.append(f"- Accord {about['accord']}")
    with io_errors("write the results", out):
        write_atomic(out / "results.json", json.dumps(result, indent=1, ensure_ascii=True).encode())
        write_atomic(out / "results.md", ("\n".join(lines) + "\n").encode("utf-8", "replace"))
