"""Problems in the format of HumanEval: reading, what a reply means, testing, pass@k, the commands."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from accord.cli import app
from accord.errors import ConfigError, DataError
from accord.evals import code
from accord.evals.code import Attempt, Problem, attempt_all, fingerprint, measure, read_problems
from accord.evals.code_answers import canonical, read_answers
from accord.sandbox import Level, Verdict
from accord.sandbox.replies import program
from mock_model import MockModel

DATA = Path(os.environ.get("ACCORD_DATA", Path(__file__).parents[3] / "shared" / "data"))
ADD = {
    "task_id": "T/0",
    "prompt": 'import math\n\n\ndef add(a: int, b: int) -> int:\n    """ Add.\n    >>> add(1, 2)\n    3\n    """\n',
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(-1, 1) == 0\n",
}
# The test needs a helper of the prompt, and the prompt ends in the middle of the function.
ROOT = {
    "task_id": "T/1",
    "prompt": "def poly(xs, x):\n    return sum(c * x ** i for i, c in enumerate(xs))\n\n\ndef root(xs):\n    # find x",
    "entry_point": "root",
    "canonical_solution": "\n    return -xs[0] / xs[1]\n",
    "test": "def check(candidate):\n    assert abs(poly([1, 2], candidate([1, 2]))) < 1e-6\n",
}
SCRIPT = {
    "task_id": "T/2",
    "prompt": "def inc(x):\n",
    "entry_point": "inc",
    "canonical_solution": "    return x + 1\n",
    "test": "assert inc(1) == 2\nassert inc(0) == 1\n",
}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "problems.jsonl", [ADD, ROOT, SCRIPT])


def test_tests_are_parsed_by_one_thread(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that parse at the same time can break CPython 3.11's parser."""
    parsed: list[threading.Thread] = []
    given: list[str] = []

    class Seen(Problem):
        @property
        def call(self) -> str:
            parsed.append(threading.current_thread())
            return super().call

    def checked(source: str, *, call: str, **_: Any) -> Verdict:
        given.append(call)
        return Verdict(True, "passed", "", (), 1, "", 0.0, Level.NONE)

    monkeypatch.setattr(code, "check", checked)
    monkeypatch.setattr(code, "require", lambda *_, **__: None)
    problems = [Seen(**vars(problem)) for problem in read_problems(data)]
    assert all(attempt.passed for attempt in attempt_all(problems, canonical(problems)))
    assert parsed == [threading.current_thread()] * 3
    assert sorted(given) == ["", "check(candidate)", "check(candidate)"]


@pytest.mark.sandbox
def test_canonical_solutions_pass_and_wrong_ones_fail(data: Path) -> None:
    problems = read_problems(data)
    right = attempt_all(problems, canonical(problems))
    assert [(a.task_id, a.passed, a.status) for a in right] == [(f"T/{i}", True, "passed") for i in range(3)]
    wrong = {p.task_id: [p.prompt + "\n    return 7\n"] for p in problems}
    assert [a.status for a in attempt_all(problems, wrong)] == ["failed"] * 3


@pytest.mark.sandbox
def test_a_helper_of_the_test_is_the_prompts_and_not_the_attempts(data: Path) -> None:
    problems = read_problems(data)
    source = "def poly(xs, x):\n    return 0\n\n\ndef root(xs):\n    return 5\n"
    (attempt,) = attempt_all(problems, {"T/1": [source]})
    assert attempt.status == "failed"


@pytest.mark.sandbox
def test_a_test_that_is_at_fault_is_named(tmp_path: Path) -> None:
    problems = read_problems(write(tmp_path / "p.jsonl", [{**ADD, "test": "def check(candidate): pass"}]))
    with pytest.raises(DataError, match=r"never calls add[\s\S]*T/0"):
        attempt_all(problems, canonical(problems))


@pytest.mark.sandbox
def test_the_command_prints_numbers_and_names_what_is_suspicious(data: Path, tmp_path: Path) -> None:
    rows = [
        {"task_id": "T/0", "completion": "    return a + b\n"},
        {"task_id": "T/0", "completion": "    import os\n    os._exit(0)\n"},
        {"task_id": "T/1", "completion": ["\n    return -xs[0] / xs[1]", "\n    return 0"]},
        {"task_id": "T/2", "reply": "Sure!\n```python\ndef inc(x):\n    return x + 1\n```\nIt adds one."},
        {"task_id": "T/2", "reply": "return x + 1"},
    ]
    answers, out = write(tmp_path / "a.jsonl", rows), tmp_path / "out.json"
    command = ["eval", "code", "--data", str(data), "--answers", str(answers), "-k", "1", "-k", "2", "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "4 of 6 attempts at 3 problems passed" in done.output
    assert "suspicious: T/0 attempt 1: exits early" in done.output
    made = json.loads(out.read_text())
    numbers = {row["name"]: row for row in made["numbers"]}
    assert numbers["pass@1"]["value"] == pytest.approx((0.5 + 0.5 + 1) / 3) and numbers["pass@2"]["value"] == 1.0
    assert numbers["suspicious attempts"]["value"] == pytest.approx(1 / 6)
    assert len(made["attempts"]) == 6
    neither = CliRunner().invoke(app, ["eval", "code", "--data", str(data)])
    assert isinstance(neither.exception, ConfigError)


@pytest.mark.sandbox
def test_a_model_behind_an_address_is_asked_once_a_sample_and_tested(data: Path, tmp_path: Path) -> None:
    solved = {p.entry_point: p.prompt + p.canonical_solution for p in read_problems(data)}

    def write_code(body: dict[str, Any]) -> dict[str, Any]:
        asked = body["messages"][-1]["content"]
        name = next(name for name in solved if f"def {name}(" in asked)
        wrong = name == "inc" and body["seed"] % 2
        return {"text": f"Here:\n```python\n{solved[name].replace('x + 1', 'x') if wrong else solved[name]}\n```"}

    with MockModel(write_code) as server:
        command = ["eval", "code", "--data", str(data), "--model", server.url, "--model-name", "m", "--samples", "4"]
        command += ["--temperature", "0.8", "--cache", str(tmp_path / "c.db")]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert " of 12 attempts at 3 problems passed" in done.output
        assert "12 of 12" not in done.output  # odd seeds get the wrong one
        assert len(server.requests) == len(server.counts()) == 12
        assert "def add(a: int" in str(server.requests[0]["messages"])
        again = CliRunner().invoke(app, command)
        assert again.stdout == done.stdout and len(server.requests) == 12  # all from the cache
    greedy = CliRunner().invoke(app, [*command[:-4], "--cache", str(tmp_path / "c.db")])
    assert isinstance(greedy.exception, ConfigError) and "greedy" in str(greedy.exception)


def attempts(outcomes: dict[str, list[bool]]) -> list[Attempt]:
    return [Attempt(t, i, p, "", "", (), 0.0) for t, passed in outcomes.items() for i, p in enumerate(passed)]


def test_pass_at_k_is_the_unbiased_one_with_an_interval() -> None:
    one, two, three, *_ = measure(
        attempts({"a": [True, False, False], "b": [False] * 3, "c": [True] * 3}), [1, 2, 4], level=Level.NONE, data="x"
    )
    assert one.value == pytest.approx((1 / 3 + 0 + 1) / 3) and one.method == "bootstrap over problems"
    assert two.value == pytest.approx((2 / 3 + 0 + 1) / 3) and two.n == 3
    assert one.low is not None and one.high is not None and 0 <= one.low < (one.value or 0) < one.high <= 1
    assert three.value is None and "3 attempts" in three.reason
    (all_right, *_) = measure(attempts({str(i): [True] for i in range(164)}), [1], level=Level.NONE, data="x")
    assert (all_right.value, all_right.high) == (1.0, 1.0) and all_right.low == pytest.approx(0.977, abs=1e-3)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ({**ADD, "test": ""}, "'test' is no text, or empty"),
        ({k: v for k, v in ADD.items() if k != "entry_point"}, "'entry_point' is missing"),
        ({**ADD, "entry_point": "a b"}, "no name of a function"),
        ({**ADD, "test": "def check(candidate)"}, "'test' is no Python"),
        ({**ADD, "prompt": "def add(a,"}, "'prompt' is no Python"),
        ({**ADD, "canonical_solution": 4}, "'canonical_solution' is no text"),
        (ROOT, "there twice"),
    ],
)
def test_a_bad_problem_is_named_with_file_and_line(tmp_path: Path, row: Any, says: str) -> None:
    path = write(tmp_path / "p.jsonl", [ROOT, "", row])
    with pytest.raises(DataError, match=rf"{says}[\s\S]*p.jsonl, line 3"):
        read_problems(path)


def test_files_may_be_compressed_and_must_not_be_damaged(tmp_path: Path) -> None:
    good, bad, text = tmp_path / "p.jsonl.gz", tmp_path / "bad.gz", tmp_path / "latin"
    good.write_bytes(gzip.compress(json.dumps(ADD).encode()))
    assert fingerprint(read_problems(good)) == fingerprint(read_problems(write(tmp_path / "p", [{**ADD, "more": 1}])))
    bad.write_bytes(good.read_bytes()[:40])
    with pytest.raises(DataError, match="damaged"):
        read_problems(bad)
    text.write_bytes(b"{}\n\xff")
    with pytest.raises(DataError, match=r"no UTF-8[\s\S]*line 2"):
        read_problems(text)
    with pytest.raises(DataError, match="no problems"):
        read_problems(write(tmp_path / "empty", []))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"task_id": "T/9", "completion": "x"}, "no task 'T/9'"),
        ({"task_id": "T/0"}, "the row has no answer"),
        ({"task_id": "T/0", "completion": [1]}, "neither a text nor a list"),
        ({"task_id": "T/0", "completion": []}, "neither a text nor a list"),
    ],
)
def test_a_bad_answer_is_named_with_file_and_line(data: Path, tmp_path: Path, row: Any, says: str) -> None:
    path = write(tmp_path / "a.jsonl", [{"task_id": "T/0", "completion": "    return 1"}, row])
    with pytest.raises(DataError, match=rf"{says}[\s\S]*a.jsonl, line 2"):
        read_answers(path, read_problems(data))


def test_problems_without_an_answer_are_not_dropped_in_silence(data: Path, tmp_path: Path) -> None:
    path, problems = (
        write(tmp_path / "a.jsonl", [{"task_id": "T/0", "completion": "    return 1"}]),
        read_problems(data),
    )
    with pytest.raises(DataError, match="2 of 3 problems have no answer: T/1, T/2"):
        read_answers(path, problems)
    assert list(read_answers(path, problems, partial=True)) == ["T/0"]


BODY = "    return a + b\n"
WHOLE = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    "reply",
    [
        BODY,
        BODY + "\n\ndef other(x):\n    return (\n",  # a base model that writes on, cut off
        BODY + "\nprint(add(1,",
        "return a + b",
        "x = a\nreturn x + b",
        WHOLE,
        "Here you are:\n\n" + WHOLE + "\nThis adds the numbers, doesn't it?\n",
        f"```python\n{WHOLE}```",
        f"Text\n~~~py\n{WHOLE}~~~\nand how it's used:\n```\nadd(1, 2\n```",
        f"First, the imports:\n```\nimport os\n```\nThen:\n```python\n{WHOLE}\n```",
        f"```python\n{WHOLE}",  # no end
        f"1. Do this:\n   ```python\n   {WHOLE.replace(chr(10), chr(10) + '   ')}\n   ```",
        f"```\n{BODY}```",
        f"```python\nfrom __future__ import annotations\nimport sys\n{WHOLE}```",
        f"```python\nclass Held:\n    pass\n\n\n{WHOLE}```",
    ],
)
def test_what_a_reply_means(reply: str) -> None:
    names: dict[str, Any] = {}
    exec(program(reply, ADD["prompt"], "add"), names)
    assert names["add"](2, 3) == 5
    assert "math" in names  # what the prompt imports is there, also for whole functions


def test_what_is_no_code_is_tested_as_it_is() -> None:
    assert program("I cannot (", ADD["prompt"], "add") == ADD["prompt"] + "I cannot ("


@pytest.mark.sandbox
def test_unit_tests_as_a_reward() -> None:
    from accord.rewards.code import unit_tests

    replies = [f"```\n{WHOLE}```", "```\ndef add(a, b):\n    return 3\n```", BODY, WHOLE]
    tests = [ADD["test"]] * 3 + ["def check(candidate): pass"]
    scores = unit_tests([""] * 4, replies, test=tests, entry_point=["add"] * 4, code_prompt=[ADD["prompt"]] * 4)
    assert scores == [1.0, 0.0, 1.0, None]


@pytest.mark.real_data
@pytest.mark.sandbox
@pytest.mark.slow
def test_all_canonical_solutions_of_humaneval_pass() -> None:
    path = DATA / "humaneval" / "HumanEval.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"HumanEval is not at {path}; set ACCORD_DATA to the directory above humaneval/")
    problems = read_problems(path)
    made = attempt_all(problems, canonical(problems))
    assert [a for a in made if not a.passed or a.suspicious] == [] and len(made) == 164
