"""The labelling app in a real browser, by keyboard alone: every kind of task, undo, skip, guidelines, export."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from collect_pages import BROWSER, GUIDELINES, REPLIES, RULES, Visitor, browsing, serving, task, visiting
from collect_site import PASSWORD, Site

from accord.collect import projects
from accord.collect.records import NewTask, ProjectSettings

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chromium-headless-shell on this machine"),
]


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    with browsing() as found:
        yield found


def exported(site: Site, kind: str) -> list[dict[str, Any]]:
    """What the site gives out, by its API."""
    answer = site.client("admin").get("/api/v1/export", params={"kind": kind, "format": "jsonl"})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def verdicts(site: Site) -> list[dict[str, Any]]:
    """Raw annotations, oldest first."""
    return exported(site, "annotations")


MIXED = [
    task(1, "pair", REPLIES[:2]),
    task(2, "rank", REPLIES),
    task(3, "edit", REPLIES[1:2]),
    task(4, "rate", REPLIES[:1]),
    task(5, "pair", REPLIES[:2]),
    task(6, "pair", REPLIES[2:4]),
    task(7, "pair", REPLIES[1:3]),
]


def sign_in(visitor: Visitor, handle: str) -> None:
    visitor.type(handle)
    visitor.press("Tab")
    visitor.type(PASSWORD)
    visitor.press("Enter")


def test_a_session_of_labelling_by_keyboard_alone(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, MIXED) as (site, base), visiting(browser, site, base, None) as visitor:
        projects.set_guidelines(site.store, "default", GUIDELINES)
        page = visitor.page
        visitor.open("/login?next=/label")
        sign_in(visitor, "the-annotator")
        page.wait_for_selector("#stage .task")

        visitor.task(1)
        assert page.locator("#submit[aria-disabled=true]").count() == 1
        visitor.press("Enter")  # nothing chosen: nothing happens
        visitor.press("7")
        assert visitor.text(".said") == "B much better"
        visitor.press("t")
        assert visitor.text(".said") == "Tie: equally good"
        visitor.press("b")
        assert visitor.text(".said").startswith("Both bad")
        visitor.press("2")
        assert visitor.text(".said") == "A better"
        visitor.can_send()
        visitor.press("Enter")

        visitor.task(2)
        visitor.press("2", "1", "2")  # A second, B first, C with A; D is left out
        assert visitor.text(".said") == "B > A = C"
        visitor.press("End")
        visitor.can_send()
        visitor.press("Enter")
        assert "Enter again" in visitor.text("#dock-why")
        visitor.press("Enter")

        visitor.task(3)
        visitor.press("e")
        visitor.press("Control+a")
        visitor.type("Bees steer by the sun and by what they remember. 1 2 s t u")  # letters are text here
        visitor.can_send()
        visitor.press("Control+Enter")

        visitor.task(4)
        visitor.press("6")
        visitor.can_send()
        visitor.press("Enter")

        visitor.task(5)
        visitor.press("1")
        visitor.can_send()
        visitor.press("Enter")
        visitor.task(6)
        visitor.saved()
        visitor.press("u")  # back to 5, as it was answered
        visitor.task(5)
        assert visitor.text(".said") == "A much better"
        visitor.press("5")
        visitor.can_send()
        visitor.press("Enter")

        visitor.task(6)
        visitor.press("g")
        page.wait_for_selector("#guide-body .md")
        assert "true" in visitor.text("#guide-body")
        assert page.evaluate("document.activeElement.id") == "guide-title"
        visitor.press("Escape")
        assert page.evaluate("document.activeElement.id") == "guide-button"
        visitor.press("s")
        visitor.press("2", "Enter")

        visitor.task(7)
        visitor.press("?")
        page.wait_for_selector("dialog[open]")
        visitor.press("Escape")
        visitor.press("e")  # an edit beside a comparison
        page.wait_for_selector("dialog[open] textarea")
        visitor.press("Control+End")
        visitor.type(" Better still.")
        visitor.press("Control+Enter")
        page.wait_for_selector("dialog[open]", state="detached")
        visitor.press("4")
        visitor.can_send()
        visitor.press("Enter")
        page.get_by_role("heading", name="Nothing left for you right now").wait_for()
        visitor.saved()
        assert visitor.complaints == []

        answers = [one for one in verdicts(site) if not one.get("superseded")]
        by_kind = {kind: sum(one["kind"] == kind for one in answers) for kind in ("pair", "rank", "edit", "rate")}
        assert by_kind["rank"] == by_kind["edit"] == by_kind["rate"] == 1
        texts = json.dumps(exported(site, "demonstrations"))
        assert "what they remember. 1 2 s t u" in texts
        assert "Better still." in texts


def test_export_and_guidelines_by_keyboard_alone(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, MIXED[:1]) as (site, base), visiting(browser, site, base, "admin") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        visitor.press("1")
        visitor.can_send()
        visitor.press("Enter")
        page.wait_for_selector(".message")
        visitor.saved()

        visitor.open("/admin", ".figures")
        visitor.focus_reaches('a[href="/admin/data"]')
        visitor.press("Enter")
        page.wait_for_selector("#export-link")
        visitor.focus_reaches("#export-link")
        with page.expect_download() as waiting:
            visitor.press("Enter")
        rows = [json.loads(line) for line in Path(waiting.value.path()).read_text().splitlines()]
        assert len(rows) == 1

        visitor.open("/admin/guidelines", "#guide-source")
        visitor.focus_reaches("#guide-source")
        visitor.press("Control+End")
        visitor.type("\n\nA new rule.")
        visitor.press("Tab")
        assert "Publish as version" in page.evaluate("document.activeElement.textContent")
        visitor.press("Enter")
        page.wait_for_selector(".toast")
        assert projects.guidelines(site.store, "default").markdown.endswith("A new rule.")
        assert visitor.complaints == []


def test_keys_rest_in_text_fields_and_can_be_switched_off(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, MIXED[:1]) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        visitor.press("r")
        visitor.type("7 because b t s u ?")
        assert page.locator(".reason textarea").input_value() == "7 because b t s u ?"
        assert page.locator("dialog[open]").count() == 0
        assert page.locator(".dock input:checked").count() == 0
        visitor.press("Escape")
        visitor.press("?")
        visitor.focus_reaches("dialog input[role=switch]")
        visitor.press("Space")
        visitor.press("Escape")
        page.evaluate("document.activeElement.blur()")
        visitor.press("7", "s", "?", "Enter")
        assert page.locator(".dock input:checked").count() == 0
        assert page.locator("dialog[open]").count() == 0
        visitor.focus_reaches(".dock input[type=radio]")
        visitor.press("Space")  # the radio group itself still works
        assert page.locator(".dock input:checked").count() == 1
        visitor.can_send()
        visitor.focus_reaches("#submit")
        visitor.press("Enter")
        page.wait_for_selector(".message")
        visitor.saved()
        assert len(verdicts(site)) == 1
        assert visitor.complaints == []


def test_arrows_move_along_the_scale(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, MIXED[:1]) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        visitor.open("/label", "#stage .task")
        visitor.focus_reaches(".dock input[type=radio]")
        visitor.press("Space", "ArrowRight", "ArrowRight")
        assert visitor.text(".said") == "A slightly better"
        visitor.press("Enter")
        visitor.page.wait_for_selector(".message")
        visitor.saved()
        assert visitor.complaints == []


def test_order_by_buttons_and_by_the_handle_only(tmp_path: Path, browser: Any) -> None:
    with (
        serving(tmp_path, [task(1, "rank", REPLIES)]) as (site, base),
        visiting(browser, site, base, "annotator") as visitor,
    ):
        page = visitor.page
        visitor.open("/label", "#stage .task")
        visitor.press("1", "2", "3", "4")
        assert visitor.text(".said") == "A > B > C > D"
        visitor.focus_reaches('[aria-label="Move reply B up"]')
        visitor.press("Enter")
        assert visitor.text(".said") == "B > A > C > D"
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Move reply B up"
        page.get_by_label("Tie reply C with the one above").click()
        assert visitor.text(".said") == "B > A = C > D"
        page.get_by_label("Take reply D out of the order").click()
        assert visitor.text(".said") == "B > A = C"

        row = page.locator('.board-row[data-position="2"]')
        text, target = row.locator(".board-text").bounding_box(), page.locator(".board-row").first.bounding_box()
        page.mouse.move(text["x"] + 5, text["y"] + 5)
        page.mouse.down()
        page.mouse.move(target["x"] + 5, target["y"] + 2, steps=4)
        page.mouse.up()
        assert visitor.text(".said") == "B > A = C", "dragging by the text must change nothing"
        handle = row.locator(".handle").bounding_box()
        page.mouse.move(handle["x"] + 5, handle["y"] + 5)
        page.mouse.down()
        page.mouse.move(target["x"] + 5, target["y"] + 2, steps=4)
        page.mouse.up()
        assert visitor.text(".said") == "C > B > A"
        assert visitor.complaints == []


def test_a_long_reply_must_be_read_to_its_end(tmp_path: Path, browser: Any) -> None:
    long = "\n\n".join(f"Paragraph {n}." for n in range(80))
    items = [task(1, "pair", ["Short.", long])]
    with serving(tmp_path, items) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        visitor.open("/label", "#stage .task")
        visitor.press("1", "Enter")
        assert "to its end" in visitor.text("#dock-why")
        assert visitor.page.locator("#stage .task").count() == 1
        visitor.page.evaluate(
            """() => {
            const ends = [...document.querySelectorAll('.reply-text > .sentinel:last-child')];
            const last = Math.max(...ends.map((end) => end.getBoundingClientRect().bottom));
            scrollBy(0, last - innerHeight + 20);
        }"""
        )
        visitor.page.wait_for_timeout(200)
        assert "to its end" in visitor.text("#dock-why"), "what lies under the dock was not seen"
        visitor.press("End")
        visitor.can_send()
        widths = visitor.page.evaluate("[...document.querySelectorAll('.reply')].map(r => r.offsetWidth)")
        assert widths[0] == widths[1]
        visitor.press("Enter")
        visitor.page.wait_for_selector(".message")
        visitor.saved()
        assert visitor.complaints == []


def test_human_evaluation_asks_for_success_ratings_and_a_reason(tmp_path: Path, browser: Any) -> None:
    rules = RULES.model_copy(update={"require_rationale": True, "require_ratings": True, "strength": False})
    item: NewTask = task(1, "pair", REPLIES[:2], purpose="evaluation")
    with serving(tmp_path, [item], rules) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        assert "Evaluation" in visitor.text(".kicker")
        visitor.press("7")
        for group, key in ((0, "ArrowRight"), (1, "ArrowRight")):
            page.get_by_role("radiogroup", name="Quality of reply").nth(group).get_by_role("radio").first.focus()
            visitor.press(key)
        for group in page.get_by_role("radiogroup", name="do what was asked").all():
            group.get_by_role("radio").first.focus()
            visitor.press("Space")
        page.evaluate("document.activeElement.blur()")
        visitor.press("r")
        visitor.type("It is true.")
        visitor.can_send()
        visitor.press("Control+Enter")
        page.wait_for_selector(".message")
        visitor.saved()
        assert len(verdicts(site)) == 1
        assert visitor.complaints == []


def test_several_settings_reach_the_page(tmp_path: Path, browser: Any) -> None:
    rules: ProjectSettings = RULES.model_copy(update={"tie": False, "both_bad": False, "flags": ("smug",)})
    with serving(tmp_path, MIXED[:1], rules) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        visitor.press("t", "b", "4")
        assert page.locator(".dock input:checked").count() == 0
        assert page.locator(".dock input[type=radio]").count() == 6
        visitor.press("f")
        page.wait_for_selector(".flags[open]")
        assert "smug" in visitor.text(".flags[open]")
        assert visitor.complaints == []


def test_the_next_task_is_painted_soon_after_the_key(
    tmp_path: Path, browser: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    # benchmarks/collect_browser.py measures; this only notices when the next task waits for the server again.
    items = [task(n, "pair", REPLIES[:2]) for n in range(1, 7)]
    with serving(tmp_path, items) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        visitor.open("/label", "#stage .task")
        visitor.page.evaluate(
            """() => {
            window.times = [];
            addEventListener("keydown", (e) => { if (e.key === "Enter") window.pressed = performance.now(); }, true);
            addEventListener("focusin", (e) => {
                if (!e.target.matches(".task-title") || !window.pressed) return;
                const from = window.pressed;
                requestAnimationFrame(() => requestAnimationFrame(() => window.times.push(performance.now() - from)));
            });
        }"""
        )
        for number in range(1, 6):
            visitor.task(number)
            visitor.saved()
            visitor.page.wait_for_timeout(200)
            visitor.press("1")
            visitor.can_send()
            visitor.press("Enter")
        visitor.task(6)
        visitor.page.wait_for_function("() => window.times.length === 5")
        times = sorted(visitor.page.evaluate("window.times"))
        with capsys.disabled():
            print(f"\nkey press to next task painted: median {times[2]:.0f} ms, most {times[-1]:.0f} ms")
        assert times[0] < 1000
        assert visitor.complaints == []


def test_a_password_is_changed_and_the_session_goes_on(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, MIXED[:1]) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        visitor.focus_reaches(".account summary")
        visitor.press("Enter")
        visitor.focus_reaches("#password-button")
        visitor.press("Enter")
        page.wait_for_selector("dialog[open]")
        visitor.type(PASSWORD)
        visitor.press("Tab")
        visitor.type("another good battery")
        visitor.press("Enter")
        page.wait_for_selector("dialog .notice.good")
        visitor.press("Escape", "1")
        visitor.can_send()
        page.evaluate("document.activeElement.blur()")
        visitor.press("Enter")
        visitor.saved()
        assert len(verdicts(site)) == 1
        page.locator(".account summary").click()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/login")
        visitor.open("/login")
        visitor.type("the-annotator")
        visitor.press("Tab")
        visitor.type("another good battery")
        visitor.press("Enter")
        page.wait_for_selector(".message, #stage .task")
        assert visitor.complaints == []
