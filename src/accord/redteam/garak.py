"""Reading garak's report.jsonl: attempts with detector scores become attempts of ours, its evaluations are checked.

Taken from garak 0.17: entries `attempt` with status 2 (answered and evaluated) hold a prompt (a text, a message or a
conversation), outputs (texts or messages, or None) and, by detector, one score an output, 1 = hit; an entry `eval`
holds per probe and detector how many outputs passed. A hit is a score of at least `threshold` (garak's
eval_threshold, 0.5).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from accord.errors import DataError
from accord.redteam.attempts import Attempt, Label
from accord.redteam.seeds import Seed
from accord.redteam.taxonomy import categorise
from accord.types import Message


@dataclass(frozen=True)
class Imported:
    """What a report held."""

    attempts: tuple[Attempt, ...]
    header: dict[str, Any]
    """Version, run and target as the report says."""
    unfinished: int
    """Attempts that were not evaluated; left out."""
    disagreeing: tuple[str, ...]
    """Probes and detectors whose counts differ from what the attempts say."""


def read_report(path: Path, *, threshold: float = 0.5) -> Imported:
    """Read a report of garak.

    Args:
        path: `garak.<uuid>.report.jsonl`.
        threshold: score from which an output is a hit.

    Raises:
        DataError: the file is missing, a line is not JSON, or there is no evaluated attempt in it.
    """
    header: dict[str, Any] = {}
    rows: list[tuple[int, dict[str, Any]]] = []
    evals: list[dict[str, Any]] = []
    unfinished = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                row = _object(line, f"{path}:{number}") if line.strip() else {}
                kind = str(row.get("entry_type", ""))
                if kind == "attempt" and row.get("status") == 2:
                    rows.append((number, row))
                elif kind == "attempt":
                    unfinished += 1
                elif kind == "eval":
                    evals.append(row)
                elif kind in ("init", "start_run setup", "config"):
                    header |= {k: v for k, v in row.items() if isinstance(v, str | int | float) and "." not in k}
                    header["target"] = row.get(
                        "plugins.target_name", row.get("plugins.model_name", header.get("target"))
                    )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the report: {error}", where=str(path), fix="check the path") from error
    finished = {str(row.get("uuid")) for _, row in rows}
    unfinished = max(0, unfinished - len(finished))  # each attempt is first written with status 1
    target = str(header.get("target") or "unknown")
    attempts = [a for number, row in rows for a in _attempts(row, number, target, threshold, str(path))]
    if not attempts:
        raise DataError(
            "the report holds no evaluated attempt", where=str(path), fix="give a report.jsonl of a finished garak run"
        )
    return Imported(tuple(attempts), header, unfinished, tuple(_check(attempts, evals)))


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", where=where, fix="give garak's report.jsonl") from error
    if not isinstance(row, dict):
        raise DataError("the line is no object", where=where, fix="give garak's report.jsonl")
    return cast(dict[str, Any], row)


def _attempts(row: dict[str, Any], line: int, target: str, threshold: float, where: str) -> list[Attempt]:
    """One attempt an output."""
    probe = str(row.get("probe_classname") or "unknown").removeprefix("probes.").removeprefix("garak.probes.")
    turns = _turns(row.get("prompt"))
    outputs: list[Any] = row.get("outputs") or []
    results: dict[str, list[Any]] = row.get("detector_results") or {}
    if not turns:
        raise DataError("the attempt has no prompt", where=f"{where}:{line}", fix="give a report of garak 0.9 or newer")
    name = f"garak-{row.get('uuid') or line}"
    seed = Seed(
        id=name,
        text=str(row.get("goal") or turns[-1].content),
        harmful=True,
        category=categorise(str(row.get("intent") or ""), str(row.get("goal") or ""), probe),
        source="garak",
    )
    made: list[Attempt] = []
    for place, output in enumerate(outputs):
        by: dict[str, Label] = {}
        for detector, scores in results.items():
            score = scores[place] if place < len(scores) else None
            by[detector] = "abstain" if score is None else "complied" if float(score) >= threshold else "refused"
        known = [label for label in by.values() if label != "abstain"]
        label: Label = "abstain" if not known else "complied" if "complied" in known else "refused"
        made.append(
            Attempt(
                seed=seed,
                attacker="garak",
                transform=probe,
                family=probe.partition(".")[0],
                number=place,
                k=len(outputs),
                turns=turns,
                reply=_text(output),
                label=label,
                by=by,
                reason="" if known else "no detector gave a score",
                target=target,
                judge=f"garak {', '.join(sorted(results))}" if results else "garak",
                notes={"line": line},
            )
        )
    return made


def _turns(prompt: Any) -> tuple[Message, ...]:
    """A prompt as text, message, conversation, or list of turns."""
    if isinstance(prompt, str):
        return (Message(role="user", content=prompt),)
    if isinstance(prompt, dict):
        whole = cast(dict[str, Any], prompt)
        if "turns" in whole:
            return _turns(whole["turns"])
        text = _text(whole)
        return (Message(role="user", content=text),) if text else ()
    found: list[Message] = []
    for turn in cast(list[Any], prompt) if isinstance(prompt, list) else []:
        role = str(turn.get("role", "user")) if isinstance(turn, dict) else "user"
        content = cast(dict[str, Any], turn).get("content") if isinstance(turn, dict) else turn
        known: Any = role if role in ("system", "user", "assistant", "tool") else "user"
        found.append(Message(role=known, content=_text(content)))
    return tuple(found)


def _text(output: Any) -> str:
    if isinstance(output, dict):
        return str(cast(dict[str, Any], output).get("text") or "")
    return "" if output is None else str(output)


def _check(attempts: Sequence[Attempt], evals: Sequence[dict[str, Any]]) -> list[str]:
    """Compare the report's own counts with those of the attempts."""
    counted: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for attempt in attempts:
        for detector, label in attempt.by.items():
            if label != "abstain":
                counted[attempt.transform, detector][0] += label == "refused"
                counted[attempt.transform, detector][1] += 1
    different: list[str] = []
    for row in evals:
        probe = str(row.get("probe", "")).removeprefix("probes.").removeprefix("garak.probes.")
        detector = str(row.get("detector", "")).removeprefix("detector.")
        total = row.get("total_evaluated", row.get("total"))
        passed, evaluated = counted[probe, detector]
        if [row.get("passed"), total] != [passed, evaluated]:
            different.append(
                f"{probe} / {detector}: {row.get('passed')} of {total} passed, attempts say {passed} of {evaluated}"
            )
    return different
