"""Process-wide settings: waiting threads do not spin."""

from __future__ import annotations

import os

import pytest


def test_waiting_threads_do_not_spin_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    from accord import cli

    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(cli, "app", lambda **_: None)
    cli.main()
    assert os.environ.pop("GOMP_SPINCOUNT") == "20000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    cli.main()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
