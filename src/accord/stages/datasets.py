"""Where a stage's records come from: files in any known format, other stages, or the lab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from accord import rng
from accord.data import read, unique_prompts
from accord.errors import ConfigError, DataError
from accord.memory import no_collection
from accord.pipeline import LAB, Context, Input
from accord.types import Demonstration, Document, Preference, Prompt, Record

if TYPE_CHECKING:
    from accord.train.examples import Encoded

R = TypeVar("R", bound=Record)


def load(ctx: Context, field: str, want: type[R], *, max_bad_rows: int = 0) -> list[R]:
    """Read the records of the input `field`.

    Args:
        ctx: the running stage.
        field: config field that names the data.
        want: record type needed.
        max_bad_rows: rows that may be refused; they are written to `rejects-<field>.jsonl` in the stage's output.

    Raises:
        DataError: the data cannot be read, or more rows than allowed are bad.
        ConfigError: an unknown `lab:` data set.
    """
    source = ctx.inputs[field]
    if source.ref.startswith(LAB):
        records = _from_lab(source, want, ctx.run.seed)
        ctx.say(f"  {field}: {len(records)} records of {source.ref}")
        return records
    rejects = ctx.work.path(f"rejects-{field}.jsonl")
    dataset = read(source.location, None if want is Record else want, max_bad_rows=max_bad_rows, rejects=rejects)
    for line in dataset.describe():
        ctx.say(f"  {line}")
    records: list[Any] = list(dataset.records)
    if want is Prompt:
        distinct = unique_prompts(records)
        if len(distinct) < len(records):
            ctx.say(f"  {field}: {len(records)} rows hold {len(distinct)} different prompts")
        records = list(distinct)
    return records


def of_group(records: Sequence[Preference], group: str, where: str) -> list[Preference]:
    """The judgements of one group of annotators.

    Args:
        records: single judgements.
        group: name of the group.
        where: config key, for the message.

    Raises:
        DataError: nobody of that group judged.
    """
    found = [r for r in records if r.group == group]
    if not found:
        named = sorted({r.group for r in records if r.group})
        raise DataError(
            f"no judgement is by the group '{group}'",
            where=where,
            fix=f"the groups are {', '.join(named)}"
            if named
            else "use single judgements, which say who made them: dataset: collect:judgements",
        )
    return found


def _from_lab(source: Input, want: type[R], seed: int) -> list[R]:
    """`lab:corpus?num=5000`, `lab:demonstrations?num=2000`, `lab:prompts?num=500&split=eval`; all take `seed`.

    `lab:weak_demonstrations?num=2000&weak=game,story` plants weaknesses, `lab:attacked?num=500` wraps prompts, and
    `lab:rewordings?num=500` teaches an attacker to wrap them.
    """
    from accord import lab
    from accord.lab import weaknesses

    name, _, query = source.ref.removeprefix(LAB).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    try:
        num = int(options.pop("num", "1000"))
        seed = rng.derive(int(options.pop("seed", str(seed))), "lab", name)
    except ValueError as error:
        raise ConfigError(
            f"'{source.ref}': num and seed are integers", fix="write e.g. lab:prompts?num=500&seed=1"
        ) from error
    if num < 1:
        raise ConfigError(f"'{source.ref}': num is {num}", fix="ask for at least one record")
    split: Any = options.pop("split", "train")
    weak = tuple(part for part in options.pop("weak", "").split(",") if part) if name == "weak_demonstrations" else ()
    makers = {
        "corpus": (Document, lambda: lab.corpus(seed, num)),
        "demonstrations": (Demonstration, lambda: lab.demonstrations(seed, num)),
        "prompts": (Prompt, lambda: lab.prompts(seed, num, split=split)),
        "weak_demonstrations": (Demonstration, lambda: weaknesses.weak_demonstrations(seed, num, weak)),
        "attacked": (Prompt, lambda: weaknesses.attacked(seed, num, split=split)),
        "rewordings": (Demonstration, lambda: weaknesses.rewordings(seed, num)),
        "requests": (Prompt, lambda: weaknesses.requests(seed, num, split=split)),
    }
    if name not in makers or options or split not in ("train", "eval", "probe"):
        raise ConfigError(
            f"'{source.ref}' is no lab data set",
            fix=f"use lab:{', lab:'.join(makers)} with ?num=, &seed= and, for prompts, &split=train, eval or probe; "
            "lab:weak_demonstrations takes &weak=game,story",
        )
    kind, make = makers[name]
    if not issubclass(kind, want):
        fitting = [f"{LAB}{other}" for other, (made, _) in makers.items() if issubclass(made, want)]
        raise DataError(
            f"'{source.ref}' gives {kind.__name__} records, {want.__name__} records are needed",
            fix=f"use {' or '.join(fitting)}" if fitting else "the lab has none; name a stage that makes them",
        )
    with no_collection():
        return [record for record in make() if isinstance(record, want)]


def check_usable(encoded: Encoded, max_length: int) -> None:
    """Refuse training data that says nothing.

    Args:
        encoded: what is left of the records.
        max_length: the limit they were cut to, for the message.

    Raises:
        DataError: no example is left, or none prefers a reply.
    """
    if not encoded.examples:
        long = any("longer than" in reason for _, reason in encoded.dropped)
        raise DataError(
            f"there is nothing to train on: {encoded.describe()}",
            fix=f"raise max_length ({max_length}), or set overlong to truncate_prompt or truncate"
            if long
            else "check the data",
        )
    if all(e.target == 0.5 or (e.rank is not None and len(set(e.rank)) == 1) for e in encoded.examples):
        raise DataError(
            f"all {len(encoded.examples)} examples are ties: none says that one reply is better than another",
            fix="check how the labels were exported, or collect judgements that prefer a reply",
        )


def write_dropped(path: Path, dropped: tuple[tuple[str, str], ...]) -> None:
    """Keep a list of the records left out of training, with reasons; no file when there are none."""
    if dropped:
        path.write_text("".join(f"{name}\t{reason}\n" for name, reason in dropped), encoding="utf-8")
