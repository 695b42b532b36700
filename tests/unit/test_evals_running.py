"""Running suites: answer, judge, count, write; and again without asking anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from accord.errors import AccordError, ConfigError
from accord.evals.answering import FileAnswerer
from accord.evals.running import Participants, Settings, run_suite
from accord.evals.suites import SUITES
from accord.judges.agreement import Agreement, WeakJudge
from accord.judges.base import Comparison, Rating
from accord.judges.client import ChatClient
from accord.judges.conduct import conduct
from accord.judges.llm import LLMJudge
from mock_model import MockModel, oracle

NUMBER = 12


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Questions, answers of a good and a bad model, labelled pairs, in the formats people have."""
    questions = [{"question_id": f"u{i}", "category": "c", "prompt": f"Question {i}?"} for i in range(NUMBER)]
    write(tmp_path / "question.jsonl", questions)
    for name, quality in (("good", 7), ("bad", 3)):
        rows = [{"question_id": f"u{i}", "reply": f"{name} {i} quality={quality}"} for i in range(NUMBER)]
        write(tmp_path / f"{name}.jsonl", rows)
    pairs = [{"prompt": f"P {i}", "chosen": f"x{i} quality=9", "rejected": f"y{i} quality=1"} for i in range(20)]
    write(tmp_path / "labels.jsonl", pairs)
    write(tmp_path / "gsm8k.jsonl", [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(6)])
    two = [{"question_id": i, "category": "writing", "turns": [f"First {i}", f"Then {i}"]} for i in range(3)]
    write(tmp_path / "mt" / "question.jsonl", two)
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def quiet(line: str) -> None:
    del line


def agreed(value: float, low: float) -> Agreement:
    return Agreement("judge", "", "labels", value, low, 1.0, 20, conduct([]))


def test_a_comparison_with_a_baseline_is_judged_written_and_repeated_without_a_call(data: Path) -> None:
    out = data / "out"
    with MockModel(oracle(first=0.6)) as model:
        written: list[tuple[bytes, bytes]] = []
        for _ in range(2):
            with ChatClient(model.url, "judge", cache=out / "cache.db") as client:
                who = Participants(
                    FileAnswerer(data / "good.jsonl"),
                    FileAnswerer(data / "bad.jsonl"),
                    LLMJudge(client),
                    agreed(0.9, 0.7),
                )
                report = run_suite(SUITES["arena-hard"], data / "question.jsonl", out, who, say=quiet)
                written.append(((out / "results.json").read_bytes(), (out / "results.md").read_bytes()))
            assert len(model.requests) == 1 + 2 * NUMBER
    assert written[0] == written[1]
    first = report.rows[0]
    assert first.value is not None and first.value > 0.7 and first.n == NUMBER
    assert first.judge_accuracy == {"value": 0.9, "low": 0.7, "high": 1.0, "n": 20, "on": "labels"}
    assert first.first_position is not None and first.inconsistent is not None and first.parse_failures == 0
    told = json.loads((out / "results.json").read_text())
    assert told["judge"]["accuracy"]["n"] == 20 and told["model"]["name"] == "good" and told["data"]["hash"]
    answers = [json.loads(line) for line in (out / "answers-1.jsonl").read_text().splitlines()]
    assert answers[3]["choices"][0]["turns"] == ["good 3 quality=7"]


def test_answers_that_were_written_can_be_given_again(data: Path) -> None:
    out = data / "out"
    who = Participants(FileAnswerer(data / "good.jsonl"))
    suite = SUITES["gsm8k"]
    write(data / "sums.jsonl", [{"prompt": f"{i} + 1?", "reply": f"#### {i + 1 + (i == 5)}"} for i in range(6)])
    who = Participants(FileAnswerer(data / "sums.jsonl"))
    first = run_suite(suite, data / "gsm8k.jsonl", out, who, say=quiet)
    again = Participants(FileAnswerer(out / "answers-1.jsonl", name="sums"))
    second = run_suite(suite, data / "gsm8k.jsonl", data / "again", again, say=quiet)
    assert first.rows == second.rows and first.rows[0].value == pytest.approx(5 / 6)


def test_turns_follow_each_other_at_the_temperature_of_the_suite(data: Path) -> None:
    def script(body: dict[str, Any]) -> dict[str, Any]:
        text = body["messages"][-1]["content"]
        return {"text": "[[8]]"} if body["model"] == "judge" else {"text": f"re: {text} ({len(body['messages'])})"}

    out = data / "out"
    with (
        MockModel(script) as model,
        ChatClient(model.url, "judge", cache=out / "c.db") as client,
        ChatClient(model.url, "m") as answering,
    ):
        from accord.evals.answering import UrlAnswerer

        who = Participants(UrlAnswerer(answering), judge=LLMJudge(client))
        report = run_suite(SUITES["mt-bench"], data / "mt", out, who, say=quiet)
        asked = [r for r in model.requests if r["model"] == "m"]
    assert len(asked) == 6 and {r["temperature"] for r in asked} == {0.7}
    answers = [json.loads(line) for line in (out / "answers-1.jsonl").read_text().splitlines()]
    assert answers[1]["choices"][0]["turns"] == ["re: First 1 (1)", "re: Then 1 (3)"]
    assert report.rows[0].value == 8
    assert any("error is unknown" in note for note in report.notes)


def test_a_limit_is_said_in_the_results(data: Path) -> None:
    who = Participants(FileAnswerer(data / "good.jsonl"))
    settings = Settings(limit=2)
    write(data / "sums.jsonl", [{"prompt": f"{i} + 1?", "reply": ""} for i in range(2)])
    who = Participants(FileAnswerer(data / "sums.jsonl"))
    report = run_suite(SUITES["gsm8k"], data / "gsm8k.jsonl", data / "out", who, settings=settings, say=quiet)
    assert report.rows[0].n == 2 and report.notes[0].startswith("Only the first 2 rows")
    assert "2 replies of sums are empty." in report.notes
    assert "Only the first 2 rows" in (data / "out" / "results.md").read_text()


class _Longer:
    """A judge without orders, as gold and reward models are."""

    name, prompt_hash = "longer", ""

    def compare(self, items: Any) -> list[Comparison]:
        return [Comparison(0.5 if len(a) == len(b) else float(len(a) > len(b))) for _, a, b in items]

    def rate(self, items: Any) -> list[Rating]:
        return [Rating(float(len(reply))) for _, reply in items]


def test_a_judge_without_orders_is_no_unreadable_one(data: Path) -> None:
    who = Participants(FileAnswerer(data / "good.jsonl"), FileAnswerer(data / "bad.jsonl"), _Longer())
    report = run_suite(SUITES["arena-hard"], data / "question.jsonl", data / "out", who, say=quiet)
    assert report.rows[0].value == 1.0 and report.rows[0].n == NUMBER and report.rows[0].parse_failures is None


@pytest.mark.parametrize(
    ("name", "who", "words"),
    [
        ("gsm8k", Participants(), "has to answer"),
        ("arena-hard", Participants(answerer=object()), "needs a judge"),  # pyright: ignore
        ("llmbar", Participants(), "measures a judge"),
    ],
)
def test_what_is_missing_is_named(name: str, who: Participants, words: str, data: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        run_suite(SUITES[name], data / "question.jsonl", data / "out", who, say=quiet)


def command(*arguments: object) -> tuple[int, str]:
    """Run `accord eval ...`; exit code and what was said."""
    from accord.cli import app

    done = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    if isinstance(done.exception, AccordError):
        return done.exception.exit_code, str(done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_the_commands(data: Path) -> None:
    out = data / "out"
    with MockModel(oracle()) as model:
        judge = ("--judge", model.url, "--judge-model", "judge")
        code, said = command(
            *("suite", "arena-hard", "--data", data / "question.jsonl", "--out", out),
            *("--model", data / "good.jsonl", "--baseline", data / "bad.jsonl"),
            *(*judge, "--judge-labels", data / "labels.jsonl"),
        )
        assert code == 0 and "agrees with labels.jsonl in 1.000 of 20 pairs" in said, said
        assert "labels.jsonl, n 20" in (out / "results.md").read_text()
        code, said = command("judge", *judge, "--labels", data / "labels.jsonl", "--out", data / "judge")
        assert code == 0 and json.loads((data / "judge" / "judge.json").read_text())["value"] == 1.0
        code, said = command("suite", "nonsense", "--data", data, "--out", out)
        assert code == 2 and "there is no suite 'nonsense'" in said
        code, said = command("suite", "gsm8k", "--data", data, "--out", out, "--judge", "people", "--model", "x")
        assert code == 2 and "people are asked in a database" in said
        code, said = command("judge", "--judge", model.url, "--labels", data / "labels.jsonl", "--out", out)
        assert code == 2 and "needs the name of the model" in said


def test_a_judge_no_better_than_a_coin_is_refused_or_warned_of(data: Path) -> None:
    out = data / "out"
    with MockModel(lambda body: {"text": "[[A]]"}) as model:
        wanted = [
            *("suite", "arena-hard", "--data", data / "question.jsonl", "--out", out),
            *("--model", data / "good.jsonl", "--baseline", data / "bad.jsonl", "--judge", model.url),
            *("--judge-model", "judge", "--judge-labels", data / "labels.jsonl"),
        ]
        code, said = command(*wanted)
        assert code == 2 and "no better than a coin" in said and not (out / "results.json").exists()
        with pytest.warns(WeakJudge):
            code, said = command(*wanted, "--weak-judge", "warn")
        assert code == 0 and json.loads((out / "results.json").read_text())["judge"]["accuracy"]["value"] == 0.5
