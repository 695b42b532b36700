"""Files, directories, declared data sets, and the shared real data."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from accord.data import (
    read,
)
from accord.errors import DataError
from accord.types import (
    Demonstration,
    Document,
    Message,
    Preference,
    Prompt,
    Record,
    Unpaired,
)

ROWS: list[dict[str, Any]] = [
    {"prompt": f"Question {i}?", "chosen": f"good {i}\nline", "rejected": 'bad, "really"', "margin": 0.5 * i}
    for i in range(3)
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)


def write_arrow(path: Path, *, stream: bool) -> None:
    table = pa.Table.from_pylist(ROWS)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(str(path), table.schema) as writer:
        writer.write_table(table)


def make_file(directory: Path, name: str) -> Path:
    path = directory / name
    writers = {
        "a.jsonl": lambda: path.write_bytes(LINES),
        "bom.jsonl": lambda: path.write_bytes(b"\xef\xbb\xbf" + LINES),
        "crlf.jsonl": lambda: path.write_bytes(LINES.replace(b"\n", b"\r\n\r\n")),
        "a.jsonl.gz": lambda: path.write_bytes(gzip.compress(LINES)),
        "a.json": lambda: path.write_text(json.dumps(ROWS, indent=1)),
        "data.json": lambda: path.write_text(json.dumps({"version": 1, "data": ROWS})),
        "one.json": lambda: path.write_text(json.dumps({"train": ROWS}, indent=1)),
        "lines.json": lambda: path.write_bytes(LINES),
        "a.json.gz": lambda: path.write_bytes(gzip.compress(json.dumps(ROWS).encode())),
        "a.csv": lambda: write_csv(path),
        "a.parquet": lambda: pq.write_table(pa.Table.from_pylist(ROWS), path),
        "stream.arrow": lambda: write_arrow(path, stream=True),
        "file.arrow": lambda: write_arrow(path, stream=False),
    }
    writers[name]()
    return path


NAMES = "a.jsonl bom.jsonl crlf.jsonl a.jsonl.gz a.json data.json one.json lines.json a.json.gz a.csv a.parquet"


@pytest.mark.parametrize("name", [*NAMES.split(), "stream.arrow", "file.arrow"])
def test_every_file_type_gives_the_same_records(tmp_path: Path, name: str) -> None:
    reference = read(make_file(tmp_path, "a.jsonl"), Preference)
    data = read(make_file(tmp_path, name), Preference)
    assert data.records == reference.records
    assert [record.strength for record in data.records] == [0, 0.5, 1]


@pytest.mark.parametrize("name, line", [("a.json", 14), ("a.csv", 6), ("a.jsonl", 3)])
def test_bad_rows_are_named_by_the_line_they_start_on(tmp_path: Path, name: str, line: int) -> None:
    path = make_file(tmp_path, name)
    path.write_text(path.read_text().replace("0.5", "0.25").replace("1.0", "-1"))
    with pytest.raises(DataError, match=rf"{name}:{line}: column 'margin' is -1"):
        read(path)


def test_large_csv_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    assert len(read(path, Document).records[0].text) == 200_000


def test_rows_left_out_are_written_down(tmp_path: Path) -> None:
    path, rejects = tmp_path / "a.jsonl", tmp_path / "out" / "rejects.jsonl"
    path.write_bytes(LINES + b'{"prompt": "Q?", "chosen": "", "rejected": "x"}\n{"prompt": \xff}\nnot json')
    data = read(path, max_bad_rows=3, rejects=rejects)
    assert len(data.records) == 3
    assert [bad.where for bad in data.bad] == [f"{path}:{line}" for line in (4, 5, 6)]
    written = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [row["where"] for row in written] == [bad.where for bad in data.bad]
    assert written[0]["row"]["rejected"] == "x"
    assert "not UTF-8" in written[1]["reason"]
    assert written[2]["row"] == "not json"


# Directories -----------------------------------------------------------------------------------------------------


def test_shards_and_splits(tmp_path: Path) -> None:
    for index, row in enumerate(ROWS[:2]):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"train-0000{index}-of-00002.parquet")
    assert len(read(tmp_path).records) == 2
    pq.write_table(pa.Table.from_pylist(ROWS[2:]), tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match="2 splits in the directory: test, train"):
        read(tmp_path)
    assert len(read(f"{tmp_path}:test").records) == 1
    data = tmp_path / "clone" / "data"
    data.mkdir(parents=True)
    (data / "train.jsonl").write_bytes(LINES)
    assert len(read(tmp_path / "clone").records) == 3


def test_saved_datasets_directory(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    (saved / "train").mkdir(parents=True)
    write_arrow(saved / "train" / "data-00000-of-00001.arrow", stream=True)
    (saved / "train" / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
    )
    (saved / "train" / "dataset_info.json").write_text(json.dumps({"features": {}, "splits": {}}))
    assert len(read(saved / "train").records) == 3
    (saved / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    assert len(read(saved).records) == 3
    (saved / "train" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(DataError, match="incomplete"):
        read(saved)


def lf_directory(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_text(json.dumps([{"q": "Q?", "ctx": "", "good": "yes", "bad": "no", "prompt": "x"}]))
    turns = [{"who": "u", "text": "Q?"}, {"who": "m", "text": "yes"}]
    (tmp_path / "b.json").write_text(json.dumps([{"chat": turns, "sys": "S", "n": 1}]))
    kto = [
        {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "a"}], "label": v}
        for v in (1, 0)
    ]
    (tmp_path / "c.json").write_text(json.dumps(kto))
    tags = {"role_tag": "who", "content_tag": "text", "user_tag": "u", "assistant_tag": "m"}
    columns = {"prompt": "q", "query": "ctx", "chosen": "good", "rejected": "bad"}
    info = {
        "pairs": {"file_name": "a.json", "ranking": True, "columns": columns},
        "chat": {
            "file_name": "b.json",
            "formatting": "sharegpt",
            "columns": {"messages": "chat", "system": "sys"},
            "tags": tags,
        },
        "kto": {
            "file_name": "c.json",
            "formatting": "openai",
            "columns": {"messages": "messages", "kto_tag": "label"},
        },
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    return tmp_path


def test_llama_factory_entries(tmp_path: Path) -> None:
    directory = lf_directory(tmp_path)
    (pair,) = read(f"{directory}:pairs", Preference).records
    assert pair.prompt.messages == (Message(role="user", content="Q?"),)
    assert [candidate.text for candidate in pair.candidates] == ["yes", "no"]
    assert pair.meta == {"prompt": "x"}
    (chat,) = read(f"{directory}/dataset_info.json:chat", Demonstration).records
    assert [message.role for message in chat.messages] == ["system", "user", "assistant"]
    assert chat.meta == {"n": 1}
    assert [record.label for record in read(f"{directory}:kto", Unpaired).records] == [True, False]


def test_llama_factory_single_entry_needs_no_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "Q?", "output": "yes"}]))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"only": {"file_name": "a.json"}}))
    assert len(read(tmp_path, Demonstration).records) == 1


def test_llama_factory_unknown_entry_names_the_nearest(tmp_path: Path) -> None:
    directory = lf_directory(tmp_path)
    with pytest.raises(DataError, match=r"(?s)no data set 'pair'.*dataset_info\.json:1.*to do: write .*:pairs"):
        read(f"{directory}:pair")


def test_llama_factory_undeclared_role_is_a_bad_row(tmp_path: Path) -> None:
    directory = lf_directory(tmp_path)
    (directory / "b.json").write_text(json.dumps([{"chat": [{"who": "stranger", "text": "x"}]}]))
    with pytest.raises(DataError, match=r"(?s)undeclared role 'stranger'.*b\.json:1"):
        read(f"{directory}:chat")


def test_hub_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"(?s)needs the `datasets` library.*accord-rlhf\[hub\]"):
        read("owner/name")


# Real data -------------------------------------------------------------------------------------------------------


def shared(name: str) -> Path:
    root = Path(os.environ.get("ACCORD_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / name).is_file():
        pytest.skip(f"real data not found: {root / name} (set ACCORD_SHARED_DATA to its directory)")
    return root / name


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name, kind, fmt, num_good, num_bad",
    [
        ("hh-rlhf/harmless-base-dev.jsonl.gz", Preference, "hh-rlhf", 1152, 4),
        ("alpaca_eval/judged_pairs.jsonl.gz", Preference, "alpaca-farm", 11269, 0),
        ("gsm8k/test.jsonl.gz", Demonstration, "prompt-completion", 1319, 0),
        ("gsm8k/train-2000.jsonl.gz", Demonstration, "prompt-completion", 2000, 0),
        ("autoj/pairwise-dev.jsonl.gz", Preference, "auto-j", 699, 1),
        ("hhh/hhh-dev.jsonl.gz", Preference, "hhh", 220, 0),
        ("llmbar/Natural.json", Preference, "alpaca-farm", 100, 0),
        ("humaneval/HumanEval.jsonl.gz", Prompt, "prompt", 164, 0),
        ("mt_bench/question.jsonl", Prompt, "mt-bench", 80, 0),
        ("xstest/prompts.csv", Prompt, "prompt", 450, 0),
        ("xstest/completions_gpt4.csv.gz", Demonstration, "prompt-completion", 450, 0),
    ],
)
def test_real_data(tmp_path: Path, name: str, kind: type[Record], fmt: str, num_good: int, num_bad: int) -> None:
    data = read(shared(name), max_bad_rows=num_bad, rejects=tmp_path / "rejects.jsonl")
    assert (data.kind, data.format) == (kind, fmt)
    assert (len(data.records), len(data.bad)) == (num_good, num_bad)
    assert all("empty" in bad.reason for bad in data.bad)
