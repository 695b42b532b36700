"""Files of right answers as questions of the qualification quiz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accord.collect import events, projects
from accord.collect.database import Store
from accord.collect.importing.files import gold_of, read_all
from accord.collect.importing.options import ImportOptions
from accord.collect.importing.prepare import items_of, prepare
from accord.collect.quiz import NewQuizItem, add_quiz_items
from accord.collect.settings import QuizRule
from accord.errors import DataError


def import_quiz(
    store: Store, project: str, source: str | Path, *, replace: bool = False, actor: str = events.SYSTEM
) -> tuple[int, QuizRule]:
    """Add the rows of a preference file as questions; return how many, and the rule that holds now.

    A project that has no quiz gets one: as many questions an attempt as there are, at most ten, 80 % of them right.

    Args:
        store: an open store.
        project: its name.
        source: any preference format; the verdict is the right answer, a column `explanation` is shown afterwards.
        replace: retire the questions that were there.
        actor: id of who does it.

    Raises:
        DataError: the file cannot be read, or a row has no right answer.
        NotFound: no such project.
    """
    options = ImportOptions(gold=True)
    dataset, bad = read_all(source, options)
    items, refused = items_of(dataset.records, options.kind)
    made = prepare(items, options, gold_of)
    wrong = [*bad, *refused, *made.refused]
    if wrong:
        listing = "\n".join(f"  {one.where or one.line}: {one.why}" for one in wrong[:10])
        raise DataError(
            f"{len(wrong)} rows are no questions with a right answer:\n{listing}",
            where=str(source),
            fix="give a prompt, chosen and rejected a row; nothing was added",
        )
    questions = [
        NewQuizItem(
            kind=task.kind,
            messages=task.prompt.messages,
            candidates=tuple(one.text for one in task.candidates),
            gold=gold,
            explanation=_explanation(task.meta),
        )
        for task in made.tasks
        if isinstance(gold := task.gold, dict)
    ]
    add_quiz_items(store, project, questions, actor=actor, replace=replace)
    rules = projects.settings(store, project)
    if rules.quiz_pass is None:
        rules = rules.model_copy(update={"quiz_pass": QuizRule(items=min(10, len(questions)))})
        projects.set_settings(store, project, rules, actor=actor)
    return len(questions), rules.quiz_pass or QuizRule()


def _explanation(meta: dict[str, Any]) -> str:
    said = meta.get("import", {}).get("explanation", "")
    return said if isinstance(said, str) else ""
