"""Metrics over steps: one JSON line a step in `metrics.jsonl`, optionally mirrored for TensorBoard.

The JSON lines are the record; the TensorBoard files are a copy that is rebuilt from them when a run goes
back to a checkpoint. A number that is not finite is written as null and named under `nonfinite`, so that
every line is JSON.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from accord.errors import ArtifactError
from accord.storage import io_errors, write_atomic

METRICS = "metrics.jsonl"
TENSORBOARD = "tb"
_RESERVED = ("step", "time_s", "nonfinite")


class Tracker:
    """Append-only metrics of one stage, continued where a killed attempt stopped."""

    def __init__(self, directory: Path, *, tensorboard: bool = False) -> None:
        """Open or continue the metrics in `directory`.

        A last line that a crash cut short is removed. Call `rewind` with the step of the checkpoint that
        training continues from, or with -1 when it starts afresh, before the first `log`.

        Args:
            directory: the stage's workspace; created when missing.
            tensorboard: also write event files under `tb/`.

        Raises:
            ArtifactError: when an existing file is damaged before its last line, or the disk refuses.
        """
        self.path = directory / METRICS
        self._events_dir = directory / TENSORBOARD
        self._tensorboard = tensorboard
        self._events: Any = None
        self._file: IO[bytes] | None = None
        with io_errors("write the metrics", self.path):
            directory.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(self.path)
        rows = _rows(self.path) if self.path.exists() else []
        self._started = time.monotonic() - (rows[-1]["time_s"] if rows else 0.0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line and flush it.

        Args:
            step: optimiser or rollout step the values belong to, >= 0.
            values: numbers by metric name, e.g. ``{"objective/kl": 0.3}``.

        Raises:
            ArtifactError: when the disk refuses.
            ValueError: when a metric has a reserved name.
        """
        taken = [name for name in values if name in _RESERVED]
        if taken:
            raise ValueError(f"a metric may not be called {taken[0]!r}")
        numbers = {name: float(value) for name, value in values.items()}
        row: dict[str, Any] = {"step": int(step), "time_s": round(time.monotonic() - self._started, 3)}
        row.update({name: value if math.isfinite(value) else None for name, value in numbers.items()})
        nonfinite = [name for name, value in numbers.items() if not math.isfinite(value)]
        if nonfinite:
            row["nonfinite"] = nonfinite
        with io_errors("write the metrics", self.path):
            if self._file is None:
                self._file = self.path.open("ab")
            self._file.write(_line(row))
            self._file.flush()
        self._mirror([row])

    def rewind(self, step: int) -> None:
        """Forget every line of a later step than `step`; training writes them again.

        Raises:
            ArtifactError: when the file is damaged or the disk refuses.
        """
        self.close()
        rows = _rows(self.path) if self.path.exists() else []
        kept = [row for row in rows if row["step"] <= step]
        with io_errors("write the metrics", self.path):
            if len(kept) < len(rows):
                write_atomic(self.path, b"".join(map(_line, kept)))
            if self._tensorboard and self._events_dir.exists():
                shutil.rmtree(self._events_dir)
        self._started = time.monotonic() - (kept[-1]["time_s"] if kept else 0.0)
        self._mirror(kept)

    def close(self) -> None:
        """Close the files; a later `log` opens them again.

        Raises:
            ArtifactError: when the disk refuses.
        """
        with io_errors("write the metrics", self.path):
            if self._file is not None:
                self._file.close()
                self._file = None
            if self._events is not None:
                self._events.close()
                self._events = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _mirror(self, rows: list[dict[str, Any]]) -> None:
        if not self._tensorboard or not rows:
            return
        with io_errors("write the TensorBoard files", self._events_dir):
            if self._events is None:
                # Heavy, and only wanted with the option.
                from tensorboard.summary import Writer  # pyright: ignore[reportMissingTypeStubs]

                self._events = Writer(str(self._events_dir))
            for row in rows:
                for name in sorted(row.keys() - set(_RESERVED)):
                    value = math.nan if row[name] is None else row[name]
                    self._events.add_scalar(name, value, step=row["step"])
            self._events.flush()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read what a Tracker wrote, in order; may be called while it is still writing.

    Args:
        path: the `metrics.jsonl` file or the directory that holds it.

    Returns:
        One dict a line with `step`, `time_s` and the metrics; a number that was not finite is NaN.

    Raises:
        ArtifactError: when there is no such file or a line before the last is damaged.
    """
    path = path / METRICS if path.is_dir() else path
    rows = _rows(path)
    for row in rows:
        for name in row.pop("nonfinite", ()):
            row[name] = math.nan
    return rows


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _rows(path: Path) -> list[dict[str, Any]]:
    with io_errors("read the metrics", path):
        lines = path.read_bytes().split(b"\n")
    # What follows the last line end is a line being written, or one that a crash cut short.
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
            rows.append({**row, "step": int(row["step"]), "time_s": float(row["time_s"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                "a line of the metrics is damaged",
                where=f"{path}:{number}",
                fix="remove that line, or move the file away and run the stage again",
            ) from error
    return rows


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as handle:
        data = handle.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            handle.truncate(whole)
