"""Arena-Hard's scores, and ratings of several models from any preferences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.errors import DataError
from accord.evals.suites.arena_hard import ArenaHard, read_judged, report
from accord.evals.suites.rating import games_of, rate_file, read_games
from accord.types import Candidate, Message, Preference, Prompt


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(i: int, first: Any, second: Any, model: str = "m") -> dict[str, Any]:
    """Game 1 shows the baseline as A, game 2 the model."""
    return {"question_id": f"q{i}", "model": model, "judge": "gpt", "games": [first, second]}


def test_scores_by_hand_with_clear_wins_as_three_games(tmp_path: Path) -> None:
    rows = [
        row(0, {"score": "B>>A"}, {"score": "A>B"}),  # model: 3 wins and 1
        row(1, {"judgment": "so [[A>B]]", "score": "B>A"}, {"judgment": "[[A=B]]"}),  # a loss and half: the text counts
        row(2, {"score": None}, {"score": "A>>B"}),
        row(3, {"judgment": {"answer": "[[A>>B]]"}}, None),
    ]
    loaded = read_judged(write(tmp_path / "a.jsonl", rows))
    assert loaded.items[0].levels == ("A>B", "A>>B") and loaded.items[1].levels == ("A=B", "B>A")
    made = report(loaded, title="t", baseline="gpt-4")
    score = made.rows[0]
    assert score.name == "score against gpt-4, m" and score.n == 2
    assert score.value == pytest.approx((3 + 1 + 0 + 0.5) / (3 + 1 + 1 + 1))
    assert score.parse_failures == pytest.approx(2 / 8)
    # Readable verdicts that decide: model first A>B (won), baseline first B>>A (lost), baseline first A>B (won),
    # model first A>>B (won), baseline first A>>B (won).
    assert score.first_position == pytest.approx(4 / 5)
    assert any("2 of 4 rows" in note for note in made.notes)


def test_ratings_have_intervals_and_say_when_there_are_none(tmp_path: Path) -> None:
    levels = ["B>A", "A>B", "A=B", "B>>A"]
    rows = [
        row(i, {"score": levels[(i + j) % 4]}, {"score": "A>B" if (i + j) % 3 else "B>A"}, model)
        for i in range(24)
        for j, model in enumerate(("m", "n"))
    ]
    made = report(read_judged(write(tmp_path / "a.jsonl", rows)), title="t", seed=1)
    ratings = [r for r in made.rows if r.name.startswith("rating")]
    assert {r.name for r in ratings} == {"rating, m", "rating, n", "rating, baseline"}
    assert sum(r.value or 0 for r in ratings) == pytest.approx(3000)
    assert all((r.low or 0) < (r.value or 0) < (r.high or 0) for r in ratings)
    assert ratings == sorted(ratings, key=lambda r: -(r.value or 0))
    always = [row(i, {"score": "B>A"}, {"score": "A>B"}) for i in range(5)]
    made = report(read_judged(write(tmp_path / "b.jsonl", always)), title="t")
    assert not any(r.name.startswith("rating") for r in made.rows)
    assert any("No Bradley-Terry ratings" in note for note in made.notes)


def test_rows_that_are_no_games_are_named(tmp_path: Path) -> None:
    rows = [row(0, {"score": "A>B"}, {"score": "A>B"}), row(1, {"score": "A>C"}, {}), {**row(2, {}, {}), "games": [1]}]
    found = read_judged(write(tmp_path / "a.jsonl", rows))
    assert len(found.items) == 1
    assert "expected one of" in found.bad[0].reason and "two games" in found.bad[1].reason


def test_questions_of_both_versions(tmp_path: Path) -> None:
    rows = [
        {"question_id": "a", "cluster": "c", "turns": [{"content": "old"}]},
        {"uid": "b", "category": "hard_prompt", "prompt": "new"},
        {"uid": "c", "turns": []},
    ]
    loaded = ArenaHard().prompts(write(tmp_path / "q.jsonl", rows))
    assert [p.messages[0].content for p in loaded.items] == ["old", "new"] and len(loaded.bad) == 1
    assert loaded.items[1].meta["category"] == "hard_prompt"


def preference(**verdict: Any) -> Preference:
    prompt = Prompt(id="p", messages=(Message(role="user", content="q"),))
    names = verdict.pop("names", ("x", "y"))
    return Preference(id="1", prompt=prompt, candidates=tuple(Candidate(text=n, model=n) for n in names), **verdict)


def test_every_verdict_becomes_games() -> None:
    assert games_of(preference(choice=1)) == [("x", "y", 0.0)]
    assert games_of(preference(tie=True)) == games_of(preference(both_bad=True)) == [("x", "y", 0.5)]
    assert games_of(preference(soft=0.3)) == [("x", "y", 0.3)]
    three = preference(names=("x", "y", "z"), ranking=((2,), (0, 1)))
    assert games_of(three) == [("x", "y", 0.5), ("x", "z", 0.0), ("y", "z", 0.0)]
    # The best of three says nothing about the other two.
    assert games_of(preference(names=("x", "y", "z"), choice=0)) == [("x", "y", 1.0), ("x", "z", 1.0)]
    assert games_of(preference(names=("x", ""), choice=0)) == games_of(preference(names=("x", "x"), choice=0)) == []


def test_any_file_of_preferences_with_names_is_rated(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"q{i}",
            "model_a": a,
            "model_b": b,
            "response_a": "1",
            "response_b": "2",
            "winner": ("model_a", "model_b", "tie", "model_a")[i % 4],
        }
        for i in range(40)
        for a, b in (("x", "y"), ("y", "z"), ("x", "z"))
    ]
    path = write(tmp_path / "arena.jsonl", [*rows, {"prompt": "q", "winner": "model_a"}])
    made = rate_file(path)
    assert [r.name for r in made.rows] == ["rating, x", "rating, y", "rating, z"]
    assert made.rows[0].n == 80 and made.rows[0].unit == "games"
    assert len(made.bad) == 1 and made.bad[0].where.endswith(":121")
    assert made.rows[0].judge == "judge of the file"
    assert set(made.details["elo"]) == {"x", "y", "z"} and sum(made.details["elo"].values()) == pytest.approx(3000)


def test_preferences_without_names_are_an_error(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"}]
    with pytest.raises(DataError, match="names the models"):
        rate_file(write(tmp_path / "p.jsonl", rows))


def test_the_formats_of_other_suites_are_games_too(tmp_path: Path) -> None:
    pair = {
        "question_id": 1,
        "model_1": "x",
        "model_2": "y",
        "judge": "j",
        "g1_winner": "model_1",
        "g2_winner": "error",
    }
    found = read_games(write(tmp_path / "p.jsonl", [pair, {**pair, "question_id": 2, "g2_winner": "tie"}]))
    assert found.games == (("x", "y", 1.0), ("x", "y", 1.0), ("x", "y", 0.5)) and found.clusters == ("1", "2", "2")
    (tmp_path / "a.csv").write_text("model,index,len_baseline,len_model,preference\nm,3,1,2,1.25\nm,4,1,2,\n")
    found = read_games(tmp_path / "a.csv")
    assert found.games == (("m", "baseline", 0.25),) and found.clusters == ("3",)
    rows = [
        {"instruction": "q", "output_1": "a", "output_2": "b", "generator_1": "x", "generator_2": "y", "preference": 2}
    ]
    assert read_games(write(tmp_path / "f.jsonl", rows)).games == (("y", "x", 1.0),)
    battle = {"model_a": "x", "model_b": "y", "winner": "tie (bothbad)"}
    found = read_games(write(tmp_path / "b.jsonl", [battle, {**battle, "winner": "?"}, {**battle, "model_b": "x"}]))
    assert found.games == (("x", "y", 0.5),) and len(found.bad) == 2
