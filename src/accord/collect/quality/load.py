"""Preferences from a file or a labels database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.errors import ConfigError, DataError
from accord.types import Preference

_DATABASES = (".db", ".sqlite", ".sqlite3")
_SLICES = ("auto", "random", "active", "all")


@dataclass(frozen=True)
class Loaded:
    """What to measure."""

    name: str
    preferences: tuple[Preference, ...]
    """Everything, swapped repeats included."""
    agreement: tuple[Preference, ...]
    """What agreement is estimated on."""
    note: str
    """Why those."""


def load(source: str, project: str = "default", slice: str = "auto") -> Loaded:
    """Read judgements.

    Args:
        source: data set in any format of docs/data-formats.md, a SQLite file or a database URL.
        project: of a database.
        slice: agreement is estimated on this one; "auto" = on pairs drawn at random where the records say which.

    Raises:
        ConfigError: no such slice.
        DataError: no such database, nothing can be read, or there is nothing in the slice.
    """
    if slice not in _SLICES:
        raise ConfigError(f"there is no slice '{slice}'", where="--slice", fix=f"choose one of {', '.join(_SLICES)}")
    remote = "://" in source and not source.startswith(("http://", "https://"))
    planned: frozenset[str] | None = None
    if remote or source.endswith(_DATABASES):
        preferences, planned = _from_database(source, project)
    else:
        from accord.data import read

        preferences = list(read(source, Preference).records)
    if not preferences:
        raise DataError("there are no comparisons yet", where=source, fix="collect some, or name another project")
    chosen, note = select_slice(preferences, slice)
    if planned is not None:
        # More labels are asked for where people disagree; counting them would make people look worse than they are.
        chosen = [p for p in chosen if p.id in planned]
    if not chosen:
        raise DataError(f"no judgement is of the {slice} slice", where=source, fix="choose --slice all")
    return Loaded(source, tuple(preferences), tuple(chosen), note)


def select_slice(preferences: Sequence[Preference], slice: str = "auto") -> tuple[list[Preference], str]:
    """Return the judgements that agreement is estimated on, and why those.

    Pairs that a policy chose because they are hard say nothing about agreement in general.
    """
    ordinary = [p for p in preferences if not p.meta.get("gold")]
    known = {str(p.meta.get("slice", "")) for p in ordinary}
    if slice == "auto":
        slice = "random" if "random" in known and len(known) > 1 else "all"
    if slice == "all":
        biased = "active" in known
        return (
            ordinary,
            "all pairs, those chosen by a policy too: agreement is not that of ordinary pairs" if biased else "",
        )
    return [p for p in ordinary if p.meta.get("slice") == slice], f"agreement on the {slice} slice"


def _from_database(url: str, project: str) -> tuple[list[Preference], frozenset[str]]:
    """Every judgement that stands, and the ids of those that were planned from the start."""
    from accord.collect.database import open_store, parse_url
    from accord.collect.exporting.derive import preferences, selected
    from accord.collect.exporting.gather import gather
    from accord.collect.exporting.options import ExportOptions

    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        raise DataError(
            "there is no such database", where=url, fix="give the file that `accord collect serve --db` uses"
        )
    options = ExportOptions(slice="all", purpose="all", gold=True, repeats=True)
    with open_store(url, migrate=False) as store:
        collected = gather(store, project)
    return preferences(selected(collected.answers, options).records), collected.planned
