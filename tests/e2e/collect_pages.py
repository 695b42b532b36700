"""What the browser tests of the labelling app share: a site with tasks, a browser, and all it complained about."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from collect_site import PASSWORD, Site, close, make_site

from accord.collect import people
from accord.collect.records import NewTask, ProjectSettings
from accord.types import Candidate, Message, Prompt

BROWSER = os.environ.get("ACCORD_CHROMIUM") or next(
    (found for name in ("chromium-headless-shell", "chromium") if (found := shutil.which(name))), None
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
AXE = Path(__file__).parent / "vendor" / "axe.min.js"

RULES = ProjectSettings(gold_rate=0, gold_rate_new=0, repeat_rate=0, random_slice=0, gate="off")
GUIDELINES = (
    "# What we want\n\nPrefer the **true** reply.\n\n- Length is not quality.\n\nSee [more](https://example.org/x)."
)
TALK = (
    Message(role="system", content="Answer for a curious child."),
    Message(role="user", content="What do bees eat?"),
    Message(role="assistant", content="Nectar and pollen."),
    Message(role="user", content="How do bees find their way?"),
)
REPLIES = (
    "By the **sun**, by polarised light and by landmarks.\n\n1. They measure the angle.\n2. They dance it.",
    "They use the sun as a compass and remember trees.",
    "It is instinct.",
    "By smell only.\n\n```python\nreturn min(flowers, key=lambda one: one.distance_from_the_hive_in_metres)\n```",
)


def task(number: int, kind: str, replies: Sequence[str], *, messages: Sequence[Message] = TALK, **more: Any) -> NewTask:
    """A task; the lower its number, the earlier it is served."""
    last = messages[-1].model_copy(update={"content": f"{messages[-1].content} ({number})"})
    prompt = Prompt(id=f"p{number}", messages=(*messages[:-1], last))
    shown = tuple(Candidate(text=text, model=f"zz-model-{i}") for i, text in enumerate(replies))
    return NewTask(kind=kind, prompt=prompt, candidates=shown, priority=1000 - number, **more)  # pyright: ignore


@contextmanager
def serving(folder: Path, items: Sequence[NewTask], rules: ProjectSettings = RULES) -> Generator[tuple[Site, str]]:
    """A running site with a person of each role who can sign in with PASSWORD; its address."""
    site = make_site(folder, items=items, rules=rules)
    for role in ("admin", "annotator"):
        people.set_password(site.store, site.users[role].id, PASSWORD, actor=site.users[role].id)
    server = uvicorn.Server(uvicorn.Config(site.app, port=0, log_level="error", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield site, f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        close(site)


@dataclass
class Visitor:
    """Somebody with a browser window; `complaints` is what the browser printed or could not load."""

    page: Any
    base: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str, ready: str = "h1") -> None:
        """Go to a page and wait until it is there."""
        self.page.goto(self.base + path)
        self.page.wait_for_selector(ready)

    def failed(self, request: Any) -> None:
        """Note a request that failed; one that the browser gave up because the page was left has not."""
        if "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"failed: {request.url} ({request.failure})")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.page.keyboard.type(text)

    def focus_reaches(self, selector: str, *, steps: int = 60, key: str = "Tab") -> None:
        """Press Tab until this element has the focus."""
        for _ in range(steps):
            self.page.keyboard.press(key)
            if self.page.evaluate("s => document.activeElement?.matches(s) ?? false", selector):
                return
        raise AssertionError(f"Tab never reached {selector}")

    def task(self, number: int) -> None:
        """Wait for the task with this number, ready to be answered."""
        self.page.wait_for_function(
            "n => document.querySelector('#stage .conversation')?.textContent.includes(`(${n})`)", arg=number
        )
        assert self.page.evaluate("document.activeElement?.tagName") == "H1", "the new task's heading has the focus"

    def can_send(self) -> None:
        """Wait until the answer is complete and everything was seen."""
        self.page.wait_for_selector("#submit[aria-disabled=false]")

    def saved(self) -> None:
        """Wait until nothing waits to be sent."""
        self.page.wait_for_selector("#saved.good")

    def text(self, selector: str) -> str:
        """Visible text of the first such element."""
        return self.page.locator(selector).first.inner_text()

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page as it is now, all rules."""
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [f"{one['id']}: {node['html'][:160]}" for one in found["violations"] for node in one["nodes"]]

    def too_wide(self) -> int:
        """Pixels by which the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")


@contextmanager
def browsing() -> Generator[Any]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Any, site: Site, base: str, who: str | None, **options: Any) -> Generator[Visitor]:
    """A window of its own, signed in as the person of that role, or as nobody."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    if who is not None:
        token = people.start_session(site.store, site.users[who].id)
        context.add_cookies([{"name": "accord_session", "value": token, "url": base}])
    visitor = Visitor(context.new_page(), base)
    page = visitor.page
    page.set_default_timeout(10_000)
    page.on("console", lambda message: visitor.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: visitor.complaints.append(f"error: {error}"))
    page.on("requestfailed", visitor.failed)
    yield visitor
    context.close()
