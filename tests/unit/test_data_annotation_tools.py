"""Exports of annotation tools: one row, several people, each judgement a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.data import Dataset, read
from accord.data.named_replies import ranked_options, reply_index, reply_names, single_choice
from accord.data.rows import RowError
from accord.errors import DataError
from accord.types import Preference, Prompt

FOREIGN = Path(__file__).parent / "foreign"


def load(name: str, tmp_path: Path, bad: int = 0) -> Dataset[Preference]:
    return read(FOREIGN / name, Preference, max_bad_rows=bad, rejects=tmp_path / "rejects.jsonl")


def verdict(p: Preference) -> Any:
    return p.ranking or ("tie" if p.tie else "both_bad" if p.both_bad else p.choice)


def test_argilla_2_has_one_judgement_a_person(tmp_path: Path) -> None:
    data = load("argilla-2.json", tmp_path)
    assert data.format == "argilla"
    assert [(p.id, p.annotator, verdict(p)) for p in data.records] == [
        ("rec-1/7c0e4b5e-0001", "7c0e4b5e-0001", ((0,), (2,), (1,))),
        ("rec-1/7c0e4b5e-0002", "7c0e4b5e-0002", ((0, 2), (1,))),
        ("rec-2/7c0e4b5e-0001", "7c0e4b5e-0001", 0),
        ("rec-2/7c0e4b5e-0002", "7c0e4b5e-0002", "both_bad"),
    ]
    first = data.records[0]
    assert [c.text for c in first.candidates] == ["Blue.", "Seven.", "Red."]
    assert first.prompt.messages[0].content == "Name a colour."
    assert first.meta["comment"] == "Seven is no colour."
    assert first.meta["source"] == "colours"


def test_argilla_flat_columns_and_a_draft_is_refused(tmp_path: Path) -> None:
    data = load("argilla-2-flat.jsonl", tmp_path, bad=1)
    assert [(p.annotator, verdict(p)) for p in data.records] == [("u1", 0), ("u2", "tie")]
    assert data.records[0].meta["source"] == "colours"
    assert [(b.where.rpartition(":")[2], b.reason) for b in data.bad] == [
        ("2", "the answer was not submitted but is 'draft'")
    ]
    with pytest.raises(DataError, match=r"argilla-2-flat\.jsonl:2"):
        load("argilla-2-flat.jsonl", tmp_path)


def test_argilla_1_keeps_other_answers_and_refuses_discarded_ones(tmp_path: Path) -> None:
    data = load("argilla-1.jsonl", tmp_path, bad=1)
    (one,) = data.records
    assert (one.annotator, verdict(one), one.meta["quality"]) == ("u1", 0, 4)
    assert data.bad[0].reason == "the answer was not submitted but is 'discarded'"


def test_label_studio_pairs_rankers_and_skips(tmp_path: Path) -> None:
    data = load("label-studio.json", tmp_path, bad=2)
    assert data.format == "label-studio"
    assert [(p.id, p.annotator, verdict(p), p.seconds) for p in data.records] == [
        ("1/11", "3", 0, 14.25),
        ("1/12", "4", "both_bad", 3.5),
        ("2/21", "3", ((0,), (2,), (1,)), 20.0),
        ("2/22", "4", ((0,), (1, 2)), 20.0),
    ]
    assert [b.reason for b in data.bad] == [
        "the task was skipped (was_cancelled)",
        "2 buckets (relevant, biased) sort into kinds and order nothing",
    ]
    assert data.records[0].meta["topic"] == "colours"
    assert data.records[0].meta["why"] == {"text": ["Seven is no colour."]}
    assert "ada@example.org" not in data.records[0].model_dump_json()


def test_oasst_ranks_every_set_of_siblings(tmp_path: Path) -> None:
    data = load("oasst.trees.jsonl", tmp_path)
    assert [(p.id, p.annotator, verdict(p)) for p in data.records] == [
        ("t1", "", ((1,), (2,), (0,))),
        ("m4", "", 0),
        ("t2/0", "v1", 0),
        ("t2/1", "v2", "both_bad"),
    ]
    deeper = data.records[1]
    assert [m.content for m in deeper.prompt.messages] == ["Name a colour.", "Blue.", "Another?"]
    assert [c.text for c in deeper.candidates] == ["Red.", "No."]
    assert [c.text for c in data.records[2].candidates] == ["Hi!", "Hello!"]


def test_prompts_of_a_tree_can_be_read_alone() -> None:
    prompts = read(FOREIGN / "oasst.trees.jsonl", Prompt).records
    assert prompts[1].messages[-1].content == "Another?"


def test_limit_counts_judgements_not_rows(tmp_path: Path) -> None:
    assert len(read(FOREIGN / "argilla-2.json", Preference, limit=3).records) == 3


@pytest.mark.parametrize(
    "option, names, expected",
    [
        ("response-2", ["response-1", "response-2"], 1),
        ("Response 2", ["response-1", "response-2"], 1),
        ("2", ["response-1", "response-2"], 1),
        (1, ["response-1", "response-2"], 0),
        ("B", ["answer_a", "answer_b"], 1),
        ("left", ["x", "y"], 0),
        ("right", ["x", "y"], 1),
        ("left", ["x", "y", "z"], None),
        ("completion_0", ["text0", "text1"], 0),
        (True, ["text0", "text1"], None),
        ("nothing", ["text0", "text1"], None),
    ],
)
def test_which_reply_an_answer_means(option: Any, names: list[str], expected: int | None) -> None:
    assert reply_index(option, names) == expected


def test_replies_are_ordered_by_number_not_by_letter() -> None:
    fields = {f"response-{i}": "" for i in (10, 2, 1)} | {"prompt": ""}
    assert reply_names(fields) == ["response-1", "response-2", "response-10"]
    with pytest.raises(RowError, match="no two replies"):
        reply_names({"prompt": "", "response": ""})


def test_ties_and_both_bad_are_different_answers() -> None:
    names = ["response-1", "response-2"]
    assert single_choice("Tie", names) == {"tie": True}
    assert single_choice("both bad", names) == {"both_bad": True}
    assert single_choice("whatever", names) is None


def test_partial_and_doubled_rankings_are_refused() -> None:
    names = ["response-1", "response-2", "response-3"]
    for value in (["response-1", "response-2"], ["response-1", "response-1", "response-2"]):
        with pytest.raises(RowError, match="3 replies"):
            ranked_options(value, names)


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"id": "1", "fields": {"prompt": "Hi", "response-1": "a", "response-2": "b"}, "responses": {}}, "nobody has"),
        (
            {"fields": {"text": "Hi", "response-1": "a", "response-2": "b"}, "responses": {"q": [{"value": "1"}]}},
            "no prompt among",
        ),
        (
            {"fields": {"prompt": "Hi", "response-1": "a"}, "responses": {"q": [{"value": "1"}]}},
            "no two replies",
        ),
        (
            {
                "fields": {"prompt": "Hi", "r-1": "a", "response-1": "a", "response-2": "b"},
                "responses": {"q": [{"value": 9}]},
            },
            "no answer names one of the replies response-1, response-2",
        ),
        (
            {"prompt": "Hi", "response-1": "a", "response-2": "b", "q.responses": ["1"], "q.responses.users": []},
            "differ in length",
        ),
        (
            {
                "data": {"prompt": "Hi", "answer1": "a", "answer2": "b"},
                "annotations": [{"result": [{"type": "pairwise", "value": {"selected": "up"}}]}],
            },
            "the answer is 'up'",
        ),
        (
            {
                "data": {"prompt": "Hi", "answer1": "a", "answer2": "b"},
                "annotations": [{"result": [{"type": "rating", "value": {"rating": 3}}]}],
            },
            "no pairwise, ranker or choices answer",
        ),
        (
            {"message_tree_id": "t", "prompt": {"text": "Hi", "role": "prompter", "replies": []}},
            "no message of the tree has two ranked replies",
        ),
    ],
)
def test_rows_that_say_nothing_are_refused_by_line(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=reason) as raised:
        read(path, Preference)
    assert "rows.jsonl:1" in str(raised.value)
