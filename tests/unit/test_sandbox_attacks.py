"""Programs that want out of the sandbox, at every level that this machine has."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_attacks import ATTEMPT, ESCAPES, EXHAUST

from accord.sandbox import SAFE, Level, Limits, Outcome, probe, run, survey

pytestmark = pytest.mark.sandbox
SECRET = "canary in the environment"
SHORT = Limits(seconds=0.6)
SMALL = Limits(seconds=20, cpu_seconds=20, memory_bytes=256 << 20)


def at(level: Level) -> Level:
    if probe() < level:
        pytest.skip(f"this machine has sandbox level {int(probe())}, not {int(level)}: {'; '.join(survey().reasons)}")
    return level


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    canary = tmp_path_factory.mktemp("outside") / "canary"
    canary.write_text("untouched")
    canary.chmod(0o666)
    abstract = f"\0accord-attack-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(abstract)
        unix.listen()
        yield {"canary": str(canary), "pid": os.getpid(), "port": tcp.getsockname()[1], "abstract": abstract}


def attack(name: str, outside: dict[str, Any], level: Level) -> Outcome:
    return run(ATTEMPT + ESCAPES[name].format(**outside), level=level, allow_unsafe=True, limits=Limits(seconds=5))


def test_there_are_many_attacks() -> None:
    assert len(ESCAPES) + len(EXHAUST) >= 70


@pytest.mark.parametrize("level", [Level.CONTAINER, Level.NAMESPACES, Level.LANDLOCK], ids=lambda level: level.name)
@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_gets_out(name: str, level: Level, outside: dict[str, Any]) -> None:
    ran = attack(name, outside, at(level))
    assert "ESCAPED" not in ran.stdout, ran.stdout
    assert "stopped" in ran.stdout, ran  # and the attack itself was carried out
    assert Path(outside["canary"]).read_text() == "untouched"
    assert os.listdir(Path(outside["canary"]).parent) == ["canary"]


@pytest.mark.parametrize("name", ["read the users", "connect", "signal the parent", "fork", "shell", "another session"])
def test_the_attacks_succeed_where_there_is_no_box(name: str, outside: dict[str, Any]) -> None:
    assert "ESCAPED" in attack(name, outside, Level.NONE).stdout


@pytest.mark.parametrize("name", EXHAUST)
def test_nothing_lasts_and_nothing_swells(name: str) -> None:
    source, status, says = EXHAUST[name]
    at(SAFE)
    ran = run(source, limits=SHORT if status == "timeout" else SMALL)
    assert ran.status == status, ran
    assert says in ran.stderr
    assert ran.memory_bytes < SMALL.memory_bytes
    assert len(ran.stdout) <= SMALL.output_bytes and len(ran.stderr) <= SMALL.output_bytes


@pytest.mark.parametrize("first", ["", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"])
def test_processor_time_has_a_limit_of_its_own(first: str) -> None:
    at(SAFE)
    ran = run(first + "while True: pass", limits=Limits(seconds=60, cpu_seconds=1))
    assert ran.status == "timeout" and ran.signal == ("SIGKILL" if first else "SIGXCPU")


def test_all_files_together_have_a_limit() -> None:
    source = "for i in range(99):\n with open(str(i), 'wb') as f: f.write(bytes(1 << 20))"
    ran = run(source, level=at(Level.CONTAINER))
    assert ran.status == "error" and "No space left" in ran.stderr
    ran = run("for i in range(9999): open(str(i), 'w').close()", level=at(Level.CONTAINER))
    assert ran.status == "error" and "No space left" in ran.stderr


def test_the_environment_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCORD_ATTACK_SECRET", SECRET)
    source = "import os, sys, gc\nprint(dict(os.environ), sys.argv, sys.orig_argv, [o for o in gc.get_objects()])"
    at(SAFE)
    ran = run(source, limits=Limits(output_bytes=1 << 24))
    assert ran.status == "ok" and "HOME" in ran.stdout
    assert SECRET not in ran.stdout


@pytest.mark.parametrize("level", [Level.CONTAINER, Level.LANDLOCK], ids=lambda level: level.name)
def test_what_hides_from_its_group_is_ended_all_the_same(level: Level) -> None:
    """Where there is no process namespace, the number that the program prints is a real one."""
    source = """
import os, signal, sys, time
for hide in (os.setsid, lambda: os.setpgid(0, 0), lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)):
    try:
        hide()
    except OSError:
        pass
print(os.getpid(), flush=True)
time.sleep(60)
"""
    ran = run(source, level=at(level), allow_unsafe=True, limits=SHORT)
    assert ran.status == "timeout"
    if level == Level.LANDLOCK:
        assert not os.path.exists(f"/proc/{ran.stdout.strip()}")


def test_without_a_filter_of_calls_children_are_ended_too() -> None:
    """At level 0 a program can hide a grandchild; the guard finds it."""
    source = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    os._exit(0)
os.wait()
time.sleep(0.05)
"""
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        pytest.skip("this kernel does not list the children of a process")
    ran = run(source, level=Level.NONE, allow_unsafe=True, limits=Limits(seconds=5))
    assert ran.status == "ok"
    assert not os.path.exists(f"/proc/{ran.stdout.strip()}")
