"""Files of every kind as tasks, and other tools' judgements as labels."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from collect_world import answer, pair
from sqlalchemy import select, update

from accord.collect import events, reading
from accord.collect.claims import claim
from accord.collect.database import Store
from accord.collect.exporting.derive import preferences
from accord.collect.exporting.gather import gather
from accord.collect.importing import ImportOptions, import_file, import_judgements, import_records
from accord.collect.importing.prepare import task_key
from accord.collect.people import create_user
from accord.collect.projects import ensure_project
from accord.collect.records import NewTask
from accord.collect.schema import ResponseRow, TaskRow
from accord.collect.submissions import submit
from accord.collect.tasks import add_tasks
from accord.errors import DataError
from accord.types import Candidate, Message, Preference, Prompt

PROJECT = "p"
FOREIGN = Path(__file__).parent / "foreign"
USER = {"role": "user", "content": "Name a colour."}


@pytest.fixture
def store(store: Store) -> Store:
    """The store of both databases, with an empty project."""
    ensure_project(store, PROJECT, seed=1)
    return store


def tasks(store: Store) -> list[TaskRow]:
    with store.read() as session:
        return list(session.scalars(select(TaskRow).order_by(TaskRow.id)))


def write(tmp_path: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sample(*texts: str, prompt: str = "Name a colour.") -> dict[str, Any]:
    asked = {"id": f"p-{prompt}", "messages": [{"role": "user", "content": prompt}], "meta": {}}
    replies = [{"token_ids": [1], "finish": "stop", "text": text, "model": "sft"} for text in texts]
    return {"prompt": asked, "candidates": replies}


@pytest.mark.parametrize(
    "row, kinds",
    [
        (sample("Blue.", "Red."), ["pair"]),
        (sample("Blue.", "Red.", "Green."), ["rank"]),
        ({"prompt": "Q?", "chosen": "Blue.", "rejected": "Red."}, ["pair"]),
        ({"instruction": "Q?", "output_1": "Blue.", "output_2": "Red.", "preference": 1}, ["pair"]),
        ({"prompt": "Q?", "completion": "Blue.", "label": True}, ["rate"]),
        ({"prompt": "Q?", "responses": ["Blue.", "Red."]}, ["pair"]),
        ({"prompt": "Q?", "response_1": "Blue.", "response_2": "Red."}, ["pair"]),
        ({"prompt": "Q?", "completions": [{"text": "Blue.", "model": "a"}, {"text": "Red."}]}, ["pair"]),
        ({"messages": [USER, {"role": "assistant", "content": "Blue."}]}, ["rate"]),
        ({"prompt": "Q?", "responses": ["a", "b", "c"], "ranks": [0, 1, 1]}, ["rank"]),
    ],
)
def test_every_kind_of_row_becomes_a_task(store: Store, tmp_path: Path, row: dict[str, Any], kinds: list[str]) -> None:
    # Labels that are all equal are refused by the reader, so a second row differs.
    more = [{"prompt": "R?", "completion": "x", "label": False}] if "label" in row and "completion" in row else []
    done = import_file(store, PROJECT, write(tmp_path, row, *more))
    assert (done.added, done.refused) == (1 + len(more), ())
    assert [t.kind for t in tasks(store)][: len(kinds)] == kinds


def test_verdicts_of_a_data_set_are_not_used_unless_asked_for(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "Q?", "chosen": "Blue.", "rejected": "Red."})
    import_file(store, PROJECT, path)
    (task,) = tasks(store)
    assert (task.gold, task.lane) == (None, "queue")
    assert import_file(store, PROJECT, path, gold=True).added == 1
    test = next(t for t in tasks(store) if t.lane == "gold")
    assert test.gold is not None and test.gold["accept"][0]["position"] == 0


@pytest.mark.parametrize(
    "pairing, expected",
    [("consecutive", [("a", "b"), ("c", "a")]), ("all", [("a", "b"), ("a", "c"), ("b", "c")])],
)
def test_pairs_out_of_more_replies(store: Store, tmp_path: Path, pairing: str, expected: list[tuple[str, str]]) -> None:
    done = import_file(store, PROJECT, write(tmp_path, sample("a", "b", "c")), kind="pair", pairing=pairing)
    assert done.added == len(expected)
    with store.read() as session:
        texts = {row.id: row.text for row in session.execute(select(ResponseRow.id, ResponseRow.text))}
    assert [tuple(texts[name] for name in task.candidates) for task in tasks(store)] == expected


def test_importing_again_changes_nothing_and_neither_does_the_order_of_replies(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, sample("a", "b"), sample("b", "a"), sample("a", "b", prompt="Other?"))
    first = import_file(store, PROJECT, path)
    assert (first.added, first.repeated) == (2, 1)
    second = import_file(store, PROJECT, path)
    assert (second.added, second.repeated) == (0, 3)


def test_an_import_does_not_undo_what_somebody_answers_at_the_same_moment(store: Store, tmp_path: Path) -> None:
    row = {"prompt": [USER], "chosen": "Blue.", "rejected": "Red."}
    path = write(tmp_path, {**row, "annotator": "somebody"})
    add_tasks(store, PROJECT, [t.model_copy(update={"overlap": 3}) for t in new_tasks(row)])
    with ThreadPoolExecutor(1) as pool:
        with store.write() as session:
            session.execute(update(TaskRow).values(n_done=TaskRow.n_done + 1))
            done = pool.submit(import_judgements, store, PROJECT, path)
            wait([done], timeout=0.5)
        assert done.result(timeout=30).added == 1
    assert [task.n_done for task in tasks(store)] == [2]


def new_tasks(row: dict[str, Any]) -> list[NewTask]:
    replies = (Candidate(text=row["chosen"]), Candidate(text=row["rejected"]))
    messages = tuple(Message.model_validate(m) for m in row["prompt"])
    prompt = Prompt(id="p", messages=messages)
    return [NewTask(kind="pair", prompt=prompt, candidates=replies, key=task_key("pair", prompt, replies))]


def test_outputs_of_several_models_come_together_by_prompt(store: Store, tmp_path: Path) -> None:
    rows = [
        {"instruction": question, "output": f"{model} says {question}", "generator": model}
        for model in ("one", "two")
        for question in ("A?", "B?")
    ]
    done = import_file(store, PROJECT, write(tmp_path, *rows), kind="pair", purpose="evaluation")
    assert done.added == 2
    assert {(t.kind, t.purpose) for t in tasks(store)} == {("pair", "evaluation")}


def test_bad_rows_are_named_by_file_and_line_and_nothing_is_dropped_in_silence(store: Store, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        sample("a", "b"),
        {"prompt": sample("a")["prompt"], "candidates": []},
        sample("same", "same "),
        sample("a"),
    )
    done = import_file(store, PROJECT, path, format="samples", kind="pair")
    assert done.added == 1
    assert [(bad.line, bad.where) for bad in done.refused] == [(n, f"{path}:{n}") for n in (2, 3, 4)]
    assert "empty list" in done.refused[0].why
    assert "1 different replies are left to compare" in done.refused[1].why
    text = "\n".join(done.describe())
    assert "3 refused" in text and f"{path}:2" in text
    with pytest.raises(DataError, match="nothing was imported"):
        import_file(store, PROJECT, path, format="samples", kind="pair", max_bad_rows=2)


def test_a_prompt_without_replies_says_what_is_missing(store: Store, tmp_path: Path) -> None:
    done = import_file(store, PROJECT, write(tmp_path, {"prompt": "Q?"}))
    assert done.added == 0
    assert "sample some first" in done.refused[0].why


def test_a_format_that_is_named_must_be_found(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "Q?", "chosen": "Blue.", "rejected": "Red."})
    assert import_file(store, PROJECT, path, format="preference").added == 1
    with pytest.raises(DataError, match="this is preference data, not arena"):
        import_file(store, PROJECT, path, format="arena")


@pytest.mark.parametrize(
    "leak, added, masked, dropped",
    [("flag", 1, 0, 0), ("mask", 1, 1, 0), ("drop", 0, 0, 1)],
)
def test_leaks_are_flagged_masked_or_dropped(
    store: Store, tmp_path: Path, leak: str, added: int, masked: int, dropped: int
) -> None:
    path = write(tmp_path, sample("As ChatGPT, I like blue.", "Blue."))
    done = import_file(store, PROJECT, path, leaks=leak)
    assert (done.leaking, done.masked, done.dropped) == (1, masked, dropped)
    if leak == "drop":
        assert [t.kind for t in tasks(store)] == ["rate"]
        return
    assert done.added == added
    task = claim(store, PROJECT, create_user(store, "ann", "annotator"))
    assert task is not None
    assert any("ChatGPT" in c.text for c in task.candidates) == (leak == "flag")


@pytest.mark.parametrize(
    "name, added, refused, people",
    [
        ("argilla-2.json", 4, 0, 2),
        ("argilla-2-flat.jsonl", 2, 1, 2),
        ("argilla-1.jsonl", 1, 1, 1),
        ("label-studio.json", 4, 2, 2),
        ("oasst.trees.jsonl", 4, 0, 3),
        ("arena.jsonl", 3, 1, 2),
    ],
)
def test_judgements_of_other_tools_become_labels(
    store: Store, name: str, added: int, refused: int, people: int
) -> None:
    done = import_judgements(store, PROJECT, FOREIGN / name)
    assert (done.added, len(done.refused)) == (added, refused)
    again = import_judgements(store, PROJECT, FOREIGN / name)
    assert (again.added, again.repeated, len(again.refused)) == (0, added, refused)
    answers = gather(store, PROJECT).answers
    assert len(answers) == added
    assert len({a.annotator for a in answers}) == people
    assert {t.state for t in tasks(store)} == {"done"}
    assert events.verify_events(store).broken == ()


def test_names_and_addresses_of_people_do_not_come_along(store: Store) -> None:
    import_judgements(store, PROJECT, FOREIGN / "label-studio.json")
    import_judgements(store, PROJECT, FOREIGN / "arena.jsonl")
    said = "".join(a.annotator for a in gather(store, PROJECT).answers)
    assert "expert" not in said and "@" not in said


def test_what_was_said_is_what_is_stored(store: Store) -> None:
    import_judgements(store, PROJECT, FOREIGN / "label-studio.json")
    found = preferences(gather(store, PROJECT).answers)
    first = found[0]
    assert first.candidates[first.choice or 0].text == "Blue."
    assert (first.seconds, first.order_shown) == (14.25, (0, 1))
    assert [p.both_bad for p in found] == [False, True, False, False]
    assert found[2].ranking == ((0,), (2,), (1,))
    assert found[3].ranking == ((0,), (1, 2))


def test_the_replies_may_be_stored_in_another_order(store: Store, tmp_path: Path) -> None:
    import_file(store, PROJECT, write(tmp_path, sample("Seven.", "Blue.")))
    record = Preference(
        id="x",
        prompt=Prompt(id="q", messages=(Message(role="user", content="Name a colour."),)),
        candidates=(Candidate(text="Blue."), Candidate(text="Seven.")),
        choice=0,
        annotator="ada",
        order_shown=(1, 0),
    )
    path = tmp_path / "judged.jsonl"
    path.write_text(record.model_dump_json() + "\n", encoding="utf-8")
    assert import_judgements(store, PROJECT, path).added == 1
    (answer,) = gather(store, PROJECT).answers
    assert [c.text for c in answer.candidates] == ["Seven.", "Blue."]
    assert answer.verdict is not None and answer.verdict.position == 1
    assert answer.shown_order == (0, 1)


def test_one_person_cannot_judge_the_same_replies_twice_but_unnamed_people_are_several(
    store: Store, tmp_path: Path
) -> None:
    row = {"prompt": "Q?", "chosen": "Blue.", "rejected": "Red."}
    other = {"prompt": "Q?", "chosen": "Red.", "rejected": "Blue."}
    named = write(tmp_path, {**row, "annotator": "ada"}, {**other, "annotator": "ada"}, name="named.jsonl")
    done = import_judgements(store, PROJECT, named)
    assert (done.added, [bad.why for bad in done.refused]) == (1, ["this person has judged these replies before"])
    unnamed = write(tmp_path, row, other, row, name="unnamed.jsonl")
    assert import_judgements(store, PROJECT, unnamed).added == 3


def test_soft_labels_are_nobodys_judgement(store: Store, tmp_path: Path) -> None:
    prompt = {"id": "p", "messages": [USER], "meta": {}}
    row = {"id": "1", "prompt": prompt, "candidates": [{"text": "a"}, {"text": "b"}], "soft": 0.7, "meta": {}}
    done = import_judgements(store, PROJECT, write(tmp_path, row))
    assert done.added == 0 and "soft label" in done.refused[0].why


def test_records_in_memory(store: Store) -> None:
    prompt = Prompt(id="q", messages=(Message(role="user", content="Q?"),), meta={"responses": ["a", "b"]})
    done = import_records(store, PROJECT, [prompt], ImportOptions(tags=("trial",)))
    assert done.added == 1
    assert tasks(store)[0].tags == ["trial"]


def test_imported_judgements_say_nothing_about_the_pace(store: Store, tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n}?", "chosen": "good", "rejected": "bad"} for n in range(5)]
    import_file(store, PROJECT, write(tmp_path, *rows), options=ImportOptions(judgements=True))
    add_tasks(store, PROJECT, [pair(n) for n in range(4)])
    found = reading.progress(store, PROJECT)
    assert (found.annotations.total, found.remaining, found.eta_seconds, found.active_annotators) == (5, 4, None, 0)
    ann = create_user(store, "ann", "annotator")
    view = claim(store, PROJECT, ann)
    assert view is not None
    submit(store, ann, answer(view))
    found = reading.progress(store, PROJECT)
    assert (found.annotations.total, found.remaining, found.active_annotators) == (6, 3, 1)
    assert found.eta_seconds == pytest.approx(3 * 3600)
