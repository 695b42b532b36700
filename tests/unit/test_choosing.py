"""Which comparisons the collect stage has judged, and how many of them by several people."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sqlalchemy import select

from accord.collect.importing.files import gold_of
from accord.collect.importing.options import ImportOptions
from accord.collect.importing.prepare import Item, prepare
from accord.collect.projects import ensure_project
from accord.collect.schema import TaskRow
from accord.collect.tasks import add_tasks
from accord.stages.choosing import Comparison, chosen
from accord.stages.configs import CollectConfig
from accord.stages.people import settings_of
from accord.types import Candidate, Message, Prompt

PAIRS = [
    Comparison(
        Prompt(id=f"p{n}", messages=(Message(role="user", content=f"Question {n}?"),)),
        (Candidate(text=f"Good {n}."), Candidate(text=f"Bad {n}.")),
    )
    for n in range(60)
]


def choice(**options: Any) -> tuple[CollectConfig, list[Comparison]]:
    cfg = CollectConfig(num_pairs=40, annotators="people", min_labels=1, **options)
    run: Any = SimpleNamespace(seed=0)
    context: Any = SimpleNamespace(say=lambda _: None, run=run, work=SimpleNamespace(stage="collect"))
    return cfg, chosen(cfg, context, PAIRS)


def test_drawn_at_random_only_the_share_asked_for_is_judged_several_times(tmp_path: Any) -> None:
    from accord.collect.database import open_store

    cfg, picked = choice(overlap_fraction=0.2, overlap_labels=3)
    assert all(one.meta == {"policy": "random", "propensity": 40 / 60} for one in picked)
    items = [Item("", one.prompt, one.candidates, extra=one.meta) for one in picked]
    with open_store(tmp_path / "labels.db") as store:
        ensure_project(store, "collect", settings_of(cfg))
        add_tasks(store, "collect", prepare(items, ImportOptions(), gold_of).tasks)
        with store.read() as session:
            tasks = [(row.slice, row.overlap) for row in session.scalars(select(TaskRow))]
    assert len(tasks) == 40 and set(tasks) == {("random", 3), ("active", 1)}
    assert tasks.count(("random", 3)) < 20


def test_a_policy_is_followed_by_a_random_slice_that_is_named() -> None:
    _, picked = choice(selection="coverage", random_slice=0.25)
    slices = [one.meta["slice"] for one in picked]
    assert (slices.count("random"), slices.count("active")) == (10, 30)
