"""Runs: stages from input artifacts to one output artifact, skipped when done and continued when killed.

A field of a stage's config that names another stage, a path or a hub id is marked with `input_field`; that is all the
pipeline needs to know to order stages, to fingerprint them and to hand each one its inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field

from accord.artifacts import (
    STAGE_NAME,
    Artifact,
    Workspace,
    commit,
    fingerprint,
    load_artifact,
    open_workspace,
    verify,
)
from accord.config import Config, RunConfig, RunSettings
from accord.errors import AccordError, ConfigError, EngineError, RewardError, TrainingError
from accord.manifest import InputRef
from accord.runlock import lock_run
from accord.storage import MANIFEST, io_errors, remove_leftovers, write_atomic

InputKind = Literal["model", "data"]
LAB = "lab:"
LAB_JUDGES = ("lab:gold",)
INDEX = "run.json"


def input_field(kind: InputKind, default: Any = ..., *, description: str, outside: tuple[str, ...] = ()) -> Any:
    """Declare a config field that names an input: a stage of the run, an artifact, a path, a hub id, or `lab:...`.

    Args:
        kind: what is needed of it.
        default: usually the name of the stage that makes it in a standard run; None = optional.
        description: for --help.
        outside: words, and beginnings that end in `//`, that name something the pipeline does not look for.
    """
    extra: dict[str, Any] = {"input": kind, "outside": list(outside)}
    return Field(default, description=description, json_schema_extra=extra)


@dataclass(frozen=True)
class Input:
    """One resolved input of a stage."""

    ref: str
    """What the config said."""
    path: Path | None
    """File or directory; None for `lab:` and hub references, which are resolved by what they say."""
    fingerprint: str
    """Of the content."""
    artifact: Artifact | None = None
    """Where it comes from a stage."""

    @property
    def location(self) -> str:
        """Path, or the reference itself."""
        return self.ref if self.path is None else str(self.path)


@dataclass(frozen=True)
class Context:
    """What a stage gets beside its config."""

    run: RunSettings
    inputs: Mapping[str, Input]
    """By config field; a field that is a mapping or list gives `field.key`."""
    work: Workspace
    say: Callable[[str], None]
    """Prints one line for the user."""

    def many(self, field: str) -> dict[str, Input]:
        """Inputs of a mapping field, by key."""
        prefix = f"{field}."
        return {k.removeprefix(prefix): v for k, v in self.inputs.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class Stage:
    """A function from input artifacts to one output artifact."""

    name: str
    version: int
    """Raise it when the meaning of the output changes."""
    config: type[Config]
    kind: str
    """Kind of the output, for the manifest."""
    exports: Mapping[InputKind, str]
    """What other stages may take from the output: kind -> file or directory in it."""
    load: Callable[[], Callable[[Any, Context], dict[str, Any]]]
    """Imports the stage's code (torch and all) and returns its run function: (config, context) -> metrics."""
    whole_run: bool = False
    """Depends on everything made before it in the run (the report)."""


def stage_of(section: str, stages: Mapping[str, Stage]) -> Stage | None:
    """The stage a section configures: `ppo`, or `ppo_anything` for a second one in the same run."""
    words = section.split("_")
    names = ("_".join(words[:count]) for count in range(len(words), 0, -1))  # the longest: `online_dpo` has a `_` too
    return next((stages[name] for name in names if name in stages), None)


def section_types(names: Iterable[str], stages: Mapping[str, Stage]) -> dict[str, type[Config]]:
    """Config type of every known section and of every `<stage>_<suffix>` among `names`."""
    types = {name: stage.config for name, stage in stages.items()}
    for name in names:
        stage = stage_of(name, stages)
        if stage is not None:
            types[name] = stage.config
    return types


def input_fields(config: type[Config]) -> dict[str, InputKind]:
    """Fields of a config that name inputs, and what is needed of each."""
    found: dict[str, InputKind] = {}
    for name, field in config.model_fields.items():
        extra: Any = field.json_schema_extra
        if isinstance(extra, dict) and "input" in extra:
            found[name] = cast(InputKind, extra["input"])
    return found


def references(config: Config) -> dict[str, tuple[InputKind, str]]:
    """Inputs a config names: field (or field.key) -> (kind, reference)."""
    found: dict[str, tuple[InputKind, str]] = {}
    for name, kind in input_fields(type(config)).items():
        value: Any = getattr(config, name)
        if isinstance(value, str):
            if not _is_outside(type(config), name, value):
                found[name] = (kind, value)
        elif isinstance(value, Mapping):
            named = cast(Mapping[str, str], value)
            found |= {f"{name}.{key}": (kind, item) for key, item in named.items()}
    return found


def _is_outside(config: type[Config], name: str, value: str) -> bool:
    extra: Any = config.model_fields[name].json_schema_extra
    words = cast(list[str], extra["outside"])
    return any(value.startswith(word) if word.endswith("//") else value == word for word in words)


def order(config: RunConfig, wanted: Iterable[str] | None = None) -> list[str]:
    """Sections in an order in which every stage comes after its inputs.

    Args:
        config: the run.
        wanted: only these and what they need; None = all.

    Raises:
        ConfigError: a stage needs itself, directly or through others.
    """
    done: list[str] = []

    def visit(section: str, path: tuple[str, ...]) -> None:
        if section in path:
            cycle = " -> ".join([*path, section])
            raise ConfigError(
                f"stages need each other in a circle: {cycle}",
                where=str(config.path),
                fix="let one of them start from something else",
            )
        if section in done:
            return
        for _, reference in references(config.sections[section]).values():
            maker = reference.partition(":")[0]
            if maker in config.sections:
                visit(maker, (*path, section))
        done.append(section)

    for section in config.sections if wanted is None else wanted:
        visit(section, ())
    return done


def hash_path(path: Path) -> str:
    """SHA-256 over the content of a file, or of all files of a directory with their relative names."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def resolve(
    section: str, config: RunConfig, stages: Mapping[str, Stage], made: Mapping[str, Artifact]
) -> dict[str, Input]:
    """Find every input of a section.

    Raises:
        ConfigError: a reference is no stage of the run, no path and cannot be a hub id, or a stage does not make what
            is asked of it.
    """
    inputs: dict[str, Input] = {}
    for field, (kind, reference) in references(config.sections[section]).items():
        where = f"{config.path}: {section}.{field}"
        if not reference.strip():
            raise ConfigError(f"{section}.{field} is empty", where=where, fix="name a stage, a path or a hub id")
        base = config.path.parent
        local = next(
            (p for p in (base / Path(reference).expanduser(), Path(reference).expanduser()) if p.exists()), None
        )
        maker, _, part = reference.partition(":")
        if maker in made:
            inputs[field] = _from_artifact(made[maker], reference, kind, stages, where, part)
        elif reference.startswith(LAB):
            if kind == "model" and reference not in LAB_JUDGES:
                raise ConfigError(
                    f"the lab has no model '{reference}'",
                    where=where,
                    fix=f"name a stage, a directory or a hub id; as a judge, {' or '.join(LAB_JUDGES)}",
                )
            inputs[field] = Input(reference, None, hashlib.sha256(reference.encode()).hexdigest())
        elif local is not None and (local / MANIFEST).is_file():
            inputs[field] = _from_artifact(load_artifact(local), reference, kind, stages, where)
        elif local is not None:
            with io_errors("read the input", local):
                inputs[field] = Input(reference, local, hash_path(local))
        elif maker in stages or _looks_like_path(reference):
            raise ConfigError(
                f"'{reference}' is neither a stage of this run nor an existing path",
                where=where,
                fix=f"add a section '{maker}:' or give a path" if maker in stages else "check the path",
            )
        else:
            inputs[field] = Input(reference, None, hashlib.sha256(f"hub:{reference}".encode()).hexdigest())
    return inputs


def _looks_like_path(reference: str) -> bool:
    return reference.startswith((".", "/", "~")) or reference.count("/") != 1


def _from_artifact(
    artifact: Artifact, reference: str, kind: InputKind, stages: Mapping[str, Stage], where: str, part: str = ""
) -> Input:
    """The export of an artifact; `stage:part` names another file of it, `part.jsonl`."""
    stage = stage_of(artifact.stage, stages)
    if part:
        parts = sorted(path.stem for path in artifact.dir.glob("*.jsonl"))
        if part not in parts:
            raise ConfigError(
                f"the {artifact.stage} stage made no '{part}'", where=where, fix=f"choose one of {', '.join(parts)}"
            )
        path = artifact.path(f"{part}.jsonl")
        mark = hashlib.sha256(f"{artifact.fingerprint}:{part}".encode()).hexdigest()
        return Input(reference, path, mark, artifact)
    export = stage.exports.get(kind) if stage else None
    if export is None:
        raise ConfigError(f"stage '{artifact.stage}' makes no {kind}", where=where, fix="name another stage")
    return Input(reference, artifact.path(export), artifact.fingerprint, artifact)


def run_pipeline(
    config: RunConfig,
    stages: Mapping[str, Stage],
    *,
    only: str | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Artifact]:
    """Run every section of `config` that is not done, or one section and what it needs.

    Args:
        config: the run.
        stages: every known stage by name.
        only: a section; None = all.
        say: prints one line for the user.

    Returns:
        The artifacts by section.

    Raises:
        AccordError: whatever a stage raises; what is done stays done, and what is begun continues next time.
    """
    run_dir = Path(config.run.dir) / config.run.name
    made: dict[str, Artifact] = {}
    sections = order(config, None if only is None else [only])
    if not sections:
        raise ConfigError(
            "the config has no stage to run", where=str(config.path), fix=f"add a section: {', '.join(stages)}"
        )
    known = {section: _known_stage(section, config, stages) for section in sections}
    with lock_run(run_dir):
        with io_errors("clear the run directory", run_dir):
            remove_leftovers(run_dir, ".trash-*")  # also of an attempt that was killed after its last stage was done
        for section, stage in known.items():
            made[section] = _run_stage(section, stage, config, stages, made, run_dir, say)
            _write_index(run_dir, made)
    return made


def _known_stage(section: str, config: RunConfig, stages: Mapping[str, Stage]) -> Stage:
    stage = stage_of(section, stages)
    if stage is None or not STAGE_NAME.fullmatch(section):
        raise ConfigError(
            f"'{section}' is not a stage",
            where=str(config.path),
            fix=f"use {', '.join(stages)}; for a second one of a kind add _ and letters, digits, _ or -",
        )
    return stage


def _run_stage(
    section: str,
    stage: Stage,
    config: RunConfig,
    stages: Mapping[str, Stage],
    made: Mapping[str, Artifact],
    run_dir: Path,
    say: Callable[[str], None],
) -> Artifact:
    settings = config.sections[section]
    inputs = resolve(section, config, stages, made)
    hashes = {field: value.fingerprint for field, value in inputs.items()}
    if stage.whole_run:
        hashes |= {f"run.{name}": artifact.fingerprint for name, artifact in made.items()}
    print_ = fingerprint(section, stage.version, settings, config.run.seed, hashes)
    work = open_workspace(run_dir, section, print_)
    if isinstance(work, Artifact):
        say(f"{section}: done before ({work.dir.name})")
        return work
    say(f"{section}: {'continuing' if work.resumed else 'starting'}")
    for artifact in {a.dir: a for value in inputs.values() if (a := value.artifact)}.values():
        verify(artifact)
    try:
        with io_errors(f"go on with {section}", work.dir):
            metrics = stage.load()(settings, Context(config.run, inputs, work, say))
    except AccordError as error:
        # Deep code knows the prompt or the step at which it failed, but not on whose behalf.
        named = error.where is not None and not isinstance(error, EngineError | RewardError | TrainingError)
        if named:
            raise
        where = f"{config.path}: {section}" + (f", {error.where}" if error.where else "")
        raise type(error)(error.what, where=where, fix=error.fix) from error
    refs = {
        field: value.artifact or InputRef(stage="external", fingerprint=value.fingerprint, path=value.location)
        for field, value in inputs.items()
    }
    artifact = commit(
        work,
        kind=stage.kind,
        version=stage.version,
        config=settings,
        seed=config.run.seed,
        inputs=refs,
        metrics=metrics,
    )
    say(f"{section}: done in {artifact.manifest.seconds:.1f} s ({artifact.dir.name})")
    return artifact


def _write_index(run_dir: Path, made: Mapping[str, Artifact]) -> None:
    """Say which artifacts were made or used last; variants of a stage may lie beside each other."""
    known: dict[str, str] = {}
    if (run_dir / INDEX).is_file():
        known = json.loads((run_dir / INDEX).read_text(encoding="utf-8")).get("stages", {})
        known = {section: name for section, name in known.items() if (run_dir / name / MANIFEST).is_file()}
    index = {"stages": {**known, **{section: artifact.dir.name for section, artifact in made.items()}}}
    write_atomic(run_dir / INDEX, json.dumps(index, indent=1).encode())


def plan(config: RunConfig, stages: Mapping[str, Stage]) -> list[tuple[str, Stage, dict[str, tuple[InputKind, str]]]]:
    """Sections in order, with their stage and what they refer to."""
    found: list[tuple[str, Stage, dict[str, tuple[InputKind, str]]]] = []
    for section in order(config):
        stage = _known_stage(section, config, stages)
        found.append((section, stage, references(config.sections[section])))
    return found
