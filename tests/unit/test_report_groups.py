"""The section of the report on groups of annotators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_page import Page
from synthetic_run import EVIL, write_stage

from accord.report.groups import GroupReport, read_groups
from accord.report.page import render
from accord.report.runfiles import read_run

DIVIDED = (0, 7, 14)


def row(item: int, who: str, group: str, choice: int | None, **more: Any) -> dict[str, Any]:
    """A judgement of item's two replies; None = tie."""
    return {
        "id": f"{item}-{who}",
        "prompt": {"id": f"p{item}", "messages": [{"role": "user", "content": f"question {item}"}]},
        "candidates": [{"text": f"short {item}"}, {"text": f"long {EVIL} {item}"}],
        **({"tie": True} if choice is None else {"choice": choice}),
        "annotator": who,
        "group": group,
        **more,
    }


def judgements(divided: tuple[int, ...] = DIVIDED, items: int = 30, seed: int = 0) -> list[dict[str, Any]]:
    """Two groups of nine; on the divided items the second wants the other reply."""
    rng = np.random.default_rng(seed)
    found = []
    for item in range(items):
        for group, wants in (("brief", 0), ("warm", int(item in divided))):
            for k in range(9):
                found.append(row(item, f"{group}{k}", group, wants ^ int(rng.random() < 0.03)))
    return found


def written(directory: Path, rows: list[dict[str, Any]], **config: Any) -> Path:
    run = directory / "run"
    stage = write_stage(run, "collect", {"num": len(rows)}, kind="preferences")
    (stage / "judgements.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    manifest = json.loads((stage / "manifest.json").read_text())
    manifest["config"] = config
    (stage / "manifest.json").write_text(json.dumps(manifest))
    return run


def reported(directory: Path, rows: list[dict[str, Any]], **config: Any) -> GroupReport:
    found = read_groups(read_run(written(directory, rows, **config)))
    assert found is not None
    return found


def test_pairs_that_split_the_groups_are_shown_with_what_each_rule_decides(tmp_path: Path) -> None:
    found = reported(tmp_path, judgements(), aggregate="group_mixture", population={"brief": 0.8, "warm": 0.2})
    assert found.found == 3
    assert {c.id for c in found.cards} == {f"p{i}" for i in DIVIDED}
    card = found.cards[0]
    assert [b.group for b in card.bars] == ["brief", "warm"]
    assert card.bars[0].share > 60 and card.bars[1].share < 40
    decisions = dict(card.decisions)
    assert decisions["Mixture of groups"].startswith("first")  # four in five are brief
    assert "opposite sides" in card.evidence and "p below 0.001" in card.evidence
    assert "split the groups" in found.sentence and "more often" in found.sentence
    assert [r[0] for r in found.rules] == ["Everybody alike", "Majority", "Mixture of groups (used)", "Worst group"]
    assert all(len(r) == 1 + 2 + 2 for r in found.rules)


def test_the_rules_table_by_hand(tmp_path: Path) -> None:
    # Item 0: three brief for the first, one warm for the second; item 1: everybody for the second.
    rows = [row(0, f"b{k}", "brief", 0) for k in range(3)] + [row(0, "w", "warm", 1)]
    rows += [row(1, f"b{k}", "brief", 1) for k in range(3)] + [row(1, "w", "warm", 1)]
    found = reported(tmp_path, rows)
    table = {r[0]: r[1:] for r in found.rules}
    assert table["Majority"][0].startswith("100") and table["Majority"][1].startswith("50")
    assert table["Majority"][2:] == ("50\u00a0% warm", "0\u00a0%")
    # The mixture of equal groups cannot decide item 0 and follows half of every vote there.
    assert table["Mixture of groups"][0].startswith("75") and table["Mixture of groups"][3] == "50\u00a0%"
    # Worst group with Jeffreys: brief 3.5/4, warm 0.5/2: the middle is 0.56, first.
    assert table["Worst group"][0].startswith("100")


def test_nothing_is_claimed_of_groups_that_agree(tmp_path: Path) -> None:
    found = reported(tmp_path, judgements(divided=()))
    assert found.found == 0 and 0 < len(found.cards) <= 3
    assert "No single pair" in found.sentence


def test_groups_that_never_meet_say_why(tmp_path: Path) -> None:
    rows = [row(i, f"{g}{i}", g, 0) for i in range(4) for g in ("a", "b")]
    found = reported(tmp_path, rows)
    assert "cannot be said: no pair was judged by two people of one group" in found.sentence
    assert found.likeness[0][2] == "\u2014"


def test_without_two_groups_there_is_no_section(tmp_path: Path) -> None:
    rows = [row(i, f"a{k}", "a", 0) for i in range(4) for k in range(2)]
    run = written(tmp_path, rows)
    assert read_groups(read_run(run)) is None
    page = Page(render(run))
    assert "groups" not in page.ids and "Groups" not in page.text


def test_judgements_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    rows = [*judgements(items=4), row(0, "", "brief", 0), row(0, "x", "", 0), {"id": "broken"}]
    found = reported(tmp_path, rows)
    assert found.unread == 3


def test_a_row_is_not_taken_for_the_one_before_it(tmp_path: Path) -> None:
    # What two rows share is checked once, so a row that is wrong in one place follows one that is right.
    good = judgements(items=4)
    reply = {"candidates": [{"text": "short 3"}, {"text": 3}]}
    turn = {"prompt": {"id": "p3", "messages": [{"role": "assistant", "content": "question 3"}]}}
    bad = [row(3, "x", "brief", 0) | wrong for wrong in (reply, turn, {"choice": 2}, {"tie": True})]
    found = reported(tmp_path / "bad", [*good, *bad])
    assert found.unread == 4
    alone = reported(tmp_path / "good", good)
    assert (found.agreement, found.likeness, found.rules, found.cards) == (
        alone.agreement,
        alone.likeness,
        alone.rules,
        alone.cards,
    )
    # Rows of other pairs in between change nothing either: nothing is known of them.
    mixed = reported(tmp_path / "mixed", [r for k in range(18) for r in good[k::18]])
    assert (mixed.rules, mixed.agreement, mixed.tiles) == (alone.rules, alone.agreement, alone.tiles)


def test_the_page_escapes_and_links(tmp_path: Path) -> None:
    rows = judgements()
    rows += [row(i, f"evil{k}", EVIL, 1) for i in range(30) for k in range(2)]
    html = render(written(tmp_path, rows))
    page = Page(html)
    assert "groups" in page.ids and ("a", "href", "#groups") in page.attributes
    assert "script" not in page.tags and EVIL in page.text
    assert "Do the groups want different things?" in page.text
    assert page.stack == []


@pytest.mark.parametrize("population", [None, {}, {"brief": "x"}, 3])
def test_odd_settings_do_not_break_the_page(tmp_path: Path, population: Any) -> None:
    assert reported(tmp_path, judgements(items=4), population=population).rules
