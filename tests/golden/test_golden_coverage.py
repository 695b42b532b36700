"""Every golden key is used by a golden test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from golden_file import ENTRIES

HERE = Path(__file__).parent
PARAMETER = re.compile(r"[0-9.]+|[WLT]+")
NAME = re.compile(r"[a-z]+/\S+")


def strings(tree: ast.AST) -> Iterator[ast.AST]:
    """String constants and f-strings of a file, docstrings left out."""
    for node in ast.walk(tree):
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.JoinedStr):
            yield node
        elif not isinstance(node, ast.Expr):
            yield from (child for child in children if isinstance(child, ast.Constant))


def keys_named_in(source: str, keys: set[str]) -> set[str]:
    """The keys that a file names: whole, or without the number at the end, or as an f-string of its constants."""
    tree = ast.parse(source)
    nodes = list(strings(tree))
    constants = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
    found = constants & keys
    # A name without its parameter, for files that look for the entry whatever the parameter is.
    found |= {key for key in keys for name in constants if "/" in name and PARAMETER.fullmatch(key.removeprefix(name))}
    for node in nodes:
        if not isinstance(node, ast.JoinedStr):
            continue
        pattern = "".join(
            re.escape(str(part.value)) if isinstance(part, ast.Constant) else "(.*)" for part in node.values
        )
        for key in keys:
            match = re.fullmatch(pattern, key)
            if match and "/" in pattern.partition("(.*)")[0] and constants.issuperset(match.groups()):
                found.add(key)
    return found


def test_every_golden_key_is_used() -> None:
    keys = set(ENTRIES)
    used: set[str] = set()
    for path in sorted(HERE.glob("*.py")):
        if path != Path(__file__):
            used |= keys_named_in(path.read_text(encoding="utf-8"), keys)
    assert sorted(keys - used) == [], "write a test of these entries, or remove what nobody computes"
    assert len(keys) > 100


def test_no_golden_test_asks_for_a_key_that_is_not_there() -> None:
    groups = {key.partition("/")[0] for key in ENTRIES}
    unknown = {
        str(node.value)
        for path in sorted(HERE.glob("test_*.py"))
        if path != Path(__file__)
        for node in strings(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and NAME.fullmatch(str(node.value))
        and str(node.value).partition("/")[0] in groups
    }
    assert sorted(name for name in unknown - set(ENTRIES) if not any(key.startswith(name) for key in ENTRIES)) == []


@pytest.mark.parametrize(
    "source, named",
    [
        ('entry("a/x")', {"a/x"}),
        ('"""About a/x."""', set()),
        ('def f():\n    """a/x"""', set()),
        ('entry(f"a/{kind}")', set()),
        ('for kind in ("x", "y"): entry(f"a/{kind}")', {"a/x", "a/y"}),
        ('for kind in ("a/x", 3): entry(f"{kind}")', {"a/x"}),
        ('[name for name in ENTRIES if name.startswith("a/z_eps")]', {"a/z_eps0.1"}),
        ("for n in (1, 2): entry(f'b/n{n}_m')", {"b/n1_m"}),
    ],
)
def test_the_check_itself(source: str, named: set[str]) -> None:
    assert keys_named_in(source, {"a/x", "a/y", "b/n1_m", "a/z_eps0.1"}) == named
