"""Time from a key press to the next task on the screen, measured in the page of a real browser.

    python benchmarks/collect_browser.py [--tasks 60] [--write docs/results/collect-browser.md]

The page itself takes the times: `performance.now()` in a capturing key listener, then again in the second animation
frame after the new task's heading got the focus, when the first frame with it has been painted. Replies are of the
usual length of chat models, the store is SQLite in a file, and the server runs in the same process as the script.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "tests" / "unit")]

from collect_pages import browsing, serving, task, visiting  # noqa: E402

WATCH = """() => {
    window.times = [];
    addEventListener("keydown", (event) => { if (event.key === "Enter") window.pressed = performance.now(); }, true);
    addEventListener("focusin", (event) => {
        if (!event.target.matches(".task-title") || !window.pressed) return;
        const from = window.pressed;
        window.pressed = 0;
        requestAnimationFrame(() => requestAnimationFrame(() => window.times.push(performance.now() - from)));
    });
}"""

READ = """async () => {
    for (const end of document.querySelectorAll(".reply-text > .sentinel:last-child")) {
        end.scrollIntoView({ block: "center", behavior: "instant" });
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    }
}"""
"""Bring the end of every reply into view, as reading it would."""

PARAGRAPH = (
    "The first thing to know is that **three** causes act together, and that none of them is enough alone. "
    "A careful answer names them, says how sure it is, and gives an example the reader can check. "
)
KINDS = {"pair": 2, "rank": 4, "rate": 1}


def replies(number: int) -> list[str]:
    """Texts of 1 to 3 kB with a list and some code."""
    code = "```python\nfor bee in hive:\n    bee.dance(angle=sun - food)\n```"
    return [f"{PARAGRAPH * (4 + i)}\n\n- one\n- two\n- three\n\n{code}\n\n{PARAGRAPH * (2 + i)}" for i in range(number)]


def measure(kind: str, num_tasks: int, think_ms: int) -> list[float]:
    """Milliseconds for each change from one task to the next."""
    items = [task(n, kind, replies(KINDS[kind])) for n in range(1, num_tasks + 1)]
    size = {"viewport": {"width": 1280, "height": 900}}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), items) as (site, base),
        browsing() as browser,
        visiting(browser, site, base, "annotator", **size) as visitor,
    ):
        visitor.open("/label", "#stage .task")
        visitor.page.evaluate(WATCH)
        for number in range(1, num_tasks):
            visitor.task(number)
            visitor.page.wait_for_timeout(think_ms)
            visitor.press("1")
            visitor.page.evaluate(READ)
            visitor.can_send()
            visitor.press(*(["Enter", "Enter"] if kind == "rank" else ["Enter"]))
        visitor.task(num_tasks)
        visitor.page.wait_for_timeout(200)
        return visitor.page.evaluate("window.times")


def main() -> None:
    """Measure each kind of task, print, and write the page when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--think-ms", type=int, default=300)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    rows = []
    for kind in KINDS:
        times = sorted(measure(kind, chosen.tasks, chosen.think_ms))
        p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
        rows.append(f"| {kind} | {len(times)} | {statistics.median(times):.0f} | {p95:.0f} | {times[-1]:.0f} |")
        print(rows[-1], flush=True)
    if chosen.write:
        chosen.write.write_text(PAGE.format(rows="\n".join(rows), machine=machine(), **vars(chosen)))


def machine() -> str:
    """The processor and how busy it was, in words."""
    load = f"load average {os.getloadavg()[1]:.1f} (5 minutes)"
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {load}, Python {platform.python_version()}, headless Chromium"
    )


PAGE = """# Labelling: from key press to next task

`python benchmarks/collect_browser.py --tasks {tasks} --think-ms {think_ms} --write docs/results/collect-browser.md`

Time from Enter to the frame after the next task was painted, measured in the page. It includes writing the answer to
the outbox on the device, building nothing (the next task was fetched and built while the last one was read), layout and
paint of replies of 1 to 3 kB, and moving the focus. The answer travels to the server meanwhile. The goal is 100 ms.

| kind of task | changes | median ms | 95 % ms | most ms |
|---|---:|---:|---:|---:|
{rows}

Server, store (SQLite in a file) and browser shared one machine:
{machine}.
A load above the number of cores means that other programs ran beside them; the upper values then measure those too.
"""

if __name__ == "__main__":
    main()
