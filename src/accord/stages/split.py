"""Stage: one data set cut into training and test rows that share neither prompts nor, if asked, models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.data import split_by_hash, write_records
from accord.errors import DataError
from accord.pipeline import Context
from accord.stages.configs import SplitConfig
from accord.stages.datasets import load
from accord.types import Demonstration, Message, Preference, Prompt, Record, Unpaired


def run(cfg: SplitConfig, ctx: Context) -> dict[str, Any]:
    """Write `train.jsonl`, `test.jsonl` and, where models are held out, `unused.jsonl`."""
    records = load(ctx, "dataset", Record, max_bad_rows=cfg.max_bad_rows)
    if cfg.num_rows >= 0:
        records = records[: cfg.num_rows]
    parts = split_by_hash(
        records, first_turn, {"train": 1 - cfg.test_fraction, "test": cfg.test_fraction}, ctx.run.seed
    )
    unused: list[Record] = []
    if cfg.test_models:
        held = set(cfg.test_models)
        unknown = held - {name for r in records for name in models_of(r)}
        if unknown:
            known = sorted({name for r in records for name in models_of(r)})
            raise DataError(
                f"no row comes from {', '.join(sorted(unknown))}",
                where="split.test_models",
                fix=f"choose from {', '.join(known[:20])}" if known else "these rows do not say which model wrote them",
            )
        unused = [r for r in parts["train"] if held & set(models_of(r))]
        unused += [r for r in parts["test"] if not held & set(models_of(r))]
        parts["train"] = [r for r in parts["train"] if not held & set(models_of(r))]
        parts["test"] = [r for r in parts["test"] if held & set(models_of(r))]
        write_records(unused, ctx.work.path("unused.jsonl"))
    for name, rows in parts.items():
        if not rows:
            raise DataError(f"no row is left for '{name}'", where="split", fix="change test_fraction or test_models")
        write_records(rows, ctx.work.path(f"{name}.jsonl"))
    numbers = {name: len(rows) for name, rows in parts.items()} | {"unused": len(unused)}
    ctx.say("  " + ", ".join(f"{name} {count}" for name, count in numbers.items()))
    return {**numbers, "train_prompts": _distinct(parts["train"]), "test_prompts": _distinct(parts["test"])}


def first_turn(record: Record) -> str:
    """The first user turn: conversations that begin alike belong together."""
    messages: Sequence[Message] = ()
    if isinstance(record, (Demonstration, Prompt)):
        messages = record.messages
    elif isinstance(record, (Preference, Unpaired)):
        messages = record.prompt.messages
    found = next((m.content for m in messages if m.role == "user"), None)
    return found if found is not None else record.model_dump_json()


def models_of(record: Record) -> list[str]:
    """Names of the models whose replies a record holds."""
    return [c.model for c in record.candidates if c.model] if isinstance(record, Preference) else []


def _distinct(records: Sequence[Record]) -> int:
    return len({first_turn(r) for r in records})
