"""The qualification quiz: open questions before the first task, with explanations afterwards."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from scipy.special import betainc
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from accord import rng
from accord.collect import events
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.failures import Conflict, Invalid, NotFound
from accord.collect.fields import Text
from accord.collect.ids import new_id
from accord.collect.projects import require_project
from accord.collect.records import (
    Kind,
    ProjectSettings,
    QuizRule,
    Requirements,
    Scale,
    ShownCandidate,
    User,
    Verdict,
)
from accord.collect.schema import ProfileRow, ProjectRow, QuizItemRow, QuizResultRow
from accord.collect.verdicts import Gold, fitting, is_right, parse_gold
from accord.collect.views import user_id
from accord.types import Message, Record


class NewQuizItem(Record):
    """A question to add."""

    kind: Kind = "pair"
    messages: tuple[Message, ...] = Field(min_length=1)
    candidates: tuple[Text, ...] = Field(min_length=1, max_length=9)
    gold: dict[str, Any]
    """As in `NewTask.gold`."""
    explanation: Text = Field(default="", max_length=10_000)
    """Shown after the attempt."""


class QuizItem(Record):
    """A question, without its answer."""

    id: str
    kind: Kind
    messages: tuple[Message, ...]
    candidates: tuple[ShownCandidate, ...]
    flags: tuple[str, ...]
    scale: Scale
    require: Requirements


class QuizPass(Record):
    """What it takes."""

    right: int
    of: int


class QuizScore(Record):
    """How an attempt went."""

    passed: bool
    right: int
    total: int


class Quiz(Record):
    """The next attempt of one person; no items when they have passed or have no attempt left."""

    items: tuple[QuizItem, ...]
    required: QuizPass | None
    result: QuizScore | None
    """Of the latest attempt."""
    attempts_left: int


class Explanation(Record):
    """Whether one answer was right, and why."""

    id: str
    right: bool
    note: str


class QuizOutcome(Record):
    """How an attempt went; explanations are given when it is over."""

    passed: bool
    right: int
    total: int
    attempts_left: int
    explain: tuple[Explanation, ...]


def add_quiz_items(
    store: Store, project: str, new: Sequence[NewQuizItem], *, actor: str = events.SYSTEM, replace: bool = False
) -> list[str]:
    """Add questions and return their ids.

    Args:
        store: an open store.
        project: name or id.
        new: the questions.
        actor: id of who does it.
        replace: retire those that were there.

    Raises:
        NotFound: no such project.
        Invalid: a gold answer does not fit its question; its number is in `where`.
    """
    golds: list[Gold] = []
    for number, item in enumerate(new, 1):
        try:
            golds.append(parse_gold(item.gold, item.kind, len(item.candidates)))
        except Invalid as error:
            raise Invalid(error.what, where=f"question {number}", fix=error.fix) from error

    def work(session: Session) -> list[str]:
        row = require_project(session, project, lock=True)
        if replace:
            old = update(QuizItemRow).where(QuizItemRow.project_id == row.id, QuizItemRow.retired_at.is_(None))
            session.execute(old.values(retired_at=utcnow()))
        rows = [
            QuizItemRow(
                id=new_id(),
                project_id=row.id,
                kind=item.kind,
                messages=[message.model_dump(mode="json") for message in item.messages],
                candidates=list(item.candidates),
                gold=gold.model_dump(mode="json"),
                explanation=item.explanation,
                created_at=utcnow(),
            )
            for item, gold in zip(new, golds, strict=True)
        ]
        session.add_all(rows)
        session.flush()
        after = {"items": [r.id for r in rows], "replaced": replace}
        events.record(session, actor, "add_quiz_items", ("project", row.id), project=row.id, after=after)
        return [r.id for r in rows]

    return store.transact(work)


def is_qualified(store: Store, project: str, who: User | str) -> bool:
    """Return whether somebody may label: there is no quiz, they passed it, or an administrator let them in.

    Raises:
        NotFound: no such project.
    """
    with store.read() as session:
        row = require_project(session, project)
        if ProjectSettings.model_validate(row.settings).quiz_pass is None:
            return True
        let_in = session.scalar(select(ProfileRow.qualified_at).where(ProfileRow.user_id == user_id(who)))
        return let_in is not None or passed_quiz(session, row.id, user_id(who))


def passed_quiz(session: Session, project: str, user: str) -> bool:
    """Return whether somebody passed a project's quiz (ids)."""
    query = select(func.count()).where(
        QuizResultRow.project_id == project, QuizResultRow.user_id == user, QuizResultRow.passed.is_(True)
    )
    return bool(session.scalar(query))


def quiz(store: Store, project: str, who: User | str) -> Quiz:
    """Return the questions of somebody's next attempt: drawn and ordered at random, the same until they are answered.

    Raises:
        NotFound: no such project.
    """
    user = user_id(who)
    with store.read() as session:
        row = require_project(session, project)
        settings = ProjectSettings.model_validate(row.settings)
        if settings.quiz_pass is None:
            return Quiz(items=(), required=None, result=None, attempts_left=0)
        past = _past(session, row.id, user)
        left = max(0, settings.quiz_pass.attempts - len(past))
        asked = [] if left == 0 or any(p.passed for p in past) else _asked(session, row, user, settings.quiz_pass, past)
        total = len(asked) or settings.quiz_pass.items
        return Quiz(
            items=tuple(_item(q, settings, _order(row, user, len(past), q)) for q in asked),
            required=QuizPass(right=_least(total, settings.quiz_pass), of=total),
            result=_score(past[-1]) if past else None,
            attempts_left=left,
        )


def _score(row: QuizResultRow) -> QuizScore:
    return QuizScore(passed=row.passed, right=row.num_right, total=row.num_items)


def answer_quiz(store: Store, project: str, who: User | str, answers: Mapping[str, Verdict]) -> QuizOutcome:
    """Grade an attempt.

    Args:
        store: an open store.
        project: name or id.
        who: user.
        answers: verdict (positions as shown) by question id; a question without one is wrong.

    Raises:
        NotFound: no such project, or it has no quiz.
        Conflict: it is passed already, or no attempt is left.
        Invalid: an answer to a question that was not asked, or one that does not fit.
    """
    user = user_id(who)
    return store.transact(lambda session: _grade(session, project, user, answers))


def _grade(session: Session, project: str, user: str, answers: Mapping[str, Verdict]) -> QuizOutcome:
    # The profile row is the lock: two attempts sent at once are two attempts.
    if session.scalar(select(ProfileRow.user_id).where(ProfileRow.user_id == user).with_for_update()) is None:
        raise NotFound("there is no such user", fix="sign in again")
    row = require_project(session, project)
    settings = ProjectSettings.model_validate(row.settings)
    rule = settings.quiz_pass
    if rule is None:
        raise NotFound("this project has no quiz", fix="ask for a task")
    past = _past(session, row.id, user)
    if any(p.passed for p in past):
        raise Conflict("the quiz is passed already", fix="ask for a task")
    if len(past) >= rule.attempts:
        raise Conflict(f"all {rule.attempts} attempts are used", fix="ask an administrator")
    asked = _asked(session, row, user, rule, past)
    if unknown := set(answers) - {q.id for q in asked}:
        raise Invalid(f"question {min(unknown)[:60]} was not asked", fix="load the quiz again")
    explained: list[Explanation] = []
    said: list[Any] = []
    for question in asked:
        verdict = answers.get(question.id)
        right = False
        if verdict is not None:
            kind: Any = question.kind
            fitting(verdict, kind, len(question.candidates), settings.model_copy(update={"require_rationale": False}))
            canonical = verdict.resolved(_order(row, user, len(past), question))
            right = is_right(canonical, Gold.model_validate(question.gold), len(question.candidates))
            said.append({"item": question.id, "verdict": canonical.model_dump(mode="json"), "right": right})
        explained.append(Explanation(id=question.id, right=right, note=question.explanation))
    count = sum(e.right for e in explained)
    passed = bool(explained) and count >= _least(len(explained), rule)
    result = QuizResultRow(
        id=new_id(),
        project_id=row.id,
        user_id=user,
        attempt=len(past) + 1,
        num_right=count,
        num_items=len(explained),
        passed=passed,
        answers=said,
        created_at=utcnow(),
    )
    session.add(result)
    session.flush()
    after = {"right": count, "total": len(explained), "passed": passed}
    events.record(session, user, "quiz", ("quiz_result", result.id), project=row.id, after=after)
    left = 0 if passed else rule.attempts - len(past) - 1
    return QuizOutcome(passed=passed, right=count, total=len(explained), attempts_left=left, explain=tuple(explained))


def _least(total: int, rule: QuizRule) -> int:
    """Right answers it takes to pass."""
    if rule.rule == "share":
        return max(1, -int(-rule.share * total // 1))
    for right in range(total + 1):
        if float(betainc(1 + right, 1 + total - right, rule.share)) < 1 - rule.confidence:
            return right
    return total


def _past(session: Session, project: str, user: str) -> Sequence[QuizResultRow]:
    query = select(QuizResultRow).where(QuizResultRow.project_id == project, QuizResultRow.user_id == user)
    return session.scalars(query.order_by(QuizResultRow.attempt)).all()


def _asked(
    session: Session, project: ProjectRow, user: str, rule: QuizRule, past: Sequence[QuizResultRow]
) -> list[QuizItemRow]:
    query = select(QuizItemRow).where(QuizItemRow.project_id == project.id, QuizItemRow.retired_at.is_(None))
    pool = session.scalars(query.order_by(QuizItemRow.id)).all()
    order = rng.permutation(len(pool), project.seed, "quiz", user, len(past))
    return [pool[i] for i in order[: rule.items]]


def _order(project: ProjectRow, user: str, attempt: int, question: QuizItemRow) -> list[int]:
    return rng.permutation(len(question.candidates), project.seed, "quiz order", user, attempt, question.id)


def _item(question: QuizItemRow, settings: ProjectSettings, order: Sequence[int]) -> QuizItem:
    kind: Any = question.kind
    return QuizItem(
        id=question.id,
        kind=kind,
        messages=tuple(Message.model_validate(m) for m in question.messages),
        candidates=tuple(ShownCandidate(position=p, text=question.candidates[i]) for p, i in enumerate(order)),
        flags=settings.flags,
        scale=Scale(strength=settings.strength, tie=settings.tie, both_bad=settings.both_bad),
        require=Requirements(rationale=False, seen=settings.min_seen, ratings=settings.require_ratings),
    )
