"""The data card of an export: README.md with front matter that Hugging Face reads, and numbers that people read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from accord import __version__
from accord.collect.exporting.files import data_file
from accord.collect.exporting.options import ExportOptions, FileFormat, Kind
from accord.collect.quality.agreement import panels, ranking_agreement
from accord.collect.quality.judged import judged
from accord.collect.quality.load import select_slice
from accord.stats.intervals import Estimate
from accord.stats.panel import raw
from accord.types import Preference

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_COLUMNS: dict[Kind, str] = {
    "preferences": "Accord's own records, read back equal with `accord.data.read`",
    "pairs": "`prompt`, `chosen`, `rejected` as message lists: what TRL's DPO and reward trainers load",
    "rankings": "`prompt`, `responses`, `ranks` (0 = best, equal = tie)",
    "unpaired": "`prompt`, `completion`, `label`: what TRL's KTO trainer loads",
    "demonstrations": "`messages`: what TRL's SFT trainer loads",
    "annotations": "one row a judgement as it was given: who (pseudonym), shown order, timing, guidelines version",
}


@dataclass(frozen=True)
class Facts:
    """What the card says beyond the options."""

    project: str
    rows: Mapping[str, int]
    """Split -> rows."""
    prompts: int
    judgements: Sequence[Preference] = ()
    """The single judgements behind the rows, for slices and annotators."""
    measured: Sequence[Preference] = ()
    """Those of them that agreement is estimated on."""
    guidelines: Sequence[tuple[int, str, int]] = ()
    """(version, sha256, judgements made under it)."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Rules of the project worth telling."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> how many."""
    notes: Sequence[str] = ()
    imported: Mapping[str, int] = field(default_factory=dict)
    """Where judgements were imported from -> how many."""


@dataclass(frozen=True)
class Agreement:
    """What `accord agree` says of the same judgements, in short."""

    raw: Estimate
    """Of pairs: share of equal verdicts, its interval over prompts."""
    rankings: dict[str, Estimate]
    """Kendall's tau-b and W of rankings of three and more replies, where there are any."""
    sliced: bool
    """Whether it was measured on the random slice alone."""


def agreement(judgements: Iterable[Preference]) -> Agreement:
    """Return how far people agree.

    Actively chosen pairs are harder than the rest, so they are left out wherever there is a random slice.

    Args:
        judgements: of database labels only those that were planned from the start.
    """
    given = list(judgements)
    chosen, _ = select_slice(given)
    data = judged(chosen)
    (named, _), _ = panels(data)
    ranked = ranking_agreement(data.rankings) if data.rankings else {}
    return Agreement(
        raw(named), ranked, any(p.meta.get("slice") == "active" for p in given) and len(chosen) < len(given)
    )


def card(kind: Kind, form: FileFormat, options: ExportOptions, facts: Facts) -> str:
    """Return the text of README.md; the same labels and options give the same text.

    Args:
        kind: what the rows are.
        form: how they are written.
        options: which labels, licence, splits.
        facts: counts and where they come from.
    """
    title = options.title or f"{facts.project}: {kind}"
    parts = [
        _front_matter(kind, form, options, facts),
        f"# {title}\n",
        f"Made by Accord {__version__} from the project `{facts.project}`. Rows are {_COLUMNS[kind]}.\n",
        _table("Rows", [*facts.rows.items(), ("prompts", facts.prompts)]),
        _labels(kind, options, facts),
        _people(facts),
        _collected(facts),
        _left_out(facts),
        f"## Licence\n\n{options.license}\n",
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(kind: Kind, form: FileFormat, options: ExportOptions, facts: Facts) -> str:
    total = sum(facts.rows.values())
    lines = ["---", f"license: {json.dumps(options.license)}"]
    if options.language:
        lines += ["language:", *(f"- {json.dumps(code)}" for code in options.language)]
    lines += [f"pretty_name: {json.dumps(options.title or facts.project, ensure_ascii=False)}"]
    lines += ["tags:", "- rlhf", "- human-feedback", f"- {kind}", "- accord"]
    lines += ["size_categories:", f"- {next((name for size, name in _SIZES if total < size), '1M<n<10M')}"]
    lines += ["configs:", "- config_name: default", "  data_files:"]
    for split in facts.rows:
        lines += [f"  - split: {split}", f"    path: {data_file(split, form)}"]
    return "\n".join([*lines, "---\n"])


def _table(title: str, rows: Iterable[tuple[str, object]]) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *lines, ""])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _labels(kind: Kind, options: ExportOptions, facts: Facts) -> str:
    if not facts.judgements:
        return ""
    rows: list[tuple[str, object]] = [("judgements", len(facts.judgements))]
    if kind in ("preferences", "pairs", "rankings"):
        rows.append(("combined by", options.combine.aggregate))
        if options.combine.aggregate == "majority":
            rows.append(("equal votes", options.combine.tie_policy))
    found = agreement(facts.measured)
    where = " on the random slice" if found.sliced else ""
    if found.raw.value is not None or not found.rankings:
        rows.append((f"raw agreement{where}", _estimate(found.raw, "pairs of replies judged at least twice")))
    for name, estimate in found.rankings.items():
        rows.append((f"rankings, {name}{where}", _estimate(estimate, "sets of replies ranked at least twice")))
    verdicts = Counter(
        "tie" if p.tie else "both bad" if p.both_bad else "ranking" if p.ranking is not None else "preferred"
        for p in facts.judgements
    )
    rows += [(f"verdict: {name}", count) for name, count in sorted(verdicts.items())]
    slices = Counter(
        (str(p.meta.get("slice", "random")), str(p.meta.get("policy", "random"))) for p in facts.judgements
    )
    rows += [(f"slice {name}, policy {policy}", count) for (name, policy), count in sorted(slices.items())]
    return _table("Labels", rows)


def _estimate(found: Estimate, of: str) -> str:
    if found.value is None:
        return "not defined: nothing was judged twice"
    bounded = found.low is not None and found.high is not None
    ends = f"[{found.low:.3f}, {found.high:.3f}]" if bounded else "(too few for an interval)"
    return f"{found.value:.3f} {ends}, {found.n} {of}"


def _people(facts: Facts) -> str:
    if not facts.judgements:
        return ""
    by = Counter((p.annotator or "(not named)", p.group) for p in facts.judgements)
    lines = [f"| {_cell(name)} | {_cell(group or '-')} | {count} |" for (name, group), count in sorted(by.items())]
    people = len({p.annotator for p in facts.judgements})
    return "\n".join(
        [
            f"## Annotators\n\n{people}, under pseudonyms.\n",
            "| annotator | group | judgements |",
            "|---|---|---|",
            *lines,
            "",
        ]
    )


def _collected(facts: Facts) -> str:
    lines = ["## How it was collected\n"]
    if sum(facts.imported.values()) < len(facts.judgements) or not facts.judgements:
        lines.append(
            "Replies were shown without the name of the model, in an order drawn anew for every annotator and stored "
            "with the label. Nobody saw other people's answers.\n"
        )
    for name, count in sorted(facts.imported.items()):
        lines.append(f"{count} judgements were imported ({name}); how they were collected is not known here.\n")
    if facts.settings:
        lines += ["| rule | value |", "|---|---|"]
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.settings.items()]
        lines.append("")
    if facts.guidelines:
        lines += ["| guidelines | sha256 | judgements |", "|---|---|---|"]
        lines += [f"| version {v} | `{sha[:16]}` | {count} |" for v, sha, count in facts.guidelines]
        lines.append("")
    lines += [f"- {note}" for note in facts.notes]
    return "\n".join([*lines, ""]) if facts.notes else "\n".join(lines)


def _left_out(facts: Facts) -> str:
    rows = [(reason, count) for reason, count in facts.left_out.items() if count]
    return _table("Left out", rows) if rows else ""
