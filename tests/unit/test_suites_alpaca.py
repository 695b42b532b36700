"""AlpacaEval's numbers from judged pairs, in rows of our own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from accord.errors import ConfigError, DataError
from accord.evals.constant_answers import most_repeated
from accord.evals.suites.alpaca_eval import (
    by_model,
    leaderboard_row,
    length_control,
    read_difficulty,
    read_judged,
    read_weights,
    report,
)
from accord.evals.suites.alpaca_suite import AlpacaEval
from accord.evals.suites.base import Answers
from accord.judges.base import Comparison, Rating
from accord.types import Prompt


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def annotation(i: int, preference: Any, reply: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "instruction": f"ask {i}",
        "output_1": "b" * (50 + 7 * i % 40),
        "output_2": reply if reply is not None else f"{i} " + "m" * (40 + 11 * i % 60),
        "generator_2": "m",
        "annotator": "gpt",
        "index": i,
        "preference": preference,
        **more,
    }


def test_the_leaderboard_columns_by_hand(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [annotation(i, p) for i, p in enumerate([1.0, 2.0, 1.75, 1.5, 0, None])])
    line = leaderboard_row(read_judged(file).items)
    values = [0.0, 1.0, 0.75, 0.5, 0.5]  # 0 is an old draw, null could not be read
    mean = sum(values) / 5
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 4)
    assert line["win_rate"] == pytest.approx(100 * mean)
    assert line["standard_error"] == pytest.approx(100 * deviation / math.sqrt(5))
    assert (line["n_wins"], line["n_wins_base"], line["n_draws"], line["n_total"]) == (2, 1, 2, 5)
    assert line["discrete_win_rate"] == pytest.approx(60.0)
    assert line["unreadable"] == 1


def test_bad_rows_are_named_by_file_and_line_and_the_others_are_used(tmp_path: Path) -> None:
    rows = [annotation(0, 1.5), annotation(1, 2.5), {"preference": 1.0}, annotation(3, "x"), annotation(4, "1.25")]
    found = read_judged(write(tmp_path / "a.jsonl", rows))
    assert [row.index for row in found.items] == [0, 4]
    assert [bad.where.rsplit(":", 1)[1] for bad in found.bad] == ["2", "3", "4"]
    assert "2.5" in found.bad[0].reason and "len_baseline" in found.bad[1].reason
    made = report(found, title="t")
    assert made.bad == found.bad and f"{tmp_path}/a.jsonl:3" in made.text()
    with pytest.raises(DataError, match="no row could be used"):
        read_judged(write(tmp_path / "b.jsonl", [{"a": 1}]))


def test_lengths_alone_are_enough(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("model,index,len_baseline,len_model,preference\nm,0,10,12,1.25\nm,1,30,8,nan\nm,2,9,9,1.5\n")
    rows = read_judged(file).items
    assert [(r.len_baseline, r.len_model, r.preference) for r in rows] == [(10, 12, 1.25), (30, 8, None), (9, 9, 1.5)]


def tables(tmp_path: Path) -> tuple[Path, Path]:
    weights, difficulty = tmp_path / "w.csv", tmp_path / "d.csv"
    header = ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)"
    weights.write_text(f"{header}\nm,-1.5,0.5,-1.0\n")
    difficulty.write_text("index,instruction_difficulty\n" + "".join(f"{i},{(i - 10) / 5}\n" for i in range(20)))
    return weights, difficulty


def test_given_weights_use_the_difficulty_of_the_instruction_and_by_row_that_of_the_row(tmp_path: Path) -> None:
    weights, difficulty = tables(tmp_path)
    kept = [i for i in range(20) if i not in (0, 7)]
    loaded = read_judged(write(tmp_path / "a.jsonl", [annotation(i, 1.0 + i / 20) for i in kept]))
    w, d = read_weights(weights)["m"], read_difficulty(difficulty)

    def mean(numbers: list[int]) -> float:
        return sum(1 / (1 + math.exp(-(0.5 * (i - 10) / 5 - 1.0))) for i in numbers) / len(numbers)

    assert length_control(loaded.items, weights=w, difficulty=d).interval.value == pytest.approx(mean(kept))
    by_row = length_control(loaded.items, weights=w, difficulty=d, by_row=True)
    assert by_row.interval.value == pytest.approx(mean(list(range(18))))
    made = report(loaded, title="t", weights={"m": w}, difficulty=d)
    line = made.details["leaderboard"]["m"]
    assert line["length_controlled_winrate"] == pytest.approx(100 * mean(kept))
    assert line["length_controlled_winrate_by_row"] == pytest.approx(100 * mean(list(range(18))))
    assert any("18 of 20 instructions were judged" in note for note in made.notes)


def test_a_difficulty_that_is_missing_is_said_and_a_hole_in_a_table_is_refused(tmp_path: Path) -> None:
    weights, difficulty = tables(tmp_path)
    loaded = read_judged(write(tmp_path / "a.jsonl", [annotation(i, 1.2) for i in range(15, 25)]))
    d = read_difficulty(difficulty)
    made = report(loaded, title="t", weights=read_weights(weights), difficulty=d)
    row = next(r for r in made.rows if r.name.startswith("length-controlled"))
    assert row.value is None and "not in the table" in row.reason
    with pytest.raises(ValueError, match="given weights need"):
        length_control(loaded.items, weights=read_weights(weights)["m"])
    difficulty.write_text("index,instruction_difficulty\n0,1\n1,\n")
    with pytest.raises(DataError, match="rows cannot be used"):
        read_difficulty(difficulty)
    difficulty.write_text("index,instruction_difficulty\n0,1\n0,2\n")
    with pytest.raises(DataError, match="occurs twice"):
        read_difficulty(difficulty)


def test_every_number_has_its_judge_its_n_and_its_failures(tmp_path: Path) -> None:
    rows = [annotation(i, None if i == 3 else 1 + (i % 7) / 7) for i in range(30)]
    accuracy = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 100, "on": "labels"}
    loaded = read_judged(write(tmp_path / "a.jsonl", rows))
    made = report(loaded, title="t", judge_accuracy=accuracy)
    for row in made.rows[:3]:
        assert (row.judge, row.judge_accuracy, row.n) == ("gpt", accuracy, 29)
        assert row.parse_failures == pytest.approx(1 / 30) and row.prompt_hash == loaded.data_hash
        assert row.low is not None and row.value is not None and row.low <= row.value <= (row.high or 0)


def test_a_constant_answer_is_flagged_by_text_and_by_length(tmp_path: Path) -> None:
    fixed = write(tmp_path / "a.jsonl", [annotation(i, 1.9, "}}} choose m") for i in range(30)])
    made = report(read_judged(fixed), title="t")
    assert made.details["leaderboard"]["m"]["constant_answer"] is True
    assert any(note.startswith("ALARM m: 100%") for note in made.notes)
    lengths = tmp_path / "l.csv"
    lines = [f"m,{i},{90 + i},{872 if i % 3 else 100 + i},1.9\n" for i in range(60)]
    lengths.write_text("model,index,len_baseline,len_model,preference\n" + "".join(lines))
    assert report(read_judged(lengths), title="t").details["leaderboard"]["m"]["constant_answer"] is True


def test_usual_repetitions_are_not_flagged() -> None:
    texts = ["Sorry, I cannot help."] * 3 + [f"answer {i}" for i in range(97)]
    found = most_repeated(texts, list(range(100)), model="m")
    assert found.share.value == 0.03 and not found.flagged
    assert most_repeated(["same"] * 19, list(range(19)), model="m").flagged is False  # too few to say
    # Samples of one prompt may agree: they count once.
    samples = most_repeated(["same"] * 100, ["one prompt"] * 100, model="m")
    assert (samples.share.value, samples.share.n, samples.flagged) == (1.0, 1, False)
    mixed = ["talk to the judge"] * 15 + [f"answer {i}" for i in range(85)]
    assert most_repeated(mixed, list(range(100)), model="m").flagged is True


class Longer:
    """Prefers the longer reply, and the first shown where they are equal."""

    name, prompt_hash = "longer", "0" * 12

    def compare(self, items: Any) -> list[Comparison]:
        found = []
        for _, a, b in items:
            gap = len(a) - len(b)
            orders = (float(gap >= 0), float(gap > 0))
            found.append(Comparison(sum(orders) / 2, orders))
        return found

    def rate(self, items: Any) -> list[Rating]:
        return [Rating(float(len(reply))) for _, reply in items]


class Fond(Longer):
    """Prefers the first of what it is asked about nine times of ten, however long."""

    def compare(self, items: Any) -> list[Comparison]:
        return [Comparison(0.9, (0.9, 0.9)) for _ in items]


def test_models_of_ones_own_are_compared_in_both_orders(tmp_path: Path) -> None:
    suite = AlpacaEval()
    prompts = suite.prompts(write(tmp_path / "a.json", [annotation(i % 12, 1.0) for i in range(24)])).items
    assert len(prompts) == 12 and suite.follow_up(prompts[0], ["x"]) is None
    ours = Answers("m", tuple((f"{i}" + "x" * (5 + i),) for i in range(12)))
    base = Answers("b", tuple((f"{i}" + "y" * 10,) for i in range(12)))
    with pytest.raises(ConfigError, match="judge and a baseline"):
        suite.score(prompts, ours)
    made = suite.score(prompts, ours, judge=Longer(), baseline=base)
    win, discrete, controlled, repeated = made.rows
    assert win.value == discrete.value == pytest.approx((6 + 0.5) / 12)
    assert win.first_position is not None and win.inconsistent == pytest.approx(1 / 12)
    # With so few the penalty leaves nothing of the fit, and one half would not be a measurement.
    assert controlled.value is None and "penalty" in controlled.reason
    assert repeated.value == pytest.approx(1 / 12)
    many = [prompt for prompt in prompts for _ in range(20)]
    ours, base = (Answers(a.name, tuple(r for r in a.replies for _ in range(20))) for a in (ours, base))
    controlled = suite.score(many, ours, judge=Fond(), baseline=base).rows[2]
    assert controlled.value == pytest.approx(0.9, abs=0.02) and controlled.name.startswith("length-controlled")
    assert by_model(()) == {} and isinstance(prompts[0], Prompt)


def test_several_baselines_of_one_model_are_not_mixed(tmp_path: Path) -> None:
    rows = [annotation(i, 1.0 + (i % 2), generator_1=("x", "y")[i % 2]) for i in range(20)]
    found = report(read_judged(write(tmp_path / "a.jsonl", rows)), title="t").details["leaderboard"]
    assert {name: line["win_rate"] for name, line in found.items()} == {"m against x": 0.0, "m against y": 100.0}
