"""import(export(x)) == x, for every kind and format, over random judgements."""

from __future__ import annotations

import string
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accord.collect.database import Store
from accord.collect.exporting import export
from accord.collect.exporting.build import build
from accord.collect.exporting.gather import gather
from accord.collect.exporting.options import ExportOptions, FileFormat, Kind
from accord.collect.exporting.pairs import ranks
from accord.collect.importing import import_file
from accord.collect.importing.answers import Answer, store_answers
from accord.collect.importing.prepare import task_key
from accord.collect.projects import ensure_project, set_guidelines
from accord.collect.records import NewTask, Verdict
from accord.data import read
from accord.types import Candidate, Demonstration, Message, Preference, Prompt, Unpaired
from fresh_database import fresh_store

FORMATS: tuple[FileFormat, ...] = ("jsonl", "parquet", "dataset")
WORDS = st.text(
    string.ascii_letters + string.digits + " \n.,;:!?'\"\\|#\u00e4\u2603\U0001f600\u2028", min_size=1, max_size=30
)
TEXT = WORDS.map(lambda t: t.strip()).filter(bool)
SAFE = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def verdicts(draw: st.DrawFn, kind: str, number: int) -> Verdict:
    extra: dict[str, Any] = {"rationale": draw(st.sampled_from(["", "because"]))}
    if draw(st.booleans()):
        extra["ratings"] = draw(st.tuples(*[st.one_of(st.none(), st.integers(1, 7))] * number))
    if draw(st.booleans()):
        extra["flags"] = {draw(st.integers(0, number - 1)): ("opinion",)}
    if kind == "edit" or (kind != "rate" and draw(st.booleans())):
        extra["edit"], extra["edit_position"] = draw(TEXT), draw(st.integers(0, number - 1))
    if kind == "pair":
        said = draw(st.sampled_from([{"position": 0}, {"position": 1}, {"tie": True}, {"both_bad": True}]))
        strength = {"strength": draw(st.sampled_from([None, 1, 3]))} if "position" in said else {}
        extra |= {**said, **strength}
    elif kind == "rank":
        order = draw(st.permutations(range(number)))
        top = draw(st.integers(1, number))
        cut = draw(st.integers(1, top))
        extra["ranking"] = tuple(g for g in (tuple(sorted(order[:cut])), tuple(sorted(order[cut:top]))) if g)
    elif kind == "rate":
        extra["ratings"] = tuple(draw(st.integers(1, 7)) for _ in range(number))
    return Verdict(kind=kind, **extra)


@st.composite
def answers(draw: st.DrawFn) -> list[Answer]:
    """Some people's answers to some tasks of every kind."""
    found: list[Answer] = []
    seen: set[str] = set()
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["pair", "rank", "rate", "edit"]))
        count = {"pair": 2, "rank": draw(st.integers(3, 4))}.get(kind, 1)
        texts = draw(st.lists(TEXT, min_size=count, max_size=count, unique=True))
        messages = (Message(role="user", content=f"{number} {draw(TEXT)}"),)
        if draw(st.booleans()):
            middle = (Message(role="assistant", content="Yes?"), Message(role="user", content=draw(TEXT)))
            messages = (*messages, *middle)
        prompt = Prompt(id=f"p{number}", messages=messages, meta={"n": number})
        model = draw(st.sampled_from(["", "m-1"]))
        candidates = tuple(Candidate(text=t, model=model, meta={"i": i}) for i, t in enumerate(texts))
        key = task_key(kind, prompt, candidates)
        if key in seen:
            continue
        seen.add(key)
        task = NewTask(kind=kind, prompt=prompt, candidates=candidates, key=key, meta={"from": "test"}, tags=("t",))
        for person in range(draw(st.integers(1, 3))):
            found.append(
                Answer(
                    where=f"row {len(found)}",
                    line=len(found),
                    task=task,
                    verdict=draw(verdicts(kind, count)),
                    pseudonym=f"annotator-{person}",
                    key=f"key-{number}-{person}",
                    shown_order=tuple(draw(st.permutations(range(count)))),
                    groups=("warm",) if person else (),
                    dwell_ms=draw(st.integers(0, 100_000)),
                    seen_ms=draw(st.integers(0, 100_000)),
                    client={"keyboard": True},
                )
            )
    return found


@contextmanager
def stored(given: Sequence[Answer]) -> Iterator[tuple[Store, Path]]:
    with tempfile.TemporaryDirectory() as name, fresh_store(Path(name) / "a.db") as store:
        ensure_project(store, "p", seed=1)
        set_guidelines(store, "p", "Be fair.\n")
        assert not store_answers(store, "p", given).refused
        yield store, Path(name)


def write(store: Store, folder: Path, kind: Kind, form: FileFormat, options: ExportOptions | None = None) -> Path:
    target = folder / f"{kind}-{form}"
    export(store, "p", target, kind=kind, format=form, options=options)
    return target


@given(given_answers=answers())
@SAFE
def test_raw_annotations_come_back_equal_in_another_database(given_answers: list[Answer]) -> None:
    with stored(given_answers) as (store, folder):
        before = gather(store, "p")
        for form in FORMATS:
            target = write(store, folder, "annotations", form)
            with fresh_store(folder / f"{form}.db") as other:
                ensure_project(other, "p", seed=2)
                done = import_file(other, "p", target)
                assert (done.added, done.repeated, done.refused) == (len(given_answers), 0, ())
                after = gather(other, "p")
                assert after.answers == before.answers
                assert [g.markdown for g in after.guidelines] == ["Be fair.\n"]
                again = import_file(other, "p", target)
                assert (again.added, again.repeated) == (0, len(given_answers))
                back = write(other, folder / "back", "annotations", form)
                assert (back / "SHA256SUMS").read_text().split(" README")[0] == (
                    target / "SHA256SUMS"
                ).read_text().split(" README")[0]


@given(given_answers=answers())
@SAFE
def test_own_records_are_read_back_equal(given_answers: list[Answer]) -> None:
    with stored(given_answers) as (store, folder):
        collected = gather(store, "p")
        expected = build(collected, "preferences", ExportOptions()).records
        if not expected:
            return
        for form in FORMATS:
            assert list(read(write(store, folder, "preferences", form), Preference).records) == expected


def flat_pair(p: Preference) -> dict[str, Any]:
    """What the TRL shape can hold of a pair."""
    return {
        "id": p.id,
        "messages": p.prompt.messages,
        "texts": [(c.text, c.model) for c in p.candidates],
        "choice": p.choice,
        "strength": p.strength or 0.0,
        "soft": p.soft,
        "annotator": (p.annotator, p.group),
        "meta": p.meta,
    }


@given(given_answers=answers())
@SAFE
def test_pairs_are_read_back_as_the_pairs_they_were(given_answers: list[Answer]) -> None:
    with stored(given_answers) as (store, folder):
        expected = build(gather(store, "p"), "pairs", ExportOptions()).records
        if not expected:
            return
        for form in FORMATS:
            found = read(write(store, folder, "pairs", form), Preference).records
            assert [flat_pair(p) for p in found] == [flat_pair(p) for p in expected]


@given(given_answers=answers())
@SAFE
def test_rankings_are_read_back_with_their_ranks(given_answers: list[Answer]) -> None:
    with stored(given_answers) as (store, folder):
        expected = build(gather(store, "p"), "rankings", ExportOptions()).records
        if not expected:
            return
        for form in FORMATS:
            found = read(write(store, folder, "rankings", form), Preference).records
            assert [(p.id, ranks(p), p.annotator, p.group, p.meta) for p in found] == [
                (p.id, ranks(p), p.annotator, p.group, p.meta) for p in expected
            ]
            assert [[(c.text, c.model) for c in p.candidates] for p in found] == [
                [(c.text, c.model) for c in p.candidates] for p in expected
            ]


@given(given_answers=answers())
@SAFE
def test_labelled_replies_and_demonstrations_are_read_back(given_answers: list[Answer]) -> None:
    with stored(given_answers) as (store, folder):
        collected = gather(store, "p")
        demonstrations = build(collected, "demonstrations", ExportOptions()).records
        thumbs = build(collected, "unpaired", ExportOptions()).records
        for form in FORMATS:
            if demonstrations:
                found = read(write(store, folder, "demonstrations", form), Demonstration).records
                assert list(found) == demonstrations
            if {r.label for r in thumbs} == {True, False}:
                labelled = read(write(store, folder, "unpaired", form), Unpaired).records
                told = [(r.id, r.prompt.messages, r.completion, r.label, r.meta) for r in thumbs]
                assert [(r.id, r.prompt.messages, r.completion, r.label, r.meta) for r in labelled] == told


@given(given_answers=answers())
@SAFE
def test_the_same_labels_make_the_same_bytes(given_answers: list[Answer]) -> None:
    with stored(given_answers) as (store, folder):
        for form in FORMATS:
            one, two = (write(store, folder / name, "annotations", form) for name in ("one", "two"))
            files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
            assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
            assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)
