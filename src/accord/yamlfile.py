"""YAML with positions: every value knows the file and line it was written on.

Differences from plain PyYAML, all on purpose: scalars follow YAML 1.2 (`1e-5` is a number; `on`, `off`,
`yes`, `no`, `1:30` and dates are text; `010` is ten); a duplicate key is an error; anchors, aliases, merge
keys and tags that build objects are refused, so that what is written is what is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
import yaml.composer
import yaml.reader

from accord.errors import ConfigError

Where = tuple[str | int, ...]
"""Path of a value: keys and list indices from the top."""

_PREFIX = "tag:yaml.org,2002:"
_SCALARS = {
    "null": re.compile(r"(?:~|null|Null|NULL|)"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)"),
    "int": re.compile(r"(?:[-+]?[0-9][0-9_]{0,40}|0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40})"),
    "float": re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
    ),
}
_WHOLE = re.compile(r"[-+]?[0-9]+[eE]\+?[0-9]{1,2}")


class _Loader(yaml.SafeLoader):
    """Composes nodes with YAML 1.2 scalars and without aliases; nothing is constructed by it."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own protocol)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = cast(Any, self).peek_event()
        if getattr(event, "anchor", None):  # aliases have one too
            problem = "anchors and aliases are not supported; write the value out"
            raise yaml.composer.ComposerError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either YAML 1.1 or our loader would take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  (PyYAML's own protocol)
        return True


for _resolver in cast(list[Any], [_Loader, _Dumper]):
    for _name, _pattern in _SCALARS.items():
        _resolver.add_implicit_resolver(_PREFIX + _name, re.compile(rf"^(?:{_pattern.pattern})\Z"), None)


@dataclass
class Source:
    """Plain data and where each part of it was written."""

    data: dict[str, Any]
    """The top-level mapping."""
    lines: dict[Where, str] = field(default_factory=dict[Where, str])
    """`file:line` of each value (of its key, inside a mapping)."""

    def where(self, path: Where) -> str:
        """Return the position of `path`, or of its closest parent that was written down."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, "the defaults")

    def set(self, path: Where, value: Any, where: str) -> None:
        """Put `value` at a path of keys, making the mappings on the way.

        Raises:
            ConfigError: when the path goes through something that is not a mapping.
        """
        here: dict[str, Any] = self.data
        for depth, key in enumerate(path[:-1], start=1):
            inner: Any = here.get(str(key))
            if inner is None:
                inner = here[str(key)] = {}
                self.lines[path[:depth]] = where
            if not isinstance(inner, dict):
                name = ".".join(map(str, path[:depth]))
                raise ConfigError(f"{name!r} is not a mapping, it has no keys to set", where=where)
            here = cast(dict[str, Any], inner)
        here[str(path[-1])] = value
        for old in [old for old in self.lines if old[: len(path)] == path]:
            del self.lines[old]
        self.lines[path] = where


def load_yaml(path: Path) -> Source:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: when it is missing, not a file, not readable, not UTF-8, empty, not valid YAML, has a
            duplicate key, an anchor or a tag, or when its top level is not a mapping.
    """
    text = _read(path)
    node = _compose(text, str(path))
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _PREFIX + "null"):
        raise ConfigError("the config file is empty", where=str(path), fix="`accord init DIR` writes a commented one")
    if not isinstance(node, yaml.MappingNode):
        found = "list" if isinstance(node, yaml.SequenceNode) else "single value"
        raise ConfigError(
            f"the top level must be a mapping of sections, found a {found}",
            where=f"{path}:{node.start_mark.line + 1}",
            fix="write `section:` and indent its keys below it",
        )
    lines: dict[Where, str] = {(): str(path)}
    return Source(_plain(node, (), str(path), lines), lines)


def parse_value(text: str, where: str) -> Any:
    """Read one YAML value, as given on the command line; nothing at all means null.

    Raises:
        ConfigError: when it is not valid YAML.
    """
    node = _compose(text, where)
    return None if node is None else _plain(node, (), where, {})


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Return YAML that `load_yaml` reads back as equal data, keys in their order."""
    return yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _read(path: Path) -> str:
    fix = "give the path of a YAML file; `accord init DIR` writes a commented one"
    if not path.exists():
        raise ConfigError("the config file does not exist", where=str(path), fix=fix)
    if not path.is_file():
        raise ConfigError("the config path is not a file", where=str(path), fix=fix)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the config file cannot be read: {error.strerror}", where=str(path)) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"the config file is not UTF-8 (byte 0x{raw[error.start]:02x})",
            where=f"{path}:{line}",
            fix="save it as UTF-8",
        ) from error


def _compose(text: str, name: str) -> yaml.Node | None:
    fix = None
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        problem = str(error.problem or error.context or "syntax error")
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        if mark and "\t" in "".join(text.split("\n")[mark.line : mark.line + 1]):
            fix = "indent with spaces, YAML does not allow tabs"
    except yaml.reader.ReaderError as error:
        problem = f"character {error.character!r} is not allowed"
        where = f"{name}:{text.count(chr(10), 0, error.position) + 1}"
    except RecursionError:
        problem, where = "nested too deeply", name
    raise ConfigError(f"not valid YAML: {problem}", where=where, fix=fix)


def _plain(node: yaml.Node, path: Where, name: str, lines: dict[Where, str]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, f"{name}:{line}")
    if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
        return _mapping(node, path, name, lines)
    if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
        return [_plain(item, (*path, index), name, lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        kind = node.tag.removeprefix(_PREFIX)
        if kind == "str" or (kind in _SCALARS and _SCALARS[kind].fullmatch(node.value)):
            return _scalar(kind, node.value)
    raise ConfigError(
        f"{node.tag!r} is not supported here",
        where=f"{name}:{line}",
        fix="write a plain value, list or mapping",
    )


def _mapping(node: yaml.MappingNode, path: Where, name: str, lines: dict[Where, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError("a key must be a single word", where=f"{name}:{line}")
        key = str(key_node.value)
        if key in found:
            raise ConfigError(
                f"duplicate key {key!r}: first on line {first[key]}, again on line {line}",
                where=f"{name}:{line}",
                fix="keep one of them",
            )
        first[key] = line
        lines[(*path, key)] = f"{name}:{line}"
        found[key] = _plain(value_node, (*path, key), name, lines)
    return found


def _scalar(kind: str, text: str) -> Any:
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            digits = text.replace("_", "")
            base = 8 if digits.startswith("0o") else 16 if digits.startswith("0x") else 10
            return int(digits, base)
        case "float":
            # `total_episodes: 1e5` means a whole number; where a float is wanted, an int is fine too.
            if _WHOLE.fullmatch(text):
                mantissa, exponent = text.lower().split("e")
                return int(mantissa) * 10 ** int(exponent)
            if text.lstrip("+-").lower() in {".inf", ".nan"}:
                return float(text.replace(".", ""))
            return float(text.replace("_", ""))
        case _:
            return text
