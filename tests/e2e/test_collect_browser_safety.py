"""Hostile text stays text, and an answer that was given is never lost: offline, refused, reloaded, signed out."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from collect_pages import BROWSER, REPLIES, Visitor, browsing, serving, task, visiting

from accord.types import Message

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chromium-headless-shell on this machine"),
]

PAIRS = [task(n, "pair", REPLIES[:2]) for n in range(1, 6)]

HOSTILE = (
    "<script>window.hit = 1</script><img src=x onerror='window.hit = 2'><svg onload='window.hit = 3'>\n\n"
    "<style>body { display: none }</style> <iframe src='/admin'></iframe>\n\n"
    "[click me](javascript:window.hit=4) [and me](https://evil.example/steal) ![see](https://evil.example/pixel.png)\n\n"
    "[data](data:text/html,<script>window.hit=5</script>) <a href='javascript:window.hit=6'>x</a>",
    "A \u202eright to left override\u202c and \u2066an isolate\u2069 and a bell\u0007.\n\n"
    + "W" * 3000
    + "\n\n```html\n<b onclick=window.hit=7>"
    + "x" * 5000
    + "\n"
    + "line of code\n" * 400
    + "\n\n# Not closed **at all `and `` odd ~~marks [[[[ ](\n> > > > > > > > > > > > deep",
)


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    with browsing() as found:
        yield found


@pytest.mark.parametrize("width", [1280, 320])
def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path, browser: Any, width: int) -> None:
    talk = (Message(role="user", content="<img src=x onerror='window.hit = 8'> What is [this](javascript:alert(1))?"),)
    items = [task(1, "pair", HOSTILE, messages=talk), task(2, "edit", HOSTILE[:1], messages=talk)]
    size = {"viewport": {"width": width, "height": 800}}
    with serving(tmp_path, items) as (site, base), visiting(browser, site, base, "annotator", **size) as visitor:
        page = visitor.page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        visitor.open("/label", "#stage .task")
        stage = page.locator("#stage")
        assert stage.locator("script, img, iframe, style, a, svg, form").count() == 0
        text = stage.inner_text()
        assert "<script>window.hit = 1</script>" in text
        assert "javascript:window.hit=4" in text, "the address of a link is in sight"
        assert "https://evil.example/steal" in text
        assert "\u202e" not in text and "U+202E" in text, "an override is shown, not obeyed"
        assert visitor.too_wide() <= 0
        tops = page.evaluate("[...document.querySelectorAll('.reply-text')].map(r => getComputedStyle(r).fontSize)")
        assert len(set(tops)) == 1
        for _ in range(40):
            visitor.press("PageDown")
        visitor.press("1")
        visitor.can_send()
        visitor.press("Enter")
        page.wait_for_selector(".editor")  # the preview of the edit is made by the same renderer
        assert page.locator("#stage script, #stage img, #stage a").count() == 0
        assert page.evaluate("window.hit") is None
        assert all(url.startswith(base) for url in asked)
        visitor.saved()
        assert visitor.complaints == []


MARKDOWN = {
    "a\nb\n\nc": "<p>a<br>b</p><p>c</p>",
    "**b** *i* __b__ _i_": "<p><strong>b</strong> <em>i</em> <strong>b</strong> <em>i</em></p>",
    "~~s~~ `c`": "<p><s>s</s> <code>c</code></p>",
    "snake_case_name 2*3*4 \\*no\\*": "<p>snake_case_name 2<em>3</em>4 *no*</p>",
    "``a ` b``": "<p><code>a ` b</code></p>",
    "# One\n### Two ##": '<p class="md-heading md-h1">One</p><p class="md-heading md-h3">Two</p>',
    "- a\n- b\n  - c\n\n1. x\n2. y": "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><ol><li>x</li><li>y</li></ol>",
    "3. x": '<ol start="3"><li>x</li></ol>',
    "> q\n> r": "<blockquote><p>q<br>r</p></blockquote>",
    "```py\na < b\n\n# c\n```\nd": '<pre data-language="py"><code>a &lt; b\n\n# c</code></pre><p>d</p>',
    "~~~\nopen": "<pre><code>open</code></pre>",
    "a\n---\nb": "<p>a</p><hr><p>b</p>",
    "| a | b |\n|---|:-:|\n| 1 | 2 |": '<div class="md-table"><table><thead><tr><th scope="col">a</th>'
    '<th scope="col">b</th>'
    "</tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table></div>",
    "[t](https://e.org)": '<p><span class="md-link">t <code class="md-url">https://e.org</code></span></p>',
    "a **b": "<p>a **b</p>",
    "[x] (y) [z](": "<p>[x] (y) [z](</p>",
}


def test_markdown_makes_the_elements_it_should(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, []) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        visitor.open("/guidelines")
        render = """async (text) => {
            const address = document.querySelector('script[type=module]').src.replace('page.js', 'markdown.js');
            return (await import(address)).markdown(text).innerHTML;
        }"""
        for text, expected in MARKDOWN.items():
            assert visitor.page.evaluate(render, text) == expected, text
        guide = "[t](https://e.org) [u](javascript:x)"
        links = visitor.page.evaluate(
            """async (text) => {
            const address = document.querySelector('script[type=module]').src.replace('page.js', 'markdown.js');
            const made = (await import(address)).markdown(text, {links: true});
            return [...made.querySelectorAll('a')].map((a) => [a.getAttribute('href'), a.rel, a.target]);
        }""",
            guide,
        )
        assert links == [["https://e.org", "noopener noreferrer nofollow", "_blank"]]


@pytest.mark.parametrize(
    "text",
    [
        "*" * 100_000,
        "[" * 100_000,
        "**a " * 25_000,
        "`" * 99_999,
        "# " + " " * 100_000 + "x",
        "> " * 50_000,
        "_a _b" * 20_000,
    ]
    + ["| a |\n" + " " * 100_000 + "x", "```" + " " * 100_000 + "`", "- " * 50_000, "1. a\n" * 20_000, "[a](" * 25_000],
    ids=lambda text: text[:6].strip() or "blank",
)
def test_no_text_takes_the_renderer_long(tmp_path: Path, browser: Any, text: str) -> None:
    # Not a measurement: quadratic scanning of such a text takes minutes, and the limit of the page is 20 s.
    with serving(tmp_path, []) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        visitor.open("/guidelines")
        visitor.page.set_default_timeout(20_000)
        visitor.page.evaluate(
            """async (text) => {
            const address = document.querySelector('script[type=module]').src.replace('page.js', 'markdown.js');
            window.made = (await import(address)).markdown(text).textContent.length;
        }""",
            text,
        )
        assert visitor.page.evaluate("window.made") is not None


def answer(visitor: Visitor, number: int, key: str) -> None:
    visitor.task(number)
    visitor.press(key)
    visitor.can_send()
    visitor.press("Enter")


def count(site: Any) -> int:
    """Answers the store has, superseded ones included."""
    return site.client("admin").get("/api/v1/admin/progress").json()["annotations"]["total"]


def test_answers_given_offline_are_kept_shown_and_sent_once(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, PAIRS) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        page.wait_for_timeout(300)  # the next task is on its way
        page.context.set_offline(True)
        answer(visitor, 1, "1")
        answer(visitor, 2, "7")
        page.wait_for_selector("#saved.caution")
        assert "2 answers" in visitor.text("#saved")
        assert count(site) == 0
        page.context.set_offline(False)
        visitor.saved()
        visitor.task(3)
        assert count(site) == 2
        answer(visitor, 3, "4")
        visitor.saved()
        assert count(site) == 3
        other = [one for one in visitor.complaints if "INTERNET_DISCONNECTED" not in one and "failed:" not in one]
        assert other == []


def test_an_answer_survives_the_page_that_could_not_send_it(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, PAIRS) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        page.route("**/api/v1/submit", lambda route: route.fulfill(status=503, json={"error": {"message": "busy"}}))
        answer(visitor, 1, "2")
        page.wait_for_selector("#saved.caution")
        kept = page.evaluate("JSON.parse(localStorage['accord.outbox.the-annotator'])")
        page.unroute("**/api/v1/submit")
        page.reload()
        page.wait_for_selector("#stage .task")
        visitor.saved()
        assert count(site) == 1
        assert page.evaluate("JSON.parse(localStorage['accord.outbox.the-annotator'])") == []
        again = site.client("annotator").post("/api/v1/submit", json=kept[0]["json"])
        assert again.json()["repeated"] is True, "the key makes sending twice harmless"
        assert count(site) == 1


def test_an_answer_on_its_way_can_be_taken_back(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, PAIRS) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        page.wait_for_timeout(300)
        page.context.set_offline(True)
        answer(visitor, 1, "1")
        page.wait_for_selector("#saved.caution")
        visitor.task(2)
        visitor.press("u")
        visitor.task(1)
        assert visitor.text(".said") == "A much better"
        visitor.press("7")
        visitor.can_send()
        page.context.set_offline(False)
        visitor.press("Enter")
        visitor.saved()
        assert count(site) == 1


def test_a_refused_answer_stays_until_the_person_decides(tmp_path: Path, browser: Any) -> None:
    refusal = {"error": {"message": "this task was closed", "code": "conflict"}}
    with serving(tmp_path, PAIRS) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        page.route("**/api/v1/submit", lambda route: route.fulfill(status=409, json=refusal))
        answer(visitor, 1, "3")
        page.wait_for_selector(".refused")
        assert "This task was closed" in visitor.text("#tray")
        assert "A slightly better" in visitor.text("#tray")
        page.unroute("**/api/v1/submit")
        visitor.task(2)
        page.get_by_role("button", name="Open it again").click()
        visitor.task(1)
        assert visitor.text(".said") == "A slightly better"
        visitor.can_send()
        visitor.press("Enter")
        visitor.saved()
        assert count(site) == 1


def test_signed_out_answers_wait_for_signing_in(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, PAIRS) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        visitor.open("/label", "#stage .task")
        page.wait_for_timeout(300)
        cookies = page.context.cookies()
        page.context.clear_cookies()
        answer(visitor, 1, "1")
        page.wait_for_selector("#saved.bad")
        assert "Sign in again" in visitor.text("#tray")
        page.context.add_cookies(cookies)
        page.reload()
        page.wait_for_selector("#stage .task")
        visitor.saved()
        assert count(site) == 1


def test_the_next_task_is_there_before_it_is_needed(tmp_path: Path, browser: Any) -> None:
    with serving(tmp_path, PAIRS) as (site, base), visiting(browser, site, base, "annotator") as visitor:
        page = visitor.page
        claims: list[str] = []
        page.on("request", lambda request: "/claim" in request.url and claims.append(request.url))
        visitor.open("/label", "#stage .task")
        page.wait_for_timeout(400)
        assert len(claims) == 2 and "prefetch=1" in claims[1]
        page.route("**/api/v1/claim*", lambda route: None)  # nothing more comes from the server
        answer(visitor, 1, "1")
        visitor.task(2)
        assert json.loads(page.evaluate("JSON.stringify(document.querySelectorAll('#stage .task').length)")) == 1
