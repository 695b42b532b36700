"""Where CI is set, a test that would be skipped for want of a tool fails instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.browser
def test_needs_a_browser():
    pytest.skip("no browser")

@pytest.mark.skipif(True, reason="no fork")
def test_resume():
    pass

@pytest.mark.gpu
def test_needs_a_gpu():
    pytest.skip("no gpu")
"""


@pytest.mark.parametrize(("ci", "summary"), [("true", "1 failed, 1 skipped, 1 error"), ("", "3 skipped")])
def test_a_missing_tool_is_a_failure_in_ci(tmp_path: Path, ci: str, summary: str) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser: x\n    gpu: x\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CI": ci}, capture_output=True, text=True)
    assert summary in done.stdout
    assert done.returncode == (1 if ci else 0)


def test_a_module_skipped_as_a_whole_is_an_error_in_ci(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text("import pytest\n\npytest.importorskip('no_such_module_here')\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CI": "true"}, capture_output=True, text=True)
    assert done.returncode != 0
    assert "skipped as a whole" in done.stdout
