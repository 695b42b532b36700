"""Metrics files and progress lines."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
from pathlib import Path

import pytest

from accord.errors import ArtifactError
from accord.progress import format_rate, format_seconds, track
from accord.tracking import Tracker, read_metrics


def lines(directory: Path) -> list[str]:
    return (directory / "metrics.jsonl").read_text().splitlines()


def steps(directory: Path) -> list[float]:
    return [row["step"] for row in read_metrics(directory)]


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "tb"), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_one_json_line_a_step(tmp_path: Path) -> None:
    with Tracker(tmp_path / "new") as tracker:
        tracker.log(0, {"loss": 1.5, "objective/kl": 0})
        assert len(lines(tmp_path / "new")) == 1  # flushed, a killed process loses nothing
        tracker.log(1, {"loss": 1.25})
    first, second = map(json.loads, lines(tmp_path / "new"))
    assert list(first) == ["step", "time_s", "loss", "objective/kl"]
    assert (first["step"], first["loss"], first["objective/kl"]) == (0, 1.5, 0.0)
    assert 0 <= first["time_s"] <= second["time_s"]
    assert read_metrics(tmp_path / "new" / "metrics.jsonl") == [first, second]


def test_numbers_that_are_not_finite_stay_json(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.log(3, {"a": math.nan, "b": 1, "c": -math.inf})
    row = json.loads(lines(tmp_path)[0], parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert row == {
        "step": 3,
        "time_s": row["time_s"],
        "a": None,
        "b": 1.0,
        "c": None,
        "nonfinite": ["a", "c"],
    }
    read = read_metrics(tmp_path)[0]
    assert read.keys() == {"step", "time_s", "a", "b", "c"}
    assert math.isnan(read["a"])
    assert math.isnan(read["c"])


@pytest.mark.parametrize("name", ["step", "time_s", "nonfinite"])
def test_reserved_names_are_refused(tmp_path: Path, name: str) -> None:
    with Tracker(tmp_path) as tracker, pytest.raises(ValueError, match=name):
        tracker.log(0, {name: 1.0})


def test_a_torn_last_line_is_repaired(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.log(1, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 2, "time_s": 9.0, "lo')
    assert steps(tmp_path) == [1]
    with Tracker(tmp_path) as tracker:
        tracker.log(2, {"loss": 2.0})
    assert steps(tmp_path) == [1, 2]


def test_a_file_that_is_only_a_torn_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"st')
    with Tracker(tmp_path) as tracker:
        tracker.rewind(-1)
        tracker.log(0, {"loss": 2.0})
    assert steps(tmp_path) == [0]


@pytest.mark.parametrize("step, kept", [(-1, []), (0, [0]), (2, [0, 1, 2, 2]), (9, [0, 1, 2, 2, 3])])
def test_rewind_forgets_later_steps(tmp_path: Path, step: int, kept: list[int]) -> None:
    with Tracker(tmp_path) as tracker:
        for logged in (0, 1, 2, 2, 3):
            tracker.log(logged, {"loss": float(logged)})
        before = lines(tmp_path)
        tracker.rewind(step)
        assert lines(tmp_path) == before[: len(kept)]
        tracker.log(7, {"loss": 7.0})
    assert steps(tmp_path) == [*kept, 7]


def test_time_continues_from_the_line_that_was_kept(tmp_path: Path) -> None:
    rows = [{"step": 1, "time_s": 100.0}, {"step": 2, "time_s": 1000.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Tracker(tmp_path) as tracker:
        tracker.rewind(1)
        tracker.log(2, {"loss": 1.0})
    assert 100.0 <= read_metrics(tmp_path)[-1]["time_s"] < 1000.0


def test_rewind_before_anything_was_logged(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.rewind(-1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["{", "[]", '{"time_s": 1}', '{"step": "x", "time_s": 1}', "", "\x00"])
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, bad: str) -> None:
    good = '{"step": 1, "time_s": 0.5}\n'
    (tmp_path / "metrics.jsonl").write_text(good + bad + "\n" + good)
    for action in (lambda: read_metrics(tmp_path), lambda: Tracker(tmp_path)):
        with pytest.raises(ArtifactError, match="damaged") as caught:
            action()
        assert caught.value.where == f"{tmp_path / 'metrics.jsonl'}:2"


def test_a_missing_file_and_a_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot read the metrics"):
        read_metrics(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write the metrics"):
        Tracker(tmp_path / "file")


def test_a_full_disk_is_an_artifact_error(tmp_path: Path, monkeypatch) -> None:
    tracker = Tracker(tmp_path)
    tracker.log(0, {"loss": 1.0})

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ArtifactError, match="No space left"):
        tracker.rewind(-1)
    assert steps(tmp_path) == [0]


def test_tensorboard_mirrors_the_lines_and_follows_a_rewind(tmp_path: Path) -> None:
    with Tracker(tmp_path, tensorboard=True) as tracker:
        for step in range(4):
            tracker.log(step, {"loss": step / 2, "val/ratio": 1.0})
    assert scalars(tmp_path)["loss"] == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 1.5)]
    with Tracker(tmp_path, tensorboard=True) as tracker:
        tracker.rewind(1)
        tracker.log(2, {"loss": 9.0})
        tracker.log(3, {"loss": math.nan})
    assert scalars(tmp_path)["loss"][:3] == [(0, 0.0), (1, 0.5), (2, 9.0)]
    assert scalars(tmp_path)["val/ratio"] == [(0, 1.0), (1, 1.0)]
    with Tracker(tmp_path, tensorboard=True) as tracker:
        tracker.rewind(-1)
    assert not (tmp_path / "tb").exists()


def test_no_event_files_without_the_option(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.log(0, {"loss": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_every_five_seconds_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    with track("sft", 20, stream=stream, clock=clock) as progress:
        for step in range(20):
            clock.now += 1.0
            progress.update(loss=step / 2, phase="train")
    assert stream.getvalue().splitlines() == [
        "sft: 5/20  25%  1/s  eta 0:15  loss 2  phase train",
        "sft: 10/20  50%  1/s  eta 0:10  loss 4.5  phase train",
        "sft: 15/20  75%  1/s  eta 0:05  loss 7  phase train",
        "sft: 20/20  100%  1/s  eta 0:00  loss 9.5  phase train",
        "sft: done 20/20  100%  1/s  in 0:20  loss 9.5  phase train",
    ]


def test_a_resumed_step_counts_only_new_items_towards_the_rate() -> None:
    clock, stream = Clock(), io.StringIO()
    with track("ppo", 100, done=80, stream=stream, clock=clock) as progress:
        clock.now += 10.0
        progress.update(5)
    assert stream.getvalue().splitlines()[0] == "ppo: 85/100  85%  0.5/s  eta 0:30"


def test_an_unknown_total_and_a_total_of_zero() -> None:
    stream = io.StringIO()
    with track("read", None, stream=stream, clock=Clock()) as progress:
        progress.update(3)
    with track("none", 0, stream=stream, clock=Clock()):
        pass
    assert stream.getvalue() == "read: done 3  0/s  in 0:00\nnone: done 0/0  0/s  in 0:00\n"


def test_a_failure_is_not_reported_as_done() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), track("x", 4, done=1, stream=stream, clock=Clock()):
        raise KeyboardInterrupt
    assert stream.getvalue() == "x: stopped 1/4  25%  0/s  in 0:00\n"


def test_quiet_shows_nothing() -> None:
    stream = io.StringIO()
    with track("x", 4, quiet=True, stream=stream) as progress:
        progress.update(4, loss=1.0)
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    with track("sft [a]", 4, stream=stream) as progress:
        progress.update(4, loss=0.5, what="[b]")
    text = stream.getvalue()
    assert "sft [a]" in text
    assert "4/4" in text
    assert "loss 0.5  what [b]" in text
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", text)


def test_no_color_and_failures_on_a_terminal(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with pytest.raises(RuntimeError), track("x", 4, stream=stream):
        raise RuntimeError
    assert "state stopped" in stream.getvalue()
    assert not re.search(r"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7])(?:;[0-9;]*)?m", stream.getvalue())


def test_a_dumb_terminal_gets_plain_lines(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with track("x", 1, stream=stream, clock=Clock()) as progress:
        progress.update()
    assert stream.getvalue() == "x: done 1/1  100%  0/s  in 0:00\n"


def test_formats() -> None:
    assert [format_rate(value) for value in (0, 0.01, 0.5, 12.345, 1234567)] == [
        "0/s", "0.6/min", "0.5/s", "12.3/s", "1.23e+06/s",
    ]  # fmt: skip
    assert [format_seconds(value) for value in (-1, 0.4, 61, 3600, 360000)] == [
        "0:00", "0:00", "1:01", "1:00:00", "100:00:00",
    ]  # fmt: skip
