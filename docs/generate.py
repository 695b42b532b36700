"""Write the pages of the documentation that are made from the code: `python docs/generate.py`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import accord
from accord.config import Config, Rounds, Row, RunSettings, describe
from accord.stages import STAGES
from accord.stages.configs import Adapters, Fitted, Probe, Sampling, Training

SHARED: tuple[type[Config], ...] = (Training, Fitted, Adapters, Sampling, Probe)
"""Classes whose keys several stages have."""
INTRODUCTION = """# Configuration

<!-- Made by docs/generate.py from the config classes; change those, then run `make docs`. -->

A run is one YAML file: a `run` section and one section a stage. `ppo_long:` is a second `ppo` stage in the same run.
On the command line every key can be overridden as `section.key=value`, the value written as in YAML. An unknown key
is an error that names the nearest known one, with file and line. `accord init DIR` writes a commented file,
`accord plan FILE` prints what it comes to, `accord options STAGE` prints the table of a stage.

A key whose meaning starts with "stage, directory or hub id", and every data set, may name another section of the
file (its output is used, and the stages are ordered by that), a path (relative paths are also looked for beside the
YAML file), a hub id, or a set of the embedded lab: `lab:corpus?num=5000`, `lab:demonstrations?num=2000`,
`lab:prompts?num=500&split=eval`.
"""


def configuration() -> str:
    """The page on every key of every section."""
    parts = [INTRODUCTION, _section("run", RunSettings, describe(RunSettings))]
    parts.append(_section("rounds", Rounds, describe(Rounds), "See [rounds](rounds.md).\n"))
    parts += [_section(_title(shared), shared, describe(shared)) for shared in SHARED]
    for name, stage in STAGES.items():
        bases = [shared for shared in SHARED if issubclass(stage.config, shared)]
        inherited = {row for shared in bases for row in describe(shared)}
        own = [row for row in describe(stage.config) if row not in inherited]
        links = " and ".join(f"[{_title(base)}](#{_title(base).replace(' ', '-')})" for base in bases)
        note = f"And the keys of {links}; what is listed here goes before.\n" if bases else ""
        parts.append(_section(name, stage.config, own, note))
    return "\n".join(parts)


def _title(shared: type[Config]) -> str:
    return f"shared keys {shared.__name__.lower()}"


def _section(title: str, config: type[Config], rows: Iterable[Row], note: str = "") -> str:
    lines = [f"## {title}\n", " ".join((config.__doc__ or "").split()) + "\n"]
    if note:
        lines.append(note)
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = f"`{_cell(row.default)}`" if row.default != "" else "required"
        lines.append(f"| `{row.name}` | {_cell(row.type)} | {default} | {_cell(row.description)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


FIRST = (  # noqa: SIM905
    "errors types config yamlfile rng tracking progress stats artifacts manifest checkpoints "
    "storage runlock memory data functional batch models engines rewards train evals lab "
    "pipeline stages cli report starter "
).split()
"""Order of the tree: as the layers; whatever is not named comes last, by name."""
OTHERS = {".yaml": "template", ".html": "template", ".css": "style", ".md": "template"}


def architecture() -> str:
    """The architecture page with the tree of files as it is now."""
    page = (Path(__file__).parent / "architecture.md").read_text(encoding="utf-8")
    tree = "\n".join(["```text", *_tree(), "```"])
    return re.sub(r"(?<=## Tree\n\n)```text\n.*?\n```", lambda _: tree, page, count=1, flags=re.DOTALL)


def _tree() -> list[str]:
    root = Path(accord.__file__).parent
    units = [p for p in root.iterdir() if p.suffix == ".py" or (p.is_dir() and (p / "__init__.py").exists())]
    units.sort(key=lambda p: (FIRST.index(p.stem) if p.stem in FIRST else len(FIRST), p.name))
    lines = [
        "README.md CONTRIBUTING.md CHANGELOG.md LICENSE Makefile pyproject.toml constraints.txt .ci/run",
        "recipes/                  configs for real data",
        "benchmarks/",
        "docs/",
        "src/accord/",
    ]
    for unit in units:
        if unit.is_file():
            lines.append(_line(2, unit.name, _purpose(unit)))
            continue
        lines.append(_line(2, f"{unit.name}/", _purpose(unit / "__init__.py")))
        for path in sorted(p for p in unit.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            if path.suffix == ".py" and path.name != "__init__.py":
                lines.append(_line(4, str(path.relative_to(unit)), _purpose(path)))
            elif path.suffix in OTHERS:
                lines.append(_line(4, str(path.relative_to(unit)), OTHERS[path.suffix]))
    return [
        *lines,
        "tests/",
        "  fakes.py                stand-ins for Protocols, held to the same conformance tests",
        "  unit/ golden/ property/ invariant/ e2e/ meta/   see CONTRIBUTING.md",
    ]


def _purpose(path: Path) -> str:
    """First sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].replace("`", "").split())
    return first.split(". ")[0].rstrip(".,")


def _line(indent: int, name: str, text: str) -> str:
    return f"{' ' * indent}{name:<{34 - indent}}  {text}".rstrip()


PAGES = {"configuration.md": configuration, "architecture.md": architecture}
"""Page -> what makes it."""


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        path = Path(__file__).parent / name
        path.write_text(make(), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
