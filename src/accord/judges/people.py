"""People as judge: blind pairs and ratings on the labelling site, each reply shown in a random place.

The texts go into a project of the collection store as tasks for evaluation; asking again about the same texts adds
nothing. Until everything has enough answers, `compare` and `rate` raise `Waiting`; the same call afterwards returns
what people said. No torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import select

from accord.collect import projects
from accord.collect.database import Store, open_store, parse_url
from accord.collect.exporting.derive import selected
from accord.collect.exporting.gather import gather
from accord.collect.exporting.options import ExportOptions
from accord.collect.exporting.raw import RawAnnotation
from accord.collect.importing.options import ImportOptions
from accord.collect.importing.prepare import Item, prepare, task_key
from accord.collect.records import Verdict
from accord.collect.schema import PromptRow, ResponseRow, TaskRow
from accord.collect.settings import ProjectSettings
from accord.collect.tasks import add_tasks
from accord.data.rows import RowError
from accord.errors import DataError, Waiting
from accord.judges.base import Comparison, Rating
from accord.types import Candidate, Prompt

RULES = ProjectSettings(
    strength=False,
    random_slice=0,
    escalate_overlap=1,
    gold_rate=0,
    gold_rate_new=0,
    repeat_rate=0,
    gate="off",
)
"""Rules of a project made here: every task gets the same number of answers, and nothing else is mixed in."""


@dataclass(frozen=True)
class Place:
    """Where people are asked."""

    database: str
    """SQLite file or address of a database."""
    project: str
    """Its project, made when missing."""
    overlap: int = 1
    """Answers a pair or reply."""
    group: str = ""
    """Only answers of this group of people count; empty = everybody's. Tasks wait for that many of them."""

    @property
    def serve(self) -> str:
        """The command that opens the site."""
        path = self.database if "://" not in self.database else parse_url(self.database).render_as_string()
        return f"accord collect serve --db {path} --project {self.project}"


class HumanJudge:
    """Asks people; see `accord.judges.base.Judge`."""

    def __init__(self, place: Place) -> None:
        """Prepare it.

        Args:
            place: where.
        """
        self.place = place

    @property
    def name(self) -> str:
        """People, and how many answers each."""
        each = f"{self.place.overlap} answers each" if self.place.overlap > 1 else "one answer each"
        return f"people ({each})" if not self.place.group else f"people of {self.place.group} ({each})"

    @property
    def prompt_hash(self) -> str:
        """Of the project's guidelines in force, which are what people are told."""
        with open_store(self.place.database) as store:
            projects.ensure_project(store, self.place.project, self._rules())
            texts = gather(store, self.place.project).guidelines
        told = texts[-1].markdown if texts else ""
        return hashlib.sha256(f"{self.place}\x1f{told}".encode()).hexdigest()[:12]

    def compare(self, items: Sequence[tuple[Prompt, str, str]]) -> list[Comparison]:
        """p = mean over people: 1 for a, 0 for b, 0.5 for a tie or both bad; an adjudicator's word stands alone.

        Equal texts are a tie that nobody is asked about.

        Raises:
            Waiting: some pair has too few answers.
            DataError: a pair cannot be asked about, or its task is over with too few answers.
        """
        different = [item for item in items if item[1].strip() != item[2].strip()]
        asked = self._asked("pair", [(prompt, (a, b)) for prompt, a, b in different])
        found = iter([_vote(task, a) for (_, a, _), task in zip(different, asked, strict=True)])
        return [next(found) if a.strip() != b.strip() else Comparison(0.5) for _, a, b in items]

    def rate(self, items: Sequence[tuple[Prompt, str]]) -> list[Rating]:
        """Mean over people of their rating from 1 to 7.

        Raises:
            Waiting: some reply has too few answers.
            DataError: a reply cannot be asked about, or its task is over with too few answers.
        """
        return [_rating(task) for task in self._asked("rate", [(prompt, (reply,)) for prompt, reply in items])]

    def _rules(self) -> ProjectSettings:
        return RULES.model_copy(update={"overlap": self.place.overlap, "slice_overlap": self.place.overlap})

    def _asked(self, kind: Literal["pair", "rate"], shown: Sequence[tuple[Prompt, tuple[str, ...]]]) -> list[_Task]:
        """Put texts before people; what they said as soon as every task has enough, in the order of `shown`."""
        given = [Item(f"{kind} {n}", p, _candidates(replies)) for n, (p, replies) in enumerate(shown, 1)]
        made = prepare(given, ImportOptions(kind=kind, purpose="evaluation", overlap=self.place.overlap), _no_gold)
        if made.refused:
            first = made.refused[0]
            raise DataError(
                f"{len(made.refused)} of {len(given)} cannot be put before people: {first.why}",
                where=f"{self.place.project}: {first.where}",
                fix="leave out these prompts, or take another judge",
            )
        keys = [task_key(f"evaluation-{kind}", p, _candidates(replies)) for p, replies in shown]
        with open_store(self.place.database) as store:
            projects.ensure_project(store, self.place.project, self._rules())
            add_tasks(store, self.place.project, made.tasks)
            tasks = self._read(store, set(keys))
        self._require(list(tasks.values()))
        return [tasks[key] for key in keys]

    def _require(self, tasks: Sequence[_Task]) -> None:
        """Wait for people where they can still answer."""
        wanted = self.place.overlap
        short = [t for t in tasks if t.decision is None and len(t.answers) < wanted]
        where = f"{self.place.database}, project {self.place.project}"
        over = [t for t in short if t.state in ("done", "closed")]
        if over:
            raise DataError(
                f"{len(over)} of {len(tasks)} tasks are over with fewer than {wanted} answers each",
                where=where,
                fix="they were made for fewer answers, closed, or answered by other people: name a new project",
            )
        if short:
            missing = sum(wanted - len(t.answers) for t in short)
            raise Waiting(
                f"{missing} of {wanted * len(tasks)} answers of people are missing",
                where=where,
                fix=f"`{self.place.serve}` opens the labelling site; then run the same command again",
            )

    def _read(self, store: Store, keys: set[str]) -> dict[str, _Task]:
        collected = gather(store, self.place.project)
        tasks = {
            key: _Task(state, texts, collected.decisions.get(key))
            for key, (state, texts) in _stored(store, collected.project_id).items()
            if key in keys
        }
        for answer in selected(collected.answers, ExportOptions(purpose="evaluation")).records:
            if answer.task in tasks and (not self.place.group or self.place.group in answer.groups):
                tasks[answer.task].answers.append(answer)
        return tasks


@dataclass
class _Task:
    """One task as it is stored, and what was said of it."""

    state: str
    texts: tuple[str, ...]
    """Replies in stored order, which the indexes of a decision refer to."""
    decision: Verdict | None
    """An adjudicator's."""
    answers: list[RawAnnotation] = field(default_factory=list[RawAnnotation])


def _stored(store: Store, project_id: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """State and replies of every task of a project, by key."""
    with store.read() as session:
        tasks = session.execute(
            select(TaskRow.key, TaskRow.state, TaskRow.prompt_id, TaskRow.candidates).where(
                TaskRow.project_id == project_id
            )
        ).all()
        replies = select(ResponseRow.id, ResponseRow.text).join(PromptRow, ResponseRow.prompt_id == PromptRow.id)
        texts = {r.id: r.text for r in session.execute(replies.where(PromptRow.project_id == project_id))}
    return {t.key: (t.state, tuple(texts[name] for name in t.candidates)) for t in tasks}


def _candidates(texts: Sequence[str]) -> tuple[Candidate, ...]:
    return tuple(Candidate(text=text) for text in texts)


def _no_gold(item: Item, kind: str) -> dict[str, object]:
    raise RowError(f"{item.where} has no right answer as {kind}")


def _vote(task: _Task, a: str) -> Comparison:
    """What people say of a, whichever reply the task names first."""
    of_a = next(i for i, text in enumerate(task.texts) if text.strip() == a.strip())
    if task.decision is not None:
        chosen = task.decision.position
        return Comparison(0.5 if chosen is None else float(chosen == of_a))
    votes: list[float] = []
    by_order: tuple[list[float], list[float]] = ([], [])
    for answer in task.answers:
        chosen = None if answer.verdict is None else answer.verdict.position
        vote = 0.5 if chosen is None else float(chosen == of_a)
        votes.append(vote)
        by_order[answer.shown_order[0] != of_a].append(vote)
    first, second = (sum(side) / len(side) if side else None for side in by_order)
    return Comparison(sum(votes) / len(votes), (first, second))


def _rating(task: _Task) -> Rating:
    verdicts = [task.decision] if task.decision is not None else [a.verdict for a in task.answers]
    given = [v.ratings[0] for v in verdicts if v is not None and v.ratings]
    known = [float(value) for value in given if value is not None]
    return Rating(sum(known) / len(known)) if known else Rating(None, "people said only whether the task was done")
