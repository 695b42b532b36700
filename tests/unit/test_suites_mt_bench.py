"""MT-Bench: questions, templates, two turns, both orders, files that FastChat wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.errors import ConfigError, DataError
from accord.evals.suites.base import Answers
from accord.evals.suites.mt_bench import MtBench, read_judge_prompts
from accord.evals.suites.mt_bench_judge import MtBenchJudge
from accord.evals.suites.mt_bench_judged import pair_report, read_pairs, single_report, turned
from accord.judges.base import Comparison, Rating
from accord.judges.wire import Reply

NAMES = [
    f"{kind}{turn}"
    for kind in ("pair-v2", "pair-math-v1", "single-v1", "single-math-v1")
    for turn in ("", "-multi-turn")
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(
        tmp_path / "question.jsonl",
        [
            {"question_id": 81, "category": "writing", "turns": ["write", "again"]},
            {
                "question_id": 111,
                "category": "math",
                "turns": ["add {answer_a} up", "why"],
                "reference": ["short", ""],
            },
            {"question_id": 7, "category": "generic", "turns": ["one turn"]},
            {"question_id": 8, "category": "generic", "turns": []},
        ],
    )
    answer = {"question_id": 111, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["r1", "r2"]}]}
    write(tmp_path / "reference_answer_gpt-4.jsonl", [answer, {"question_id": 112, "choices": []}])
    prompts = []
    for name in NAMES:
        turns = ("1", "2") if name.endswith("multi-turn") else ("",)
        who = ("a", "b") if name.startswith("pair") else ("",)
        parts = [f"q{n}={{question{'_' + n if n else ''}}}" for n in turns]
        for w in who:
            parts += [f"{w}{n}={{answer{'_' + w if w else ''}{'_' + n if n else ''}}}" for n in turns]
        if "math" in name:
            parts += [f"ref={{ref_answer_{n or 1}}}" for n in turns]
        prompts.append({"name": name, "system_prompt": f"sys {name}", "prompt_template": " | ".join(parts) + " {kept}"})
    write(tmp_path / "judge_prompts.jsonl", prompts)
    return tmp_path


def test_questions_come_with_their_turns_temperature_and_reference(folder: Path) -> None:
    loaded = MtBench().prompts(folder)
    writing, maths, single = loaded.items
    assert (writing.messages[-1].content, writing.meta["turns"], writing.meta["temperature"]) == (
        "write",
        ["write", "again"],
        0.7,
    )
    assert maths.meta["reference"] == ["r1", "r2"] and maths.meta["temperature"] == 0.0
    assert "reference" not in single.meta
    assert [bad.where.rsplit("/", 1)[1] for bad in loaded.bad] == ["question.jsonl:4", "reference_answer_gpt-4.jsonl:2"]


def test_the_second_turn_holds_the_first(folder: Path) -> None:
    suite = MtBench()
    writing, _, single = suite.prompts(folder).items
    second = suite.follow_up(writing, ["done"])
    assert second is not None and second.id == writing.id and second.meta["turn"] == 2
    assert [(m.role, m.content) for m in second.messages] == [
        ("user", "write"),
        ("assistant", "done"),
        ("user", "again"),
    ]
    assert suite.follow_up(writing, ["done", "done again"]) is None and suite.follow_up(single, ["x"]) is None


def test_templates_are_chosen_by_category_and_turn_and_filled_once(folder: Path) -> None:
    templates = read_judge_prompts(folder / "judge_prompts.jsonl")
    writing, maths, _ = MtBench().prompts(folder).items
    system, user = templates.pair(writing, ["A1"], ["B1"])
    assert (system.content, user.content) == ("sys pair-v2", "q=write | a=A1 | b=B1 {kept}")
    system, user = templates.pair(writing, ["A1", "A2"], ["B1", "B2"])
    assert system.content == "sys pair-v2-multi-turn"
    assert user.content == "q1=write | q2=again | a1=A1 | a2=A2 | b1=B1 | b2=B2 {kept}"
    # What a question or reply holds in braces is text, not a place to fill.
    system, user = templates.pair(maths, ["{question}"], ["{answer_a"])
    assert system.content == "sys pair-math-v1"
    assert user.content == "q=add {answer_a} up | a={question} | b={answer_a | ref=r1 {kept}"
    system, user = templates.single(maths, ["S1", "S2"])
    assert system.content == "sys single-math-v1-multi-turn"
    assert user.content == "q1=add {answer_a} up | q2=why | 1=S1 | 2=S2 | ref=r1 | ref=r2 {kept}"
    assert templates.single(writing, ["S1"])[0].content == "sys single-v1"
    with pytest.raises(ConfigError, match="turn 1 or 2"):
        templates.single(writing, ["1", "2", "3"])


def test_a_missing_reference_or_template_is_an_error(folder: Path) -> None:
    templates = read_judge_prompts(folder / "judge_prompts.jsonl")
    (folder / "reference_answer_gpt-4.jsonl").unlink()
    assert MtBench().prompts(folder).items[1].meta["reference"] == ["short", ""]
    write(folder / "question.jsonl", [{"question_id": i, "category": "math", "turns": ["add"]} for i in range(2)])
    with pytest.raises(DataError, match="no reference answer"):
        templates.single(MtBench().prompts(folder).items[1], ["x"])
    write(folder / "few.jsonl", [{"name": "pair-v2", "system_prompt": "s", "prompt_template": "t"}])
    with pytest.raises(DataError, match="judge prompts are missing: pair-v2-multi-turn"):
        read_judge_prompts(folder / "few.jsonl")


class Scripted:
    """Rates by length of the reply and prefers the one that says "good"; cannot read what says "?"."""

    name, prompt_hash = "scripted", "f" * 12

    def compare(self, items: Any) -> list[Comparison]:
        found = []
        for _, a, b in items:
            if "?" in a + b:
                found.append(Comparison(1.0, (1.0, None), "unreadable"))
            else:
                p = 0.5 if ("good" in a) == ("good" in b) else float("good" in a)
                found.append(Comparison(p, (p, p)) if p != 0.5 else Comparison(0.5, (1.0, 0.0)))
        return found

    def rate(self, items: Any) -> list[Rating]:
        return [Rating(None, "?") if "?" in reply else Rating(float(len(reply))) for _, reply in items]


def test_ratings_by_turn_and_category_with_unreadable_ones_counted(folder: Path) -> None:
    suite = MtBench()
    prompts = suite.prompts(folder).items
    answers = Answers("m", (("1234", "12"), ("123456", "?"), ("12345678",)))
    with pytest.raises(ConfigError, match="needs a judge"):
        suite.score(prompts, answers)
    by_name = {row.name: row for row in suite.score(prompts, answers, judge=Scripted()).rows}
    assert by_name["rating, m"].value == pytest.approx((4 + 2 + 6 + 8) / 4)
    assert by_name["rating, m"].parse_failures == pytest.approx(1 / 5) and by_name["rating, m"].n == 3
    assert by_name["rating, m, turn 1"].value == pytest.approx(6.0)
    assert by_name["rating, m, turn 2"].value == 2.0 and by_name["rating, m, turn 2"].parse_failures == 0.5
    assert by_name["rating, m, math"].value == 6.0 and by_name["rating, m, math"].low is None


def test_a_win_needs_both_orders_and_the_rest_are_ties(folder: Path) -> None:
    suite = MtBench()
    prompts = suite.prompts(folder).items
    ours = Answers("m", (("good", "good"), ("bad", "bad"), ("bad",)))
    theirs = Answers("b", (("bad", "bad"), ("good", "?"), ("bad",)))
    made = suite.score(prompts, ours, judge=Scripted(), baseline=theirs)
    by_name = {row.name: row for row in made.rows}
    assert made.details == {"win": 2, "tie": 1, "loss": 1, "unreadable": 1}
    assert by_name["adjusted win rate, m against b"].value == pytest.approx(2.5 / 4)
    assert by_name["win rate, m against b"].value == pytest.approx(2 / 4)
    assert by_name["win rate, m against b"].parse_failures == pytest.approx(1 / 10)
    assert by_name["win rate, m against b"].inconsistent == pytest.approx(1 / 4)
    assert any("1 of 5 pairs" in note for note in made.notes)


def test_files_of_ratings_are_read_from_the_judgement_not_from_the_stored_score(tmp_path: Path) -> None:
    row = {"model": "m", "judge": ["gpt-4", "single-v1"], "turn": 1}
    rows = [
        {**row, "question_id": 1, "judgment": "Rating: [[8]]", "score": 3},
        {**row, "question_id": 2, "judgment": "I cannot", "score": -1},
        {**row, "question_id": 3, "score": 6},
        {**row, "question_id": 4, "score": -1},
        {**row, "question_id": 5},
    ]
    made = single_report(write(tmp_path / "s.jsonl", rows))
    assert made.rows[0].value == 7.0 and made.rows[0].judge == "gpt-4"
    assert made.rows[0].parse_failures == 0.5 and len(made.bad) == 1


def test_files_of_pairs_turn_the_second_game_round(tmp_path: Path) -> None:
    row = {"model_1": "m", "model_2": "b", "judge": ["gpt-4", "pair-v2"], "turn": 1}
    rows = [
        {**row, "question_id": 1, "g1_judgment": "[[A]]", "g2_judgment": "[[B]]"},  # m twice
        {**row, "question_id": 2, "g1_judgment": "[[A]]", "g2_judgment": "[[A]]"},  # the first shown twice
        {**row, "question_id": 3, "g1_winner": "model_2", "g2_winner": "model_2"},
        {**row, "question_id": 4, "g1_winner": "tie", "g2_winner": "model_1"},
        {**row, "question_id": 5, "g1_judgment": "none", "g2_judgment": "[[A]]"},
        {**row, "question_id": 6, "g1_winner": "nobody", "g2_winner": "tie"},
    ]
    path = write(tmp_path / "p.jsonl", rows)
    assert [r.comparison.by_order for r in read_pairs(path).items][:2] == [(1.0, 1.0), (1.0, 0.0)]
    made = pair_report(path, judge_accuracy={"value": 0.8, "low": 0.7, "high": 0.9, "n": 9, "on": "L"})
    first = made.rows[0]
    assert first.name == "adjusted win rate, m against b" and first.value == pytest.approx((1 + 0.5 + 0 + 0.5) / 4)
    assert first.judge_accuracy is not None and first.judge_accuracy["on"] == "L"
    assert len(made.bad) == 1 and "g1_winner" in made.bad[0].reason


def test_several_models_are_counted_against_all_they_met(tmp_path: Path) -> None:
    rows = [
        {"question_id": i, "model_1": a, "model_2": b, "judge": "j", "g1_winner": "model_1", "g2_winner": "model_1"}
        for i, (a, b) in enumerate([("x", "y"), ("x", "z"), ("y", "z")])
    ]
    by_name = {row.name: row.value for row in pair_report(write(tmp_path / "p.jsonl", rows)).rows}
    assert by_name["win rate, x against all it met"] == 1.0
    assert by_name["win rate, y against all it met"] == 0.5
    assert by_name["loss rate, z against all it met"] == 1.0


def test_turning_a_comparison_twice_changes_nothing() -> None:
    one = Comparison(0.75, (1.0, 0.5))
    assert turned(one) == Comparison(0.25, (0.5, 0.0)) and turned(turned(one)) == one


class Client:
    """Answers what a function of the last message says; keeps what it was asked."""

    model = "judge"

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def complete_many(self, requests: Any, *, progress: Any = None) -> list[Reply]:
        self.asked += requests
        return [Reply(self.answer(r.messages[-1].content)) for r in requests]


def test_the_original_judge_sees_each_conversation_with_its_own_first_answer(folder: Path) -> None:
    templates = read_judge_prompts(folder / "judge_prompts.jsonl")
    suite = MtBench()
    prompts = suite.prompts(folder).items[:2]
    ours, theirs = Answers("m", (("a1", "a2"), ("a3", "a4"))), Answers("b", (("b1", "b2"), ("b3", "b4")))

    client: Any = Client(lambda asked: "[[A]]" if "a=a" in asked or "a1=a" in asked else "[[B]]")
    made = suite.score(prompts, ours, judge=MtBenchJudge(client, templates), baseline=theirs)
    assert made.details == {"win": 4, "tie": 0, "loss": 0, "unreadable": 0}
    assert len(client.asked) == 8 and all(r.max_tokens == 2048 and r.temperature == 0.0 for r in client.asked)
    shown = [r.messages[-1].content for r in client.asked]
    assert "q1=write | q2=again | a1=a1 | a2=a2 | b1=b1 | b2=b2 {kept}" in shown
    assert "q1=write | q2=again | a1=b1 | a2=b2 | b1=a1 | b2=a2 {kept}" in shown
    first_only: Any = Client(lambda asked: "[[A]]")
    made = suite.score(prompts, ours, judge=MtBenchJudge(first_only, templates), baseline=theirs)
    assert made.details["tie"] == 4 and made.rows[0].first_position == 1.0 and made.rows[0].inconsistent == 1.0
    silent: Any = Client(lambda asked: None)
    made = suite.score(prompts, ours, judge=MtBenchJudge(silent, templates), baseline=theirs)
    assert made.details["unreadable"] == 4 and made.rows[0].parse_failures == 1.0


def test_the_original_judge_rates_the_second_answer_after_the_first(folder: Path) -> None:
    templates = read_judge_prompts(folder / "judge_prompts.jsonl")
    suite = MtBench()
    client: Any = Client(lambda asked: "Rating: [[8]]" if "q2=" in asked else "no rating")
    judge = MtBenchJudge(client, templates)
    made = suite.score(suite.prompts(folder).items[:1], Answers("m", (("a1", "a2"),)), judge=judge)
    shown = [r.messages[-1].content for r in client.asked]
    assert shown == ["q=write | =a1 {kept}", "q1=write | q2=again | 1=a1 | 2=a2 {kept}"]
    assert made.rows[0].value == 8.0 and made.rows[0].parse_failures == 0.5
    assert (made.rows[0].judge, made.rows[0].prompt_hash) == ("judge", judge.prompt_hash)


def test_other_judges_see_both_conversations_at_the_second_turn(folder: Path) -> None:
    seen: list[tuple[str, str, str]] = []

    class Watching(Scripted):
        def compare(self, items: Any) -> list[Comparison]:
            seen.extend((p.messages[-1].content, a, b) for p, a, b in items)
            return super().compare(items)

    suite = MtBench()
    prompts = suite.prompts(folder).items[:1]
    suite.score(prompts, Answers("m", (("a1", "a2"),)), judge=Watching(), baseline=Answers("b", (("b1", "b2"),)))
    assert seen[0] == ("write", "a1", "b1")
    asked, ours, theirs = seen[1]
    assert "Question 1: write" in asked and "Question 2: again" in asked and "answers to question 2" in asked
    assert ours == "Answer to question 1: a1\n\nAnswer to question 2: a2" and "b1" in theirs and "b2" in theirs
    with pytest.raises(DataError, match="differ in turns"):
        suite.score(prompts, Answers("m", (("a1", "a2"),)), judge=Watching(), baseline=Answers("b", (("b1",),)))
