"""The report in a real browser: nothing scrolls sideways, nothing is blocked or broken, light and dark."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from report_page import rewrite
from synthetic_run import make_many, make_rounds, make_run, reward_card

from accord.report import write_report

BROWSER = next((p for name in ("chromium-headless-shell", "chromium") if (p := shutil.which(name))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chromium-headless-shell on this machine"),
]


def make_unsure(root: Path) -> Path:
    """The run whose reward model has the longest verdict."""
    run = make_run(root)
    (found,) = run.glob("reward-*/eval.json")
    rewrite(found, {"card": {**reward_card(), "verdict": "unknown"}})
    return run


@pytest.mark.parametrize("make", [make_run, make_unsure, make_many, make_rounds])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (320, "light"), (320, "dark")])
def test_report_fits_the_window_and_loads_cleanly(
    tmp_path: Path, make: Callable[[Path], Path], width: int, scheme: str
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    page_file = write_report(make(tmp_path), tmp_path / "report.html")
    complaints: list[str] = []
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.goto(page_file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").count() == 1
        assert page.locator("svg").count() > 10
        if width == 1280:
            page.evaluate("document.querySelector('nav a').textContent = 'as many sections as there are '.repeat(3)")
            assert page.evaluate("(u => u.scrollWidth <= u.clientWidth)(document.querySelector('nav ul'))")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        browser.close()
    assert complaints == []
    red = int(background.removeprefix("rgb(").removeprefix("rgba(").split(",")[0])
    assert (red > 128) == (scheme == "light"), background
