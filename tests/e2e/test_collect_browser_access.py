"""Every page in light, dark and on a phone: no axe-core violation, nothing too wide, no complaint of the browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from collect_pages import BROWSER, GUIDELINES, REPLIES, RULES, TALK, Visitor, browsing, serving, task, visiting
from collect_site import Site, submission

from accord.collect import people, projects, quiz
from accord.collect.records import QuizRule

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chromium-headless-shell on this machine"),
]

LOOKS = [(1280, "light"), (1280, "dark"), (320, "light"), (320, "dark")]
KINDS = {"pair": REPLIES[:2], "rank": REPLIES, "rate": REPLIES[:1], "edit": REPLIES[:1]}
SECTIONS = (
    "progress",
    "agreement",
    "annotators",
    "gold",
    "adjudication",
    "audit",
    "people",
    "guidelines",
    "data",
    "settings",
)


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    with browsing() as found:
        yield found


def look(visitor: Visitor) -> None:
    """What must hold for any page in any state."""
    visitor.page.wait_for_timeout(150)
    assert visitor.violations() == []
    assert visitor.too_wide() <= 0
    assert visitor.page.locator("h1").count() == 1
    assert visitor.page.locator("main").count() == 1


def options(width: int, scheme: str) -> dict[str, Any]:
    return {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_in_every_state(tmp_path: Path, browser: Any, kind: str, width: int, scheme: str) -> None:
    items = [task(1, kind, KINDS[kind]), task(2, kind, KINDS[kind])]
    with serving(tmp_path, items) as (site, base):
        projects.set_guidelines(site.store, "default", GUIDELINES)
        with visiting(browser, site, base, "annotator", **options(width, scheme)) as visitor:
            visitor.open("/label", "#stage .task")
            look(visitor)
            visitor.press("1", "f", "Escape")
            look(visitor)
            for key in ("?", "s"):
                visitor.press(key)
                visitor.page.wait_for_selector("dialog[open]")
                look(visitor)
                visitor.press("Escape")
            if kind != "edit":
                visitor.press("e")
                visitor.page.wait_for_selector("dialog[open] textarea")
                look(visitor)
                visitor.press("Escape")
            visitor.press("r")
            look(visitor)
            visitor.press("Escape", "g")
            visitor.page.wait_for_selector("#guide-body .md")
            look(visitor)
            background = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
            red = int(background.split("(")[1].split(",")[0])
            assert (red > 128) == (scheme == "light"), background
            assert visitor.complaints == []


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_pages_around(tmp_path: Path, browser: Any, width: int, scheme: str) -> None:
    rules = RULES.model_copy(update={"quiz_pass": QuizRule(items=1, share=1.0)})
    with serving(tmp_path, [task(1, "pair", REPLIES[:2])], rules) as (site, base):
        question = quiz.NewQuizItem(
            kind="pair",
            messages=TALK,
            candidates=REPLIES[:2],
            gold={"kind": "pair", "position": 0},
            explanation="The first names **all** means.",
        )
        quiz.add_quiz_items(site.store, "default", [question])
        projects.set_guidelines(site.store, "default", GUIDELINES)
        token = people.invite(site.store, "annotator")
        with visiting(browser, site, base, None, **options(width, scheme)) as visitor:
            for path in ("/login", f"/join/{token}"):
                visitor.open(path)
                look(visitor)
            visitor.open("/login")
            visitor.type("nobody")
            visitor.press("Tab")
            visitor.type("wrong password")
            visitor.press("Enter")
            visitor.page.wait_for_selector(".notice.bad")
            look(visitor)
        with visiting(browser, site, base, "annotator", **options(width, scheme)) as visitor:
            visitor.open("/guidelines", "#guidelines .md")
            look(visitor)
            visitor.open("/quiz", "#stage .task")
            look(visitor)
            visitor.press("PageDown", "PageDown", "PageDown", "1")
            visitor.can_send()
            visitor.press("Enter")
            visitor.page.wait_for_selector(".message .notes")
            look(visitor)
            assert visitor.complaints == []
            visitor.open("/nowhere")
            look(visitor)


def argue(site: Site) -> None:
    """Two people disagree, so that the queue of the adjudicator and every table has something in it."""
    for handle, wanted in (("ann", REPLIES[0]), ("bob", REPLIES[1])):
        client = site.person(handle)
        view = client.post("/api/v1/claim", json={}).json()
        position = [one["text"] for one in view["candidates"]].index(wanted)
        assert client.post("/api/v1/submit", json=submission(view, position=position)).status_code == 200


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_administration(tmp_path: Path, browser: Any, width: int, scheme: str) -> None:
    rules = RULES.model_copy(update={"overlap": 2, "escalate_overlap": 2, "slice_overlap": 2, "random_slice": 1.0})
    with serving(tmp_path, [task(1, "pair", REPLIES[:2])], rules) as (site, base):
        projects.set_guidelines(site.store, "default", GUIDELINES)
        argue(site)
        people.invite(site.store, "annotator")
        site.key("service", "read")
        with visiting(browser, site, base, "admin", **options(width, scheme)) as visitor:
            for section in SECTIONS:
                visitor.open(f"/admin/{section}")
                visitor.page.wait_for_selector("#section[aria-busy=false]")
                assert visitor.page.locator("#section > :not(noscript)").count() > 0, (section, visitor.complaints)
                look(visitor)
            assert visitor.complaints == []


def test_an_admin_lets_in_whom_the_quiz_keeps_out_and_reads_why_a_task_was_skipped(
    tmp_path: Path, browser: Any
) -> None:
    rules = RULES.model_copy(update={"quiz_pass": QuizRule(items=1), "skips_to_adjudicate": 1})
    with serving(tmp_path, [task(1, "pair", REPLIES[:2])], rules) as (site, base):
        ann = site.client("annotator")
        assert ann.post("/api/v1/claim", json={}).status_code == 403
        with visiting(browser, site, base, "admin") as visitor:
            visitor.open("/admin/annotators", "table")
            visitor.page.get_by_role("button", name="Let in").first.click()
            visitor.page.get_by_role("button", name="Stop").first.wait_for()
            held = ann.post("/api/v1/claim", json={}).json()["assignment"]
            said = {"assignment": held, "reason": "unclear", "comment": "Which bees?", "key": "12345678"}
            assert ann.post("/api/v1/skip", json=said).status_code == 200
            visitor.open("/admin/adjudication", ".judge-labels li")
            assert "Which bees?" in visitor.text(".judge-labels li")
            assert visitor.complaints == []


def test_what_the_administration_does(tmp_path: Path, browser: Any) -> None:
    rules = RULES.model_copy(update={"overlap": 2, "escalate_overlap": 2, "slice_overlap": 2, "random_slice": 1.0})
    with serving(tmp_path, [task(1, "pair", REPLIES[:2])], rules) as (site, base):
        argue(site)
        with visiting(browser, site, base, "admin") as visitor:
            page = visitor.page
            visitor.open("/admin/adjudication", ".judge-labels li")
            assert page.locator(".judge-labels li").count() == 2
            page.locator(".judge-dock input[type=radio]").first.focus()
            visitor.press("Space")
            page.get_by_role("button", name="Decide").click()
            page.get_by_text("Nobody needs a decision").wait_for()

            visitor.open("/admin/people", ".thirds")
            page.get_by_role("button", name="Make a link").click()
            link = visitor.text(".secret")
            assert people.read_invitation(site.store, link.rsplit("/", 1)[1]) is not None
            visitor.open("/admin/people", ".thirds")
            page.get_by_role("button", name="Revoke the invitation").click()
            page.get_by_text("nobody, ended").wait_for()
            assert people.read_invitation(site.store, link.rsplit("/", 1)[1]) is None
            page.get_by_role("button", name="Disable ann").click()
            page.wait_for_selector("button[aria-label='Enable ann']")

            visitor.open("/admin/settings", "form.block")
            page.get_by_label("Offer a tie").uncheck()
            page.get_by_role("button", name="Save settings").click()
            page.wait_for_selector(".toast")
            assert projects.settings(site.store, "default").tie is False
            page.get_by_label("Ask for a quiz first").check()
            page.get_by_role("button", name="Save settings").click()
            page.get_by_label("Questions in one attempt").fill("4")
            page.get_by_label("An attempt is passed by").select_option("beta")
            with page.expect_response(lambda answer: answer.request.method == "POST"):
                page.get_by_role("button", name="Save settings").click()
            assert projects.settings(site.store, "default").quiz_pass == QuizRule(items=4, rule="beta")
            visitor.open("/admin/settings", "form.block")
            page.get_by_label("Ask for a quiz first").uncheck()
            page.get_by_role("button", name="Save settings").click()
            page.get_by_label("Questions in one attempt").wait_for(state="detached")
            assert projects.settings(site.store, "default").quiz_pass is None

            visitor.open("/admin/audit", "table")
            page.get_by_role("button", name="Check the chain").click()
            page.wait_for_selector(".pill.good")

            visitor.open("/admin/data", "#import-file")
            prompt = {"id": "q", "messages": [{"role": "user", "content": "Why?"}]}
            line = json.dumps({**prompt, "candidates": [{"text": "a"}, {"text": "b"}]})
            page.set_input_files(
                "#import-file", {"name": "new.jsonl", "mimeType": "text/plain", "buffer": line.encode()}
            )
            page.get_by_role("button", name="Import").click()
            page.wait_for_selector(".notice.good")
            assert "1 task added" in visitor.text(".notice.good")
            assert visitor.complaints == []


def each_theme(toggle: Callable[[], None], read: Callable[[], str]) -> list[str]:
    seen = [read()]
    toggle()
    return [*seen, read()]


def test_a_chosen_theme_stays(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, []) as (site, base), visiting(browser, site, base, None, color_scheme="light") as visitor:
        page = visitor.page
        visitor.open("/login")

        def read() -> str:
            return page.evaluate("getComputedStyle(document.body).backgroundColor")

        light, dark = each_theme(lambda: page.locator("#theme-button").click(), read)
        assert light != dark
        page.reload()
        assert read() == dark
        page.emulate_media(reduced_motion="reduce")
        assert page.evaluate("getComputedStyle(document.querySelector('.button')).transitionDuration") == "0s"


def test_a_phone_held_sideways_keeps_room_to_read(tmp_path: Path, browser: Any) -> None:
    size = {"viewport": {"width": 640, "height": 320}}
    items = [task(1, "pair", REPLIES[:2])]
    with serving(tmp_path, items) as (site, base), visiting(browser, site, base, "annotator", **size) as visitor:
        visitor.open("/label", "#stage .task")
        assert visitor.page.evaluate("getComputedStyle(document.getElementById('dock')).position") == "static"


def test_targets_are_big_enough(tmp_path: Path, browser: Any) -> None:
    items = [task(1, "rank", REPLIES)]
    with (
        serving(tmp_path, items) as (site, base),
        visiting(browser, site, base, "annotator", **options(320, "light")) as visitor,
    ):
        visitor.open("/label", "#stage .task")
        visitor.press("1", "2")
        small = visitor.page.evaluate(
            """[...document.querySelectorAll('button, input, summary, .handle')].filter((e) => e.checkVisibility())
            .map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
            .filter(([, box]) => box.width < 24 || box.height < 24).map(([html]) => html)"""
        )
        assert small == []
