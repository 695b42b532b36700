"""Labels of people for the stage `collect`: tasks into a database or a file, then wait until enough have come back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord import rng
from accord.collect import projects, reading
from accord.collect.database import Store, open_store, parse_url
from accord.collect.exporting.build import labels
from accord.collect.exporting.combine import Combined, combine
from accord.collect.exporting.derive import demonstrations, edited_pairs, preferences, selected, unpaired
from accord.collect.exporting.gather import gather
from accord.collect.exporting.options import Combine, ExportOptions
from accord.collect.importing import ImportOptions, import_tasks
from accord.collect.importing.prepare import Item, prepare
from accord.collect.settings import ProjectSettings
from accord.collect.tasks import add_tasks
from accord.data import read, write_records
from accord.data.rows import RowError
from accord.errors import ConfigError, DataError, Waiting
from accord.pipeline import Context
from accord.stages.choosing import Comparison
from accord.stages.configs import CollectConfig
from accord.types import Candidate, Preference, Prompt

PLAN = "plan.jsonl"
LABELS = "labels.db"


@dataclass(frozen=True)
class Place:
    """Where the labels of a stage are."""

    url: str
    project: str

    @property
    def serve(self) -> str:
        """The command that opens the labelling site."""
        path = self.url if "://" not in self.url else parse_url(self.url).render_as_string()
        return f"accord collect serve --db {path} --project {self.project}"


def planned(cfg: CollectConfig, ctx: Context, choose: Callable[[], list[Comparison]]) -> list[Comparison]:
    """Return the comparisons to ask about: chosen once, and the same ones every time the stage looks for labels.

    Args:
        cfg: the stage's.
        ctx: the running stage.
        choose: makes the choice.
    """
    path = ctx.work.path(PLAN)
    if cfg.num_pairs < 0:
        return choose()
    if path.exists():
        return [_comparison(json.loads(line)) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    items = choose()
    path.write_text("".join(json.dumps(_row(item), ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return items


def _row(item: Comparison) -> dict[str, Any]:
    return {
        "prompt": item.prompt.model_dump(mode="json"),
        "candidates": [c.model_dump(mode="json") for c in item.candidates],
        "policy": item.policy,
        "slice": item.slice,
        "propensity": item.propensity,
    }


def _comparison(row: dict[str, Any]) -> Comparison:
    prompt = Prompt.model_validate(row["prompt"])
    replies = tuple(Candidate.model_validate(c) for c in row["candidates"])
    return Comparison(prompt, replies, row["policy"], row["slice"], row["propensity"])


def combination(cfg: CollectConfig, ctx: Context) -> Combine:
    """Return how the judgements of a pair become one label."""
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "aggregate")
    return Combine(
        aggregate=cfg.aggregate, tie_policy=cfg.tie_policy, weights=cfg.weights, population=cfg.population, seed=seed
    )


def collect(
    cfg: CollectConfig, ctx: Context, items: Sequence[Comparison]
) -> tuple[list[Preference], list[Preference], Combined]:
    """Return what people have said: single, those of them that agreement is estimated on, and combined.

    Raises:
        Waiting: there are fewer labels than `min_labels`.
        DataError: the labels or the database cannot be read.
        ConfigError: the database cannot be reached, or the guidelines cannot be read.
    """
    how = combination(cfg, ctx)
    # Beside the artifacts, not in one of them: labels outlive the configuration they were collected under.
    path = Path(cfg.labels) if cfg.labels else ctx.work.run_dir / f"{ctx.work.stage}-labels.jsonl"
    tasks = ctx.work.run_dir / f"{ctx.work.stage}-tasks.jsonl"
    _write_tasks(tasks, items)
    written = _from_file(path)
    if cfg.labels is not None:
        _enough(cfg, len(written), str(path), _by_file(tasks, path, len(items)))
        return written, written, combine(written, how)
    place = Place(cfg.database or str(ctx.work.run_dir / LABELS), cfg.project or ctx.work.stage)
    with open_store(place.url) as store:
        for warning in store.warnings:
            ctx.say(f"  {warning}")
        keys = _fill(cfg, ctx, store, place, items)
        collected = gather(store, place.project)
        answers = selected(collected.answers, ExportOptions()).records
        if cfg.database is not None or cfg.project is not None:  # other stages and runs may share it
            answers = [a for a in answers if a.task in keys]
        given = preferences(answers)
        if len(given) + len(written) < cfg.min_labels:
            _enough(cfg, len(given) + len(written), place.url, _by_site(store, place) + _by_file(tasks, path, 0))
    for name, records in (
        ("demonstrations", demonstrations(answers)),
        ("edits", edited_pairs(answers)),
        ("unpaired", unpaired(answers, ExportOptions()).records),
    ):
        if records:
            write_records(records, ctx.work.path(f"{name}.jsonl"))
            ctx.say(f"  {len(records)} {name}: {ctx.work.stage}:{name}")
    measured = [*(p for p in given if p.id in collected.planned), *written]
    if not written:
        return given, measured, labels(collected, given, how)
    # Rows of a file and of the database about the same replies belong together, so they are combined together.
    return [*given, *written], measured, combine([*given, *written], how)


def _write_tasks(path: Path, items: Sequence[Comparison]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, item in enumerate(items):
            task = {
                "id": f"task-{number}",
                "prompt": item.prompt.model_dump(mode="json"),
                "candidates": [c.model_dump(mode="json") for c in item.candidates],
                # With it a task that got a verdict is a Preference row, and is read as one.
                "meta": item.meta,
            }
            file.write(json.dumps(task, ensure_ascii=False) + "\n")


def _from_file(path: Path) -> list[Preference]:
    if not (path.exists() and path.stat().st_size):
        return []
    return list(read(str(path), Preference).records)


def _enough(cfg: CollectConfig, count: int, where: str, fix: str) -> None:
    if count < cfg.min_labels:
        raise Waiting(f"{count} of {cfg.min_labels} labels", where=where, fix=fix)


def _by_site(store: Store, place: Place) -> str:
    now = reading.progress(store, place.project)
    wanted = f"{now.remaining} more are asked for in {now.tasks.open} open tasks"
    return (
        f"`{place.serve}` opens the labelling site ({wanted}, {now.open_leases} being answered now); "
        "then run the same command again. Or "
    )


def _by_file(tasks: Path, path: Path, number: int) -> str:
    what = (
        f"the {number} tasks are in {tasks}; write" if number else f"without the site: the tasks are in {tasks}; write"
    )
    return (
        f"{what} one Preference row a judgement to {path} (a task with choice, tie or both_bad and annotator added), "
        "then run the same command again"
    )


def _fill(cfg: CollectConfig, ctx: Context, store: Store, place: Place, items: Sequence[Comparison]) -> set[str]:
    """Make the project, its guidelines and its tasks where they are missing; return the keys of the tasks."""
    wanted = settings_of(cfg)
    projects.ensure_project(store, place.project, wanted)
    for line in _differences(cfg, wanted, projects.settings(store, place.project)):
        ctx.say(f"  {line}")
    if cfg.guidelines is not None:
        projects.set_guidelines(store, place.project, _guidelines(Path(cfg.guidelines)))
    given = [
        Item(f"comparison {number}", item.prompt, item.candidates, extra=item.meta)
        for number, item in enumerate(items, 1)
    ]
    made = prepare(given, ImportOptions(kind=cfg.kind, leaks=cfg.leaks), _no_gold)
    added = add_tasks(store, place.project, made.tasks)
    if made.leaking:
        ctx.say(f"  {made.leaking} replies name a model or its maker ({made.masked} masked, {made.dropped} left out)")
    if made.refused:
        first = made.refused[0]
        ctx.say(f"  {len(made.refused)} comparisons cannot be asked about: {first.why} ({first.where})")
    if not made.tasks:
        raise DataError(
            "no comparison can be asked about", where=place.project, fix="see the lines above, or set leaks"
        )
    if cfg.gold is not None:
        options = ImportOptions(kind=cfg.kind, gold=True)
        done = import_tasks(store, place.project, ctx.inputs["gold"].location, options)
        for line in done.describe():
            ctx.say(f"  {line}")
    if added.added:
        ctx.say(f"  {added.added} tasks added to project {place.project}: {place.serve}")
    return {task.key for task in made.tasks}


def _no_gold(item: Item, kind: str) -> dict[str, Any]:
    raise RowError(f"{item.where} has no right answer as {kind}")


def settings_of(cfg: CollectConfig) -> ProjectSettings:
    """Return the rules of the project that the config asks for."""
    own = {
        "overlap": cfg.labels_per_item,
        "random_slice": cfg.overlap_fraction,
        "slice_overlap": max(cfg.overlap_labels, cfg.labels_per_item),
        "tie_policy": cfg.tie_policy,
    }
    return ProjectSettings.model_validate({**cfg.rules, **own})


def _differences(cfg: CollectConfig, wanted: ProjectSettings, found: ProjectSettings) -> list[str]:
    """What the project does otherwise than the config says, since an admin or the config has changed."""
    names = ("overlap", "random_slice", "slice_overlap", "tie_policy", *cfg.rules)
    return [
        f"the project's own rule stands: {name} is {getattr(found, name)}, the config says {getattr(wanted, name)}"
        for name in names
        if getattr(found, name) != getattr(wanted, name)
    ]


def _guidelines(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the guidelines cannot be read: {error}", where="collect.guidelines", fix="name a Markdown file in UTF-8"
        ) from error
