"""Write the pages of the documentation that are made from the code: `python docs/generate.py`."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

import accord
from accord import metrics
from accord.config import Config, Rounds, Row, RunSettings, describe
from accord.stages import STAGES
from accord.stages.configs import Adapters, Fitted, Probe, Sampling, Training
from accord.stages.configs.diagnosis import Diagnosed, Shaped
from accord.train.algorithms import ALGORITHMS

DOCS = Path(__file__).parent

SHARED: tuple[type[Config], ...] = (Training, Fitted, Adapters, Sampling, Probe, Diagnosed, Shaped)
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
    "errors types config yamlfile rng tracking metrics progress stats artifacts manifest checkpoints "
    "storage runlock memory data functional batch models engines rewards train evals lab "
    "pipeline stages cli report starter "
).split()
"""Order of the tree: as the layers; whatever is not named comes last, by name."""
OTHERS = {".yaml": "template", ".html": "template", ".css": "style", ".md": "template"}


def architecture() -> str:
    """The architecture page with the tree of files as it is now."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
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


def glossary() -> str:
    """The page on metrics: the tables from accord.metrics, what is around them as it is."""
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    sections = "\n".join(_metrics(section) for section in metrics.GLOSSARY)
    stages = "\n".join(
        f"| {', '.join(f'`{name}`' for name in names)} | {text} |" for names, text in metrics.FINAL.items()
    )
    return _between(_between(page, "metrics", sections), "final numbers", f"| stage | names |\n|---|---|\n{stages}\n")


def _metrics(section: metrics.Section) -> str:
    lines = [f"## {section.title}\n"]
    if section.about:
        lines.append(_wrapped(section.about))
    lines += ["| name | unit | what it is | healthy |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {m.unit} | {m.meaning} | {m.healthy} |" for name, m in section.metrics.items()]
    if section.note:
        lines.append("\n" + _wrapped(section.note).rstrip("\n"))
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def _between(page: str, name: str, text: str) -> str:
    """The page with the text between the two comments of that name replaced."""
    start, end = f"<!-- made from the code: {name} -->\n", f"<!-- end: {name} -->\n"
    before, _, rest = page.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the page has no {start.strip()} followed by {end.strip()}")
    return f"{before}{start}\n{text}\n{end}{after}"


REWARD_MODELS = "Reward models"
KINDS = {
    "Language": ("documents", "demonstrations"),
    REWARD_MODELS: ("reward", "ensemble", "odin", "attributes", "process", "warm"),
    "From judgements as they are": ("pairs", "replies"),
    "From its own replies": ("rollouts", "chosen rollouts"),
}
"""Heading -> sources of batches, or stages, in it."""
WITHOUT_TRAINING = {"warm": ("reward models", "-"), "best_of_n": ("rollouts", "reward")}
"""Stages that choose or join and train nothing: what they start from, what they need."""
SOURCES = {"replies": "single replies with thumbs", "rollouts": "its own replies", "chosen rollouts": "its own, chosen"}
NEEDS = {"reward_model": "reward", "greedy": "one greedy reply a prompt"}


def uses() -> dict[str, tuple[str, str]]:
    """Stage -> its page in docs/algorithms, and when to use it: the sentences "Use `stage` when ..." of the pages."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted((DOCS / "algorithms").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for stage, when in re.findall(r"^(?:- )?Use `(\w+)` when (.*?)\.$(?=\n\n|\n- )", text, re.M | re.S):
            if stage in found:
                raise ValueError(f"two pages say when to use {stage}: {found[stage][0]} and {path.name}")
            found[stage] = (path.name, " ".join(when.split()))
    return found


def algorithms() -> str:
    """The index of algorithms: a line for every entry of ALGORITHMS, with the page that says when to use it."""
    page = (DOCS / "algorithms" / "README.md").read_text(encoding="utf-8")
    known, rows = uses(), dict.fromkeys(KINDS, "")
    for stage in (*ALGORITHMS, *WITHOUT_TRAINING):
        entry = ALGORITHMS.get(stage)
        source, needs = WITHOUT_TRAINING[stage] if entry is None else (entry.source, ", ".join(entry.needs) or "-")
        for name, text in NEEDS.items():
            needs = needs.replace(name, text)
        kind = REWARD_MODELS if stage in KINDS[REWARD_MODELS] else next(k for k in KINDS if source in KINDS[k])
        file, when = known[stage]
        title = re.match(r"# (.*)", (DOCS / "algorithms" / file).read_text(encoding="utf-8"))
        assert title is not None
        rows[kind] += f"| `{stage}` | {SOURCES.get(source, source)} | {needs} | [{title[1]}]({file}) | {when} |\n"
    head = "| stage | learns from | needs | page | use it when |\n|---|---|---|---|---|\n"
    return _between(page, "algorithms", "\n".join(f"## {kind}\n\n{head}{text}" for kind, text in rows.items()))


PAGES = {
    "configuration.md": configuration,
    "architecture.md": architecture,
    "metrics.md": glossary,
    "algorithms/README.md": algorithms,
}
"""Page -> what makes it."""


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        path = DOCS / name
        path.write_text(make(), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
