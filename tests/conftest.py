"""What every test needs: one thread, no network, and no silent skip where everything must run."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import Any

# Before torch is imported anywhere; subprocesses inherit it. Results are bit-identical only for equal thread counts.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")
os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1")

import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("accord", deadline=None)
settings.load_profile("accord")

MAY_SKIP = ("gpu", "bitsandbytes", "real_data", "sandbox", "clients")
"""Markers of tests of what a machine may lack (hardware, a kernel, an optional library, data); all others run in CI."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no process is left with one of them when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def one_thread() -> Generator[None]:
    """Undo what a test that ran a stage with more threads did to the process."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def attention_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rows of tests go the way of long ones; fixtures of a module or session, made before, take the usual one."""
    if "transformers" in sys.modules:  # a test that has no model needs neither
        from accord.models import attention

        monkeypatch.setattr(attention, "PARTS_FROM", 0)


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing a password takes a tenth of a second on purpose; tests of anything else need not pay for that."""
    passwords = sys.modules.get("accord.collect.passwords")
    if passwords is not None:
        monkeypatch.setattr(passwords, "COST", (2, 8, 1))


def everything_must_run() -> bool:
    """True in continuous integration, where a missing tool is a failure of the machine."""
    return os.environ.get("CI", "").lower() in ("true", "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """Turn a skip into a failure in CI."""
    report = yield
    allowed = any(item.get_closest_marker(name) for name in MAY_SKIP) or hasattr(report, "wasxfail")
    if report.skipped and everything_must_run() and not allowed:
        report.outcome = "failed"
        report.longrepr = f"CI is set and this test was skipped: {call.excinfo and call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Turn the skip of a whole module into an error in CI."""
    report = yield
    if report.skipped and everything_must_run():
        report.outcome = "failed"
        report.longrepr = f"CI is set and {collector.nodeid} was skipped as a whole"
    return report
