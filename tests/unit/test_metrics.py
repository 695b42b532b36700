"""The glossary of logged numbers, as `accord explain` reads it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from accord import cli, metrics


def test_a_name_that_means_different_things_has_an_entry_a_section() -> None:
    titles = [section.title for section, _ in metrics.entries("kl")]
    assert len(titles) == len(set(titles)) == 2


def test_the_part_of_a_name_that_varies_stands_for_one_word() -> None:
    assert len(metrics.entries("rewards/helpful/mean")) == 1
    assert metrics.entries("rewards/a/b/mean") == [] and metrics.entries("objective/k") == []


@pytest.mark.parametrize("section", metrics.GLOSSARY, ids=lambda section: section.title)
def test_every_entry_says_what_it_is_and_what_is_healthy(section: metrics.Section) -> None:
    assert section.metrics
    for metric in section.metrics.values():
        assert metric.unit and metric.meaning and metric.healthy
        assert "|" not in metric.unit + metric.meaning + metric.healthy, "it is a cell of a table"


def test_explain_prints_the_entry_or_what_was_meant() -> None:
    shown = CliRunner().invoke(cli.app, ["explain", "objective/kl"])
    assert shown.exit_code == 0 and "nats a reply" in shown.output and "healthy" in shown.output
    wrong = CliRunner().invoke(cli.app, ["explain", "objective/k"])
    assert wrong.exit_code != 0 and "objective/kl" in str(wrong.exception.fix)  # type: ignore[union-attr]
