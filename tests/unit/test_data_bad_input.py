"""Bad data: every case ends in a DataError that says what, where (file and line) and what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from accord.data import read
from accord.errors import DataError
from accord.types import Preference, Record, Unpaired

PAIR = {"prompt": "Q?", "chosen": "good", "rejected": "bad"}
USER = {"role": "user", "content": "Q?"}
REPLY = {"role": "assistant", "content": "good"}


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


GOOD = lines(PAIR, {**PAIR, "prompt": "R?"})
FARM = {"instruction": "Q?", "output_1": "a", "output_2": "b"}
AUTO_J = {"prompt": "Q?", "response 1": "a", "response 2": "b"}
ARENA = {"conversation_a": [USER, REPLY], "conversation_b": [USER, {"role": "assistant", "content": "bad"}]}
HH = "\n\nHuman: Q?\n\nAssistant:"


def nemo(*completions: Any) -> dict[str, Any]:
    return {"context": "Q?", "completions": list(completions)}


def kto(*labels: Any) -> bytes:
    return lines(*({"prompt": "Q?", "completion": "a", "label": label} for label in labels))


FILES: list[tuple[str, str, bytes, str, int]] = [
    # name of the case, file name, content, what the message says, line
    ("empty file", "a.jsonl", b"", "the file is empty", 1),
    ("blank lines only", "a.jsonl", b"\n\n", "no rows", 1),
    ("empty gzip", "a.jsonl.gz", gzip.compress(b""), "the file is empty", 1),
    ("empty list", "a.json", b"[]", "no rows", 1),
    ("header only", "a.csv", b"prompt,chosen,rejected\n", "no rows", 1),
    ("truncated line", "a.jsonl", GOOD + GOOD[:30], "cut off", 3),
    ("truncated list", "a.json", b'[\n{"text": "a"},\n{"text": "b', "not valid JSON", 3),
    ("data after the list", "a.json", b'[{"text": "a"}]\n[', "extra data", 1),
    ("truncated gzip", "a.jsonl.gz", gzip.compress(GOOD)[:-4], "gzip data is damaged or cut off", 3),
    ("corrupt gzip", "a.jsonl.gz", gzip.compress(GOOD)[:20] + b"\xff" * 40, "gzip data is damaged or cut off", 1),
    ("not gzip", "a.jsonl.gz", GOOD, "not gzip data", 1),
    ("latin-1 line", "a.jsonl", GOOD + '{"prompt": "caf\u00e9"}\n'.encode("latin-1"), "not UTF-8: byte 0xe9", 3),
    ("latin-1 list", "a.json", b'[\n{"text": "caf\xe9"}]', "not UTF-8: byte 0xe9", 2),
    ("latin-1 csv", "a.csv", b"prompt,chosen,rejected\nQ?,caf\xe9,b\n", "not UTF-8", 2),
    ("UTF-16", "a.jsonl", GOOD.decode().encode("utf-16"), "UTF-16, not UTF-8", 1),
    ("UTF-16 list", "a.json", '[{"text": "a"}]'.encode("utf-16"), "UTF-16, not UTF-8", 1),
    ("NUL bytes", "a.jsonl", GOOD + b'{"prompt": "a\x00"}\n', "NUL byte", 3),
    ("escaped NUL", "a.jsonl", GOOD + lines({**PAIR, "chosen": "a\x00"}), "NUL character", 3),
    ("half a surrogate pair", "a.jsonl", GOOD + lines({**PAIR, "chosen": "a\ud800"}), "half a surrogate pair", 3),
    ("not an object", "a.jsonl", GOOD + b"[1, 2]\n", "a JSON list, not an object", 3),
    ("list of strings", "a.json", b'["a", "b"]', "a JSON str, not an object", 1),
    ("scalar", "a.json", b"17", "must hold one list of rows", 1),
    ("no list of rows", "a.json", b'{"prompt": "Q?"}', "must hold one list of rows", 1),
    ("two lists of rows", "a.json", b'{"train": [{"text": "a"}], "test": [{"text": "b"}]}', "2 lists of rows", 1),
    ("deep nesting", "a.jsonl", GOOD + b"[" * 100_000 + b"\n", "not usable JSON", 3),
    ("ragged csv", "a.csv", b"prompt,chosen,rejected\na,b,c\nd,e\n", "2 cells where the header has 3", 3),
    ("unclosed quote", "a.csv", b'prompt,chosen,rejected\na,b,"c\n', "not valid CSV", 2),
    ("duplicate column", "a.csv", b"text,text\na,b\n", "each once", 1),
    ("not Parquet", "a.parquet", b"PAR1 this is no parquet file", "damaged", 1),
    ("not Arrow", "a.arrow", b"ARROW1 this is no arrow file", "damaged", 1),
    ("unknown columns", "a.jsonl", lines({"foo": 1, "bar": 2}), "no known format has these columns: foo, bar", 1),
    ("missing column", "a.jsonl", GOOD + lines({"prompt": "Q?", "chosen": "a"}), "column 'rejected' is missing", 3),
    ("null column", "a.jsonl", GOOD + lines({**PAIR, "rejected": None}), "column 'rejected' is null", 3),
    ("wrong type", "a.jsonl", GOOD + lines({**PAIR, "chosen": 3}), "column 'chosen' is a number", 3),
    ("empty reply", "a.jsonl", GOOD + lines({**PAIR, "chosen": " \n"}), "column 'chosen' is empty", 3),
    ("empty prompt", "a.jsonl", GOOD + lines({**PAIR, "prompt": ""}), "column 'prompt' is empty", 3),
    ("identical sides", "a.jsonl", GOOD + lines({**PAIR, "rejected": "good"}), "chosen and rejected are identical", 3),
    ("NaN margin", "a.jsonl", GOOD + lines({**PAIR, "margin": float("nan")}), "not a finite number", 3),
    ("negative margin", "a.jsonl", GOOD + lines({**PAIR, "margin": -1}), "negative margin", 3),
    ("soft above 1", "a.jsonl", GOOD + lines({**PAIR, "soft": 1.5}), "soft", 3),
    ("nothing shared", "a.jsonl", lines({"chosen": "abc", "rejected": "xyz"}), "share no beginning", 1),
    (
        "other prompt",
        "a.jsonl",
        lines({**PAIR, "chosen": [{**USER, "content": "X"}, REPLY], "rejected": "b"}),
        "same up to",
        1,
    ),
    ("printed list", "a.csv", b"prompt,completion\n\"[{'role': 'user'}]\",a\n", "Python list printed as text", 2),
    ("unknown role", "a.jsonl", lines({"messages": [{"role": "narrator", "content": "x"}, REPLY]}), "unknown role", 1),
    (
        "image part",
        "a.jsonl",
        lines({"messages": [{"role": "user", "content": [{"type": "image"}]}, REPLY]}),
        "only text",
        1,
    ),
    (
        "empty turn",
        "a.jsonl",
        lines({"messages": [{"role": "user", "content": ""}, REPLY]}),
        "turn 1 (user) is empty",
        1,
    ),
    (
        "empty transcript reply",
        "a.jsonl",
        lines({"chosen": HH, "rejected": HH + " no"}),
        "reply in 'chosen' is empty",
        1,
    ),
    ("bad verdict", "a.jsonl", lines({**FARM, "preference": 3}), "'preference' is 3", 1),
    ("word for verdict", "a.jsonl", lines({**FARM, "preference": "left"}), "'left', not a number", 1),
    ("label counting from 0", "a.jsonl", lines({**FARM, "label": 0}), "'label' is 0", 1),
    ("bad Auto-J label", "a.jsonl", lines({**AUTO_J, "label": 3}), "'label' is 3", 1),
    ("bad winner", "a.jsonl", lines({**ARENA, "winner": "nobody"}), "'nobody'", 1),
    ("one completion", "a.jsonl", lines(nemo({"rank": 0, "completion": "a"})), "at least two", 1),
    (
        "no rank",
        "a.jsonl",
        lines(nemo({"rank": 0, "completion": "a"}, {"completion": "b"})),
        "completion 2 needs 'rank'",
        1,
    ),
    ("bad label", "a.jsonl", kto(True, False, "maybe"), "'maybe', not true or false", 3),
    (
        "steps and labels differ",
        "a.jsonl",
        lines({"prompt": "Q?", "completions": ["a", "b"], "labels": [True]}),
        "2 completions but 1",
        1,
    ),
]


@pytest.mark.parametrize("name, content, says, line", [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_bad_files(tmp_path: Path, name: str, content: bytes, says: str, line: int) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert says in message
    assert f"{path}:{line}" in message
    assert "  to do: " in message
    assert caught.value.exit_code == 3


SOURCES = [
    ("missing file", "nope.jsonl", "no such file or directory"),
    ("misspelt file", "a.jsnol", "did you mean"),
    ("unknown suffix", "a.pkl", "unknown kind of data file"),
    ("directory without data", "empty", "holds no data files"),
    ("unknown split", "folder:nope", "no split 'nope'"),
    ("several kinds", "mixed", "files of several kinds"),
    ("part of a file", "a.jsonl:train", "this is a file"),
    ("damaged state.json", "saved", "cannot read state.json"),
    ("dataset_info.json of another tool", "folder/dataset_info.json:x", "not a LLaMA-Factory dataset_info.json"),
    ("broken dataset_info.json", "broken", "not valid JSON"),
    ("undeclared sides", "sides", "columns does not name chosen and rejected"),
]


@pytest.mark.parametrize("source, says", [case[1:] for case in SOURCES], ids=[case[0] for case in SOURCES])
def test_bad_sources(tmp_path: Path, source: str, says: str) -> None:
    for name in ("empty", "folder", "mixed", "saved", "broken", "sides"):
        (tmp_path / name).mkdir()
    for name in ("a.jsonl", "a.pkl", "folder/train.jsonl", "mixed/a.jsonl", "mixed/b.json"):
        (tmp_path / name).write_bytes(GOOD)
    (tmp_path / "folder" / "dataset_info.json").write_text('{"features": {}}')
    (tmp_path / "saved" / "state.json").write_text("{")
    (tmp_path / "broken" / "dataset_info.json").write_text('{"a": ')
    (tmp_path / "sides" / "dataset_info.json").write_text('{"a": {"file_name": "a.json", "ranking": true}}')
    with pytest.raises(DataError) as caught:
        read(f"{tmp_path}/{source}")
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value.where)
    assert caught.value.fix


def fail(tmp_path: Path, content: bytes, want: type[Record] | None = None, **options: Any) -> str:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path, want, **options)
    assert caught.value.where
    assert caught.value.fix
    return str(caught.value)


def test_wrong_kind_names_what_was_found_and_what_is_needed(tmp_path: Path) -> None:
    message = fail(tmp_path, lines({"text": "abc"}), Preference)
    assert "Preference records were asked for, but this is text data (Document)" in message
    assert "chosen, rejected" in message
    assert "a.jsonl:1" in message


def test_count_and_first_ten(tmp_path: Path) -> None:
    bad = [{**PAIR, "chosen": ""} for _ in range(14)]
    message = fail(tmp_path, GOOD + lines(*bad), max_bad_rows=3)
    assert "14 of 16 rows cannot be used (3 allowed)" in message
    assert message.count("column 'chosen' is empty") == 10
    assert "and 4 more" in message
    assert "max_bad_rows to at least 14" in message


def test_dropped_rows_need_a_file(tmp_path: Path) -> None:
    message = fail(tmp_path, GOOD + lines({**PAIR, "chosen": ""}), max_bad_rows=1)
    assert "give `rejects`" in message


def test_no_usable_row(tmp_path: Path) -> None:
    content = lines({**PAIR, "chosen": ""}, {**PAIR, "chosen": ""})
    assert "no usable rows" in fail(tmp_path, content, max_bad_rows=5, rejects=tmp_path / "rejects.jsonl")


@pytest.mark.parametrize("label", [True, False])
def test_constant_labels(tmp_path: Path, label: bool) -> None:
    assert f"all 3 labels are {str(label).lower()}" in fail(tmp_path, kto(label, label, label), Unpaired)


def test_verdicts_that_count_from_another_number(tmp_path: Path) -> None:
    rows = lines(*({**FARM, "output_1": f"a{i}", "preference": i % 2} for i in range(12)))
    assert "reply 2 never wins" in fail(tmp_path, rows)
    rows = lines(*({**AUTO_J, "response 1": f"a{i}", "label": 1 + i % 2} for i in range(12)))
    assert "reply 1 never wins" in fail(tmp_path, rows)


def test_mapping_to_a_column_that_is_not_there(tmp_path: Path) -> None:
    message = fail(tmp_path, lines({"question": "Q?", "x": 1}), columns={"prompt": "qestion"})
    assert "the mapping names columns the data does not have: qestion" in message
    assert "did you mean 'question'?" in message
