"""kill -9 at any moment of any training stage, run again: the very bits of the run nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from killable import Attempt, Moment, Zygote, moments

import tiny_lab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL"),
]
STAGES = ("pretrain", "sft", "reward", "ppo", "dpo")
SPREAD_KILLS = 5
"""Spread over the whole stage; what continues is killed too, at any of its reports, and what continues that in the
commit."""
COMMIT = [("commit/replace", 0), ("commit/replace", 1), ("commit/replace", 2), ("commit/rmtree", 0)]
"""Aimed kills: before the manifest gets its name, before the checkpoints go, before the artifact gets its name, and
before the checkpoints are deleted."""
CHECKPOINT_KILLS = 2
"""Aimed anywhere inside the writing of a checkpoint."""
MISSED = 3
"""Kills that may come too late: on a busy machine the stage may end before the last of those that are spread."""


@dataclass(frozen=True)
class Undisturbed:
    """The run every other one is compared with."""

    zygote: Zygote
    config: Path
    runs: Path
    reports: dict[str, list[tuple[float, str]]]
    """What each stage did and when, by stage."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    place = tmp_path_factory.mktemp("undisturbed")
    config = tiny_lab.write_config(place)
    with Zygote(place / "log.txt") as zygote:
        reports = {}
        for section in STAGES:
            if section == "reward":
                finish(zygote.run(config, place, "collect"), zygote)
            reports[section] = finish(zygote.run(config, place, section), zygote).reports
        yield Undisturbed(zygote, config, place, reports)


def finish(attempt: Attempt, zygote: Zygote) -> Attempt:
    assert (attempt.signal, attempt.code) == (0, 0), zygote.log.read_text()[-3000:]
    return attempt


def artifact(runs: Path, section: str) -> Path:
    (found,) = (p for p in (runs / "tiny").glob(f"{section}-*") if p.is_dir() and (p / "manifest.json").exists())
    return found


def outcome(runs: Path, section: str) -> dict[str, object]:
    """Everything a finished stage made, except what says how long it took."""
    directory = artifact(runs, section)
    found: dict[str, object] = {
        p.relative_to(directory).as_posix(): p.read_bytes()
        for p in tiny_lab.files(directory)
        if p.name not in ("manifest.json", "metrics.jsonl", "README.md") and p.parent.name != "tb"
    }
    lines = tiny_lab.rows(directory / "metrics.jsonl")
    found["metrics.jsonl"] = [{name: v for name, v in line.items() if name != "time_s"} for line in lines]
    metrics = json.loads((directory / "manifest.json").read_text())["metrics"]
    found["manifest"] = {name: value for name, value in metrics.items() if not name.endswith("seconds")}
    assert "model/model.safetensors" in found
    return found


def fresh(undisturbed: Undisturbed, section: str, place: Path) -> Path:
    """A run directory with everything that comes before `section`."""
    shutil.rmtree(place, ignore_errors=True)
    before = [*STAGES[: STAGES.index(section)], *(("sample", "collect") if section in STAGES[2:] else ())]
    for name in before:
        (source,) = (p for p in (undisturbed.runs / "tiny").glob(f"{name}-*") if p.is_dir())
        shutil.copytree(source, place / "tiny" / source.name)
    return place


def plan(reports: list[tuple[float, str]], draw: random.Random) -> list[list[Moment]]:
    """Moments at which an attempt and those that continue it are killed.

    The first ones are spread over the whole stage; the others are aimed at what takes little time and breaks most.
    Most attempts that continue are killed as well: what a kill leaves behind is then continued from twice, and only one
    of three attempts has to run to the end.
    """
    times, gaps = [at for at, _ in reports], moments(reports)
    start = [what for _, what in reports].index("step")
    tail = sum(what.startswith("commit/") for _, what in reports)
    chosen: list[list[Moment]] = []
    for stretch in range(SPREAD_KILLS):
        # Told as "so long after this report", for a machine that is slower today: the child is still alive when it
        # sends that report, whenever that is.
        at = times[0] + (times[-1] - times[0]) * (stretch + draw.random()) / SPREAD_KILLS
        index = max(i for i, t in enumerate(times) if t <= at)
        # Before the renames of the commit, which happen once: what comes after them only gives the artifact its name.
        again = Moment(draw.randrange(start + tail // 2), delay=0.001 * draw.random())
        what, number = COMMIT[stretch % len(COMMIT)]
        chosen.append(
            [Moment(index, delay=min(at - times[index], gaps[index])), again, Moment(number, of=what, freeze=True)]
        )
    inside = sum(what.startswith("checkpoint/") for _, what in reports)
    one = inside // sum(what == "checkpoint" for _, what in reports)
    numbers = (draw.randrange(inside - one), *(draw.randrange(one) for _ in range(1, CHECKPOINT_KILLS)))
    chosen.append([Moment(number, of="checkpoint/", freeze=True) for number in numbers])
    # At the second checkpoint there are metrics behind the first one, so the next attempt has some to take back.
    chosen.append([Moment(1, of="checkpoint/save", freeze=True), Moment(draw.randrange(2), of="rewind/", freeze=True)])
    return chosen


@pytest.mark.parametrize("section", STAGES)
def test_killed_anywhere_and_run_again_gives_the_same_bits(
    undisturbed: Undisturbed, section: str, tmp_path: Path
) -> None:
    zygote, expected = undisturbed.zygote, outcome(undisturbed.runs, section)
    assert not resumed(undisturbed.reports[section])
    landed: list[str] = []
    continued = 0
    plans = plan(undisturbed.reports[section], random.Random(f"kills of {section}"))
    for kills in plans:
        runs = fresh(undisturbed, section, tmp_path / "runs")
        told = []
        for moment in kills:
            killed = zygote.run(undisturbed.config, runs, section, moment)
            assert killed.signal == signal.SIGKILL or killed.code == 0, zygote.log.read_text()[-3000:]
            told.append(f"{moment}: signal {killed.signal} after {killed.reports[-1]}")
            continued += resumed(killed.reports)
            if killed.signal:
                landed.append(killed.reports[-1][1])
        again = finish(zygote.run(undisturbed.config, runs, section), zygote)
        continued += resumed(again.reports)
        found = outcome(runs, section)
        assert found.keys() == expected.keys(), told
        assert [name for name in expected if found[name] != expected[name]] == [], told
        assert [p.name for p in (runs / "tiny").iterdir() if ".partial" in p.name or ".trash" in p.name] == [], told
    assert len(landed) >= sum(map(len, plans)) - MISSED, landed
    for kind in ("checkpoint/", "rewind/", *(what for what, _ in COMMIT)):
        assert any(what.startswith(kind) for what in landed), landed
    # How many kills come before the first checkpoint depends on the machine; the aimed ones never do.
    assert continued >= len(plans) // 2, "nearly every attempt started from nothing"


def resumed(reports: list[tuple[float, str]]) -> bool:
    """Whether an attempt took back what was logged after the checkpoint from which it continued."""
    return any(what == "rewind/replace" for _, what in reports)


def test_the_command_line_continues_after_a_kill(undisturbed: Undisturbed, tmp_path: Path) -> None:
    # Long enough that the kill comes before the end.
    text = undisturbed.config.read_text().replace("sft:\n", "sft:\n  num_train_epochs: 9\n", 1)
    before_sft, sft = text.split("\nsft:", 1)
    sft = sft[: sft.index("\nsample:")].replace("max_steps: 14", "max_steps: -1")
    config = tiny_lab.write_config(tmp_path, f"{before_sft}\nsft:{sft}")
    expected = fresh(undisturbed, "sft", tmp_path / "undisturbed")
    finish(undisturbed.zygote.run(config, expected, "sft"), undisturbed.zygote)

    runs = fresh(undisturbed, "sft", tmp_path / "killed")
    command = [sys.executable, "-m", "accord", "run", str(config), f"run.dir={runs}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = "sft-*.partial/checkpoints/ckpt-" + 8 * "[0-9]"
    while process.poll() is None and not list((runs / "tiny").glob(checkpoint)):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pretrain: done before" in done.stdout
    assert "sft: continuing" in done.stdout
    assert "continuing from step" in done.stdout
    assert outcome(runs, "sft") == outcome(expected, "sft")
