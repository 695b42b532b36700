"""Every data format, detected by its columns and turned into records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.data import Dataset, read
from accord.data.formats import FORMATS, detect
from accord.data.rows import Columns
from accord.errors import DataError
from accord.types import Demonstration, Document, Preference, Prompt, Record, Stepwise, Unpaired

USER = {"role": "user", "content": "Q?"}
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}


def load(tmp_path: Path, *rows: dict[str, Any], want: type[Record] | None = None, **options: Any) -> Dataset[Any]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(path, want, **options)


def turns(record: Any) -> list[tuple[str, str]]:
    messages = record.messages if hasattr(record, "messages") else record.prompt.messages
    return [(message.role, message.content) for message in messages]


# Demonstrations, prompts, documents ------------------------------------------------------------------------------

QA = [("user", "Q?"), ("assistant", "good")]
SYSTEM_QA = [("system", "S"), *QA]


@pytest.mark.parametrize(
    "name, row, expected",
    [
        ("chat", {"messages": [USER, GOOD]}, QA),
        ("chat", {"messages": [{"role": "system", "content": ""}, USER, GOOD]}, QA),
        ("chat", {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "good"}]}]}, QA),
        ("chat", {"messages": json.dumps([USER, GOOD])}, QA),
        ("prompt-completion", {"prompt": "Q?", "completion": "good"}, QA),
        ("prompt-completion", {"prompt": [USER], "completion": [GOOD]}, QA),
        ("prompt-completion", {"question": "Q?", "answer": "good"}, QA),
        ("prompt-completion", {"input": "Q?", "output": "good"}, QA),
        ("prompt-completion", {"prompt": "\n\nHuman: Q?\n\nAssistant:", "completion": " good"}, None),
        ("alpaca", {"instruction": "Q?", "input": "", "output": "good"}, QA),
        ("alpaca", {"instruction": "Q?", "input": "with this", "output": "good"}, None),
        ("alpaca", {"instruction": "Q?", "output": "good", "system": "S"}, SYSTEM_QA),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "good"}], "system": "S"},
            SYSTEM_QA,
        ),
    ],
)
def test_demonstrations(tmp_path: Path, name: str, row: dict[str, Any], expected: Any) -> None:
    data = load(tmp_path, row)
    assert (data.format, data.kind) == (name, Demonstration)
    if expected is not None:
        assert turns(data.records[0]) == expected


def test_alpaca_joins_input_and_history(tmp_path: Path) -> None:
    row = {"instruction": "I", "input": "X", "output": "O", "history": [["q1", "a1"], ["q2", "a2"]]}
    (record,) = load(tmp_path, row).records
    contents = [content for _, content in turns(record)]
    assert contents == ["q1", "a1", "q2", "a2", "I\nX", "O"]
    assert [role for role, _ in turns(record)] == ["user", "assistant"] * 3


def test_sharegpt_calls_and_observations(tmp_path: Path) -> None:
    pairs = [("human", "weather?"), ("function_call", '{"name": "w"}'), ("observation", "rain"), ("gpt", "It rains.")]
    (record,) = load(tmp_path, {"conversations": [{"from": who, "value": text} for who, text in pairs]}).records
    assert [role for role, _ in turns(record)] == ["user", "assistant", "tool", "assistant"]


def test_tool_calls_without_content_are_kept_as_text(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "w"}}]}
    (record,) = load(tmp_path, {"messages": [USER, call, {"role": "tool", "content": "rain"}, GOOD]}).records
    assert json.loads(turns(record)[1][1]) == call["tool_calls"]


def test_prompts_keep_columns_for_rewards(tmp_path: Path) -> None:
    verl = {
        "data_source": "gsm8k",
        "prompt": [USER],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "72"},
        "extra_info": {"index": 3},
    }
    data = load(tmp_path, verl)
    assert (data.format, data.kind) == ("verl", Prompt)
    assert data.records[0].meta["answer"] == "72"
    assert data.records[0].meta["extra_info"] == {"index": 3}
    data = load(tmp_path, {"messages": [USER], "ground_truth": "9", "dataset": "gsm8k"})
    assert (data.format, data.kind) == ("chat-prompt", Prompt)
    assert data.records[0].meta == {"ground_truth": "9", "dataset": "gsm8k", "answer": "9"}
    data = load(tmp_path, {"prompt": "Q?", "label": "safe", "id": 7})
    assert data.format == "prompt"
    assert data.records[0].id == "7"
    assert data.records[0].meta == {"label": "safe"}
    data = load(tmp_path, {"question_id": 81, "turns": ["one", "two"]})
    assert data.format == "mt-bench"
    assert turns(data.records[0]) == [("user", "one")]
    assert data.records[0].meta["turns"] == ["one", "two"]


def test_documents(tmp_path: Path) -> None:
    data = load(tmp_path, {"text": "abc", "url": "u"}, {"text": "def"})
    assert (data.format, data.kind) == ("text", Document)
    assert data.records[0].text == "abc"
    assert data.records[0].meta == {"url": "u"}


# Preferences with two sides --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, row",
    [
        ("preference", {"prompt": "Q?", "chosen": "good", "rejected": "bad"}),
        ("preference", {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}),
        ("preference", {"chosen": [USER, GOOD], "rejected": [USER, BAD]}),
        ("preference", {"prompt": "Q?", "chosen": [USER, GOOD], "rejected": [USER, BAD]}),
        ("preference", {"chosen": "Q? good", "rejected": "Q? bad"}),
        ("hh-rlhf", {"chosen": "\n\nHuman: Q?\n\nAssistant: good", "rejected": "\n\nHuman: Q?\n\nAssistant: bad"}),
        ("alpaca-ranking", {"instruction": "Q?", "input": "", "chosen": "good", "rejected": "bad"}),
        (
            "sharegpt-ranking",
            {
                "conversations": [{"from": "human", "value": "Q?"}],
                "chosen": {"from": "gpt", "value": "good"},
                "rejected": {"from": "gpt", "value": "bad"},
            },
        ),
        (
            "hhh",
            {
                "prompt": "Which is better? (A) (B)",
                "text_correct": "\n\nHuman: Q?\n\nAssistant: good",
                "text_incorrect": "\n\nHuman: Q?\n\nAssistant: bad",
            },
        ),
    ],
)
def test_two_sided_preferences(tmp_path: Path, name: str, row: dict[str, Any]) -> None:
    data = load(tmp_path, row)
    assert (data.format, data.kind) == (name, Preference)
    (record,) = data.records
    assert turns(record) == [("user", "Q?")]
    assert [candidate.text for candidate in record.candidates] == ["good", "bad"]
    assert (record.choice, record.source) == (0, "import")


def test_hh_multi_turn(tmp_path: Path) -> None:
    opening = "\n\nHuman: one\n\nAssistant: two\n\nstill two\n\nHuman: three\n\nAssistant:"
    (record,) = load(tmp_path, {"chosen": f"{opening} yes", "rejected": f"{opening} no\n\nmore"}).records
    assert turns(record) == [("user", "one"), ("assistant", "two\n\nstill two"), ("user", "three")]
    assert [candidate.text for candidate in record.candidates] == ["yes", "no\n\nmore"]


def test_hh_joins_turns_of_one_speaker(tmp_path: Path) -> None:
    opening = "\n\nHuman: one\n\nAssistant: a\n\nAssistant: b\n\nHuman: two\n\nAssistant:"
    (record,) = load(tmp_path, {"chosen": f"{opening} yes", "rejected": f"{opening} no"}).records
    assert turns(record)[1] == ("assistant", "a\n\nb")


def test_hh_prompt_column_with_open_assistant(tmp_path: Path) -> None:
    row = {"prompt": "\n\nHuman: one\n\nAssistant:", "chosen": "yes", "rejected": "no"}
    (record,) = load(tmp_path, row).records
    assert turns(record) == [("user", "one")]


def test_margin_scores_models_and_soft(tmp_path: Path) -> None:
    base = {"prompt": "Q?", "chosen": "good", "rejected": "bad", "annotator": 3, "topic": "t"}
    (record,) = load(tmp_path, {**base, "margin": 1.5, "chosen_model": "m1", "soft": 0.8}).records
    assert (record.strength, record.soft, record.annotator, record.meta) == (1.5, 0.8, "3", {"topic": "t"})
    assert [candidate.model for candidate in record.candidates] == ["m1", ""]
    data = load(
        tmp_path, {**base, "chosen": [USER, GOOD], "rejected": [USER, BAD], "score_chosen": 9, "score_rejected": 7}
    )
    assert data.format == "ultrafeedback-binarized"
    assert data.records[0].strength == 2
    assert [candidate.meta["score"] for candidate in data.records[0].candidates] == [9, 7]


# Preferences with a verdict --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preference, expected",
    [
        (1, (0, None, False)),
        (2, (1, None, False)),
        (1.0, (0, None, False)),
        (0, (None, None, True)),
        (1.5, (None, None, True)),
        (1.25, (0, 0.75, False)),
        (1.75, (1, 0.25, False)),
        ("1.75", (1, 0.25, False)),
    ],
)
def test_alpaca_farm(tmp_path: Path, preference: Any, expected: Any) -> None:
    row = {"instruction": "Q?", "input": "X", "output_1": "a", "output_2": "b", "preference": preference}
    data = load(tmp_path, {**row, "generator_2": "g2", "index": 4})
    assert data.format == "alpaca-farm"
    (record,) = data.records
    assert turns(record) == [("user", "Q?\nX")]
    assert (record.choice, record.soft, record.tie) == expected
    assert [candidate.model for candidate in record.candidates] == ["", "g2"]
    assert record.meta == {"index": 4}


def test_identical_replies_may_tie(tmp_path: Path) -> None:
    row = {"instruction": "Q?", "output_1": "a", "output_2": "a", "preference": 1.5}
    assert load(tmp_path, row).records[0].tie


def test_llmbar_is_read_as_alpaca_farm(tmp_path: Path) -> None:
    (record,) = load(tmp_path, {"input": "Q?", "output_1": "a", "output_2": "b", "label": 2}).records
    assert (turns(record), record.choice) == ([("user", "Q?")], 1)


def test_auto_j_labels(tmp_path: Path) -> None:
    rows = [{"prompt": "Q?", "response 1": "a", "response 2": "b", "label": label} for label in (0, 1, 2)]
    data = load(tmp_path, *rows)
    assert data.format == "auto-j"
    assert [(record.choice, record.tie) for record in data.records] == [(0, False), (1, False), (None, True)]


def test_arena(tmp_path: Path) -> None:
    row = {"conversation_a": [USER, GOOD], "conversation_b": [USER, BAD], "model_a": "x", "model_b": "y"}
    winners = ("model_a", "model_b", "tie", "tie (bothbad)")
    data = load(tmp_path, *({**row, "winner": winner} for winner in winners))
    assert data.format == "arena"
    assert [record.choice for record in data.records] == [0, 1, None, None]
    assert [record.both_bad for record in data.records] == [False, False, False, True]
    assert [candidate.model for candidate in data.records[0].candidates] == ["x", "y"]


def nemo(*ranks: int) -> dict[str, Any]:
    replies = [
        {"rank": rank, "completion": [{"role": "assistant", "content": f"c{i}"}]} for i, rank in enumerate(ranks)
    ]
    return {"context": [USER], "completions": replies}


@pytest.mark.parametrize(
    "ranks, expected",
    [
        ((0, 1), (0, None, False)),
        ((1, 0), (1, None, False)),
        ((0, 0), (None, None, True)),
        ((2, 0, 1), (None, ((1,), (2,), (0,)), False)),
        ((0, 1, 1, 0), (None, ((0, 3), (1, 2)), False)),
    ],
)
def test_nemo_ranks_with_ties_and_many(tmp_path: Path, ranks: tuple[int, ...], expected: Any) -> None:
    data = load(tmp_path, nemo(*ranks))
    assert data.format == "nemo-ranks"
    record = data.records[0]
    assert (record.choice, record.ranking, record.tie) == expected
    assert [candidate.text for candidate in record.candidates] == [f"c{i}" for i in range(len(ranks))]


def test_raw_ultrafeedback(tmp_path: Path) -> None:
    completions = [
        {"model": "m0", "response": "a", "fine-grained_score": 3.5, "overall_score": 10},
        {"model": "m1", "response": "b", "fine-grained_score": 4.75, "overall_score": 8},
        {"model": "m2", "response": "c", "overall_score": 3.5},
    ]
    data = load(tmp_path, {"instruction": "Q?", "completions": completions, "source": "s"})
    assert data.format == "ultrafeedback"
    record = data.records[0]
    assert record.ranking == ((1,), (0, 2))
    assert record.candidates[0].model == "m0"
    assert record.candidates[0].meta == {"score": 3.5, "overall_score": 10}


# Labels ----------------------------------------------------------------------------------------------------------


def test_unpaired(tmp_path: Path) -> None:
    rows = [{"prompt": "Q?", "completion": "good", "label": True}, {"prompt": [USER], "completion": [BAD], "label": 0}]
    data = load(tmp_path, *rows)
    assert (data.format, data.kind) == ("unpaired", Unpaired)
    assert [(record.completion, record.label) for record in data.records] == [("good", True), ("bad", False)]
    assert data.records[0].prompt == data.records[1].prompt


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, GOOD]},
        {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "good"}]},
        {"instruction": "Q?", "input": "", "output": "good"},
        {"prompt": "Q?", "completion": "good"},
    ],
)
def test_kto_tag(tmp_path: Path, row: dict[str, Any]) -> None:
    data = load(tmp_path, {**row, "kto_tag": True}, {**row, "kto_tag": False})
    assert (data.format, data.kind) == ("kto-tag", Unpaired)
    assert [(turns(r), r.completion, r.label) for r in data.records] == [
        ([("user", "Q?")], "good", label) for label in (True, False)
    ]


def test_stepwise(tmp_path: Path) -> None:
    data = load(tmp_path, {"prompt": "Q?", "completions": ["one", "two"], "labels": [True, False]})
    assert (data.format, data.kind) == ("stepwise", Stepwise)
    assert data.records[0].completions == ("one", "two")
    assert data.records[0].labels == (True, False)


# Reading in general ----------------------------------------------------------------------------------------------

PAIR = {"prompt": "Q?", "chosen": "good", "rejected": "bad", "topic": "t"}


def test_preferences_serve_as_prompts_demonstrations_and_text(tmp_path: Path) -> None:
    (prompt,) = load(tmp_path, PAIR, want=Prompt).records
    assert isinstance(prompt, Prompt)
    assert (turns(prompt), prompt.meta) == ([("user", "Q?")], {"topic": "t"})
    (demonstration,) = load(tmp_path, PAIR, want=Demonstration).records
    assert turns(demonstration) == QA
    (document,) = load(tmp_path, PAIR, want=Document).records
    assert document.text == "Q?\n\ngood"


def test_demonstration_as_prompt_keeps_the_answer(tmp_path: Path) -> None:
    (prompt,) = load(tmp_path, {"question": "2+2?", "answer": "4"}, want=Prompt).records
    assert prompt.meta == {"answer": "4"}


def test_a_tie_has_no_chosen_side(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no single reply was preferred"):
        load(tmp_path, nemo(0, 0), want=Demonstration)


def test_column_mapping(tmp_path: Path) -> None:
    row = {"q": "Q?", "best": "good", "worst": "bad", "prompt": "unrelated"}
    columns = {"prompt": "q", "chosen": "best", "rejected": "worst"}
    data = load(tmp_path, row, columns=columns)
    assert turns(data.records[0]) == [("user", "Q?")]
    assert data.records[0].meta == {"original_prompt": "unrelated"}
    assert data.mapping["best"] == "candidates[0]"


def test_majority_decides_the_format(tmp_path: Path) -> None:
    rows = [{"prompt": "Q?", "chosen": "good"}, PAIR, {**PAIR, "prompt": "R?"}]
    with pytest.raises(DataError, match=r"1 of 3 rows.*\n.*rows\.jsonl:1: column 'rejected' is missing"):
        load(tmp_path, *rows, want=Preference)


def test_describe_names_format_columns_and_counts(tmp_path: Path) -> None:
    lines = load(tmp_path, PAIR, want=Prompt).describe()
    text = "\n".join(lines)
    assert "preference (Preference, read as Prompt)" in text
    assert "chosen -> candidates[0]" in text
    assert "in meta  topic" in text
    assert "1 read, 0 refused" in text


def test_ids_depend_on_content_only(tmp_path: Path) -> None:
    first = load(tmp_path, PAIR, {**PAIR, "chosen": "other"}).records
    second = load(tmp_path, {**PAIR, "chosen": "other"}, PAIR).records
    assert [record.id for record in first] == [record.id for record in reversed(second)]
    assert first[0].id != first[1].id
    assert first[0].prompt.id == first[1].prompt.id


def test_limit_stops_early(tmp_path: Path) -> None:
    rows = [{**PAIR, "prompt": f"Q{i}?"} for i in range(5)]
    assert len(load(tmp_path, *rows, limit=2).records) == 2


DOCS = Path(__file__).parents[2] / "docs" / "data-formats.md"


def documented() -> list[tuple[str, str, dict[str, Any]]]:
    cells = (line.split(" | ") for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `"))
    rows = [cell for cell in cells if len(cell) == 4]
    return [(name.strip("| `"), kind, json.loads(row.removesuffix(" |").strip("`"))) for name, kind, _, row in rows]


def test_every_format_is_documented() -> None:
    assert [name for name, _, _ in documented()] == [fmt.name for fmt in FORMATS]


@pytest.mark.parametrize("name, kind, row", documented())
def test_documented_examples_are_read_as_documented(name: str, kind: str, row: dict[str, Any]) -> None:
    fmt = detect([row])
    assert fmt is not None
    assert (fmt.name, fmt.kind.__name__) == (name, kind)
    assert all(isinstance(fmt.convert(Columns(part)), fmt.kind) for part in fmt.unpack(row))
