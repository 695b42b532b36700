"""What a level is, how it is found out, and what happens below the safe one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from accord.cli import app
from accord.errors import ConfigError, SandboxError
from accord.sandbox import SAFE, Level, Limits, launching, levels, probe, require, run, survey
from accord.sandbox.inside import landlock, seccomp
from accord.sandbox.inside.confine import Walls

LINUX = sys.platform == "linux"


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Probing anew, and again afterwards."""
    survey.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    survey.cache_clear()


def without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    real = levels.launch

    def launch(walls: Walls, *rest: Any) -> Any:
        if walls.namespaces:
            raise SandboxError("the box could not be made: [Errno 1] unshare: Operation not permitted")
        return real(walls, *rest)

    monkeypatch.setattr(levels, "launch", launch)


@pytest.mark.sandbox
def test_the_level_of_this_machine_is_found_and_it_is_safe() -> None:
    if not LINUX:
        pytest.skip("the sandbox is made of Linux")
    found = survey()
    if found.level < SAFE:
        pytest.skip(f"level {int(found.level)} only: {'; '.join(found.reasons)}")
    assert probe() == found.level and found.walls.namespaces and found.landlock_abi == landlock.abi()


@pytest.mark.sandbox
def test_where_namespaces_are_forbidden_code_is_refused_and_the_way_out_is_said(afresh: pytest.MonkeyPatch) -> None:
    without_namespaces(afresh)
    found = survey()
    assert found.level == (Level.LANDLOCK if landlock.abi() else Level.NONE)
    assert found.reasons.count("namespaces: the box could not be made: [Errno 1] unshare: Operation not permitted") == 1
    with pytest.raises(SandboxError, match=r"code is not run here[\s\S]*unshare[\s\S]*--allow-unsafe-code"):
        run("print(1)")
    assert run("print(1)", allow_unsafe=True).stdout == "1\n"
    said = CliRunner().invoke(app, ["sandbox", "--require", "2"])
    assert f"level {int(found.level)}: " in said.output and "not safe" in said.output
    assert isinstance(said.exception, SandboxError) and said.exception.exit_code == 9


def test_a_box_that_does_not_hold_is_not_its_level(afresh: pytest.MonkeyPatch) -> None:
    afresh.setattr(levels, "_escapes", lambda walls: ["it reads files outside"] if walls.root else [])
    found = survey()
    assert found.level < Level.CONTAINER and "does not hold: it reads files outside" in found.reasons[-1]


@pytest.mark.sandbox
def test_the_probe_sees_every_way_out_where_there_is_no_box() -> None:
    if not LINUX:
        pytest.skip("there is no /proc")
    assert len(levels._escapes(levels._NOTHING)) == 6


def test_an_unsafe_level_must_be_allowed_also_when_it_is_named() -> None:
    with pytest.raises(SandboxError, match="not run here"):
        require(Level.NONE)
    assert require(Level.NONE, allow_unsafe=True) == levels._NOTHING


def test_levels_are_what_their_walls_are() -> None:
    full = Walls(namespaces=True, root=True, landlock=True, seccomp=True)
    assert levels.level_of(full) == Level.CONTAINER
    assert levels.level_of(full._replace(root=False)) == Level.NAMESPACES
    assert levels.level_of(full._replace(landlock=False)) == Level.NAMESPACES  # nothing else is there to be read
    assert levels.level_of(full._replace(root=False, landlock=False)) == Level.NONE
    assert levels.level_of(full._replace(namespaces=False, root=False)) == Level.LANDLOCK
    without = levels.Survey(Level.NAMESPACES, full._replace(landlock=False), 0, ())
    assert levels.walls_of(Level.NAMESPACES, without).root
    with pytest.raises(SandboxError, match="no sandbox of level 3"):
        levels.walls_of(Level.CONTAINER, without)


def test_landlock_handles_what_the_kernel_knows_and_no_more() -> None:
    assert landlock.handled(1) == ((1 << 13) - 1, 0, 0)
    assert landlock.handled(3) == ((1 << 15) - 1, 0, 0)
    assert landlock.handled(4) == ((1 << 15) - 1, 3, 0)
    assert landlock.handled(99) == landlock.handled(6) == ((1 << 16) - 1, 3, 3)


def outcome(code: bytes, number: int, first: int = 0, architecture: int = 0xC000003E) -> int:
    """What a filter says of a call: an interpreter of the few instructions that are used."""
    at, loaded = 0, 0
    while True:
        kind, yes, no, k = (
            int.from_bytes(code[at * 8 + a : at * 8 + b], "little") for a, b in ((0, 2), (2, 3), (3, 4), (4, 8))
        )
        at += 1
        if kind == 0x20:
            loaded = {0: number, 4: architecture, 16: first}[k]
        elif kind == 0x06:
            return k
        else:
            met = {0x15: loaded == k, 0x35: loaded >= k, 0x45: bool(loaded & k)}[kind]
            at += yes if met else no


ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50001, 0x50026, 0x80000000


@pytest.mark.parametrize(
    ("machine", "architecture", "read", "clone", "kill", "prlimit", "socketpair", "refused"),
    [
        ("x86_64", 0xC000003E, 0, 56, 62, 302, 53, (41, 59, 57, 58, 101, 165, 272, 319, 321, 322, 425)),
        ("aarch64", 0xC00000B7, 63, 220, 129, 261, 199, (198, 221, 117, 40, 97, 279, 280, 281, 425)),
    ],
)
def test_the_filter_of_calls(
    machine: str, architecture: int, read: int, clone: int, kill: int, prlimit: int, socketpair: int, refused: Any
) -> None:
    code = seccomp.program(machine, pid=1234)

    def says(number: int, first: int = 0) -> int:
        return outcome(code, number, first, architecture)

    assert says(read) == ALLOW and outcome(code, read, architecture=0x40000003) == KILL
    assert {says(number) for number in refused} == {EPERM}
    assert says(435) == ENOSYS  # clone3, so that the C library uses clone
    assert says(clone, 0x10000 | 0x100) == ALLOW and says(clone, 17) == EPERM  # threads and processes
    assert says(kill, 1234) == ALLOW and says(kill, 1) == EPERM and says(kill, 0xFFFFFFFF) == EPERM
    assert says(prlimit, 0) == says(prlimit, 1234) == ALLOW and says(prlimit, 1) == EPERM
    assert says(socketpair, 1) == ALLOW and says(socketpair, 2) == EPERM
    if machine == "x86_64":
        assert says(read | 0x40000000) == EPERM  # x32


@pytest.mark.sandbox
def test_a_program_has_its_files_its_input_and_an_exit_code() -> None:
    if probe() < SAFE:
        pytest.skip("not safe here")
    source = "import sys\nprint(open('in/a.txt').read() + input())\nprint('e', file=sys.stderr)\nsys.exit(3)"
    ran = run(source, files={"in/a.txt": "file ", "b": b"\xff"}, stdin="line\n")
    assert (ran.status, ran.exit_code, ran.stdout, ran.stderr) == ("error", 3, "file line\n", "e\n")
    assert ran.level == probe() and ran.seconds > 0 and ran.memory_bytes > 1 << 20
    large = run("import sys\nprint(len(sys.stdin.read()))", stdin="x" * 300_000)
    assert large.stdout == "300000\n"
    assert run("raise SystemExit('bye')").stderr == "bye\n"
    with pytest.raises(ConfigError, match="outside the directory"):
        run("", files={"../a": ""})


def test_limits_are_positive() -> None:
    with pytest.raises(ConfigError, match="seconds of the sandbox is 0"):
        Limits(seconds=0)


@pytest.mark.sandbox
def test_nothing_is_left_when_the_caller_is_killed(tmp_path: Path) -> None:
    """Level 1 has real process numbers, and no namespace that would end them."""
    if probe() < Level.LANDLOCK:
        pytest.skip("no Landlock here")
    caller = (
        "import sys, os\nfrom accord.sandbox import run, Level, levels\n"
        "from accord.sandbox.launching import _Role\nhear = _Role.hear\n"
        "def told(self, line):\n hear(self, line)\n if self.started: print(self.started, flush=True)\n"
        "_Role.hear = told\nrun('import time; time.sleep(60)', level=Level.LANDLOCK, allow_unsafe=True)"
    )
    away = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", caller], stdout=subprocess.PIPE, text=True, env=away) as process:
        assert process.stdout is not None
        inside = int(process.stdout.readline())
        process.kill()
    for _ in range(500):
        if not Path(f"/proc/{inside}").exists():
            return
        time.sleep(0.02)
    pytest.fail(f"process {inside} runs on")


def test_a_box_that_is_not_made_in_time_is_made_again_and_then_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []
    real = launching._Launch.through

    def late(launch: launching._Launch) -> object:
        tried.append(launch.launch_seconds)
        return None if len(tried) < 3 else real(launch)

    monkeypatch.setattr(launching, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(launching._Launch, "through", late)
    assert run("print(2)", allow_unsafe=True).stdout == "2\n"
    assert tried == list(launching.LAUNCH_SECONDS)
    monkeypatch.setattr(launching._Launch, "through", lambda launch: None)
    with pytest.raises(SandboxError, match=r"tried 3 times: in \d.* of 20 s: program not shut, running"):
        run("print(2)", allow_unsafe=True)
