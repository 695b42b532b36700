"""Sensitivity and specificity of judges, measured on replies that people have labelled.

XSTest's files of completions (Roettger et al. 2023) hold a label of people in `final_label`: "1_full_compliance",
"2_full_refusal", "3_partial_refusal". Full compliance is the positive class. Rows of other origin need the columns
`prompt`, `reply` (or `completion`) and `complied` (true or false), as CSV or JSONL.

What is measured on labelled replies holds for attacks as far as their replies are alike; encoded requests and role play
bring replies that no label was given for. The corrected rates say how far the judge's *known* errors reach, no further.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, cast

from accord.errors import DataError
from accord.redteam.judging import Exchange, HarmJudge, JudgeError, RefusalJudge, measure
from accord.redteam.seeds import Seed

_COMPLIED = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


BUILT_IN = "refusal_error.json"
"""Measurement of the refusal rules, made by `accord redteam calibrate --judge refusal` on XSTest's completions."""


def built_in_error(judge: HarmJudge) -> JudgeError | None:
    """Return what is known of the errors of a judge that comes with Accord.

    Returns:
        The counts of the refusal rules on XSTest (a test measures them again); None for all other judges, and for the
        lab's truth, which has no errors to correct.
    """
    if not isinstance(judge, RefusalJudge):
        return None
    row: dict[str, Any] = json.loads(resources.files("accord.redteam").joinpath(BUILT_IN).read_text(encoding="utf-8"))
    return JudgeError(**{name: value for name, value in row.items() if name not in ("judge", "prompt_hash")})


def read_labelled(path: Path) -> list[tuple[Exchange, bool]]:
    """Read replies with the label of people: whether the model complied in full.

    Args:
        path: CSV, JSONL or JSON, with or without `.gz`.

    Raises:
        DataError: it cannot be read, or a row has no label, with its number.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode("utf-8-sig")
        rows: list[Any]
        if path.name.removesuffix(".gz").endswith(".csv"):
            rows = list(csv.DictReader(io.StringIO(text)))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise DataError(
            f"cannot read the labels: {error}", where=str(path), fix="give CSV or JSONL in UTF-8"
        ) from error
    made = [_labelled(row, f"{path}:{number}") for number, row in enumerate(rows, 1)]
    if not made:
        raise DataError("there are no labelled replies", where=str(path), fix="give rows with prompt, reply, complied")
    return made


def _labelled(raw: Any, where: str) -> tuple[Exchange, bool]:
    row = cast(Mapping[str, Any], raw) if isinstance(raw, Mapping) else {}
    prompt, reply = row.get("prompt"), row.get("reply", row.get("completion"))
    if not isinstance(prompt, str) or not isinstance(reply, str):
        raise DataError("the row has no prompt or no reply", where=where, fix="name the columns prompt and reply")
    if "final_label" in row:
        label = str(row["final_label"])
        if not label[:1].isdigit():
            raise DataError(f"'{label}' is no label of XSTest", where=where, fix="use 1_full_compliance, 2_..., 3_...")
        complied = label.startswith("1")
    else:
        found = _COMPLIED.get(str(row.get("complied")).lower())
        if found is None:
            raise DataError("the row does not say whether the model complied", where=where, fix="add complied: true")
        complied = found
    seed = Seed(id=str(row.get("id") or where), text=prompt, harmful=True, category="other")
    return Exchange(seed, seed.prompt().messages, reply), complied


def measure_on(judge: HarmJudge, paths: Sequence[Path]) -> JudgeError:
    """Measure a judge on files of labelled replies.

    Raises:
        DataError: a file cannot be read, or all labels are the same.
    """
    rows = [row for path in paths for row in read_labelled(path)]
    found = measure(judge, rows, f"human labels of {', '.join(p.name for p in paths)}")
    if not found.true_positives + found.false_negatives or not found.true_negatives + found.false_positives:
        raise DataError(
            "all replies with a verdict have the same label",
            where=str(paths[0]),
            fix="sensitivity and specificity need both kinds",
        )
    return found


def write_error(path: Path, error: JudgeError, judge: HarmJudge) -> None:
    """Keep a measurement for `accord redteam run --judge-error`."""
    row = {"judge": judge.name, "prompt_hash": judge.prompt_hash, **asdict(error)}
    path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def read_error(path: Path, judge: HarmJudge) -> JudgeError:
    """Read what `write_error` wrote.

    Raises:
        DataError: it cannot be read, or is of another judge.
    """
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        name, hash_ = row.pop("judge"), row.pop("prompt_hash")
        error = JudgeError(**row)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DataError(
            f"no measurement of a judge: {problem}", where=str(path), fix="make one with `accord redteam calibrate`"
        ) from problem
    if (name, hash_) != (judge.name, judge.prompt_hash):
        raise DataError(
            f"this measures '{name}' ({hash_}), and the judge is '{judge.name}' ({judge.prompt_hash})",
            where=str(path),
            fix="measure this judge with `accord redteam calibrate`",
        )
    return error
