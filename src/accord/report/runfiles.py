"""Read what a run left on disk: manifests, metric logs, evaluations. Plain JSON; no code of a stage is imported.

A file that is absent belongs to a stage that has not run; a file that is damaged is named in `Run.notes`, which
the page prints, so that nothing is left out without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from accord.errors import ArtifactError
from accord.pipeline import INDEX
from accord.report.formats import finite
from accord.report.names import colours, kind_of, place

_CONFIG_LIMIT = 60_000


@dataclass(frozen=True)
class Input:
    """An artifact that a stage was made from."""

    name: str
    stage: str
    fingerprint: str


@dataclass(frozen=True)
class Stage:
    """A finished stage, as its manifest tells it."""

    name: str
    dir: Path
    fingerprint: str
    kind: str
    version: str
    seed: str
    created: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    versions: Mapping[str, Any]
    inputs: tuple[Input, ...]
    seconds: float | None
    memory_mb: float | None

    @property
    def makes(self) -> str:
        """Kind of the output: of the stage that its name tells, else as the manifest says."""
        return kind_of(self.name) or self.kind


@dataclass(frozen=True)
class Metrics:
    """A metric log: for every name the steps and values; a value that was not finite is None."""

    series: Mapping[str, tuple[tuple[float, float | None], ...]]

    def __contains__(self, name: str) -> bool:
        return name in self.series

    def get(self, name: str) -> tuple[tuple[float, float | None], ...]:
        """Return the points of one metric, empty when it was never logged."""
        return self.series.get(name, ())

    @property
    def broken(self) -> dict[str, int]:
        """How many values of each metric were not finite numbers."""
        counts = {name: sum(v is None for _, v in points) for name, points in self.series.items()}
        return {name: count for name, count in counts.items() if count}


@dataclass
class Run:
    """Everything a report is made from."""

    name: str
    dir: Path
    stages: list[Stage]
    """Inputs before what is made from them."""
    superseded: list[Stage]
    """Finished artifacts that a newer one of the same stage replaced."""
    config_text: str
    notes: list[str] = field(default_factory=list)
    """What could not be read."""

    def stage(self, name: str) -> Stage | None:
        """Return the stage of that name."""
        return next((s for s in self.stages if s.name == name), None)

    def of_kind(self, kind: str) -> list[Stage]:
        """Return the stages that made such artifacts, inputs first."""
        return [s for s in self.stages if s.makes == kind]

    @cached_property
    def slots(self) -> dict[str, int]:
        """Colour slot of every section, and of every model of an evaluation by the stage that made it."""
        slots = colours([s.name for s in self.stages], {s.name: s.kind for s in self.stages})
        return {**{model: slots[stage.name] for model, stage in self.models.items()}, **slots}

    @cached_property
    def models(self) -> dict[str, Stage]:
        """What the evaluation calls its models -> the stage that made each, where it is in the run."""
        by_print = {s.fingerprint: s for s in self.stages}
        inputs = [i for s in self.of_kind("results") for i in s.inputs]
        named = {i.name.partition(".")[2]: by_print[i.fingerprint] for i in inputs if i.fingerprint in by_print}
        return {**{s.name: s for s in self.of_kind("policy")}, **{name: s for name, s in named.items() if name}}

    def made_from(self, stage: Stage) -> set[str]:
        """Fingerprints of all that went into a stage, its own among them."""
        by_print = {s.fingerprint: s for s in self.stages}
        found: set[str] = set()
        ends = [stage.fingerprint]
        while ends:
            print_ = ends.pop()
            if print_ not in found:
                found.add(print_)
                ends += [i.fingerprint for i in by_print[print_].inputs] if print_ in by_print else []
        return found

    def with_file(self, filename: str) -> Stage | None:
        """Return the last stage, in order of making, that wrote such a file."""
        return next((s for s in reversed(self.stages) if (s.dir / filename).is_file()), None)

    def json(self, filename: str, stage: Stage | None = None) -> Mapping[str, Any] | None:
        """Return the JSON object in the file of that name, of the stage given or of what `with_file` tells."""
        stage = stage or self.with_file(filename)
        if stage is None or not (stage.dir / filename).is_file():
            return None
        return _read_object(stage.dir / filename, self.dir, self.notes)

    def rows(self, filename: str) -> Iterator[Mapping[str, Any]]:
        """Yield the JSON lines of the file of that name (`with_file` tells which)."""
        stage = self.with_file(filename)
        return iter(()) if stage is None else read_rows(stage.dir / filename, self.dir, self.notes)

    def metrics(self, stage: Stage) -> Metrics:
        """Return the metric log of a stage."""
        path = stage.dir / "metrics.jsonl"
        points: dict[str, list[tuple[float, float | None]]] = {}
        for row in read_rows(path, self.dir, self.notes) if path.is_file() else ():
            step = finite(row.get("step"))
            if step is None:
                continue
            for name, value in row.items():
                if name not in {"step", "time_s"} and not isinstance(value, str | list | dict | bool):
                    points.setdefault(name, []).append((step, finite(value)))
        return Metrics({name: tuple(values) for name, values in points.items()})


def read_run(run_dir: Path) -> Run:
    """Read the manifests of a run directory.

    Args:
        run_dir: `runs/<name>`, holding `config.yaml` and one directory a stage.

    Raises:
        ArtifactError: the directory does not exist.
    """
    if not run_dir.is_dir():
        raise ArtifactError(
            "there is no such run directory",
            where=str(run_dir),
            fix="give the path of a run, for example runs/demo",
        )
    notes: list[str] = []
    found: list[Stage] = []
    for path in sorted(run_dir.glob("*/manifest.json")):
        raw = _read_object(path, run_dir, notes)
        if raw is not None and kind_of(str(raw.get("stage"))) != "report":
            found.append(_stage(path.parent, raw))
    config = run_dir / "config.yaml"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    if len(text) > _CONFIG_LIMIT:
        notes.append(f"config.yaml is long: the first {_CONFIG_LIMIT} of {len(text)} characters are shown")
        text = text[:_CONFIG_LIMIT]
    index = _index(run_dir, notes)
    current, superseded = _current(found, index)
    return Run(run_dir.resolve().name, run_dir, _ordered(current, index), superseded, text, notes)


def read_rows(path: Path, root: Path, notes: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a JSON-lines file; lines that are not JSON objects are counted in `notes`."""
    bad = 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                bad += 1
                continue
            if isinstance(row, dict):
                yield row
            else:
                bad += 1
    if bad:
        note = f"{path.relative_to(root)}: {bad} unreadable line{'s' if bad > 1 else ''} left out"
        if note not in notes:
            notes.append(note)


def mapping(raw: Any) -> Mapping[str, Any]:
    """Return a mapping as it is and an empty one for everything else."""
    return raw if isinstance(raw, dict) else {}


def sequence(raw: Any) -> Sequence[Any]:
    """Return a list as it is and an empty one for everything else."""
    return raw if isinstance(raw, list) else []


def _read_object(path: Path, root: Path, notes: list[str]) -> Mapping[str, Any] | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError):
        raw = None
    if isinstance(raw, dict):
        return raw
    note = f"{path.relative_to(root)}: not a JSON object, left out"
    if note not in notes:
        notes.append(note)
    return None


def _stage(directory: Path, raw: Mapping[str, Any]) -> Stage:
    def text(key: str) -> str:
        value = raw.get(key)
        return "" if value is None else str(value)

    inputs = tuple(
        Input(str(name), str(mapping(ref).get("stage") or name), str(mapping(ref).get("fingerprint") or ""))
        for name, ref in mapping(raw.get("inputs")).items()
    )
    return Stage(
        name=text("stage") or directory.name,
        dir=directory,
        fingerprint=text("fingerprint"),
        kind=text("kind"),
        version=text("version"),
        seed=text("seed"),
        created=text("created"),
        config=mapping(raw.get("config")),
        metrics=mapping(raw.get("metrics")),
        versions=mapping(raw.get("versions")),
        inputs=inputs,
        seconds=finite(raw.get("seconds")),
        memory_mb=finite(raw.get("peak_memory_mb")),
    )


def _index(run_dir: Path, notes: list[str]) -> dict[str, str]:
    """Section -> directory as the newest invocation made or used them; empty without an index."""
    raw = _read_object(run_dir / INDEX, run_dir, notes) if (run_dir / INDEX).is_file() else None
    return {str(section): str(name) for section, name in mapping(mapping(raw).get("stages")).items()}


def _current(found: list[Stage], index: Mapping[str, str]) -> tuple[list[Stage], list[Stage]]:
    """Keep one artifact a section: what the newest evaluations were made from, else what the index names or the newest.

    An evaluation is newest by the index, else by time.
    """
    newest = sorted(found, key=lambda s: (index.get(s.name) == s.dir.name, s.created, s.fingerprint), reverse=True)
    by_print = {s.fingerprint: s for s in found}
    used: set[str] = set()
    last: dict[str, Stage] = {}
    for stage in newest:
        if stage.makes == "results":
            last.setdefault(stage.name, stage)
    open_ends = [s.fingerprint for s in last.values()]
    while open_ends:
        print_ = open_ends.pop()
        if print_ in by_print and print_ not in used:
            used.add(print_)
            open_ends += [i.fingerprint for i in by_print[print_].inputs]
    chosen: dict[str, Stage] = {}
    for stage in sorted(newest, key=lambda s: s.fingerprint not in used):
        chosen.setdefault(stage.name, stage)
    kept = set(map(id, chosen.values()))
    return list(chosen.values()), [s for s in newest if id(s) not in kept]


def _ordered(stages: list[Stage], index: Mapping[str, str]) -> list[Stage]:
    """Sort so that inputs come first, in the order of the index, else of a standard run, where they leave it open."""
    named = list(index)

    def rank(stage: Stage) -> tuple[int, int, str, str]:
        known = named.index(stage.name) if stage.name in index else len(named)
        return (known, place(stage.name), stage.created, stage.name)

    waiting = sorted(stages, key=rank)
    prints = {s.fingerprint for s in stages}
    done: list[Stage] = []
    seen: set[str] = set()
    while waiting:
        ready = (s for s in waiting if all(i.fingerprint in seen or i.fingerprint not in prints for i in s.inputs))
        stage = next(ready, waiting[0])  # a cycle cannot come from a pipeline; then any order will do
        waiting.remove(stage)
        done.append(stage)
        seen.add(stage.fingerprint)
    return done
