"""What the documents of the labelling site say in numbers is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from accord.collect.settings import ProjectSettings

PAGE = Path(__file__).parents[2] / "docs" / "collecting.md"


def value(text: str) -> Any:
    """A value of the table: a number, true or false, none, a word."""
    if text == "none":
        return None
    return json.loads(text) if re.fullmatch(r"[\d.]+|true|false", text) else text


def test_the_table_of_rules_has_the_real_defaults() -> None:
    table = PAGE.read_text(encoding="utf-8").split("| rule | default | meaning |")[1].split("\n\n")[0]
    real = ProjectSettings().model_dump()
    found: dict[str, Any] = {}
    for row in table.splitlines()[2:]:
        names = re.findall(r"`(\w+)`", row.split("|")[1])
        said = [value(part.strip()) for part in row.split("|")[2].split(",")]
        found |= dict(zip(names, said * len(names) if len(said) == 1 else said, strict=True)) if names else {}
    assert len(found) > 15
    del found["flags"]
    assert found == {name: real[name] for name in found}
