"""The documents against the code: metrics, links, commands, recipes, files and tests they name exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from accord import cli

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "accord"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
LOGGING = {
    **{str(path.relative_to(SOURCE)): "" for path in sorted((SOURCE / "train").rglob("*.py"))},
    "stages/probe.py": "eval/",
    "stages/pretrain.py": "eval/",
    "stages/sft.py": "eval/",
}
"""Files that log to metrics.jsonl, and what the hooks put before their names."""
CARRIERS = {"metrics", "numbers", "self._report"}
"""Dicts that are logged."""
REPORTERS = {"report", "measure"}
"""Functions whose returned dicts are logged."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def keys_of(node: ast.AST) -> Iterator[str]:
    """Names of a dict literal or comprehension; the variable part of an f-string becomes `<name>`."""
    for found in ast.walk(node):
        if isinstance(found, ast.Dict):
            yield from (text for key in found.keys if (text := literal(key)))
        elif isinstance(found, ast.DictComp) and (text := literal(found.key)):
            yield text


def literal(node: ast.AST | None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else f"<{ast.unparse(part.value)}>"
            for part in node.values
            if isinstance(part, ast.Constant | ast.FormattedValue)
        )
    return None


def names_in(tree: ast.Module) -> Iterator[str]:
    """Metric names that a file puts into something that is logged."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Terms":
            for argument in (*node.args[1:], *(word.value for word in node.keywords)):
                yield from keys_of(argument)
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Subscript) and ast.unparse(target.value) in CARRIERS:
                yield from filter(None, [literal(target.slice)])
            elif ast.unparse(target) in CARRIERS and isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
                yield from keys_of(node.value) if node.value else ()
        if isinstance(node, ast.FunctionDef) and node.name in REPORTERS:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value:
                    yield from keys_of(inner.value)


def logged(name: str) -> set[str]:
    tree = ast.parse((SOURCE / name).read_text(encoding="utf-8"))
    if LOGGING[name] and name != "stages/probe.py":  # a stage's own `metrics` are its final numbers
        measures = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in REPORTERS]
        tree = ast.Module(body=list(measures), type_ignores=[])
    return {LOGGING[name] + key for key in names_in(tree)}


def documented() -> set[str]:
    """Names in the first column of the tables about metrics.jsonl."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").split("## Final numbers")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.M))


def test_the_search_finds_what_is_known_to_be_logged() -> None:
    assert {"objective/kl", "rewards/errors", "sampler/mean_abs_dlogp"} <= logged("train/rollouts.py")
    assert {"loss/policy_avg", "objective/entropy"} <= logged("train/objectives/policy.py")
    assert {"accuracy"} <= logged("train/objectives/rewards.py")
    assert {"eval/kl", "eval/gold_<part>", "eval/proxy"} <= logged("stages/probe.py")
    assert logged("stages/sft.py") == {"eval/loss"}
    assert {"loss", "grad_norm", "learning_rate"} <= logged("train/loop.py")


@pytest.mark.parametrize("name", sorted(LOGGING))
def test_every_logged_metric_is_in_the_glossary(name: str) -> None:
    assert sorted(logged(name) - documented()) == [], "add a row to docs/metrics.md"


def test_the_glossary_names_nothing_that_is_not_logged() -> None:
    assert sorted(documented() - set().union(*map(logged, LOGGING))) == []


def test_every_relative_link_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            goal = (page.parent / path).resolve() if path else page
            if not goal.exists() or (anchor and anchor not in anchors(goal)):
                broken.append(f"{relative(page)}: {target}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_command_that_is_mentioned_exists() -> None:
    known = set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    mentioned = {
        (relative(page), word)
        for page in PAGES
        for word in re.findall(r"(?:`|^\s*|-> )accord ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.M)
    }
    assert {(page, word) for page, word in mentioned if word not in known} == set()
    assert known - {word for page, word in mentioned if page == "README.md"} == set(), "the README lists all commands"


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads(recipe: Path) -> None:
    from accord.pipeline import order

    config = cli.load(recipe, [])
    assert set(order(config)) == set(config.sections)


def tree_of_architecture() -> set[str]:
    """Files under src/accord that the tree in docs/architecture.md lists."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = text.split("src/accord/\n", 1)[1].split("tests/\n", 1)[0].splitlines()
    found: set[str] = set()
    folder = ""
    for line in lines:
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        if indent == 2:
            folder = name if name.endswith("/") else ""
        if not name.endswith("/"):
            found.add(name if indent == 2 else folder + name)
    return found


def test_the_tree_lists_every_file() -> None:
    there = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if path.parent == SOURCE}
    there |= {p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.py") if p.name != "__init__.py"}
    listed = tree_of_architecture()
    assert sorted(there - listed) == [], "add it to the tree in docs/architecture.md"
    assert sorted(name for name in listed if not (SOURCE / name).is_file()) == []


def test_every_test_that_is_cited_exists() -> None:
    missing = []
    for page in PAGES:
        for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text(encoding="utf-8")):
            path = ROOT / file
            if not path.is_file() or (name and f"def {name}(" not in path.read_text(encoding="utf-8")):
                missing.append(f"{relative(page)}: {file}::{name}")
    assert missing == []


def test_every_source_file_that_an_algorithm_page_cites_has_what_it_says() -> None:
    missing = []
    for page in sorted((ROOT / "docs" / "algorithms").glob("*.md")):
        for file, names in re.findall(r"`((?:\w+/)*\w+\.py)(?:: ([\w. ]+))?`", page.read_text(encoding="utf-8")):
            if file.startswith("tests/"):
                continue
            path = SOURCE / file
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            wanted = [name for name in names.split(".") if name]
            if not text or any(not re.search(rf"(?:def|class) {name}\b", text) for name in wanted):
                missing.append(f"{relative(page)}: {file}: {names}")
    assert missing == []


def test_pages_are_ascii_and_algorithm_pages_are_short() -> None:
    odd = [relative(page) for page in PAGES if not page.read_text(encoding="utf-8").isascii()]
    assert odd == []
    long = [p.name for p in (ROOT / "docs" / "algorithms").glob("*.md") if len(p.read_text().splitlines()) > 120]
    assert long == []
