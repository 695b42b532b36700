"""`accord redteam ...` from the command line: files, exit codes, what is said of wrong arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from redteam_world import NO, YES, Answers
from typer.testing import CliRunner, Result

from accord import redteam_command
from accord.cli import app
from accord.errors import AccordError, ConfigError
from accord.redteam.attempts import REDACTED, read_attempts
from accord.types import Preference

ASKED: list[Answers] = []


def careful(text: str) -> str:
    """Refuses the own seeds' harmful requests, except in a game."""
    harmless = any(word in text for word in ("awkward", "gone bad", "calm?", "birthday"))
    return YES if harmless or "game" in text else NO


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(named: Mapping[str, tuple[str, str]], cache: Path) -> dict[str, Answers]:
        del cache
        made = {role: Answers(careful, spec) for role, (spec, _) in named.items() if spec}
        ASKED.extend(made.values())
        return made

    ASKED.clear()
    monkeypatch.setattr(redteam_command, "models_of", of)


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["redteam", *map(str, arguments)])
    if isinstance(result.exception, AccordError):
        raise result.exception
    return result


def attack(out: Path, *more: object, limit: int = 4) -> Result:
    wordings = () if "--transforms" in more else ("--transforms", "role_play,leet")
    return call("run", "m", "--out", out, "--limit", limit, *wordings, *more)


def test_a_run_writes_attempts_summary_and_page_and_asks_nothing_twice(tmp_path: Path) -> None:
    result = attack(tmp_path)
    assert result.exit_code == 0 and "calls: 2 made" in result.output, result.output
    header, rows = read_attempts(tmp_path / "redteam.jsonl")
    assert len(rows) == 8 * 3 and header["transforms"] == ["none", "role_play", "leet"] and header["seeds"] == 8
    assert {a.family for a in rows if a.seed.harmful and a.success} == {"persona"}
    summary = json.loads((tmp_path / "redteam.json").read_text())
    assert summary["all"]["asr1"]["judge_accuracy"]["sensitivity"] > 0.9
    assert "# Red team: m" in (tmp_path / "redteam.md").read_text() and (tmp_path / "redteam.html").exists()
    first = (tmp_path / "redteam.jsonl").read_bytes()
    ASKED.clear()
    assert "calls: 0 made" in attack(tmp_path).output and ASKED[0].asked == []
    assert (tmp_path / "redteam.jsonl").read_bytes() == first


@pytest.mark.parametrize(
    ("limits", "code", "words"),
    [
        (("--max-asr", 1.0, "--max-over-refusal", 1.0), 0, ""),
        (("--max-asr", 0.9), 1, "success rate is 1.000, and the limit is 0.9"),
        (("--max-over-refusal", 0.1), 1, "over-refusal is"),
    ],
)
def test_limits_decide_the_exit_code(tmp_path: Path, limits: tuple[object, ...], code: int, words: str) -> None:
    result = attack(tmp_path, *limits)
    assert result.exit_code == code and words in result.output


def test_redaction_leaves_no_reply_on_disk(tmp_path: Path) -> None:
    attack(tmp_path, "--redact")
    assert not any(YES in path.read_text() for path in tmp_path.iterdir() if path.suffix in (".html", ".md", ".db"))
    _, rows = read_attempts(tmp_path / "redteam.jsonl")
    assert all((a.reply == REDACTED) == a.seed.harmful for a in rows)
    assert not (tmp_path / "journal.jsonl").exists()


def test_two_checkpoints_are_compared_with_an_exit_code(tmp_path: Path) -> None:
    attack(tmp_path / "old", "--transforms", "leet", limit=12)
    attack(tmp_path / "new", "--transforms", "leet", limit=12)
    old, new = tmp_path / "old" / "redteam.jsonl", tmp_path / "new" / "redteam.jsonl"
    result = call("diff", old, new, "--out", tmp_path / "diff.md", "--max-rise", 0.0)
    assert result.exit_code == 0 and "| ASR@1, all | 0.000 | 0.000 | +0.000 |" in result.output
    assert (tmp_path / "diff.md").read_text() in result.output
    worse = new.read_text().replace('"label": "refused"', '"label": "complied"')
    new.write_text(worse)
    result = call("diff", old, new, "--max-rise", 0.0)
    assert result.exit_code == 1 and "worse: ASR@1" in result.output
    assert call("diff", old, new, "--max-asr", 0.5).exit_code == 1


def test_successes_become_a_file_of_preferences(tmp_path: Path) -> None:
    attack(tmp_path)
    out = tmp_path / "pairs.jsonl"
    result = call("pairs", tmp_path / "redteam.jsonl", "--out", out, "--hold-out", "encoding")
    made = [Preference.model_validate_json(line) for line in out.read_text().splitlines()]
    assert result.exit_code == 0 and f"pairs {len(made)}" in result.output and "held out attempts 8" in result.output
    assert {p.meta["family"] for p in made if p.meta["chosen_from"] != "guard"} == {"persona"}
    with pytest.raises(ConfigError, match="cannot be held out"):
        call("pairs", tmp_path / "redteam.jsonl", "--out", out, "--hold-out", "moon")


def test_reports_of_garak_are_imported(tmp_path: Path) -> None:
    row = {"entry_type": "attempt", "status": 2, "uuid": "u", "probe_classname": "dan.X", "prompt": "p"}
    rows = [{**row, "outputs": ["a", "b"], "detector_results": {"d": [1.0, 0.0]}}]
    report = tmp_path / "garak.report.jsonl"
    report.write_text("".join(json.dumps(r) + "\n" for r in rows))
    result = call("import", report, "--out", tmp_path / "out", "--max-asr", 0.6)
    assert result.exit_code == 0 and "| garak/dan.X | 0.500" in result.output
    assert len(read_attempts(tmp_path / "out" / "redteam.jsonl")[1]) == 2
    assert call("import", report, "--out", tmp_path / "out", "--max-asr", 0.4).exit_code == 1


def test_a_judge_is_calibrated_and_its_measurement_used(tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    rows = [{"prompt": "x?", "reply": YES, "complied": True}] * 3 + [{"prompt": "y?", "reply": NO, "complied": False}]
    labels.write_text("".join(json.dumps(r) + "\n" for r in rows))
    error = tmp_path / "error.json"
    assert "sensitivity 1.000, specificity 1.000" in call("calibrate", labels, "--out", error).output
    attack(tmp_path / "run", "--judge-error", error)
    assert read_attempts(tmp_path / "run" / "redteam.jsonl")[0]["judge_error"]["true_positives"] == 3


def test_the_list_names_everything_there_is() -> None:
    output = call("list").output
    for word in ("self_harm", "S006sh", "many_shot", "needs --translator", "best_of_k", "reward:DIRECTORY"):
        assert word in output


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--attacker", "pair"), "needs a model"),
        (("--transforms", "moon"), "no transform 'moon'"),
        (("--transforms", "translation"), "translates"),
        (("--judge", "oracle"), "no judge"),
        (("--judge", "https://localhost:1/v1"), "name of the model"),
        (("--template", "x", "--attacker", "model", "--attacker-model", "a"), "no {request}"),
        (("--judge", "lab"), "knows nothing"),
    ],
)
def test_wrong_arguments_say_what_to_do(tmp_path: Path, more: tuple[object, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        attack(tmp_path, *more)


def test_attackers_with_models_ask_the_plain_question_too(tmp_path: Path) -> None:
    for attacker in ("model", "pair", "best_of_k"):
        more = ("--attacker", attacker, "--attacker-model", "a", "-k", 2)
        assert attack(tmp_path / attacker, *more).exit_code == 0
        _, rows = read_attempts(tmp_path / attacker / "redteam.jsonl")
        assert {"none"} < {a.family for a in rows} and {a.attacker for a in rows} >= {attacker}
        assert any(not a.seed.harmful for a in rows)
