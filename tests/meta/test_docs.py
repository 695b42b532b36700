"""The documents against the code: metrics, links, commands, recipes, files and tests they name exist."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer

from accord import cli, metrics
from accord.diagnose.readings import BEHAVIOURS, PROBE_SIGNALS, ROUND_SIGNALS
from accord.functional.preference_losses import PAIR_LOSSES
from accord.stages import STAGES
from accord.train.algorithms import ALGORITHMS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "accord"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ALGORITHM_PAGES = sorted(path for path in (ROOT / "docs" / "algorithms").glob("*.md") if path.name != "README.md")
HEADINGS = [
    *["Idea", "Equation", "Implementation details", "Deviations"],
    *["Logged metrics", "Results", "How it fails"],
]
"""Of a page on an algorithm, in this order."""
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
LOGGING = {
    **{str(path.relative_to(SOURCE)): "" for path in sorted((SOURCE / "train").rglob("*.py"))},
    "stages/probe.py": "eval/",
    "stages/pretrain.py": "eval/",
    "stages/sft.py": "eval/",
    "stages/offline.py": "eval/",
    "stages/diagnosing.py": "signals/",
}
"""Files that log to metrics.jsonl, and what the hooks put before their names."""
CARRIERS = {"metrics", "numbers", "self._report"}
"""Dicts that are logged."""
REPORTERS = {"report", "measure"}
"""Functions whose returned dicts are logged."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part(page: Path, heading: str) -> str:
    """What stands under a heading of the second level."""
    text = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    return text.partition("\n## ")[0]


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
    if name == "stages/diagnosing.py":  # whose names are those of the signals
        lights = {"signals/light", "signals/alarm_light"}
        return lights | {f"signals/{n}" for n in (*ROUND_SIGNALS, *PROBE_SIGNALS)} | {f"eval/{n}" for n in BEHAVIOURS}
    tree = ast.parse((SOURCE / name).read_text(encoding="utf-8"))
    if LOGGING[name] and name != "stages/probe.py":  # a stage's own `metrics` are its final numbers
        measures = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in REPORTERS]
        tree = ast.Module(body=list(measures), type_ignores=[])
    return {LOGGING[name] + key for key in names_in(tree)}


def documented() -> set[str]:
    """Names in the glossary, which docs/metrics.md is made from."""
    return {name for section in metrics.GLOSSARY for name in section.metrics}


def test_the_search_finds_what_is_known_to_be_logged() -> None:
    assert {"objective/kl_coef", "rewards/errors", "sampler/reused"} <= logged("train/rollouts.py")
    assert "objective/kl" in logged("train/rounds.py") and "sampler/mean_abs_dlogp" in logged("train/old_logps.py")
    assert {"loss/policy_avg", "objective/entropy"} <= logged("train/objectives/policy.py")
    assert {"accuracy"} <= logged("train/objectives/rewards.py")
    assert {"eval/kl", "eval/gold_<part>", "eval/proxy"} <= logged("stages/probe.py")
    assert logged("stages/sft.py") == {"eval/loss"}
    assert logged("stages/offline.py") == {"eval/loss", "eval/accuracy"}
    assert {"loss", "grad_norm", "learning_rate"} <= logged("train/loop.py")


@pytest.mark.parametrize("name", sorted(LOGGING))
def test_every_logged_metric_is_in_the_glossary(name: str) -> None:
    assert sorted(logged(name) - documented()) == [], "add an entry to src/accord/metrics, then run `make docs`"


def test_the_glossary_names_nothing_that_is_not_logged() -> None:
    assert sorted(documented() - set().union(*map(logged, LOGGING))) == []


def test_every_stage_has_its_final_numbers_in_the_glossary_once() -> None:
    named = [stage for stages in metrics.FINAL for stage in stages]
    assert sorted(named) == sorted(set(STAGES) - {"report"})


def test_every_number_that_a_page_on_an_algorithm_names_is_in_the_glossary() -> None:
    known = {re.sub("<[^>]*>", "*", name) for name in documented()}
    unknown = []
    for page in ALGORITHM_PAGES:
        text = part(page, "Logged metrics").split("inal numbers")[0]
        for name in re.findall(r"`([\w/*]+)`", text):
            if not any(fnmatch(one, name) or fnmatch(name, one) for one in known):
                unknown.append(f"{page.name}: {name}")
    assert unknown == []


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


def test_every_algorithm_has_a_page_that_says_when_to_use_it() -> None:
    """The sentences that the index docs/algorithms/README.md is made from."""
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    trained = {stage.name for stage in STAGES.values() if stage.kind in ("policy", "reward_model")}
    assert trained | {"best_of_n"} == set(ALGORITHMS) | set(generate["WITHOUT_TRAINING"])
    assert set(generate["uses"]()) == trained | {"best_of_n"}


@pytest.mark.parametrize("page", ALGORITHM_PAGES, ids=lambda path: path.stem)
def test_a_page_on_an_algorithm_has_all_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.M) == HEADINGS
    assert [heading for heading in HEADINGS if not part(page, heading).strip()] == []
    details = re.split(r"\n(?=\d+\. )", part(page, "Implementation details"))[1:]
    assert [int(detail.partition(".")[0]) for detail in details] == list(range(1, len(details) + 1)) != []
    untested = [detail.splitlines()[0] for detail in details if not re.search(r"`tests/[\w/]+\.py::\w+`", detail)]
    assert untested == [], "say which test would notice"


def test_every_loss_on_pairs_says_when_to_use_it() -> None:
    table = part(ROOT / "docs" / "algorithms" / "preference-losses.md", "Equation")
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.M))
    own_pages = {page.stem for page in ALGORITHM_PAGES} | {"ipo_avg", "ipo_sum"}
    assert set(PAIR_LOSSES) - named - own_pages == set()


def test_pages_are_ascii_and_algorithm_pages_are_short() -> None:
    odd = [relative(page) for page in PAGES if not page.read_text(encoding="utf-8").isascii()]
    assert odd == []
    long = [page.name for page in ALGORITHM_PAGES if len(page.read_text(encoding="utf-8").splitlines()) > 135]
    assert long == []
