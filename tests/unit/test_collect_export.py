"""Exports: what is in the files, what the card says, who can load them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from accord.collect import events
from accord.collect.claims import claim
from accord.collect.database import Store, open_store
from accord.collect.exporting import Combine, ExportOptions, export
from accord.collect.exporting.card import Facts, agreement, card
from accord.collect.exporting.gather import gather
from accord.collect.exporting.pairs import ordered
from accord.collect.exporting.rows import transcript
from accord.collect.importing import import_file
from accord.collect.importing.answers import Answer, store_answers
from accord.collect.people import create_user
from accord.collect.projects import ensure_project, set_guidelines, set_settings
from accord.collect.quality.report import quality_report
from accord.collect.records import NewTask, ProjectSettings, Submission, TaskView, Verdict
from accord.collect.submissions import submit, undo
from accord.collect.tables import DatasetSnapshotRow
from accord.collect.tasks import add_tasks
from accord.data import read
from accord.errors import ConfigError, DataError
from accord.types import Candidate, Message, Preference, Prompt

PROJECT = "p"


def answer(number: int, person: int, said: dict[str, Any], **more: Any) -> Answer:
    """Person says something about "good n" and "bad n" (and "poor n" in rankings)."""
    kind = more.pop("kind", "pair")
    texts = {"pair": ("good", "bad"), "rank": ("good", "bad", "poor"), "rate": ("good",), "edit": ("good",)}[kind]
    prompt = Prompt(id=f"p{number}", messages=(Message(role="user", content=f"Question {number}?"),))
    candidates = tuple(Candidate(text=f"{t} {number}", model=f"model-{t}") for t in texts)
    told = {name: more.pop(name) for name in ("slice", "policy", "propensity", "gold", "purpose") if name in more}
    task = NewTask(kind=kind, prompt=prompt, candidates=candidates, key=f"{kind}-{number}", **told)
    return Answer(
        where="",
        line=0,
        task=task,
        verdict=Verdict.model_validate({"kind": kind, **said}),
        pseudonym=f"annotator-{person}",
        key=f"{kind}-{number}-{person}",
        shown_order=tuple(range(len(texts))),
        dwell_ms=1500,
        **more,
    )


@pytest.fixture
def store(store: Store) -> Store:
    """The store of both databases, with an empty project."""
    ensure_project(store, PROJECT, seed=1)
    return store


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]


def fill(store: Store) -> None:
    """12 prompts judged by three people who agree, a tie, a both-bad, a ranking, a rating, an edit."""
    given = [answer(n, person, {"position": 0, "strength": 2}) for n in range(12) for person in range(3)]
    given += [answer(20, 0, {"tie": True}), answer(21, 0, {"both_bad": True})]
    given += [answer(30, 0, {"ranking": ((0,), (1, 2))}, kind="rank")]
    given += [answer(40 + n, 0, {"ratings": (rating,)}, kind="rate") for n, rating in enumerate((7, 4, 1))]
    given += [answer(50, 1, {"edit": "the best 50", "edit_position": 0}, kind="edit")]
    assert not store_answers(store, PROJECT, given).refused


def test_pairs_have_the_columns_of_trl_and_weights_of_rankings(store: Store, tmp_path: Path) -> None:
    fill(store)
    done = export(store, PROJECT, tmp_path / "out", kind="pairs")
    found = rows(tmp_path / "out" / "data" / "train.jsonl")
    assert set(found[0]) == {
        *(
            "id",
            "prompt",
            "chosen",
            "rejected",
            "margin",
            "weight",
            "annotator",
            "chosen_model",
            "rejected_model",
            "meta",
        )
    }
    assert found[0]["prompt"] == [{"role": "user", "content": "Question 0?"}]
    assert found[0]["chosen"] == [{"role": "assistant", "content": "good 0"}]
    assert (found[0]["margin"], found[0]["weight"]) == (2.0, 1.0)
    ranking = [r for r in found if "ranking" in r["meta"]]
    assert [r["chosen"][0]["content"] for r in ranking] == ["good 30", "good 30"]
    assert {r["weight"] for r in ranking} == {1 / 3}
    edited = [r for r in found if r["meta"].get("edit")]
    assert [(r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in edited] == [("the best 50", "good 50")]
    assert done.left_out["ties, which order no pair"] == 1
    assert done.left_out["both bad, which orders no pair"] == 1
    assert sum(done.rows.values()) == len(found) == 36 + 2 + 1


def test_models_and_margins_can_be_left_out(store: Store, tmp_path: Path) -> None:
    fill(store)
    options = ExportOptions(models=False, margins=False, edits=False)
    export(store, PROJECT, tmp_path / "out", kind="pairs", options=options)
    text = (tmp_path / "out" / "data" / "train.jsonl").read_text()
    assert "model-good" not in text and "margin" not in text and "the best" not in text


def test_trl_and_datasets_load_the_folder(store: Store, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    fill(store)
    options = ExportOptions(splits={"train": 0.6, "test": 0.4})
    export(store, PROJECT, tmp_path / "out", kind="pairs", format="dataset", options=options)
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    saved = datasets.load_from_disk(str(tmp_path / "out"))
    assert set(loaded) == set(saved) == {"train", "test"}
    for split in loaded:
        assert loaded[split].to_list() == saved[split].to_list()
    prompts = {split: {r["prompt"][0]["content"] for r in loaded[split].to_list()} for split in loaded}
    assert not prompts["train"] & prompts["test"]
    row = loaded["train"][0]
    assert list(row)[:4] == ["id", "prompt", "chosen", "rejected"]
    from trl.data_utils import is_conversational

    assert is_conversational(row)
    assert list(read(f"{tmp_path / 'out'}:test", Preference).records)


def test_without_splits_too(store: Store, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    fill(store)
    for kind in ("unpaired", "demonstrations", "rankings", "annotations"):
        export(store, PROJECT, tmp_path / kind, kind=kind, format="parquet")
        loaded = datasets.load_dataset(str(tmp_path / kind), cache_dir=str(tmp_path / "cache"))
        assert loaded["train"].num_rows > 0


def test_hh_transcripts_are_read_back(store: Store, tmp_path: Path) -> None:
    fill(store)
    export(store, PROJECT, tmp_path / "hh", kind="pairs", format="hh")
    found = read(tmp_path / "hh", Preference)
    assert found.format == "hh-rlhf"
    assert found.records[0].candidates[0].text == "good 0"
    assert found.records[0].prompt.messages[0].content == "Question 0?"
    with pytest.raises(ConfigError, match="hold pairs"):
        export(store, PROJECT, tmp_path / "no", kind="rankings", format="hh")


@pytest.mark.parametrize(
    "turns",
    [
        [("system", "Be kind."), ("user", "Hi")],
        [("user", "Hi"), ("user", "again")],
        [("user", "Hi\n\nAssistant: no")],
        [("user", "Human: hi")],
    ],
)
def test_what_a_transcript_cannot_hold_is_refused(turns: list[tuple[str, str]]) -> None:
    messages = [Message.model_validate({"role": role, "content": text}) for role, text in turns]
    with pytest.raises(DataError, match="no place in an HH transcript"):
        transcript(messages)


def test_checksums_agree_with_the_standard_tool(store: Store, tmp_path: Path) -> None:
    fill(store)
    done = export(store, PROJECT, tmp_path / "out", kind="pairs", format="dataset")
    checked = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=False)
    assert checked.returncode == 0
    named = {line.split("  ")[1] for line in (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()}
    assert named | {"SHA256SUMS"} == set(done.files)
    (tmp_path / "out" / "README.md").write_text("changed")
    assert subprocess.run(["sha256sum", "-c", "--status", "SHA256SUMS"], cwd=tmp_path / "out", check=False).returncode


def test_a_snapshot_and_an_event_say_what_was_exported(store: Store, tmp_path: Path) -> None:
    fill(store)
    one = export(store, PROJECT, tmp_path / "one", kind="pairs")
    two = export(store, PROJECT, tmp_path / "two", kind="pairs")
    other = export(store, PROJECT, tmp_path / "three", kind="unpaired")
    assert one.sha256 == two.sha256 != other.sha256
    with store.read() as session:
        found = list(session.scalars(select(DatasetSnapshotRow).order_by(DatasetSnapshotRow.id)))
    assert [(r.id, r.kind, r.sha256, r.n_rows) for r in found] == [
        (one.snapshot, "pairs", one.sha256, 39),
        (two.snapshot, "pairs", two.sha256, 39),
        (other.snapshot, "unpaired", other.sha256, 2),
    ]
    assert found[0].query["options"]["splits"] == {"train": 1.0}
    assert events.verify_events(store).broken == ()


def test_ratings_become_thumbs_by_the_threshold(store: Store, tmp_path: Path) -> None:
    fill(store)
    done = export(store, PROJECT, tmp_path / "out", kind="unpaired")
    found = rows(tmp_path / "out" / "data" / "train.jsonl")
    assert [(r["completion"][0]["content"], r["label"]) for r in found] == [("good 40", True), ("good 42", False)]
    assert done.left_out["ratings equal to the threshold 4"] == 1
    export(store, PROJECT, tmp_path / "out", kind="unpaired", options=ExportOptions(threshold=3.5))
    assert [r["label"] for r in rows(tmp_path / "out" / "data" / "train.jsonl")] == [True, True, False]


def test_the_card_tells_counts_agreement_rules_and_what_is_missing(store: Store, tmp_path: Path) -> None:
    guideline = set_guidelines(store, PROJECT, "Be fair.")
    given = [
        answer(n, person, {"position": int(person == 2)}, guideline=guideline.sha256)
        for n in range(4)
        for person in range(3)
    ]
    given.append(answer(9, 0, {"tie": True}))
    store_answers(store, PROJECT, given)
    options = ExportOptions(
        combine=Combine(aggregate="majority", tie_policy="drop"),
        license="cc-by-4.0",
        title="My labels",
        language=("en",),
    )
    export(store, PROJECT, tmp_path / "out", kind="pairs", options=options)
    card = (tmp_path / "out" / "README.md").read_text()
    front = card.split("---")[1]
    assert 'license: "cc-by-4.0"' in front and '- "en"' in front and "path: data/train.jsonl" in front
    for part in (
        "# My labels",
        "| train | 4 |",
        "| judgements | 13 |",
        "| combined by | majority |",
        "| equal votes | drop |",
        "| raw agreement | 0.333",
        "| verdict: tie | 1 |",
        "| annotator-2 | - | 4 |",
        f"| version 1 | `{guideline.sha256[:16]}` | 12 |",
        "cc-by-4.0",
        "1 pairs with equal votes are left out",
    ):
        assert part in card, part


def test_agreement_is_measured_on_the_random_slice() -> None:
    def judged(number: int, person: str, choice: int, slice: str) -> Preference:
        prompt = Prompt(id=f"{number}", messages=(Message(role="user", content=f"Q{number}"),))
        texts = (Candidate(text="a"), Candidate(text="b"))
        return Preference(
            id=f"{number}{person}",
            prompt=prompt,
            candidates=texts,
            choice=choice,
            annotator=person,
            meta={"slice": slice},
        )

    same = [judged(n, who, 0, "random") for n in range(3) for who in "xy"]
    split = [judged(10 + n, who, int(who == "y"), "active") for n in range(9) for who in "xy"]
    found = agreement([*same, *split])
    assert found.raw.value == 1.0 and found.sliced
    found = agreement(split)
    assert found.raw.value == 0.0 and not found.sliced
    assert agreement(split[::2]).raw.value is None


def test_the_card_says_of_rankings_what_accord_agree_says() -> None:
    def ranked(prompt: int, person: str, *order: int, size: int = 3) -> Preference:
        asked = Prompt(id=f"{prompt}", messages=(Message(role="user", content=f"Q{prompt}"),))
        texts = tuple(Candidate(text=f"{prompt} {i}") for i in range(size))
        said = tuple((i,) for i in order)
        return Preference(id=f"{prompt}{person}", prompt=asked, candidates=texts, ranking=said, annotator=person)

    given = [ranked(n, who, *order) for n in range(4) for who, order in (("x", (0, 1, 2)), ("y", (0, 2, 1)))]
    given += [ranked(9, who, *order, size=2) for who, order in (("x", (0, 1)), ("y", (1, 0)))]
    found, report = agreement(given), quality_report(given)
    assert found.rankings == report.rankings and found.rankings["tau_b"].value == pytest.approx(1 / 3)
    assert found.raw == report.agreement.raw and (found.raw.value, found.raw.n) == (0.0, 1)
    text = card("rankings", "jsonl", ExportOptions(), Facts("p", {"train": 5}, 5, given, given))
    assert "| rankings, tau_b | 0.333 [" in text and "| raw agreement | 0.000" in text
    only = card("rankings", "jsonl", ExportOptions(), Facts("p", {"train": 4}, 4, given[:8], given[:8]))
    assert "raw agreement" not in only and "| rankings, w | " in only


def test_agreement_is_about_replies_and_its_interval_over_prompts() -> None:
    def judged(prompt: int, texts: tuple[str, str], person: str, choice: int) -> Preference:
        asked = Prompt(id=f"{prompt}", messages=(Message(role="user", content=f"Q{prompt}"),))
        both = (Candidate(text=texts[0]), Candidate(text=texts[1]))
        return Preference(id=person, prompt=asked, candidates=both, choice=choice, annotator=person)

    turned = [judged(1, ("a", "b"), "x", 0), judged(1, ("b", "a"), "y", 1)]
    assert agreement(turned).raw.value == 1.0, "the same reply under another name of the sides"
    one = [judged(1, (f"a{n}", "b"), who, int(who == "y" and n > 3)) for n in range(8) for who in "xy"]
    found = agreement(one).raw
    assert (found.value, found.n, found.low) == (0.5, 8, None), "eight pairs of one prompt are one observation"


def test_the_card_leaves_labels_that_disagreement_called_for_out_of_agreement(store: Store, tmp_path: Path) -> None:
    people = [create_user(store, f"p{i}", "annotator") for i in range(5)]
    task = answer(1, 0, {"position": 0}, slice="random").task
    add_tasks(store, PROJECT, [task.model_copy(update={"overlap": 2})])
    set_settings(store, PROJECT, ProjectSettings(escalate_overlap=5, gold_rate=0, gold_rate_new=0, repeat_rate=0))
    for person, text in zip(people, ("good", "bad", "good", "good", "good"), strict=True):
        view = claim(store, PROJECT, person)
        assert view is not None
        place = next(c.position for c in view.candidates if c.text.startswith(text))
        said = Verdict(kind="pair", position=place)
        submit(store, person, Submission(assignment=view.assignment, key="first answer", verdict=said))
    submit(store, people[0], revised(undo(store, people[0])))
    export(store, PROJECT, tmp_path / "out", kind="annotations")
    assert "| raw agreement | 0.000" in (tmp_path / "out" / "README.md").read_text()
    planned = gather(store, PROJECT).planned
    copy = open_store(tmp_path / "copy.db")
    ensure_project(copy, PROJECT, seed=2)
    import_file(copy, PROJECT, tmp_path / "out" / "data" / "train.jsonl")
    assert len(planned) == 2 and planned <= gather(copy, PROJECT).planned, "a revised answer keeps its place"
    copy.close()


def revised(view: TaskView) -> Submission:
    assert view.previous is not None
    return Submission(assignment=view.assignment, key="second answer", verdict=view.previous)


@pytest.mark.parametrize("policy, expected", [("tie", 1), ("drop", 0), ("adjudicate", 0), ("random", 1)])
def test_equal_votes_by_the_named_policy(store: Store, tmp_path: Path, policy: Any, expected: int) -> None:
    given = [answer(0, 0, {"position": 0}), answer(0, 1, {"position": 1}), answer(1, 0, {"position": 0})]
    store_answers(store, PROJECT, given)
    options = ExportOptions(combine=Combine(aggregate="majority", tie_policy=policy))
    done = export(store, PROJECT, tmp_path / "out", kind="preferences", options=options)
    found = rows(tmp_path / "out" / "data" / "train.jsonl")
    assert len(found) == 1 + expected
    if policy == "tie":
        assert found[0]["tie"] is True
    if policy == "random":
        assert found[0]["choice"] in (0, 1)
    assert any("adjudicator" in note for note in done.notes) == (policy == "adjudicate")


def test_hidden_tests_repeats_and_other_purposes_stay_out_and_are_counted(store: Store, tmp_path: Path) -> None:
    given = [
        answer(0, 0, {"position": 0}, slice="random"),
        answer(1, 0, {"position": 0}, gold={"position": 0}),
        answer(2, 0, {"position": 0}, repeat_of="pair-0"),
        answer(3, 0, {"position": 0}, purpose="evaluation"),
        answer(4, 0, {"position": 0}, slice="active"),
    ]
    store_answers(store, PROJECT, given)
    done = export(store, PROJECT, tmp_path / "out", options=ExportOptions(slice="random", purpose="all"))
    assert sum(done.rows.values()) + sum(done.left_out.values()) == 5
    assert done.left_out["answers to hidden tests"] == 1
    assert done.left_out["swapped repeats"] == 1
    assert done.left_out["active slice"] >= 1
    every = ExportOptions(gold=True, repeats=True, purpose="all")
    assert sum(export(store, PROJECT, tmp_path / "all", options=every).rows.values()) == 5


def test_one_file_has_its_card_beside_it(store: Store, tmp_path: Path) -> None:
    fill(store)
    done = export(store, PROJECT, tmp_path / "labels.parquet", kind="pairs", format="parquet")
    assert set(done.files) == {"labels.parquet", "labels.README.md"}
    assert done.sha256 == hashlib.sha256((tmp_path / "labels.parquet").read_bytes()).hexdigest()
    assert len(read(tmp_path / "labels.parquet", Preference).records) == 39
    with pytest.raises(ConfigError, match="the format is jsonl"):
        export(store, PROJECT, tmp_path / "labels.parquet", kind="pairs")
    halves = ExportOptions(splits={"a": 0.5, "b": 0.5})
    with pytest.raises(ConfigError, match="do not fit into one file"):
        export(store, PROJECT, tmp_path / "labels.jsonl", kind="pairs", options=halves)


def test_a_folder_of_something_else_is_never_replaced(store: Store, tmp_path: Path) -> None:
    fill(store)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="no earlier export"):
        export(store, PROJECT, tmp_path / "mine", kind="pairs")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    export(store, PROJECT, tmp_path / "out", kind="pairs", format="dataset")
    export(store, PROJECT, tmp_path / "out", kind="unpaired", format="jsonl")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "SHA256SUMS", "data"]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]


def test_an_empty_export_says_why(store: Store, tmp_path: Path) -> None:
    store_answers(store, PROJECT, [answer(0, 0, {"tie": True})])
    with pytest.raises(DataError, match=r"no pairs to export \(1 left out: ties"):
        export(store, PROJECT, tmp_path / "out", kind="pairs")
    with pytest.raises(DataError, match="no prompt fell into the split"):
        export(store, PROJECT, tmp_path / "out", options=ExportOptions(splits={"train": 0.999, "test": 0.001}))
    assert not (tmp_path / "out").exists()


def test_a_soft_label_goes_with_the_better_side() -> None:
    prompt = Prompt(id="p", messages=(Message(role="user", content="Q"),))
    texts = (Candidate(text="a"), Candidate(text="b"))
    p = Preference(id="x", prompt=prompt, candidates=texts, soft=0.2, order_shown=(0, 1))
    (pair,) = ordered([p]).pairs
    assert (pair.candidates[0].text, pair.soft, pair.order_shown) == ("b", 0.8, (1, 0))
