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

import pytest

from accord.judges.client import ChatClient
from accord.judges.llm import LLMJudge
from mock_model import MockModel, oracle, pairs

PAIRS = 30


def start(url: str, cache: Path, concurrency: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("judged_run.py")
    command = [sys.executable, str(script), url, str(cache), str(PAIRS), str(concurrency)]
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1])}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def stored(cache: Path) -> int:
    if not cache.exists():
        return 0
    with sqlite3.connect(cache, timeout=10) as db:
        return db.execute("SELECT count(*) FROM reply").fetchone()[0]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_verdict_is_asked_for_twice_after_kill_9(tmp_path: Path, concurrency: int) -> None:
    """Killed twice, each time when every answer that was sent before has arrived."""
    cache = tmp_path / "cache.db"
    kills = [8, 40]
    running: subprocess.Popen[str] | None = None

    def before(count: int) -> None:
        if kills and count == kills[0]:
            kills.pop(0)
            assert running is not None
            while stored(cache) < count - 1:  # answers on their way; the test's own limit bounds this
                time.sleep(0.005)
            os.kill(running.pid, signal.SIGKILL)
            running.wait()

    with MockModel(oracle(first=0.7, malformed=0.1)) as model:
        model.before = before
        for _ in range(2):
            running = start(model.url, cache, concurrency)
            _, err = running.communicate(timeout=120)
            assert running.returncode == -signal.SIGKILL, err
        running = start(model.url, cache, concurrency)
        out, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
        asked = model.counts()
    assert len(asked) == 1 + 2 * PAIRS  # the probe, and two orders a pair
    assert set(asked.values()) == {1}

    with MockModel(oracle(first=0.7, malformed=0.1)) as model, ChatClient(model.url, "judge") as client:
        undisturbed = LLMJudge(client).compare(pairs(PAIRS))
    assert json.loads(out) == [c.p for c in undisturbed]
