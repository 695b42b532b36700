"""Pages of the documentation that are made from the code are up to date."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_every_key_of_every_stage_is_documented() -> None:
    from accord.stages import STAGES

    page = PAGES["configuration.md"]()
    missing = [
        f"{stage.name}.{key}"
        for stage in STAGES.values()
        for key in stage.config.model_fields
        if f"| `{key}` |" not in page and f"| `{key}." not in page
    ]
    assert missing == []
    assert all(f"\n## {name}\n" in page for name in STAGES)
