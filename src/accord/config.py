"""Run configs: one YAML file, one typed section a stage, dotted overrides, every mistake with its line.

A stage declares `class PpoConfig(Config)`; `load_run_config` reads the file against the sections it is given
and reports all problems at once, an unknown key together with the nearest valid one.
"""

from __future__ import annotations

import difflib
import importlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined, to_json, to_jsonable_python

from accord.errors import ConfigError
from accord.yamlfile import Source, Where, dump_yaml, load_yaml, parse_value


class Config(BaseModel):
    """Base of all configs: immutable, finite numbers, no unknown keys, a docstring below each field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )


class RunSettings(Config):
    """What belongs to the run as a whole: the `run` section."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Directory name of the run; the config file's name when not given."""
    dir: str = Field(default="runs", min_length=1)
    """Directory that holds all runs, relative to where the command is started."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Every random stream of the run derives from it."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads for tensor work; null means all cores. Results are bit-identical only for equal counts."""
    description: str = ""
    """Free text, shown in the report."""

    @property
    def path(self) -> Path:
        """The run directory."""
        return Path(self.dir) / self.name


class Rounds(Config):
    """Repeat some stages of the run with the policy they made: the `rounds` section.

    Round 1 is the sections as they are written. Round k is copies of them named `<section>_<k>`, whose inputs lead to
    what rounds k and k - 1 made; a section of that name in the file changes single keys of that round.
    """

    count: int = Field(ge=1, le=99)
    """How many rounds, the first one included."""
    stages: tuple[str, ...] = Field(min_length=1)
    """Sections that are repeated, e.g. `[sample, collect, reward, ppo]`."""
    policy: str | None = None
    """Section whose model the next round draws replies from; null = the last of `stages` that makes a policy."""
    labels: Literal["all", "new"] = "all"
    """all: what `collect` makes in round k holds the preferences of the rounds before it too; new: only its own."""
    prompts: Literal["same", "next"] = "same"
    """next: each round draws replies to the `num_prompts` prompts after those of the round before."""
    continued: tuple[str, ...] = ()
    """Policies that go on from the weights of the round before, which are then also their reference. Others start from
    the same model every round, and the KL of all rounds is measured from there."""

    @field_validator("stages", "continued")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a section is named twice")
        return names

    @model_validator(mode="after")
    def _names_are_repeated(self) -> Rounds:
        for name in (*self.continued, *([self.policy] if self.policy else [])):
            if name not in self.stages:
                raise ValueError(f"'{name}' is not one of the stages that are repeated: {', '.join(self.stages)}")
        return self


@dataclass(frozen=True)
class RunConfig:
    """A whole run, resolved: every default filled in."""

    path: Path = field(compare=False)
    """File it was read from."""
    run: RunSettings
    """The `run` section."""
    sections: dict[str, Config]
    """The other sections, in the order of the file."""
    rounds: Rounds | None = None
    """The `rounds` section; the sections it stands for are among `sections` already."""


class Row(NamedTuple):
    """One documented key of a config."""

    name: str
    """Dotted for keys of nested sections."""
    type: str
    """Type and range, e.g. `float >= 0`."""
    default: str
    """As written in YAML; empty when the key is required."""
    description: str
    """Meaning, unit and source of the default."""


Sections = Mapping[str, type[Config]]
"""Config class of each known section."""


def load_run_config(
    path: Path, overrides: Sequence[str], sections: Sections | Callable[[Source, Rounds | None], Sections]
) -> RunConfig:
    """Read, override and validate a run config.

    Args:
        path: YAML file; top-level keys are `run`, `rounds` and names from `sections`; an empty section means defaults.
        overrides: `section.key=value` each, the value in YAML; applied in order, and may add a section.
        sections: the config class of each known section; or what finds them out from the file with its overrides and
            writes the sections that rounds stand for into it.

    Returns:
        The resolved config.

    Raises:
        ConfigError: listing every problem with its file and line (or the override it came from).
    """
    source = load_yaml(path)
    for override in overrides:
        _apply(source, override)
    problems: list[tuple[str, str]] = []
    rounds = validate_section(Rounds, "rounds", source, problems) if "rounds" in source.data else None
    if problems:
        raise _report(problems, path)
    assert rounds is None or isinstance(rounds, Rounds)
    known = {"run": RunSettings, "rounds": Rounds, **(sections(source, rounds) if callable(sections) else sections)}
    for name in source.data:
        if name not in known:
            where = source.where((name,))
            problems.append((where, f"unknown section {name!r}{_nearest(name, known)}"))
    _default_name(source, path)
    resolved: dict[str, Config] = {}
    for name in ("run", *(name for name in source.data if name not in ("run", "rounds") and name in known)):
        found: list[tuple[str, str]] = []
        value = validate_section(known[name], name, source, found)
        # A line that is wrong is wrong in every round; saying it once is enough.
        said = {where for where, _ in problems}
        problems += [(where, message) for where, message in found if where not in said]
        if value is not None:
            resolved[name] = value
    if problems:
        raise _report(problems, path)
    run = resolved.pop("run")
    assert isinstance(run, RunSettings)
    return RunConfig(path, run, resolved, rounds)


def validate_section(model: type[Config], name: str, source: Source, problems: list[tuple[str, str]]) -> Config | None:
    """Validate one section of `source`; append (position, message) of each problem and return None if any."""
    data = source.data.get(name)
    if data is not None and not isinstance(data, dict):
        problems.append((source.where((name,)), f"section {name!r} must be a mapping of keys, got {_show(data)}"))
        return None
    try:
        # Through JSON: the strict mode in which text is not a number and yet a list may be a tuple.
        return model.model_validate_json(to_json(data or {}, inf_nan_mode="constants"), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            place, message = _explain(detail, model, name)
            problems.append((source.where(place), message))
        return None


def dump(config: RunConfig) -> str:
    """Return the resolved config as YAML; loading it gives an equal RunConfig."""
    sections: dict[str, Config] = {"run": config.run, **config.sections}
    if config.rounds is not None:
        sections = {"run": config.run, "rounds": config.rounds, **config.sections}
    return dump_yaml({name: value.model_dump(mode="json") for name, value in sections.items()})


def describe(model: type[Config], prefix: str = "") -> list[Row]:
    """Return one row for each key of a config class, nested configs flattened with dots.

    Args:
        model: the config class.
        prefix: put before each name, e.g. ``"ppo."``.
    """
    rows: list[Row] = []
    for key, info in model.model_fields.items():
        inner = _model_of(info.annotation)
        if inner is not None and info.annotation is inner:
            rows.extend(describe(inner, f"{prefix}{key}."))
            continue
        rows.append(
            Row(
                prefix + key,
                _type_text(info),
                _default_text(info),
                " ".join((info.description or "").split()),
            )
        )
    return rows


def load_object(spec: str) -> Any:
    """Import what `module:name` names; the only dynamic import of Accord.

    Args:
        spec: e.g. ``"my_project.rewards:politeness"``; the name may be dotted.

    Raises:
        ConfigError: when the spec is malformed, the module cannot be imported, or it has no such name.
    """
    module_name, _, name = spec.partition(":")
    words = [*module_name.split("."), *name.split(".")]
    if not all(word.isidentifier() for word in words):
        raise ConfigError(f"{spec!r} does not name an object", fix="write `package.module:name`")
    try:
        found: Any = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise ConfigError(
            f"cannot import {module_name!r}: {error}",
            where=spec,
            fix="install the package, or put the directory that holds it on PYTHONPATH",
        ) from error
    for word in name.split("."):
        if not hasattr(found, word):
            names = [known for known in dir(found) if not known.startswith("_")]
            raise ConfigError(f"{module_name!r} has no {name!r}{_nearest(word, names)}", where=spec)
        found = getattr(found, word)
    return found


def _apply(source: Source, override: str) -> None:
    where = f"override {override!r}"
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError("an override must look like section.key=value", where=where)
    source.set(path, parse_value(text, where), where)


def _default_name(source: Source, path: Path) -> None:
    run = source.data.get("run")
    if run is None or (isinstance(run, dict) and "name" not in run):
        source.set(("run", "name"), path.stem, f"{path} (its name, because run.name is not given)")


def _report(problems: list[tuple[str, str]], path: Path) -> ConfigError:
    if len(problems) == 1:
        where, message = problems[0]
        return ConfigError(message, where=where)
    listed = "".join(f"\n  {where}: {message}" for where, message in problems)
    return ConfigError(f"{len(problems)} problems in the config{listed}", where=str(path))


def _explain(detail: ErrorDetails, model: type[Config], section: str) -> tuple[Where, str]:
    """Position and message of one pydantic error, in the words of the file."""
    owner: type[BaseModel] | None = model
    place: list[str | int] = [section]
    for part in detail["loc"][:-1]:
        info = owner.model_fields.get(str(part)) if owner else None
        owner = _model_of(info.annotation) if info else owner
        place.append(part)
    place.extend(detail["loc"][-1:])
    name = ".".join(map(str, place))
    kind, got = detail["type"], _show(detail["input"])
    if kind == "extra_forbidden":
        parent = ".".join(map(str, place[:-1]))
        keys = owner.model_fields if owner else ()
        return tuple(place), f"unknown key {place[-1]!r} in section {parent!r}{_nearest(str(place[-1]), keys)}"
    if kind == "missing":
        return tuple(place[:-1]), f"{name} is required"
    message = detail["msg"].removeprefix("Value error, ")
    if kind in {"value_error", "assertion_error"} and len(place) == 1:
        return tuple(place), f"{section}: {message}"
    return tuple(place), f"{name}: {message[:1].lower()}{message[1:]}, got {got}"


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(names[:40])})" if names else ""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The annotation itself, or the members of a union or container, innermost first."""
    if get_origin(annotation) is not None and get_origin(annotation) is not Literal:
        for argument in get_args(annotation):
            yield from _alternatives(argument)
    else:
        yield annotation


def _model_of(annotation: Any) -> type[Config] | None:
    found = [part for part in _alternatives(annotation) if isinstance(part, type) and issubclass(part, Config)]
    return found[0] if found else None


_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "max_length": "length <="}


def _type_text(info: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(item, name)}"
        for item in info.metadata
        for name, sign in _SIGNS.items()
        if getattr(item, name, None) is not None
    ]
    return " ".join([_annotation_text(info.annotation), ", ".join(bounds)]).strip()


def _annotation_text(annotation: Any) -> str:
    origin = get_origin(annotation)
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if origin is Annotated:
        return _annotation_text(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return " | ".join(_annotation_text(part) for part in get_args(annotation))
    if origin in (tuple, list, Sequence):
        return "list of " + _annotation_text(get_args(annotation)[0])
    if origin in (dict, Mapping):
        return "mapping of " + " to ".join(_annotation_text(part) for part in get_args(annotation))
    return {str: "text", Path: "path"}.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default_text(info: FieldInfo) -> str:
    default: Any = info.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return ""
    text = dump_yaml({"value": to_jsonable_python(default)})
    return text.removeprefix("value:").strip()
