"""Stage configs: what a run writes into its directory loads again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accord.config import RunConfig, RunSettings, dump, load_run_config
from accord.rounds import sections_of
from accord.stages import STAGES

VALUES: dict[Any, Any] = {str: "lab:preferences", dict[str, float]: {"a": 1.0}, dict[str, str]: {"a": "b", "c": "d"}}
"""For a required field of a type."""


@pytest.mark.parametrize("name", STAGES)
def test_the_resolved_config_of_every_stage_loads_again(name: str, tmp_path: Path) -> None:
    fields = STAGES[name].config.model_fields
    section = STAGES[name].config(**{key: VALUES[f.annotation] for key, f in fields.items() if f.is_required()})
    path = tmp_path / "config.yaml"
    resolved = RunConfig(path=path, run=RunSettings(name="r"), sections={name: section})
    path.write_text(dump(resolved), encoding="utf-8")
    assert load_run_config(path, [], sections_of(STAGES)) == resolved
