"""Writing and reading back, export to TRL, splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.data import (
    export_trl,
    ordered_pairs,
    prompt_text,
    read,
    split_by,
    split_by_hash,
    split_by_prompt,
    unique_prompts,
    write_records,
)
from accord.errors import DataError
from accord.types import (
    Candidate,
    Demonstration,
    Document,
    Message,
    Preference,
    Prompt,
    Record,
    Stepwise,
    Unpaired,
)

# Writing ---------------------------------------------------------------------------------------------------------


def user(text: str) -> Prompt:
    return Prompt(id=f"p-{text}", messages=(Message(role="user", content=text),), meta={"tags": ["a"]})


REPLIES = (Candidate(text="x", model="m", meta={"score": 1.5}), Candidate(text="y"), Candidate(text="z"))
RECORDS: dict[str, list[Record]] = {
    "preference": [
        Preference(id="1", prompt=user("a"), candidates=REPLIES[:2], choice=1, strength=0.5, order_shown=(1, 0)),
        Preference(
            id="2", prompt=user("b"), candidates=REPLIES, ranking=((2,), (0, 1)), annotator="ann", meta={"k": [1]}
        ),
        Preference(id="3", prompt=user("c"), candidates=REPLIES[:2], tie=True, seconds=2.5, source="simulated"),
        Preference(id="4", prompt=user("d"), candidates=REPLIES[:2], soft=0.25),
        Preference(id="5", prompt=user("e"), candidates=REPLIES[:2], both_bad=True, group="g"),
    ],
    "unpaired": [
        Unpaired(id="1", prompt=user("a"), completion="x", label=True),
        Unpaired(id="2", prompt=user("a"), completion="y", label=False, meta={"n": None}),
    ],
    "stepwise": [Stepwise(id="1", prompt=user("a"), completions=("x", "y"), labels=(True, False))],
    "demonstration": [
        Demonstration(id="1", messages=(*user("a").messages, Message(role="assistant", content="x\u00e9"))),
    ],
    "prompt": [user("a"), user("b")],
    "document": [Document(id="1", text="a\r\nb", meta={"url": "u"})],
}


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("kind", RECORDS)
def test_own_records_are_read_back_equal(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"records.{suffix}"
    assert write_records(RECORDS[kind], path) == len(RECORDS[kind])
    data = read(path)
    assert list(data.records) == RECORDS[kind]
    assert data.format == f"accord-{kind}"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


TRL_ROWS: dict[str, list[dict[str, Any]]] = {
    "preference": [
        {"prompt": "Q?", "chosen": "good", "rejected": "bad", "margin": 2.0, "annotator": "a", "topic": "t"},
        {"prompt": "R?", "chosen": "good", "rejected": "bad", "soft": 0.75, "rejected_model": "m"},
        {
            "prompt": "S?",
            "chosen": [{"role": "assistant", "content": "x"}],
            "rejected": "y",
            "score_chosen": 3,
            "score_rejected": 1,
        },
    ],
    "hh": [{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}],
    "demonstration": [{"prompt": "Q?", "completion": "good", "n": 1}],
    "prompt": [{"prompt": "Q?", "answer": "4"}],
    "unpaired": [
        {"prompt": "Q?", "completion": "good", "label": True},
        {"prompt": "Q?", "completion": "b", "label": False},
    ],
    "stepwise": [{"prompt": "Q?", "completions": ["a", "b"], "labels": [True, False]}],
    "document": [{"text": "abc"}],
}


@pytest.mark.parametrize("kind", TRL_ROWS)
def test_what_was_imported_survives_export_and_import(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in TRL_ROWS[kind]))
    records = read(source).records
    export_trl(records, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl", type(records[0])).records == records


def test_export_writes_trl_columns_for_every_ordered_pair(tmp_path: Path) -> None:
    path = tmp_path / "trl.jsonl"
    assert export_trl(RECORDS["preference"], path, ties="drop") == 4
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [
        ("y", "x"),
        ("z", "x"),
        ("z", "y"),
        ("y", "x"),
    ]
    assert rows[0]["margin"] == 0.5
    assert rows[3]["soft"] == 0.75
    assert rows[0]["prompt"] == [{"role": "user", "content": "a"}]


def test_export_refuses_ties_by_default(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 preferences order no pair"):
        export_trl(RECORDS["preference"], tmp_path / "trl.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_ordered_pairs_of_a_ranking_with_ties() -> None:
    record = Preference(id="1", prompt=user("a"), candidates=REPLIES, ranking=((1, 2), (0,)))
    assert ordered_pairs(record) == [(1, 0), (2, 0)]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(RECORDS["prompt"], path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="records of one kind"):
        write_records([*RECORDS["prompt"], *RECORDS["document"]], path)
    clash = Prompt(id="1", messages=user("a").messages, meta={"prompt": "x"})
    with pytest.raises(DataError, match="share the name prompt"):
        export_trl([clash], path)
    assert path.read_bytes() == before


def test_unwritable_target_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot write the file"):
        write_records(RECORDS["prompt"], tmp_path / "file" / "records.jsonl")


def test_the_same_records_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_records(RECORDS["preference"], tmp_path / name)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


# Splits ----------------------------------------------------------------------------------------------------------


def test_splits_keep_prompts_together_and_do_not_move() -> None:
    few = [
        Preference(id=f"{i}-{j}", prompt=user(f"q{i}"), candidates=REPLIES[:2], choice=0)
        for i in range(200)
        for j in range(2)
    ]
    shares = {"train": 0.7, "validation": 0.1, "test": 0.2}
    parts = split_by_prompt(few, shares, seed=1)
    assert sum(map(len, parts.values())) == len(few)
    texts = {name: {prompt_text(record) for record in part} for name, part in parts.items()}
    assert not texts["train"] & texts["test"]
    assert 120 <= len(texts["train"]) <= 160
    more = [*few, *(Preference(id=f"n{i}", prompt=user(f"n{i}"), candidates=REPLIES[:2], choice=0) for i in range(50))]
    again = split_by_prompt(list(reversed(more)), shares, seed=1)
    for name, part in parts.items():
        assert {record.id for record in part} <= {record.id for record in again[name]}
    assert split_by_prompt(few, shares, seed=2) != parts


def test_split_ignores_white_space_and_empty_shares_stay_empty() -> None:
    assert prompt_text(user("a  b\n")) == prompt_text(user("a b"))
    parts = split_by_hash([user(str(i)) for i in range(50)], prompt_text, {"train": 1.0, "test": 0.0}, seed=0)
    assert (len(parts["train"]), len(parts["test"])) == (50, 0)


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}])
def test_bad_fractions(shares: dict[str, float]) -> None:
    with pytest.raises(DataError, match="sum to 1"):
        split_by_prompt([user("a")], shares, seed=0)


def test_split_by_and_unique_prompts() -> None:
    records = RECORDS["unpaired"]
    assert {name: len(part) for name, part in split_by(records, lambda r: r.id).items()} == {"1": 1, "2": 1}
    assert [prompt_text(prompt) for prompt in unique_prompts(records)] == ["user\x1fa"]
