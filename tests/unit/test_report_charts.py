"""Charts and numbers of the run report."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from markupsafe import Markup

from accord.report.formats import Estimate, duration, estimate, memory, number, percent_interval, ticks, visible
from accord.report.lineage import Node, lineage
from accord.report.linechart import Series, line_chart, running_mean
from accord.report.svg import spread, text_width


def test_line_chart_of_hard_inputs() -> None:
    assert line_chart([Series("a", [(0, None)])], title="t") is None
    assert line_chart([], title="t") is None
    for points in ([(0, 1.0)], [(0, 0.0), (1, 0.0)], [(3, -1e300), (4, 1e300)], [(0, 1e-300), (1, 2e-300)]):
        svg = line_chart([Series("a", points), Series("b", points)], title="t")
        assert isinstance(svg, Markup)
        assert "nan" not in svg
        assert "inf" not in svg


def test_running_mean_is_the_mean_of_its_window() -> None:
    points = [(float(i), float(i % 2)) for i in range(100)]
    smooth = running_mean(points)
    assert smooth[0][1] == pytest.approx(sum(b for _, b in points[:4]) / 4)
    assert smooth[50][1] == pytest.approx(sum(b for _, b in points[47:54]) / 7)


def test_what_a_stage_cost_fits_into_its_box() -> None:
    """Numbers as long as they get are not cut, and names from outside are, where they are too long."""
    cost = (duration(359_999), memory(999.0))
    assert cost == ("99 h 59 min", "999 MB")
    drawn = str(
        lineage([Node("a", "ppo", ("0123abcd", *cost)), Node("b", "x", ("word " * 9,))], [("a", "b")], title="t")
    )
    shown = re.findall(r'class="small"[^>]*>([^<]*)<', drawn)
    assert shown[:3] == ["0123abcd", *cost] and shown[3].endswith("\u2026")
    assert all(text_width(words, 11) <= 112 - 13 for words in shown)
    long = str(lineage([Node("a", "eval_prompts"), Node("b", "a_dataset_of_mine")], [("a", "b")], title="t"))
    names = re.findall(r'class="key strong"[^>]*>([^<]*)<', long)
    assert names[0] == "eval_prompts" and names[1].endswith("\u2026")
    assert all(text_width(name, 12) <= 112 - 13 for name in names)


def test_numbers_read_well() -> None:
    assert [number(v) for v in (0.12345, 12.345, 1234.5, 1234567, 2e-9, 0, None, math.nan, True)] == [
        "0.123", "12.3", "1234", "1.23M", "2.0e-9", "0", "\u2014", "\u2014", "\u2014",
    ]  # fmt: skip
    assert [duration(v) for v in (0.42, 42.4, 192, 3840, None)] == [
        "0.4 s",
        "42 s",
        "3 min 12 s",
        "1 h 04 min",
        "\u2014",
    ]
    assert percent_interval(Estimate(0.714, 0.66, 0.76)) == "71\u00a0% (66\u201376)"
    assert estimate({"value": 0.5, "low": None, "high": math.inf, "n": 4.0}) == Estimate(0.5, None, None, 4)
    assert estimate({"value": "0.5"}) is None
    assert visible("ok \u00e9 \u4e2d\n\t") == "ok \u00e9 \u4e2d\n\t"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (1e-8, 3e-8), (12_000, 98_000), (0.48, 0.52)])
def test_ticks_are_few_inside_and_even(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert 2 <= len(marks) <= 6
    assert low - 1e-12 <= marks[0] < marks[-1] <= high + 1e-12
    gaps = [b - a for a, b in pairwise(marks)]
    assert max(gaps) == pytest.approx(min(gaps), rel=1e-3)


def test_labels_are_moved_apart_and_stay_inside() -> None:
    placed = spread([50, 51, 52, 99], 13, 0, 100)
    assert all(b - a >= 13 - 1e-9 for a, b in pairwise(placed))
    assert max(placed) <= 100
