"""Who may import whom: the layers of docs/architecture.md, read from the syntax tree of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "accord"

_L0 = [
    *["__init__", "errors", "types", "config", "yamlfile", "rng", "tracking", "progress", "stats"],
    *["artifacts", "manifest", "checkpoints", "storage", "runlock", "memory", "metrics", "sandbox", "listening"],
]
LAYER_OF = {
    **dict.fromkeys(_L0, "L0"),
    **dict.fromkeys(["data", "collect"], "data"),
    **dict.fromkeys(["functional", "batch", "microbatches"], "L1"),
    "models": "models",
    "engines": "engines",
    "rewards": "rewards",
    "judges": "judges",
    "train": "train",
    **dict.fromkeys(["evals", "diagnose", "redteam", "serve", "lab"], "L4"),
    "pipeline": "pipeline",
    **dict.fromkeys(
        [
            "stages",
            "cli",
            "report",
            "starter",
            "planning",
            "forecast",
            "footprint",
            "terminal",
            "doctor",
            "overview",
            "rounds",
            "redteam_command",
            "redteam_models",
            "__main__",
        ],
        "L5",
    ),
}
_L2 = {"models", "engines", "rewards", "judges"}
ALLOWED = {
    "L0": {"L0"},
    "data": {"L0", "data"},
    "L1": {"L0", "L1"},
    "models": {"L0", "data", "L1", "models"},
    "engines": {"L0", "data", "L1", "models", "engines"},
    "rewards": {"L0", "data", "L1", *_L2},
    "judges": {"L0", "data", "L1", *_L2},
    "train": {"L0", "data", "L1", *_L2, "train"},
    "L4": {"L0", "data", "L1", *_L2, "L4"},
    "pipeline": {"L0"},
    "L5": {"L0", "data", "L1", *_L2, "train", "L4", "pipeline", "L5"},
}
HEAVY = {"torch", "transformers", "peft", "accelerate", "vllm", "ray"}
FILES = sorted(ROOT.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The top-level name under `accord` that a file belongs to."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path: Path, *, at_import_only: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of the imports of a file, relative ones resolved; lazy ones too unless told."""
    tree = _tree(path.read_text(encoding="utf-8"))
    package = ["accord", *path.relative_to(ROOT).parent.parts]
    for node in _nodes(tree, at_import_only):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from accord import models` names a module, `from accord.models import x` one or a thing in it.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def _nodes(tree: ast.AST, at_import_only: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if at_import_only and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(node)
        ):
            continue
        yield node
        yield from _nodes(node, at_import_only)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def violations(path: Path) -> list[str]:
    """What a file imports from a layer it may not see."""
    layer = LAYER_OF[unit_of(path)]
    found = []
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] != "accord" or len(parts) < 2:
            continue
        target = LAYER_OF.get(parts[1])
        if target is None and (ROOT / parts[1]).with_suffix(".py").exists():
            target = "unknown"
        if target is not None and target not in ALLOWED[layer]:
            found.append(f"{path.relative_to(ROOT)}:{line} ({layer}) imports {module} ({target})")
    return found


def test_every_module_has_a_layer() -> None:
    unknown = sorted({unit_of(path) for path in FILES} - LAYER_OF.keys())
    assert unknown == [], "add it to LAYER_OF here and to docs/architecture.md"
    assert len(FILES) > 10


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_imports_point_downwards_lazy_ones_too(layer: str) -> None:
    found = [text for path in FILES if LAYER_OF.get(unit_of(path)) == layer for text in violations(path)]
    assert found == []


def test_the_check_itself_sees_lazy_relative_and_renamed_imports(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "readers.py"
    for text in (
        "import accord.train.loop as x",
        "from accord import train",
        "from .. import batch",
        "from ..models.chat import decode",
        "def f():\n    from accord.engines import native",
        "if TYPE_CHECKING:\n    import accord.cli",
    ):
        path.write_text(text)
        assert len(violations(path)) == 1, text
    for text in ("from . import writers", "from ..types import Prompt", "import accord", "import json"):
        path.write_text(text)
        assert violations(path) == [], text


def test_light_layers_do_not_import_torch() -> None:
    light = {"L0", "data", "pipeline"}
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in FILES
        if LAYER_OF.get(unit_of(path)) in light or unit_of(path) in {"cli", "report", "__main__"}
        for line, module in imports(path, at_import_only=LAYER_OF.get(unit_of(path)) != "data")
        if module.split(".")[0] in HEAVY
    ]
    assert found == []


def test_functional_knows_only_tensors() -> None:
    """Third-party imports of L1 are torch and nothing else."""
    allowed = {*sys.stdlib_module_names, "accord", "torch"}
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in FILES
        if LAYER_OF.get(unit_of(path)) == "L1"
        for line, module in imports(path)
        if module.split(".")[0] not in allowed
    ]
    assert found == []


def test_rich_is_imported_only_where_things_are_shown() -> None:
    allowed = {"progress", "terminal", "cli", "__main__"}
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in FILES
        for line, module in imports(path)
        if module.split(".")[0] == "rich" and unit_of(path) not in allowed
    ]
    assert found == []


def modules_after(code: str) -> set[str]:
    """Names in sys.modules after running `code` in a fresh interpreter."""
    script = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_light_layers_load_without_torch_in_a_fresh_interpreter() -> None:
    names = [
        ".".join(["accord", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        for path in FILES
        if LAYER_OF.get(unit_of(path)) in {"L0", "data", "pipeline"}
    ]
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert loaded & {*HEAVY, "rich", "tensorboard"} == set()
    assert "accord.artifacts" in loaded


@pytest.mark.skipif(not any("cli" in unit_of(path) for path in FILES), reason="there is no command line yet")
def test_the_command_line_loads_without_torch() -> None:
    loaded = modules_after("import accord.cli")
    assert loaded & {*HEAVY, "pyarrow", "matplotlib", "tensorboard", "scipy"} == set()
