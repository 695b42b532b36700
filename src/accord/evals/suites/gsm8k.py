"""GSM8K: maths word problems; the last final-answer marker (strict) and the last number (flexible) are both counted.

Cobbe et al. 2021. The original checker reads `#### (-?[0-9.,]+)` and strips commas; the solutions of its authors'
models end in a line "A: 18" instead. The *last* marker counts: worked examples in a reply come before its answer. An
answer is right when its text equals that of the reference. Flexible is lm-eval's: the last number anywhere, without $,
commas and a full stop at its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from accord.data.rows import Row, RowError
from accord.evals.suites.base import Answers, Loaded, Report, one_turn
from accord.evals.suites.pairs import share
from accord.evals.suites.rows import load, text, text_hash
from accord.judges.base import Judge
from accord.types import Message, Prompt

_MARKER = re.compile(r"(?:####|^[ \t]*A:) (-?[0-9.,]+)", re.M)
_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


def strict_answer(solution: str) -> str | None:
    """Return what stands after the last final-answer marker, commas stripped; None without a marker."""
    found = _MARKER.findall(solution)
    return str(found[-1]).replace(",", "") if found else None


def flexible_answer(solution: str) -> str | None:
    """Return the last number anywhere, without $, commas and a full stop at its end; None without a number."""
    found = [(a or b) for a, b in _NUMBER.findall(solution)]
    return _plain(found[-1]) if found else None


def _plain(number: str) -> str:
    return re.sub(r"\.$", "", number.replace(",", "").replace("$", ""))


def _prompt(row: Row, where: str) -> Prompt:
    solution = text(row, "answer", "ground_truth")
    gold = strict_answer(solution)
    if gold is None:
        raise RowError("column 'answer' has no final answer after '#### '")
    question = text(row, "question")
    meta: dict[str, Any] = {"answer": gold, "where": where}
    return Prompt(id=f"gsm8k-{text_hash(question)}", messages=(Message(role="user", content=question),), meta=meta)


class Gsm8k:
    """The suite: a program checks the final answer."""

    name = "gsm8k"
    about = "maths word problems, checked by program: after the last '####' (strict), last number (flexible)"
    kind: Literal["answers"] = "answers"
    needs: Literal["nothing"] = "nothing"
    follow_up = one_turn

    def prompts(self, path: Path) -> Loaded[Prompt]:
        """Read question and answer; the right answer goes to `meta["answer"]`."""
        return load(path, _prompt, needs="question, answer (ending in '#### number')")

    def score(
        self,
        prompts: Sequence[Prompt],
        answers: Answers,
        *,
        judge: Judge | None = None,
        baseline: Answers | None = None,
    ) -> Report:
        """Return strict and flexible accuracy; a reply without an answer is wrong, and counted."""
        del judge, baseline
        rows = []
        for name, extract in (("strict", strict_answer), ("flexible", flexible_answer)):
            found = [extract(reply[0]) for reply in answers.replies]
            gold = [str(p.meta["answer"]) for p in prompts]
            right = [float(a is not None and a == _gold(g, name)) for a, g in zip(found, gold, strict=True)]
            rows.append(
                share(
                    f"{name} accuracy, {answers.name}",
                    right,
                    [p.id for p in prompts],
                    judge=f"GSM8K checker, {name}",
                    prompt_hash=text_hash(*(p.messages[-1].content for p in prompts)),
                    parse_failures=sum(a is None for a in found) / len(found) if found else None,
                )
            )
        return Report(f"GSM8K, {answers.name}", tuple(rows))


def _gold(answer: str, name: str) -> str:
    return _plain(answer) if name == "flexible" else answer
