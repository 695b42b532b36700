"""Where everything came from: lineage, time, memory, versions, and what to type to get the same run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from accord.report.formats import MISSING, duration, finite, memory, number
from accord.report.lineage import Node, bundled, lineage
from accord.report.names import model_name, told
from accord.report.runfiles import Input, Run, Stage

_CONFIG_LIMIT = 4000


@dataclass(frozen=True)
class StageRow:
    """One stage in the tables."""

    name: str
    told: str
    slot: int
    fingerprint: str
    made_from: tuple[str, ...]
    result: str
    seconds: str
    seconds_share: float
    """Of the longest stage."""
    memory: str
    memory_share: float
    seed: str
    version: str
    created: str
    config: str


@dataclass(frozen=True)
class Provenance:
    """The sections on pipeline, cost, environment and reproduction."""

    rows: tuple[StageRow, ...]
    drawing: Markup | None
    total: str
    peak: str
    versions: tuple[tuple[str, str], ...]
    superseded: tuple[str, ...]
    config_text: str


def read_provenance(run: Run) -> Provenance:
    """Collect what the manifests tell about the making of the run."""
    longest = max((s.seconds or 0.0 for s in run.stages), default=0.0) or 1.0
    most = max((s.memory_mb or 0.0 for s in run.stages), default=0.0) or 1.0
    prints = {s.fingerprint: s.name for s in run.stages}
    timed = [s.seconds for s in run.stages if s.seconds is not None]
    return Provenance(
        rows=tuple(
            StageRow(
                name=model_name(s.name),
                told=told(s.name, s.kind),
                slot=run.slots[s.name],
                fingerprint=s.fingerprint,
                made_from=tuple(
                    f"{model_name(prints.get(x.fingerprint, x.stage))} {x.fingerprint[:8]}" for x in s.inputs
                ),
                result=_result(s.metrics),
                seconds=duration(s.seconds),
                seconds_share=(s.seconds or 0.0) / longest,
                memory=memory(s.memory_mb),
                memory_share=(s.memory_mb or 0.0) / most,
                seed=s.seed or MISSING,
                version=s.version or MISSING,
                created=s.created[:19].replace("T", " ") or MISSING,
                config=_pretty(s.config),
            )
            for s in run.stages
        ),
        drawing=_drawing(run),
        total=duration(sum(timed)) if timed else MISSING,
        peak=memory(max((s.memory_mb for s in run.stages if s.memory_mb is not None), default=None)),
        versions=_versions(run.stages),
        superseded=tuple(f"{s.name} {s.fingerprint[:8]}" for s in run.superseded),
        config_text=run.config_text,
    )


def _drawing(run: Run) -> Markup | None:
    if not run.stages:
        return None
    known = {s.fingerprint for s in run.stages}
    outside: dict[str, Node] = {}
    nodes: list[Node] = []
    edges: list[tuple[str, str]] = []
    for s in run.stages:
        for x in s.inputs:
            key = x.fingerprint if x.fingerprint in known else f"outside {x.stage} {x.fingerprint}"
            if key not in known and key not in outside:
                outside[key] = Node(key, _outside_name(x), ("from elsewhere", x.fingerprint[:8]), outside=True)
                nodes.append(outside[key])
            if (key, s.fingerprint) not in edges:
                edges.append((key, s.fingerprint))
        cost = (words for words in (duration(s.seconds), memory(s.memory_mb)) if words != MISSING)
        nodes.append(Node(s.fingerprint, model_name(s.name), (s.fingerprint[:8], *cost), run.slots[s.name]))
    nodes, edges = bundled(nodes, edges)
    return lineage(nodes, edges, title=f"Pipeline of the run {run.name}")


def _outside_name(source: Input) -> str:
    """What an artifact of elsewhere is called: its stage, or what it is used as."""
    return source.name.partition(".")[0] if source.stage == "external" else model_name(source.stage)


def _result(metrics: Mapping[str, Any]) -> str:
    """The first three numbers a stage reported about itself."""
    told = [f"{name} {number(value)}" for name, value in metrics.items() if finite(value) is not None]
    return ", ".join(told[:3]) or MISSING


def _pretty(config: Mapping[str, Any]) -> str:
    written = json.dumps(config, indent=2, ensure_ascii=False, default=str)
    return written if len(written) <= _CONFIG_LIMIT else written[:_CONFIG_LIMIT] + "\n\u2026"


def _versions(stages: list[Stage]) -> tuple[tuple[str, str], ...]:
    """Merge the versions; where stages differ, say which stage had which."""
    by_name: dict[str, dict[str, list[str]]] = {}
    for s in stages:
        for name, value in s.versions.items():
            by_name.setdefault(str(name), {}).setdefault(str(value), []).append(s.name)
    merged: list[tuple[str, str]] = []
    for name, values in by_name.items():
        if len(values) == 1:
            merged.append((name, next(iter(values))))
        else:
            merged.append((name, "; ".join(f"{value} ({', '.join(who)})" for value, who in values.items())))
    return tuple(merged)
