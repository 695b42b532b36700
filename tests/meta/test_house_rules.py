"""The house rules that a program can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

Node = TypeVar("Node", bound=ast.AST)
ROOT = Path(__file__).parents[2]
SOURCE = sorted((ROOT / "src" / "accord").rglob("*.py"))
PYTHON = SOURCE + sorted((ROOT / "tests").rglob("*.py"))
MAX_LINES = 400
BROAD_EXCEPT_ALLOWED = ("rewards/", "serve/", "collect/", "sandbox/inside/", "evals/scorers.py")
"""The reward combiner, the web boundary, the sandbox and scorers may catch everything a stranger's code raises."""

UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b")
BAD_NAME = re.compile(r"^_?(?:Base[A-Z]\w*|\w*(?:Manager|Helper|Utils?|Handler))$")
BAD_FILES = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py", "base_trainer.py"}
UNPICKLING = re.compile(r"^\s*(?:import|from) (?:pickle|joblib|cloudpickle|dill)\b|allow_pickle=True", re.M)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path, kind: type[Node]) -> list[Node]:
    """Nodes of a kind in a file, at any depth."""
    return [node for node in ast.walk(tree(path)) if isinstance(node, kind)]


def public_definitions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in module.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        overload = "overload" in [ast.unparse(decorator) for decorator in node.decorator_list]
        if not node.name.startswith("_") and not overload:
            yield node


def test_there_is_something_to_check() -> None:
    assert len(SOURCE) > 10


def test_files_are_short() -> None:
    counts = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON}
    assert {name: count for name, count in counts.items() if count > MAX_LINES} == {}


def test_files_and_classes_say_what_they_are() -> None:
    assert [relative(path) for path in PYTHON if path.name in BAD_FILES] == []
    found = [
        f"{relative(path)}:{node.lineno} {node.name}"
        for path in SOURCE
        for node in nodes(path, ast.ClassDef)
        if BAD_NAME.match(node.name)
    ]
    assert found == []


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{relative(path)}:{number} {line.strip()}"
        for path in SOURCE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_python_files_are_ascii() -> None:
    found = [
        f"{relative(path)}:{number} {line.strip()!r}"
        for path in PYTHON
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if not line.isascii()
    ]
    assert found == []


def test_public_things_have_docstrings() -> None:
    found = []
    for path in SOURCE:
        module = tree(path)
        if module.body and not ast.get_docstring(module):  # a package file without a line says nothing
            found.append(relative(path))
        found += [
            f"{relative(path)}:{node.lineno} {node.name}"
            for node in public_definitions(module)
            if not ast.get_docstring(node)
        ]
    assert found == []


def test_config_fields_are_described() -> None:
    """A string below the field, or `description=` in it: `--help` and the docs are made from these."""
    found = []
    for path in SOURCE:
        for node in nodes(path, ast.ClassDef):
            if "Config" not in [ast.unparse(base) for base in node.bases]:
                continue
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                if not isinstance(field, ast.AnnAssign) or ast.unparse(field.annotation).startswith("ClassVar"):
                    continue
                below = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if not below and "description=" not in ast.unparse(field):
                    found.append(f"{relative(path)}:{field.lineno} {ast.unparse(field.target)}")
    assert found == []


def test_errors_are_caught_by_name() -> None:
    found = []
    for path in SOURCE:
        inside = path.relative_to(ROOT / "src" / "accord").as_posix()
        if inside.startswith(BROAD_EXCEPT_ALLOWED):
            continue
        for node in nodes(path, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            if re.search(r"\b(?:everything|Exception|BaseException)\b", caught):
                found.append(f"{relative(path)}:{node.lineno} catches {caught}")
    assert found == []


def test_nothing_foreign_is_unpickled() -> None:
    found = [relative(path) for path in SOURCE if UNPICKLING.search(path.read_text(encoding="utf-8"))]
    for path in SOURCE:
        for node in nodes(path, ast.Call):
            loads = isinstance(node.func, ast.Attribute) and node.func.attr == "load"
            if loads and ast.unparse(node.func) == "torch.load" and "weights_only=True" not in ast.unparse(node):
                found.append(f"{relative(path)}:{node.lineno} torch.load")
    assert found == []


@pytest.mark.parametrize("word", ["breakpoint", "print"])
def test_no_stray_output(word: str) -> None:
    """Only the command line, the progress display and the report write to a terminal."""
    found = [
        f"{relative(path)}:{node.lineno}"
        for path in SOURCE
        if not relative(path).startswith(("src/accord/cli", "src/accord/progress.py", "src/accord/__main__.py"))
        for node in nodes(path, ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id == word
    ]
    assert found == []
