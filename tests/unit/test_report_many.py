"""The report of runs with many policies, with rounds, and with stages that nothing in the report names."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_page import Page, rewrite
from synthetic_run import (
    EVIL,
    POLICIES,
    VARIANTS,
    make_many,
    make_rounds,
    make_run,
    ppo_metrics,
    write_rows,
    write_stage,
)
from test_overview import make

from accord.overview import lines
from accord.report import write_report
from accord.report.lineage import Node, bundled
from accord.report.names import MANY, colours, distinct, kind_of, model_name, place
from accord.report.outcome import read_outcome
from accord.report.runfiles import read_run
from accord.report.svg import NUM_SLOTS
from accord.stages import STAGES
from accord.stages.configs import PPOConfig


def page_of(run: Path) -> tuple[str, Page]:
    html = write_report(run, run / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not page.stack
    assert len(page.ids) == len(set(page.ids))
    return html, page


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    run = make_many(tmp_path_factory.mktemp("many"))
    return (run, *page_of(run))


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    run = make_rounds(tmp_path_factory.mktemp("rounds"))
    return (run, *page_of(run))


def section(html: str, name: str) -> str:
    return html.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def test_many_policies_are_counted_not_listed(many: tuple[Path, str, Page]) -> None:
    _, html, page = many
    count = len(POLICIES) + len(VARIANTS)
    head = html.partition("</header>")[0]
    assert count > MANY
    assert f"Of {count} models compared with SFT, 24 beat it" in page.text
    assert head.count('class="light"') < 10
    assert head.count("is preferred to") == 3
    assert f"of {count} good; look closer: " in head
    assert len(html.encode()) < 3_000_000


def test_every_policy_has_its_small_chart_and_its_curves(many: tuple[Path, str, Page]) -> None:
    _, html, _ = many
    training = section(html, "training")
    for name in (*POLICIES, *VARIANTS):
        assert f"<title>Gold on held-out prompts: {model_name(name)}</title>" in re.sub(' id="[^"]*"', "", training)
        assert f'<details class="policy"><summary><bdi>{model_name(name)}</bdi>' in training
    before = training.partition("<summary>All curves of each policy")[0]
    assert before.count("Gold on held-out prompts: ") == len(POLICIES) + len(VARIANTS)
    assert "Score and reward" not in before


def test_win_rates_are_sorted_and_all_there(many: tuple[Path, str, Page]) -> None:
    run, html, _ = many
    chart = section(html, "results").partition("</figure>")[0]
    wide = chart.partition('<div class="wide">')[2].partition("</svg>")[0]
    rates = [int(r) for r in re.findall(r"<title>[^<]*: (\d+)\u00a0%", wide)]
    assert rates == sorted(rates, reverse=True)
    assert len(rates) == len(POLICIES) + len(VARIANTS) + 1
    outcome = read_outcome(read_run(run))
    assert outcome is not None
    assert outcome.earlier == {"base"}
    assert "base" not in outcome.trained


def test_utility_over_kl_names_the_ends_and_leaves_out_what_came_before(many: tuple[Path, str, Page]) -> None:
    _, html, _ = many
    plot = section(html, "results").partition("What each nat of KL bought")[2].partition("</svg>")[0]
    dots = re.findall(r"<circle.*?<title>([^<]*): ", plot)
    assert sorted(dots) == sorted(model_name(name) for name in (*POLICIES, *VARIANTS))
    assert plot.count('class="leader"') == 8


def test_few_of_many_answers_are_shown_and_the_rest_is_told(many: tuple[Path, str, Page]) -> None:
    _, html, page = many
    first = section(html, "answers").partition("</article>")[0]
    assert first.count('<div class="answer ') == 6
    assert "the best ones and the worst by win rate" in page.text
    assert "6 of 36 models" in page.text


def test_stages_alike_share_a_box_and_are_named_in_it(many: tuple[Path, str, Page]) -> None:
    _, html, _ = many
    drawing = section(html, "pipeline").partition("</svg>")[0]
    assert len(re.findall(r"<title>", drawing)) == 8  # six stages and two bundles
    assert all(model_name(name) in drawing for name in (*POLICIES, *VARIANTS))


def test_bundles_need_the_same_sources_and_uses() -> None:
    nodes = [Node(key, key) for key in ("a", "b1", "b2", "b3", "b4", "c", "d")]
    edges = [("a", b) for b in ("b1", "b2", "b3", "b4")] + [(b, "c") for b in ("b1", "b2", "b3", "b4")]
    found, joined = bundled(nodes, edges)
    assert [n.label for n in found] == ["a", "4 stages", "c", "d"]
    assert joined == [("a", "b1"), ("b1", "c")]
    assert len(bundled(nodes, [*edges, ("b4", "d")])[0]) == len(nodes)
    assert len(bundled([replace(n, outside=True) for n in nodes], edges)[0]) == len(nodes)


def test_rounds_stand_side_by_side(rounds: tuple[Path, str, Page]) -> None:
    run, html, page = rounds
    assert "Round by round 4 rounds of sample, collect, reward, ppo" in page.text
    assert "round 1 72.0 % 82.0 % 1.30 0.500 4 21 round 2 74.0 % 84.0 % 1.10 0.600 3 22 round 3" in page.text
    assert "round 4 to do to do to do" in page.text
    drawn = re.findall(r"<desc[^>]*>(PPO: [^<]* at round [^<]*)</desc>", section(html, "overoptimisation"))
    assert any("0.500 at round 1, 0.700 at 3" in told for told in drawn)
    assert "Shown are those of collect 3" in page.text
    (run / "config.yaml").write_text("rounds: [1", encoding="utf-8")
    assert "rounds are not shown" in page_of(run)[1].text


def test_several_reward_models_are_compared_and_one_is_shown_in_full(rounds: tuple[Path, str, Page]) -> None:
    _, html, page = rounds
    assert "reward 3 in full" in page.text
    assert "odin Reward model with a quality and a length head, of which the quality head is kept (ODIN)" in page.text
    assert "held_out.quality.nll 0.600" in page.text
    assert section(html, "reward-model").count(">not fit</span>") == 3
    assert "Reward model's report card problem not fit to optimise against: length bias" in page.text


def test_best_of_n_is_drawn_with_its_intervals(rounds: tuple[Path, str, Page], tmp_path: Path) -> None:
    _, html, page = rounds
    over = section(html, "overoptimisation")
    assert "<title>best of n, n = 64: 1.32 at 3.17</title>" in over
    assert over.count('class="ln whisker"') == 2 * 2 * 7  # two figures in two widths
    assert "64 3.17 1.32 [1.26, 1.37] 0.500 [0.440, 0.550]" in page.text
    run = make_run(tmp_path, ["pretrain"])
    write_stage(run, "best_of_n", kind="samples").joinpath("curve.json").write_text('[{"n": 1}, 3]', encoding="utf-8")
    assert "2 points without n or KL left out" in page_of(run)[1].text


def test_a_stage_that_the_report_has_never_heard_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NewPOConfig(PPOConfig):
        """Newest policy optimisation, from tomorrow."""

    monkeypatch.setitem(STAGES, "new_po", replace(STAGES["ppo"], name="new_po", config=NewPOConfig))
    run = make_run(tmp_path, ["pretrain", "sft", "reward"])
    directory = write_stage(run, "new_po_small", {"eval_gold": 0.625, "zeta": 1}, inputs=("sft", "reward"))
    write_rows(directory / "metrics.jsonl", ppo_metrics(random.Random(1)))
    _, page = page_of(run)
    assert "NewPO small Newest policy optimisation, from tomorrow" in page.text
    assert "NewPO small: gold beside proxy" in page.text
    assert "Score and reward" in page.text


def test_names_order_and_colours_come_from_the_stages() -> None:
    names = [model_name(name) for name in STAGES]
    assert len(set(names)) == len(names)
    told = {"online_dpo_2": "Online DPO 2", "dr_grpo": "Dr GRPO", "dpo_aot_unpaired": "DPO aot_unpaired", EVIL: EVIL}
    assert {key: model_name(key) for key in told} == told
    assert kind_of("online_dpo_x") == "policy" and kind_of("nothing") == ""
    assert place("sft_2") < place("reward") < place("online_dpo") < place("evaluate") < place("nothing")
    slots = colours(["pretrain", "reward", "sft", "ppo", "reward_2"])
    assert [slots[n] for n in ("pretrain", "sft", "ppo")] == [0, 1, 2] and slots["reward"] == slots["reward_2"]
    assert distinct(["a", "b"], {"a": 3, "b": 3}) in ({"a": 3, "b": 0}, {"a": 0, "b": 3})
    assert len(set(distinct([str(i) for i in range(NUM_SLOTS)], {}).values())) == NUM_SLOTS


def test_the_index_decides_order_and_which_artifact_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["pretrain", "sft", "dpo", "ppo"])
    assert [s.name for s in read_run(run).stages] == ["pretrain", "sft", "ppo", "dpo"]
    older = next(run.glob("ppo-*"))
    newer = run / "ppo-newer"
    older.rename(newer)
    rewrite(newer / "manifest.json", {"fingerprint": "f" * 64, "created": "2031-01-01T00:00:00Z"})
    older = write_stage(run, "ppo")
    order = {name: next(run.glob(f"{name}-*")).name for name in ("pretrain", "sft", "dpo")} | {"ppo": older.name}
    (run / "run.json").write_text(json.dumps({"stages": order}), encoding="utf-8")
    found = read_run(run)
    assert [s.name for s in found.stages] == ["pretrain", "sft", "dpo", "ppo"]
    assert found.stages[-1].dir == older
    assert [s.dir for s in found.superseded] == [newer]


def test_show_orders_a_run_without_an_index_like_a_standard_run(tmp_path: Path) -> None:
    run = tmp_path / "demo"
    for name in ("online_dpo", "dpo_hinge", "rloo", "pretrain"):
        make(run, name, {"eval_gold": 0.5, "alpha": 1.0, "rounds": 3})
    found = lines(run)
    assert [line.directory.rpartition("-")[0] for line in found] == ["pretrain", "rloo", "dpo_hinge", "online_dpo"]
    assert {line.numbers for line in found} == {"eval_gold 0.500, rounds 3"}
