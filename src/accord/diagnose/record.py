"""What diagnosis leaves in the directory of a stage, while it runs and after: the state of the lights, the alarms.

diagnosis.json     lights, first and last readings, measurements, what was done; rewritten at every reading
alarms.jsonl       one line an alarm
suspects/*.jsonl   for each alarm the most suspicious replies beside the SFT model's
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.errors import ArtifactError
from accord.storage import io_errors, write_atomic

STATE, ALARMS, SUSPECTS = "diagnosis.json", "alarms.jsonl", "suspects"


def write_state(directory: Path, state: Mapping[str, Any]) -> None:
    """Replace the state of the lights.

    Raises:
        ArtifactError: the disk refuses.
    """
    with io_errors("write the diagnosis", directory):
        write_atomic(directory / STATE, (json.dumps(state, indent=1) + "\n").encode())


def read_state(directory: Path) -> dict[str, Any] | None:
    """The state that `write_state` left; None when there is none.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = directory / STATE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not isinstance(found["lights"], dict):
            raise ValueError("not what diagnosis writes")
    except (ValueError, KeyError, OSError) as error:
        raise ArtifactError(
            f"the diagnosis cannot be read: {error}", where=str(path), fix="remove the file and run the stage again"
        ) from error
    return found


def write_alarm(directory: Path, alarm: Mapping[str, Any], suspects: Sequence[Mapping[str, Any]]) -> None:
    """Add an alarm, and its suspicious replies in a file of their own.

    Args:
        directory: of the stage.
        alarm: with `step` and `rule`.
        suspects: rows.

    Raises:
        ArtifactError: the disk refuses.
    """
    with io_errors("write an alarm", directory):
        rows = [*read_alarms(directory), dict(alarm)]
        write_atomic(directory / ALARMS, _lines(rows))
        (directory / SUSPECTS).mkdir(exist_ok=True)
        write_atomic(suspects_path(directory, alarm), _lines(suspects))


def read_alarms(directory: Path) -> list[dict[str, Any]]:
    """The alarms of a stage in order; lines that are not records of alarms are left out."""
    return [row for row in _rows(directory / ALARMS) if "step" in row and "rule" in row]


def read_suspects(directory: Path, alarm: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The suspicious replies of an alarm; empty when the file is missing."""
    return list(_rows(suspects_path(directory, alarm)))


def suspects_path(directory: Path, alarm: Mapping[str, Any]) -> Path:
    """Where the suspicious replies of an alarm lie."""
    rule = "".join(c for c in str(alarm["rule"]) if c.isalnum() or c == "_")
    return directory / SUSPECTS / f"{int(alarm['step']):08d}-{rule}.jsonl"


def forget_after(directory: Path, step: int) -> None:
    """Remove alarms of later steps: training goes on from `step` and raises them again.

    Raises:
        ArtifactError: the disk refuses.
    """
    alarms = read_alarms(directory)
    kept = [alarm for alarm in alarms if int(alarm["step"]) <= step]
    if len(kept) == len(alarms):
        return
    with io_errors("write the alarms", directory):
        for alarm in alarms:
            if int(alarm["step"]) > step:
                suspects_path(directory, alarm).unlink(missing_ok=True)
        write_atomic(directory / ALARMS, _lines(kept))


def _lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
