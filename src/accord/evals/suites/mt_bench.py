"""MT-Bench: 80 questions of two turns; ratings of one model, comparisons of two in both orders (Zheng et al. 2023).

Reads the original `question.jsonl`, `judge_prompts.jsonl`, `reference_answer/<model>.jsonl`, and the judgements that
FastChat writes (`model_judgment/<judge>_single.jsonl`, `<judge>_pair.jsonl`).

Deviations: a verdict that cannot be read is counted and named, where the original leaves the row out in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accord.data.rows import Row, RowError
from accord.errors import ConfigError, DataError
from accord.evals.suites.base import Answers, Loaded, Report
from accord.evals.suites.outcomes import comparison_report, rating_report
from accord.evals.suites.rows import field, hash_of, load, text, texts, whole
from accord.judges.base import Judge
from accord.types import Message, Prompt

TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""Sampling temperature by category, 0 for the others; in `meta["temperature"]` of a prompt."""
NEED_REFERENCE = ("math", "reasoning", "coding", "arena-hard-200")
"""Categories judged with a reference answer."""
_KINDS = ("pair-v2", "pair-v2-multi-turn", "pair-math-v1", "pair-math-v1-multi-turn")
_KINDS += ("single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn")


def read_questions(path: Path) -> Loaded[Prompt]:
    """Read `question.jsonl` (or vicuna-bench's): the first turns as prompts, all turns in `meta["turns"]`.

    A reference answer that lies beside them (in `reference_answer*.jsonl` of the same folder) goes to
    `meta["reference"]`, one text a turn.

    Raises:
        DataError: a file cannot be read or has no usable row.
    """
    references: dict[int, tuple[str, ...]] = {}
    bad: list[Any] = []
    for beside in sorted(path.parent.glob("reference_answer*.jsonl*")):
        found = read_answers(beside)
        references.update(dict(found.items))
        bad += found.bad

    def one(row: Row, where: str) -> Prompt:
        turns = texts(row, "turns")
        number, category = whole(row, "question_id"), text(row, "category")
        # The judge of the original sees the answers of the file beside; a few questions hold shorter ones themselves.
        own = references.get(number) or (texts(row, "reference") if row.get("reference") else None)
        meta: dict[str, Any] = {
            "turns": list(turns),
            "turn": 1,
            "category": category,
            "temperature": TEMPERATURES.get(category, 0.0),
            "where": where,
        }
        if own:
            meta["reference"] = list(own)
        return Prompt(id=f"mt-bench-{number}", messages=(Message(role="user", content=turns[0]),), meta=meta)

    loaded = load(path, one, needs="question_id, category, turns")
    return Loaded(loaded.items, (*loaded.bad, *bad), loaded.data_hash)


def read_answers(path: Path) -> Loaded[tuple[int, tuple[str, ...]]]:
    """Read answers as FastChat writes them: question number -> one text a turn (of the first choice).

    Raises:
        DataError: the file cannot be read or has no usable row.
    """

    def one(row: Row, where: str) -> tuple[int, tuple[str, ...]]:
        del where
        choices = field(row, "choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise RowError("column 'choices' must be a list of objects with 'turns'")
        return whole(row, "question_id"), texts(choices[0], "turns")

    return load(path, one, needs="question_id, choices")


@dataclass(frozen=True)
class JudgePrompts:
    """The original templates, and what they ask."""

    templates: Mapping[str, tuple[str, str]]
    """Name -> (system prompt, template)."""
    prompt_hash: str
    """Of the file."""

    def pair(self, prompt: Prompt, a: Sequence[str], b: Sequence[str]) -> tuple[Message, ...]:
        """Return what to ask about two models' answers, the first shown as assistant A.

        Args:
            prompt: of the question; its `meta["turns"]`, `meta["category"]` and `meta["reference"]` count.
            a: answers so far, one (judges turn 1) or two (judges turn 2).
            b: of the other model.
        """
        return self._fill("pair", prompt, {"a": a, "b": b})

    def single(self, prompt: Prompt, answers: Sequence[str]) -> tuple[Message, ...]:
        """Return what to ask about one model's answers; see `pair`."""
        return self._fill("single", prompt, {"": answers})

    def _fill(
        self, kind: Literal["pair", "single"], prompt: Prompt, said: Mapping[str, Sequence[str]]
    ) -> tuple[Message, ...]:
        turn = len(next(iter(said.values())))
        turns: list[str] = prompt.meta["turns"]
        if turn not in (1, 2) or turn > len(turns):
            raise ConfigError(f"MT-Bench judges turn 1 or 2, not {turn}", where=prompt.id)
        with_reference = prompt.meta.get("category") in NEED_REFERENCE
        name = f"{kind}-{'math-v1' if with_reference else ('v2' if kind == 'pair' else 'v1')}"
        name += "-multi-turn" if turn == 2 else ""
        system, template = self.templates[name]
        values = {"question": turns[0]}
        for i in range(turn):
            values[f"question_{i + 1}"] = turns[i]
            if with_reference:
                values[f"ref_answer_{i + 1}"] = _reference(prompt, i)
            for who, answers in said.items():
                values[f"answer{'_' + who if who else ''}_{i + 1}"] = answers[i]
        for who, answers in said.items():
            values[f"answer{'_' + who if who else ''}"] = answers[0]
        return (
            Message(role="system", content=system),
            Message(role="user", content=_format(template, values)),
        )


def _reference(prompt: Prompt, turn: int) -> str:
    known = prompt.meta.get("reference") or []
    if turn >= len(known):
        raise DataError(
            f"question {prompt.id} is of category '{prompt.meta['category']}' and has no reference answer",
            fix="put reference_answer/gpt-4.jsonl beside question.jsonl as reference_answer_gpt-4.jsonl",
        )
    return str(known[turn])


def _format(template: str, values: Mapping[str, str]) -> str:
    """Fill {name}; replies may hold braces themselves, so that nothing filled in is looked at again."""
    parts: list[str] = []
    rest = template
    while rest:
        before, brace, after = rest.partition("{")
        parts.append(before)
        name, closed, tail = after.partition("}")
        if brace and closed and name in values:
            parts.append(values[name])
            rest = tail
        else:
            parts.append(brace)
            rest = after
    return "".join(parts)


def read_judge_prompts(path: Path) -> JudgePrompts:
    """Read `judge_prompts.jsonl`.

    Raises:
        DataError: it cannot be read, or one of the eight templates is missing.
    """

    def one(row: Row, where: str) -> tuple[str, tuple[str, str]]:
        del where
        return text(row, "name"), (text(row, "system_prompt"), text(row, "prompt_template"))

    found = dict(load(path, one, needs="name, system_prompt, prompt_template").items)
    missing = [name for name in _KINDS if name not in found]
    if missing:
        raise DataError(f"judge prompts are missing: {', '.join(missing)}", where=str(path), fix="use FastChat's file")
    return JudgePrompts(found, hash_of(path))


class MtBench:
    """The suite: models answer both turns, a judge rates or compares each turn."""

    name = "mt-bench"
    about = "80 two-turn questions in 8 categories, rated by a judge or compared in both orders"
    kind: Literal["answers"] = "answers"
    needs: Literal["rating or comparison"] = "rating or comparison"

    def prompts(self, path: Path) -> Loaded[Prompt]:
        """Read `question.jsonl`, or the folder it lies in."""
        return read_questions(path / "question.jsonl" if path.is_dir() else path)

    def follow_up(self, prompt: Prompt, replies: Sequence[str]) -> Prompt | None:
        """Return the conversation with the next question, up to two turns."""
        turns: list[str] = prompt.meta["turns"]
        if len(replies) >= len(turns):
            return None
        messages = list(prompt.messages)
        for reply, question in zip(replies, turns[1:], strict=False):
            messages += [Message(role="assistant", content=reply), Message(role="user", content=question)]
        return Prompt(id=prompt.id, messages=tuple(messages), meta={**prompt.meta, "turn": len(replies) + 1})

    def score(
        self,
        prompts: Sequence[Prompt],
        answers: Answers,
        *,
        judge: Judge | None = None,
        baseline: Answers | None = None,
    ) -> Report:
        """Rate every turn (1 to 10), or with a baseline compare every turn in both orders."""
        if judge is None:
            raise ConfigError("MT-Bench needs a judge", fix="give --judge")
        asked = [
            (p if turn == 1 else self._at(p, answers.replies[i], turn), i, turn)
            for i, p in enumerate(prompts)
            for turn in range(1, len(answers.replies[i]) + 1)
        ]
        groups = [(p.meta["category"], turn) for p, _, turn in asked]
        clusters = [p.id for p, _, _ in asked]
        if baseline is None:
            ratings = judge.rate([(p, answers.replies[i][turn - 1]) for p, i, turn in asked])
            return rating_report(
                f"MT-Bench, {answers.name}",
                [(r.value, category, turn) for r, (category, turn) in zip(ratings, groups, strict=True)],
                clusters,
                judge=judge.name,
                prompt_hash=judge.prompt_hash,
                model=answers.name,
            )
        for i, prompt in enumerate(prompts):
            if len(answers.replies[i]) != len(baseline.replies[i]):
                raise DataError(
                    f"{answers.name} and {baseline.name} differ in turns", where=prompt.id, fix="answer again"
                )
        said = judge.compare(
            [_compared(prompts[i], answers.replies[i][:t], baseline.replies[i][:t]) for _, i, t in asked]
        )
        return comparison_report(
            f"MT-Bench, {answers.name} against {baseline.name}",
            said,
            [category for category, _ in groups],
            clusters,
            judge=judge.name,
            prompt_hash=judge.prompt_hash,
            model=f"{answers.name} against {baseline.name}",
        )

    def _at(self, prompt: Prompt, replies: Sequence[str], turn: int) -> Prompt:
        later = self.follow_up(prompt, replies[: turn - 1])
        if later is None:
            raise DataError(f"{prompt.id} has no turn {turn}", fix="give one reply a turn")
        return later


def _compared(prompt: Prompt, a: Sequence[str], b: Sequence[str]) -> tuple[Prompt, str, str]:
    """What is compared: at the second turn two conversations, since each model answered after its own first answer.

    `meta["said"]` has the answers one by one for a judge that fills templates; others see the questions together and
    the answers of each conversation together, as the original template of two turns shows them.
    """
    meta = {**prompt.meta, "turn": len(a), "said": {"a": list(a), "b": list(b)}}
    if len(a) == 1:
        return Prompt(id=prompt.id, messages=prompt.messages, meta=meta), a[0], b[0]
    turns: list[str] = prompt.meta["turns"]
    asked = "\n\n".join(f"Question {i + 1}: {turns[i]}" for i in range(len(a)))
    asked += f"\n\nCompare the answers to question {len(a)}."
    replies = ["\n\n".join(f"Answer to question {i + 1}: {x}" for i, x in enumerate(who)) for who in (a, b)]
    message = Message(role="user", content=asked)
    return Prompt(id=prompt.id, messages=(*prompt.messages[:-1], message), meta=meta), replies[0], replies[1]
