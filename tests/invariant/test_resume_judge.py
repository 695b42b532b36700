"""An evaluation that is killed while it judges goes on without asking for one verdict twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mock_model import MockModel, oracle

PAIRS = 30
ANSWERS = {"model": 7, "baseline": 3}
"""Quality of the answers."""


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "question.jsonl", [{"uid": f"u{i}", "prompt": f"Question {i}?"} for i in range(PAIRS)])
    for name, quality in ANSWERS.items():
        rows = [{"id": f"u{i}", "reply": f"Answer {i}, quality={quality}"} for i in range(PAIRS)]
        write(tmp_path / f"{name}.jsonl", rows)
    return tmp_path


def start(url: str, data: Path, out: Path, concurrency: int) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "accord", "eval", "suite", "arena-hard", "--data", data / "question.jsonl"),
        *("--out", out, "--model", data / "model.jsonl", "--baseline", data / "baseline.jsonl", "--judge", url),
        *("--judge-model", "judge", "--concurrency", concurrency),
    ]
    return subprocess.Popen(list(map(str, command)), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def stored(cache: Path) -> int:
    if not cache.exists():
        return 0
    with sqlite3.connect(cache, timeout=10) as db:
        return db.execute("SELECT count(*) FROM reply").fetchone()[0]


@pytest.mark.slow
@pytest.mark.parametrize(("concurrency", "kills"), [(1, [21]), (4, [23])])
def test_no_verdict_is_asked_for_twice_after_kill_9(data: Path, concurrency: int, kills: list[int]) -> None:
    """Killed when every answer that was sent before has arrived."""
    out, kills = data / "out", list(kills)
    running: subprocess.Popen[str] | None = None

    def before(count: int) -> None:
        if kills and count == kills[0]:
            kills.pop(0)
            assert running is not None
            while stored(out / "cache.db") < count - 1:  # answers on their way; the test's own limit bounds this
                time.sleep(0.005)
            os.kill(running.pid, signal.SIGKILL)
            running.wait()

    with MockModel(oracle(first=0.7, malformed=0.1)) as model:
        model.before = before
        for _ in list(kills):
            running = start(model.url, data, out, concurrency)
            _, err = running.communicate(timeout=120)
            assert running.returncode == -signal.SIGKILL, err
            assert not (out / "results.json").exists()
        running = start(model.url, data, out, concurrency)
        _, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
        asked = model.counts()
        assert len(asked) == 1 + 2 * PAIRS  # the probe, and two orders a pair
        assert set(asked.values()) == {1}
        if concurrency > 1:
            return
        model.before = lambda count: None
        undisturbed = start(model.url, data, data / "undisturbed", concurrency)
        _, err = undisturbed.communicate(timeout=120)
        assert undisturbed.returncode == 0, err
    assert (out / "results.json").read_bytes() == (data / "undisturbed" / "results.json").read_bytes()
