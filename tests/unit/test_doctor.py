"""The doctor finds what is wrong and says what to do; a healthy machine passes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from accord import doctor
from accord.doctor import Finding
from accord.functional import preference_losses


def always(*_: Any, **__: Any) -> bool:
    return True


def never(*_: Any, **__: Any) -> bool:
    return False


def test_this_installation_is_healthy() -> None:
    found = {f.subject: f for f in doctor.packages()}
    assert {f.level for f in found.values()} <= {"OK", "WARN"}
    assert found["torch"].level == "OK" and ">=" in found["torch"].detail
    assert "pytest" not in found, "the developers' tools are nobody else's business"
    assert doctor.self_test().level == "OK"
    assert doctor.accelerator().level in ("OK", "WARN")


def test_packages_that_are_missing_or_too_old() -> None:
    assert doctor.package("torch", ">=2", always).level == "OK"
    old = doctor.package("torch", ">=99", never)
    assert (old.level, old.fix) == ("FAIL", "pip install 'torch>=99'")
    missing = doctor.package("no-such-package", ">=1", always)
    assert (missing.level, missing.fix) == ("FAIL", "pip install 'no-such-package>=1'")
    optional = doctor.package("no-such-package", ">=1", always, "hub")
    assert optional.level == "OK" and "[hub]" in optional.detail
    assert doctor.package("torch", ">=99", never, "hub").level == "WARN"


def test_an_installation_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", absent)
    assert [f.level for f in doctor.packages()] == ["WARN"]


@pytest.mark.parametrize(("free", "level"), [(2**28, "FAIL"), (2**31, "WARN"), (2**35, "OK")])
def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, level: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert doctor.disk(tmp_path).level == level


def test_directory(tmp_path: Path) -> None:
    assert doctor.writable(tmp_path).level == "OK"
    assert list(tmp_path.iterdir()) == []
    assert doctor.writable(tmp_path / "absent").level == "FAIL"


@pytest.mark.parametrize(("available", "level"), [(None, "WARN"), (2**29, "FAIL"), (2**30, "WARN"), (2**32, "OK")])
def test_memory(monkeypatch: pytest.MonkeyPatch, available: int | None, level: str) -> None:
    monkeypatch.setattr(doctor, "available_memory", lambda: available)
    assert doctor.memory().level == level


def test_memory_is_the_least_of_system_and_container(tmp_path: Path) -> None:
    proc = tmp_path / "meminfo"
    assert doctor.available_memory(proc, tmp_path) is None
    proc.write_text("MemTotal: 900 kB\nMemAvailable:   800 kB\n")
    assert doctor.available_memory(proc, tmp_path) == 800 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert doctor.available_memory(proc, tmp_path) == 800 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert doctor.available_memory(proc, tmp_path) == 4000


def test_fewer_processors_than_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert doctor.processors(tmp_path).level == "OK"
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    found = doctor.processors(tmp_path)
    assert found.level == "WARN" and "run.threads=2" in found.fix
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert doctor.processors(tmp_path).level == "OK"


def test_a_package_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_library.py").write_text("raise OSError('libfoo.so: cannot open\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    found = doctor.loads("broken_library")
    assert (found.level, found.detail) == ("FAIL", "libfoo.so: cannot open")
    assert doctor.loads("json").level == "OK"


def test_wrong_numbers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = preference_losses.dpo

    def wrong(*args: Any, **options: Any) -> Any:
        return right(*args, **options) * 1.0001

    monkeypatch.setattr(preference_losses, "dpo", wrong)
    assert doctor.self_test().level == "FAIL"


@pytest.mark.parametrize(("levels", "healthy"), [(("OK", "WARN"), True), (("OK", "FAIL", "OK"), False)])
def test_the_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], levels: tuple[Any, ...], healthy: bool
) -> None:
    def made_up() -> Iterator[Finding]:
        for level in levels:
            yield Finding(level, "thing", "state", "" if level == "OK" else "do this")

    monkeypatch.setattr(doctor, "findings", made_up)
    assert doctor.check() is healthy
    text = capsys.readouterr().out
    assert f"{levels[-1]:<4}  thing: state\n" in text
    assert "      to do: do this\n" in text
    assert "\x1b" not in text


def test_nothing_is_loaded_or_tested_when_imports_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "loads", lambda name: Finding("FAIL", f"import {name}", "broken"))
    subjects = [f.subject for f in doctor.findings()]
    assert "import torch" in subjects
    assert "self-test" not in subjects and "device" not in subjects
